"""Run folders as `train` writes them, with planted skill, so that the correct report is known."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ser_pipeline import config
from ser_pipeline.entry import key
from ser_pipeline.evaluation.metrics import Confusion, utterance_scores
from ser_pipeline.settings import ON_TEST

LABELS = ("angry", "happy", "neutral", "sad")
SPEAKERS = tuple(f"{session}{sex}" for session in range(1, 6) for sex in "FM")
ABLATIONS: dict[str, dict[str, object]] = {
    "full": {},
    "full-mean": {"co_attention": False},
    "mfcc": {"inputs": ["mfcc"], "co_attention": False},
    "spectrogram": {"inputs": ["spectrogram"], "co_attention": False},
    "w2e": {"inputs": ["waveform"]},
    "w2e-mean": {"inputs": ["waveform"], "co_attention": False},
    "mfcc-w2e": {"inputs": ["mfcc", "waveform"]},
    "mfcc-w2e-mean": {"inputs": ["mfcc", "waveform"], "co_attention": False},
    "spectrogram-w2e": {"inputs": ["spectrogram", "waveform"]},
    "spectrogram-w2e-mean": {"inputs": ["spectrogram", "waveform"], "co_attention": False},
}
FRAMES = 149


@dataclass(frozen=True)
class People:
    """The utterances of an invented corpus; `ease` says how much easier to classify each one is."""

    ids: tuple[str, ...]
    speaker: np.ndarray
    label: np.ndarray
    seconds: np.ndarray
    ease: np.ndarray
    labels: tuple[str, ...] = LABELS

    @property
    def segments(self) -> np.ndarray:
        return np.ceil(self.seconds / 3).astype(np.int64)


def people(
    each: int = 12, speakers: Sequence[str] = SPEAKERS, labels: tuple[str, ...] = LABELS, seed: int = 0
) -> People:
    """Return `each` utterances of every speaker."""
    rng = np.random.default_rng(seed)
    count = each * len(speakers)
    label = np.concatenate([np.resize([*range(len(labels)), 2, 1, 2, 0, 1, 2], each) for _ in speakers])
    own = np.repeat(rng.normal(0, 0.25, len(speakers)), each)
    speaker = np.repeat(list(speakers), each)
    kinds = ["impro01" if row % 2 else "script01_1" for row in range(count)]
    ids = tuple(
        f"Ses0{name[0]}F_{kind}_{name[-1]}{row:03d}"
        for row, (name, kind) in enumerate(zip(speaker, kinds, strict=True))
    )
    seconds = rng.gamma(3.0, 1.5, count) + 0.6
    return People(ids, speaker, label, seconds, own + rng.normal(0, 0.5, count), labels)


@dataclass(frozen=True)
class Planted:
    """Description of a run to write."""

    corpus: str = "iemocap"
    protocol: str = "speaker"
    ablation: str = "full"
    seed: int = 0
    selection: str = "validation"
    preset: str = "paper"
    skill: float = 1.2  # higher scores for the true class, in logits
    probes: Mapping[str, float] = field(default_factory=dict)  # input -> skill without it; empty: no probes
    embeddings: bool = False
    finished: int | None = None  # number of complete folds; None: all
    overrides: tuple[str, ...] = ()
    features: str = "0123456789ab"
    test_corpus: str = ""
    audio_root: str = "/nowhere"
    silent: float = 0.0
    known: bool = False  # whether gender, age and language of the speakers are written
    unfair: float = 0.0  # lower scores for the true class of men, in logits


def write_run(root: Path, who: People, plan: Planted = Planted()) -> Path:
    """Write the run folder of a plan below `root`; returns it."""
    settings = settings_of(plan)
    name = f"{plan.corpus}-{plan.protocol}-{plan.ablation}-s{plan.seed}-{key({'plan': asdict(plan)})}"
    folds = folds_of(who, plan)
    finished = len(folds) if plan.finished is None else plan.finished
    folder = root / (name if finished == len(folds) else f"{name}.partial")
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(header(who, plan, [fold["name"] for fold in folds])))
    (folder / "config.toml").write_text(config.dumps(settings))
    (folder / "folds.json").write_text(
        json.dumps({"protocol": plan.protocol, "selection": plan.selection, "folds": folds})
    )
    row_of = {name: row for row, name in enumerate(who.ids)}
    for number, fold in enumerate(folds[:finished]):
        rows = np.array([row_of[name] for name in fold["test"]])
        write_fold(
            folder / str(fold["name"]), who, rows, plan, np.random.default_rng([plan.seed, number, len(plan.ablation)])
        )
    if finished < len(folds):
        (folder / f"{folds[finished]['name']}.partial").mkdir()
    else:
        index = {"format": 1, "inputs": {}, "versions": {"ser-pipeline": "0.1.0", "torch": "2.6.0"}, "seconds": 120.0}
        (folder / "index.json").write_text(json.dumps(index))
    return folder


def settings_of(plan: Planted) -> config.Config:
    """Return the whole config of a run."""
    model = {"model": ABLATIONS.get(plan.ablation, {}), "seed": plan.seed}
    settings = config.merge(config.Config(), model)
    for pair in plan.overrides:
        settings = config.merge(settings, config._pair(pair))
    return settings


def header(who: People, plan: Planted, folds: list[str]) -> dict[str, object]:
    """Return the content of `run.json`."""
    names = ("corpus", "protocol", "selection", "ablation", "seed", "preset", "features", "test_corpus", "audio_root")
    return {name: getattr(plan, name) for name in names} | {
        "labels": list(who.labels),
        "folds": folds,
        "title": {"iemocap": "IEMOCAP", "demo": "Demo", "emodb": "EMO-DB"}.get(plan.corpus, plan.corpus),
        "synthetic": plan.corpus == "demo",
        "device": "cpu",
        "precision": "float32",
    }


def folds_of(who: People, plan: Planted) -> list[dict[str, object]]:
    """Return one fold per speaker or session, as in `folds.json`; a speaker's partner validates its fold.

    The official split is one fold: session 1 trains, 2 validates, the others test.
    """
    if plan.protocol == "official":
        session = np.array([name[0] for name in who.speaker])
        masks = {"train": session == "1", "validation": session == "2", "test": session > "2"}
        return [{"name": "official"} | {part: np.array(who.ids)[mask].tolist() for part, mask in masks.items()}]
    unit = who.speaker if plan.protocol == "speaker" else np.array([name[0] for name in who.speaker])
    names = np.array(who.ids)
    folds: list[dict[str, object]] = []
    for held in dict.fromkeys(unit):
        test = unit == held
        partner = np.array([name[0] == held[0] for name in who.speaker]) & ~test
        other = partner if partner.any() else unit == unit[~test][0]
        validation = test if plan.selection in ON_TEST else other
        train = ~test if plan.selection == "reference" else ~test & ~other
        parts = {"train": train, "validation": validation, "test": test}
        folds.append({"name": str(held)} | {part: names[mask].tolist() for part, mask in parts.items()})
    return folds


def write_fold(folder: Path, who: People, rows: np.ndarray, plan: Planted, rng: np.random.Generator) -> None:
    """Write a complete fold."""
    folder.mkdir()
    utterance = np.repeat(np.arange(len(rows)), who.segments[rows])
    harm = plan.unfair * np.char.endswith(who.speaker[rows[utterance]].astype(str), "M")
    log_prob = segment_scores(who, rows[utterance], plan.skill - harm, rng)
    how = settings_of(plan).model.utterance_score
    inside = np.concatenate([np.arange(count) for count in who.segments[rows]])
    real = (16_000 * np.clip(who.seconds[rows[utterance]] - 3 * inside, 0, 3)).astype(np.int32)
    scores = utterance_scores(log_prob, utterance, len(rows), how, real)
    confusion = Confusion.of(who.label[rows], scores.argmax(1), len(who.labels))
    write_predictions(folder / "predictions.csv", who, rows, scores, plan.known)
    arrays = {"utterance": utterance.astype(np.int32), "samples": real, "log_prob": log_prob.astype(np.float32)}
    for name, skill in plan.probes.items():
        for kind in ("shuffled", "zeroed"):
            arrays[f"{kind}:{name}"] = segment_scores(who, rows[utterance], skill, rng).astype(np.float32)
    if plan.embeddings:
        arrays |= embeddings(who, rows[utterance], log_prob, plan, rng)
    np.savez(folder / "segments.npz", **arrays)
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history(confusion, rng)))
    (folder / "model.safetensors").write_bytes(b"")
    result = {"fold": folder.name, "best_epoch": 9, "epochs": 17, "seconds": 60.0, "train": len(who.ids) - len(rows)}
    result |= {"validation": {"wa": 0.6, "ua": 0.6, "loss": 1.0}, "wa": confusion.wa, "ua": confusion.ua}
    result |= {"silent": plan.silent}
    (folder / "result.json").write_text(json.dumps(result | {"counts": confusion.counts.tolist()}))
    (folder / "index.json").write_text(json.dumps({"format": 1, "inputs": {}, "versions": {}}))


def segment_scores(who: People, rows: np.ndarray, skill: float | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw log-probabilities of the segments of utterances `rows`: noise, and skill and ease for the true class."""
    logits = rng.normal(0, 1.0, (len(rows), len(who.labels)))
    logits[np.arange(len(rows)), who.label[rows]] += skill + np.where(skill == 0, 0.0, who.ease[rows])
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def write_predictions(file: Path, who: People, rows: np.ndarray, scores: np.ndarray, known: bool = False) -> None:
    """Write `predictions.csv`, one line per utterance; with gender, age and language if `known`."""
    names = ["id", "file", "speaker", "session", "dialogue", "script"]
    names += ["gender", "age", "language"] if known else []
    names += ["seconds", "segments", "label", "prediction"]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(names + [f"log_p:{label}" for label in who.labels])
        for row, score in zip(rows, scores, strict=True):
            name, speaker = who.ids[row], who.speaker[row]
            dialogue = name.rsplit("_", 1)[0]
            script = dialogue.split("_", 1)[1] if "script" in name else ""
            facts = [name, f"Session{speaker[0]}/{name}.wav", speaker, speaker[0], dialogue, script]
            if known:
                facts += [{"F": "female", "M": "male"}[speaker[-1]], 20 + 5 * int(speaker[0]), "en"]
            facts += [f"{who.seconds[row]:.3f}", who.segments[row], who.labels[who.label[row]]]
            writer.writerow([*facts, who.labels[score.argmax()], *(f"{value:.6f}" for value in score)])


