"""Votes, arousal, valence and dominance as targets: from the command line to predictions and answers."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result

import ser_pipeline
from ser_pipeline import SpeechEmotion
from ser_pipeline.cache import catalogue, manifest, targeted
from ser_pipeline.config import load
from ser_pipeline.corpora.ratings import DIMENSIONS
from ser_pipeline.entry import read_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.evaluation.attributes import ccc, sums_of
from ser_pipeline.export.auto import SpeechEmotionForAudioClassification
from ser_pipeline.export.writing import export
from ser_pipeline.predict.learned import read_learned
from ser_pipeline.splits.folds import read_folds
from ser_pipeline.splits.joining import join
from ser_pipeline.targets import TARGETS
from ser_pipeline.training.linear import HeadRows, _to_attributes, _to_votes
from ser_pipeline.training.objective import Objective, discordance
from ser_pipeline.training.stage import prepare
from support import rescored
from support.rated import SAME, write_rated

EPOCHS = ("train.epochs=6", "train.batch=16", "model.small_width=16")
FOLDS = ("group-1", "group-2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an encoder, and a cache of the demo that includes turns without a class."""
    place = tmp_path_factory.mktemp("targets")
    write_rated(place, "demo", 10, ["mfcc", "spectrogram", "waveform", "statistics"])
    return place


def prepared(made: Path, runs: Path, target: str, *more: str, preset: str = "demo", **options: object) -> list[Path]:
    """Train runs of a target; returns their folders."""
    pairs = [f"features.statistics.encoder={made / 'encoder'}", *(EPOCHS if preset == "demo" else ()), *more]
    chosen = {"preset": preset, "overrides": pairs, "protocol": "group-2", "target": target, **SAME, **options}
    return prepare("demo", cache=made / "cache", runs=runs, **chosen).train()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def votes_run(made: Path) -> Path:
    (run,) = prepared(made, made / "runs", "votes")
    return run


@pytest.fixture(scope="module")
def vad_run(made: Path) -> Path:
    (run,) = prepared(made, made / "runs", "vad")
    return run


@pytest.fixture(scope="module")
def both_run(made: Path) -> Path:
    (run,) = prepared(made, made / "runs", "vad+class", "train.vad_weight=2", preset="frozen")
    return run


def features(made: Path) -> manifest.Manifest:
    return manifest.read(catalogue.find(made / "cache", "demo").folder)


def constant(values: Sequence[float]) -> list[float]:
    return [rescored.mean(values)] * len(values)


def test_votes_come_nearer_to_the_raters_than_their_mean_does(votes_run: Path) -> None:
    rows = rescored.lines(votes_run)
    wanted, _ = rescored.distributions(rows)
    usual = [rescored.mean([one[place] for one in wanted]) for place in range(4)]
    distance = rescored.mean([rescored.apart(one, usual) for one in wanted])
    assert rescored.votes(rows)["js"] < 0.8 * distance
    assert rescored.votes(rows)["accuracy"] > 0.5


def test_attributes_agree_with_the_raters_and_are_nearer_than_their_mean(vad_run: Path) -> None:
    rows = rescored.lines(vad_run)
    found = rescored.attributes(rows)
    assert found["arousal"]["ccc"] > 0.4
    assert found["valence"]["ccc"] > 0.4
    valence = [float(row["valence"]) for row in rows]
    assert found["valence"]["mae"] < rescored.mean([abs(value - rescored.mean(valence)) for value in valence])
    assert not {"prediction", "log_p:angry"} & rows[0].keys()


@pytest.mark.parametrize("target", ["votes", "vad"])
def test_ridge_heads_beat_the_constant_predictor(made: Path, tmp_path: Path, target: str) -> None:
    (run,) = prepared(made, tmp_path, target, preset="frozen")
    rows = rescored.lines(run)
    if target == "vad":
        assert rescored.attributes(rows)["arousal"]["ccc"] > 0.2
    else:
        wanted, _ = rescored.distributions(rows)
        usual = [rescored.mean([one[place] for one in wanted]) for place in range(4)]
        assert rescored.votes(rows)["js"] < rescored.mean([rescored.apart(one, usual) for one in wanted])


