"""Runs on disk, as `train` left them, read and checked against themselves."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.config import Audio, Model, Spectrogram, merge
from ser_pipeline.entry import PARTIAL, path_name, read_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs import layout
from ser_pipeline.runs.audited import audited
from ser_pipeline.runs.integrity import cheap_fault
from ser_pipeline.runs.records import (
    FACTS,
    SPEAKER_FACTS,
    FoldResult,
    LeftOut,
    Run,
    RunHeader,
    UtteranceTable,
    read_text,
)
from ser_pipeline.text import unguarded

_WORDS = ("corpus", "protocol", "selection", "ablation", "preset", "features")
_NOTES = ("title", "device", "precision", "test_corpus", "audio_root")


def scan(root: Path) -> tuple[list[RunHeader], list[LeftOut]]:
    """The runs below `root` by name, finished or not, and the folders that are none."""
    headers, left_out = [], []
    for folder in sorted(path for path in _folders(root) if not path.name.startswith(".")):
        try:
            header = read_header(folder)
            fault = cheap_fault(folder) if header.whole else ""
            if fault:
                raise PipelineError(fault)
            headers.append(header)
        except PipelineError as error:
            left_out.append(LeftOut(folder.name, str(error)))
    finished = {header.path.name for header in headers if header.whole}
    reasons = [_reason_against(header, finished) for header in headers]
    left_out += [LeftOut(header.path.name, reason) for header, reason in zip(headers, reasons, strict=True) if reason]
    return [header for header, reason in zip(headers, reasons, strict=True) if not reason], left_out


def newest(root: Path) -> tuple[Path, int]:
    """The run below `root` that was begun last, of those that are whole where there are any; and how many there are.

    Raises:
        PipelineError: there is none.
    """
    found = [file.parent for file in root.glob(f"*/{layout.RUN}")]
    whole = [folder for folder in found if not folder.name.endswith(PARTIAL)]
    if not found:
        raise PipelineError(f"no run in {root}; `ser-pipeline train` makes one, or name its folder before the audio")
    return max(whole or found, key=lambda folder: (folder / layout.RUN).stat().st_mtime_ns), len(found)


def _reason_against(header: RunHeader, finished: AbstractSet[str]) -> str:
    """Why an unfinished run is left out where some are `finished`; "" for any that has something to tell."""
    if header.whole:
        return ""
    if header.name in finished:
        return "a finished run has the same name"
    return "" if any(header.path.glob(f"*/{layout.HISTORY}")) else "none of its folds has ended an epoch"


def read_header(folder: Path) -> RunHeader:
    """What the run in `folder` says of itself.

    Raises:
        PipelineError: it is no run, or damaged.
    """
    if not (folder / layout.RUN).is_file():
        raise PipelineError("it has no run.json, so it is not a run")
    said = read_json(folder / layout.RUN)
    whole = not folder.name.endswith(PARTIAL)
    index = read_json(folder / "index.json") if whole else {}
    settings = _settings(folder / layout.CONFIG)
    features = settings.get("features", {})
    try:
        return RunHeader(
            path=folder,
            whole=whole,
            settings=settings,
            audio=merge(Audio(), settings.get("audio", {}), "audio."),
            spectrogram=merge(Spectrogram(), features.get("spectrogram", {}), "features.spectrogram."),
            reads=merge(Model(), settings.get("model", {}), "model.").reads,
            versions=index.get("versions", {}),
            labels=tuple(said["labels"]),
            fold_names=tuple(path_name(str(name), "a fold of its run.json") for name in said["folds"]),
            seed=int(said["seed"]),
            synthetic=bool(said["synthetic"]),
            features_cost={name: float(value) for name, value in said.get("features_cost", {}).items()},
            utterances=int(said.get("utterances", 0)),
            accepted=audited(folder)[1],
            **{name: str(said[name]) for name in _WORDS},
            **{name: str(said.get(name, "")) for name in _NOTES},
        )
    except KeyError as error:
        raise PipelineError(f"its run.json has no {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise PipelineError(f"its run.json is damaged ({error})") from None


def read_run(header: RunHeader, roll: UtteranceTable) -> Run:
    """The run of `header` with its whole folds; its utterances are entered in `roll`.

    Raises:
        PipelineError: a fold is damaged or contradicts itself.
    """
    there = [name for name in header.fold_names if (header.path / name / "index.json").is_file()]
    if header.whole and len(there) < len(header.fold_names):
        missing = ", ".join(name for name in header.fold_names if name not in there)
        raise PipelineError(f"it is marked whole but lacks fold {missing}; train again to mend it")
    run = Run(header, tuple(read_fold(header.path / name, header.labels, roll) for name in there))
    if there and len(np.unique(run.concatenated("rows"))) < len(run.concatenated("rows")):
        raise PipelineError("two of its folds test the same utterance")
    return run


def read_fold(folder: Path, labels: Sequence[str], roll: UtteranceTable) -> FoldResult:
    """The fold in `folder`, checked against its own counts.

    Args:
        folder: of the fold.
        labels: of the run, in its order of classes.
        roll: the utterances of all runs.

    Raises:
        PipelineError: a file is missing or damaged, or the counts are not those of the predictions.
    """
    facts, prediction, log_prob, ids = read_predictions(folder / layout.PREDICTIONS, labels)
    class_of = {label: place for place, label in enumerate(labels)}
    said = read_json(folder / layout.RESULT)
    try:
        fold = FoldResult(
            name=folder.name,
            path=folder,
            rows=roll.rows(ids, facts),
            target=np.array([class_of[row[-1]] for row in facts], dtype=np.int64),
            prediction=np.array([class_of[label] for label in prediction], dtype=np.int64),
            log_prob=log_prob,
            best_epoch=int(said["best_epoch"]),
            epochs=int(said["epochs"]),
            seconds=float(said["seconds"]),
            cpu_seconds=_seconds(said, "cpu_seconds"),
            gpu_seconds=_seconds(said, "gpu_seconds"),
            silent=float(said.get("silent", 0)),
        )
        counts = np.array(said["counts"], dtype=np.int64)
    except KeyError as error:
        raise PipelineError(f"fold {folder.name} has an unknown class or lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise PipelineError(f"fold {folder.name} has a damaged result.json ({error})") from None
    if not np.array_equal(fold.confusion().counts, counts):
        raise PipelineError(f"the counts of fold {folder.name} are not those of its predictions")
    return fold


def read_predictions(
    file: Path, labels: Sequence[str]
) -> tuple[list[tuple[str, ...]], Sequence[str], NDArray[np.float32], Sequence[str]]:
    """Facts, predicted labels, mean log-probabilities (U, C) and ids of the lines of a file of predictions.

    Raises:
        PipelineError: it cannot be read, lacks a column, or is damaged.
    """
    lines = list(csv.reader(io.StringIO(read_text(file))))
    where = f"{file.name} of fold {file.parent.name}"
    if len(lines) < 2:
        raise PipelineError(f"{where} is empty")
    place = {name: column for column, name in enumerate(lines[0])}
    scores = [f"log_p:{label}" for label in labels]
    wanted = [name for name in FACTS if name not in SPEAKER_FACTS]
    missing = [name for name in ("id", "prediction", *wanted, *scores) if name not in place]
    if missing:
        raise PipelineError(f"{where} has no column {', '.join(missing)}")
    if any(len(line) != len(place) for line in lines):
        raise PipelineError(f"{where} has a broken line")
    columns = [[unguarded(cell) for cell in column] for column in zip(*lines[1:], strict=True)]
    try:
        log_prob = np.array([columns[place[name]] for name in scores]).astype(np.float32).T
    except ValueError as error:
        raise PipelineError(f"{where} is damaged ({error})") from None
    if not np.isfinite(log_prob).all():
        raise PipelineError(f"{where} has scores that are no numbers")
    ids = columns[place["id"]]
    if len(set(ids)) < len(ids):
        raise PipelineError(f"{where} has an utterance twice")
    nothing = ("",) * len(ids)
    facts = list(zip(*(columns[place[name]] if name in place else nothing for name in FACTS), strict=True))
    return facts, columns[place["prediction"]], log_prob, ids


def _seconds(said: dict[str, Any], name: str) -> float | None:
    return float(said[name]) if name in said else None


def _folders(root: Path) -> Iterator[Path]:
    return (path for path in root.iterdir() if path.is_dir()) if root.is_dir() else iter(())


def _settings(file: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(read_text(file))
    except tomllib.TOMLDecodeError as error:
        raise PipelineError(f"its config.toml is damaged ({error})") from None
    settings.pop("seed", None)
    return settings