def embeddings(
    who: People, rows: np.ndarray, log_prob: np.ndarray, plan: Planted, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw embeddings that cluster by class as much as the scores do, and attention if the model has it."""
    inputs = settings_of(plan).model.inputs
    projection = np.random.default_rng(1).normal(0, 1.0, (log_prob.shape[1], 128))
    noise = rng.normal(0, 1.0, (2, len(rows), 128))
    found = {"fused": (log_prob @ projection + noise[0]).astype(np.float16)}
    if "waveform" in inputs:
        found["w2e"] = (0.4 * log_prob @ projection + noise[1]).astype(np.float16)
        if settings_of(plan).model.co_attention:
            found["attention"] = rng.dirichlet(np.ones(FRAMES), len(rows)).astype(np.float16)
    return found


def history(confusion: Confusion, rng: np.random.Generator) -> list[dict[str, float]]:
    """Return seventeen epochs that learn, then overfit."""
    lines = []
    for epoch in range(1, 18):
        gain = 1 - np.exp(-epoch / 4)
        validation = 1.4 - 0.6 * gain + 0.012 * max(0, epoch - 8) + rng.normal(0, 0.02)
        score = float(np.clip(0.25 + (confusion.ua - 0.25) * gain + rng.normal(0, 0.015), 0, 1))
        lines.append({"epoch": epoch, "loss": 1.4 - 1.1 * gain, "lr": 1e-5, "validation_loss": validation})
        lines[-1] |= {"wa": score, "ua": score, "seconds": 3.0, "segments_per_second": 400.0}
    return lines


def write_examples(folder: Path, utterances: Sequence[int], rng: np.random.Generator) -> None:
    """Write `examples.npz` of a fold: spectrograms with the attention of their segment."""
    time, bins = np.meshgrid(np.arange(300), np.arange(200))
    tones = [120 * np.exp(-(((bins - 20 * k - 8 * np.sin(time / 30)) / 3) ** 2)) for k in range(1, 7)]
    picture = np.clip(np.sum(tones, 0) * (1 + np.sin(time / 12)) + 40, 0, 255)
    spectrogram = np.stack(
        [np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8) for _ in utterances]
    )
    attention = rng.gamma(1.0, 1.0, (len(utterances), FRAMES)) * (1 + np.sin(np.arange(FRAMES) / 8))
    np.savez(
        folder / "examples.npz",
        spectrogram=spectrogram,
        attention=attention.astype(np.float16),
        utterance=np.asarray(utterances, dtype=np.int32),
    )