def test_turns_of_no_class_train_and_are_tested_against_raters_alone(
    made: Path, votes_run: Path, vad_run: Path, run: Callable[..., Result]
) -> None:
    data = features(made)
    unclassed = {one.id for one in data.utterances if not one.emotion}
    folds = read_json(votes_run / "folds.json")["folds"]
    assert unclassed
    assert all(unclassed & set(fold["train"]) for fold in folds)
    assert not any(unclassed & set(fold[part]) for fold in folds for part in ("validation", "test"))
    every = [name for fold in folds for name in fold["test"]]
    assert sorted(every) == sorted(one.id for one in data.utterances if one.emotion)
    for name, folder in (("votes", votes_run), ("vad", vad_run)):
        beside = [row for row in rescored.judged(folder) if not row["label"]]
        there = {one.id for one in targeted.targeted(data, name).utterances}
        assert sorted(row["id"] for row in beside) == sorted(unclassed & there) != []
    for fold in folds:
        speakers = {one.speaker for one in data.utterances if one.id in fold["test"]}
        assert {one.speaker for one in data.utterances if one.id in fold["undecided"]} <= speakers
    row = beside[0]
    tester = read_learned(vad_run).tested[row["id"]]
    assert row["id"] in (vad_run / tester / "undecided.csv").read_text(encoding="utf-8")
    recording = made / "demo" / row["file"]
    (said,) = json.loads(run("predict", vad_run, recording, "--fold", tester, "--json", "--quiet").stdout)
    assert [said[name] for name in DIMENSIONS] == pytest.approx(
        [float(row[f"predicted:{name}"]) for name in DIMENSIONS], abs=2e-3
    )


def test_an_utterance_of_a_class_is_no_undecided_one_of_folds(made: Path, votes_run: Path, tmp_path: Path) -> None:
    said = read_json(votes_run / "folds.json")
    everyone = targeted.targeted(features(made), "votes").utterances
    assert [len(fold.undecided) for fold in read_folds(votes_run / "folds.json", everyone)[0]] == [
        len(fold["undecided"]) for fold in said["folds"]
    ]
    said["folds"][0]["undecided"].append(said["folds"][0]["test"].pop())
    (tmp_path / "folds.json").write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(PipelineError, match="has a class, so it belongs to test, not undecided"):
        read_folds(tmp_path / "folds.json", everyone)


def test_under_class_they_are_left_out_and_the_key_is_that_of_features_without_them(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    chosen = {"preset": "demo", "overrides": list(EPOCHS), "protocol": "group-2", **SAME, "cache": made / "cache"}
    run = prepare("demo", runs=tmp_path, target="class", **chosen).planned[0]  # type: ignore[arg-type]
    same = prepare("demo", runs=tmp_path, **chosen).planned[0]  # type: ignore[arg-type]
    assert run.entry.path == same.entry.path
    assert all(one.emotion for one in run.manifest.utterances)
    left = sum(not one.emotion for one in features(made).utterances)
    assert f"{left} utterances without a class left out" in caplog.text


def test_a_runs_key_holds_what_raters_said_where_that_is_learned(made: Path) -> None:
    data = targeted.targeted(features(made), "votes")
    others = replace(data, utterances=tuple(replace(one, votes=one.votes[-1:]) for one in data.utterances))
    assert targeted.digest_of(data, TARGETS["votes"]) != targeted.digest_of(others, TARGETS["votes"])
    assert targeted.digest_of(data, TARGETS["vad"]) == targeted.digest_of(others, TARGETS["vad"])


def test_the_result_of_a_fold_is_what_its_predictions_give(vad_run: Path, votes_run: Path) -> None:
    for fold in FOLDS:
        with (vad_run / fold / "predictions.csv").open(encoding="utf-8", newline="") as text:
            rows = list(csv.DictReader(text))
        mean = rescored.mean([one["ccc"] for one in rescored.attributes(rows).values()])
        assert json.loads((vad_run / fold / "result.json").read_text())["ccc"] == pytest.approx(mean, abs=1e-5)
        with (votes_run / fold / "predictions.csv").open(encoding="utf-8", newline="") as text:
            rows = list(csv.DictReader(text))
        wa = json.loads((votes_run / fold / "result.json").read_text())["wa"]
        assert wa == pytest.approx(rescored.votes(rows)["accuracy"])


def test_verify_gives_the_predictions_from_the_weights_again(
    made: Path, votes_run: Path, vad_run: Path, both_run: Path, run: Callable[..., Result]
) -> None:
    for folder in (votes_run, vad_run, both_run):
        said = run("verify", folder, "--predictions", "--cache", made / "cache", "--device", "cpu").stdout
        assert "predictions from the weights" in said


def test_a_killed_run_goes_on_to_the_same_numbers(made: Path, tmp_path: Path, vad_run: Path) -> None:
    partial = Path(shutil.copytree(vad_run, tmp_path / f"{vad_run.name}.partial"))
    (partial / "index.json").unlink()
    shutil.rmtree(partial / FOLDS[1])
    (again,) = prepared(made, tmp_path, "vad")
    for fold in FOLDS:
        assert (again / fold / "predictions.csv").read_bytes() == (vad_run / fold / "predictions.csv").read_bytes()


@pytest.mark.parametrize("target", ["votes", "vad", "vad+class"])
def test_folds_together_give_what_they_give_alone(made: Path, tmp_path: Path, target: str) -> None:
    head = ("train.solver=adamw", "train.epochs=4", "train.patience=9", "train.batch=16", "train.lr=2e-3")
    names = dict.fromkeys(("one", "all"))
    for name in names:
        (names[name],) = prepared(made, tmp_path / name, target, *head, preset="frozen", stack=name == "all")
    one, every = (rescored.lines(Path(str(folder))) for folder in names.values())
    columns = [name for name in one[0] if name.startswith(("log_p:", "predicted:"))]
    assert columns
    for name in columns:
        alone, together = ([float(row[name]) for row in rows] for rows in (one, every))
        assert alone == pytest.approx(together, abs=5e-5)


def test_predict_tells_attributes_on_the_corpuss_scale(
    made: Path, vad_run: Path, both_run: Path, votes_run: Path, run: Callable[..., Result]
) -> None:
    row = rescored.lines(vad_run)[0]
    file = made / "demo" / row["file"]
    fold = next(place for place in FOLDS if row["id"] in (vad_run / place / "predictions.csv").read_text())
    (said,) = json.loads(run("predict", vad_run, file, "--fold", fold, "--json", "--quiet").stdout)
    assert (said["emotion"], said["probabilities"]) == (None, {})
    assert [said[name] for name in DIMENSIONS] == pytest.approx(
        [float(row[f"predicted:{name}"]) for name in DIMENSIONS], abs=2e-3
    )
    table = run("predict", vad_run, file, "--quiet").stdout.splitlines()
    assert table[0].split()[:4] == ["file", *DIMENSIONS]
    (both,) = json.loads(run("predict", both_run, file, "--json", "--quiet").stdout)
    assert both["emotion"] in ("neutral", "happy", "angry", "sad")
    assert set(DIMENSIONS) <= both.keys()
    header, line = csv.reader(run("predict", both_run, file, "--csv", "--quiet").stdout.splitlines())
    assert len(header) == len(line)
    assert header[-5:] == [*DIMENSIONS, "note", "error"]
    (shares,) = json.loads(run("predict", votes_run, file, "--json", "--quiet").stdout)
    assert math.fsum(shares["probabilities"].values()) == pytest.approx(1, abs=1e-3)


def test_what_tells_no_class_is_refused_where_classes_are_wanted(
    vad_run: Path, both_run: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    file = tmp_path / "none.wav"
    assert "a confidence needs classes" in run("predict", vad_run, file, "--unsure", "0.9", status=1).stderr
    assert "--plot draws probabilities of classes" in run("predict", vad_run, file, "--plot", tmp_path, status=2).stderr
    said = run("export", both_run, tmp_path / "out", "--onnx", status=1).stderr
    assert "an ONNX graph predicts classes" in said and "export without --onnx" in said
    assert not (tmp_path / "out").exists()
    with pytest.raises(PipelineError, match="`unsure` needs classes"):
        next(ser_pipeline.load(vad_run, "cpu").each([file], unsure=0.5))


def test_a_model_folder_tells_the_attributes_that_its_run_does(
    made: Path, vad_run: Path, both_run: Path, tmp_path: Path
) -> None:
    for source in (vad_run, both_run):
        folder = export(source, tmp_path / source.name)
        recording = made / "demo" / rescored.lines(source)[0]["file"]
        own, kept = ser_pipeline.load(source, "cpu")(recording), SpeechEmotion.from_pretrained(folder, device="cpu")
        told = kept(recording)
        assert told.attributes == pytest.approx(own.attributes, abs=1e-5) and set(told.attributes) == set(DIMENSIONS)
        assert told.probabilities == pytest.approx(own.probabilities, abs=1e-5)
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "arousal, valence, dominance on a scale of 1 to 5" in card
        assert re.search(r"\| arousal, CCC \| 0\.\d{3} \|", card)
    with pytest.raises(ValueError, match="no classes: open it with SpeechEmotion"):
        SpeechEmotionForAudioClassification.from_pretrained(str(tmp_path / vad_run.name))
    file = tmp_path / vad_run.name / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"scale": [5, 1]}), encoding="utf-8")
    with pytest.raises(PipelineError, match="its scale must be two increasing numbers"):
        SpeechEmotion.from_pretrained(tmp_path / vad_run.name, device="cpu")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            ("train.target=vad", "train.monitor=ua"),
            r"train.monitor='ua' is not possible with train.target='vad'.*monitor='ccc'",
        ),
        (("train.target=class", "train.monitor=ccc"), r"monitor='ccc' is not possible with train.target='class'"),
        (("train.target=votes", "train.balanced=true"), r"train.balanced has no effect with train.target='votes'"),
        (("train.target=vad", "train.class_weights=true"), r"train.class_weights has no effect with .*=false"),
        (("train.target=vad", "train.label_smoothing=0.1"), r"train.label_smoothing has no effect"),
        (("train.target=votes", "train.vad_weight=2"), r"train.vad_weight has no effect with train.target='votes'"),
        (
            ("train.target=votes", "model.head=linear", "train.solver=svm"),
            r"solver='svm' is not possible with .*'votes'",
        ),
        (("train.target=mood",), r"setting 'train.target' must be one of class, votes, vad, vad\+class"),
    ],
)
def test_settings_without_a_meaning_for_the_target_are_a_line(pairs: Sequence[str], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        load("frozen" if "train.solver=svm" in pairs else "demo", None, pairs)


def test_a_loss_over_a_batch_is_not_computed_in_parts(made: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"the loss of --target vad needs a whole batch.*leave out --micro-batch"):
        prepared(made, tmp_path, "vad", micro_batch=4)


def test_a_corpus_without_ratings_is_told_what_it_has(made: Path) -> None:
    data = features(made)
    bare = replace(data, utterances=tuple(replace(one, votes=(), vad=None) for one in data.utterances if one.emotion))
    with pytest.raises(
        PipelineError,
        match=r"demo has no votes of raters, so --target votes is impossible; it supports --target class,",
    ):
        targeted.targeted(bare, "votes")


def test_the_loss_of_attributes_is_one_minus_lins_coefficient() -> None:
    rng = np.random.default_rng(0)
    wanted, told = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    counts = np.r_[np.ones(30), np.zeros(10)]
    found = discordance(*(torch.from_numpy(x) for x in (told, wanted, counts)))
    expected = 1 - np.mean([rescored.concordance(wanted[:30, place], told[:30, place]) for place in range(3)])
    assert found.tolist() == pytest.approx([expected] * 40, abs=1e-6)
    assert ccc(sums_of(wanted[:30], told[:30]).sum(0)).mean() == pytest.approx(1 - expected)


def test_label_smoothing_and_class_weights_follow_votes() -> None:
    values = torch.tensor([[0.75, 0.25], [0.0, 0.0]])
    objective = Objective(TARGETS["votes"], 2, values, smoothing=0.2)
    assert objective.targets(torch.tensor([0, 1])).tolist() == pytest.approx(torch.tensor([[0.7, 0.3], [0.0, 0.0]]))
    logits = torch.zeros(1, 2)
    plain = objective.losses(logits, values[:1], torch.ones(1))
    weighted = objective.losses(logits, values[:1], torch.ones(1), torch.tensor([2.0, 1.0]))
    assert weighted.item() == pytest.approx(1.75 * plain.item())


def test_ridge_finds_planted_shares_and_attributes() -> None:
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 6, generator=rng, dtype=torch.float64)
    inputs -= inputs.mean(0)
    true = inputs @ torch.randn(6, 3, generator=rng, dtype=torch.float64) / 6
    rows = HeadRows(inputs, torch.full((400,), -1), torch.arange(400))
    settings = load("frozen", None, ["train.target=vad"]).train
    weights, bias = _to_attributes(rows, rows, Objective(TARGETS["vad"], 0, true.float() + 0.1), settings)
    said = inputs @ weights + bias
    assert ccc(sums_of((true + 0.1).numpy(), said.numpy()).sum(0)).min() > 0.97
    shares = (2 * true).softmax(1)
    weights, bias = _to_votes(rows, rows, Objective(TARGETS["votes"], 3, shares.float()), settings)
    told = (inputs @ weights + bias).softmax(1)
    assert (told - shares).abs().mean() < 0.5 * (shares - shares.mean(0)).abs().mean()


def test_corpora_of_different_scales_want_the_same_of_the_same_turns(made: Path) -> None:
    one = features(made)
    wide = tuple(replace(other, vad=other.vad and other.vad.on((1.0, 7.0))) for other in one.utterances)
    both = join([one, replace(one, corpus="wide", utterances=wide)])
    values = targeted.values_of(targeted.targeted(both, "vad"), TARGETS["vad"])
    first, second = np.split(values, 2)
    np.testing.assert_allclose(first, second)
    np.testing.assert_allclose(first, targeted.values_of(one, TARGETS["vad"]))
    assert "attributes from 0 to 1 are scaled to -1 to 1" in targeted.told(both, "vad")
