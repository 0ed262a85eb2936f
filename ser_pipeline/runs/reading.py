"""Reading of runs from disk, with checks of their consistency."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats
from ser_pipeline.config import Config, loads
from ser_pipeline.corpora.ratings import DIMENSIONS
from ser_pipeline.entry import PARTIAL, require_digest
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs import layout
from ser_pipeline.runs.audited import audited
from ser_pipeline.runs.integrity import cheap_fault
from ser_pipeline.runs.origin import origin
from ser_pipeline.runs.records import (
    FACTS,
    PREDICTED,
    SPEAKER_FACTS,
    FoldResult,
    LeftOut,
    Run,
    RunHeader,
    UtteranceTable,
    read_text,
)
from ser_pipeline.runs.shapes import IndexFile, ResultFile, read_run_file, read_shape
from ser_pipeline.splits.protocols import FINAL
from ser_pipeline.targets import TARGETS, Target
from ser_pipeline.text import few, parse_float, parse_int, unguarded

LONGEST = 4_096
"""Maximum characters of a cell of predictions.csv, the longest path; an array of text needs memory for the longest."""

_WORDS = ("corpus", "protocol", "selection", "ablation", "preset", "features")
_NOTES = ("title", "device", "precision", "test_corpus", "audio_root", "audio_roots", "rated")


def scan(root: Path) -> tuple[list[RunHeader], list[LeftOut]]:
    """Return the runs in `root` by name, finished or not, and the folders that are left out."""
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
    pairs = list(zip(headers, reasons, strict=True))
    left_out += [LeftOut(header.path.name, reason, header.corpus) for header, reason in pairs if reason]
    return [header for header, reason in pairs if not reason], left_out


def newest(root: Path, folds: Sequence[str] = ()) -> tuple[Path, int]:
    """Return the run that was started last, a finished one if there is any, and the number of runs to choose from.

    Args:
        root: folder of the runs.
        folds: names of folds, all of which the run must have finished.

    Raises:
        PipelineError: there is no such run.
    """
    found = [file.parent for file in root.glob(f"*/{layout.RUN}")]
    if not found:
        raise PipelineError(f"no run in {root}; train one with `ser-pipeline train`, or name a run before the audio")
    found = [run for run in found if all((run / name / "index.json").is_file() for name in folds)]
    if not found:
        raise PipelineError(
            f"no run in {root} has finished fold {', '.join(folds)}; `ser-pipeline status` lists the runs"
        )
    whole = [folder for folder in found if not folder.name.endswith(PARTIAL)]
    return max(whole or found, key=lambda folder: (folder / layout.RUN).stat().st_mtime_ns), len(found)


def _reason_against(header: RunHeader, finished: AbstractSet[str]) -> str:
    """Return why a run is left out, given the names of `finished` ones, or ""."""
    if header.protocol == FINAL:
        return "it is a final model, which has no test scores; use it with predict, export or profile"
    if header.whole:
        return ""
    if header.name in finished:
        return "a finished run has the same name"
    return "" if any(header.path.glob(f"*/{layout.HISTORY}")) else "none of its folds has finished an epoch"


def read_header(folder: Path) -> RunHeader:
    """Read the header of the run in `folder`.

    Raises:
        PipelineError: it is not a run, or it is damaged.
    """
    said = read_run_file(folder)
    whole = not folder.name.endswith(PARTIAL)
    index = read_shape(folder / "index.json", IndexFile) if whole else IndexFile()
    config = _settings(folder / layout.CONFIG)
    settings = json.loads(json.dumps(asdict(config)))
    settings.pop("seed")
    return RunHeader(
        path=folder,
        whole=whole,
        settings=settings,
        audio=config.audio,
        spectrogram=config.features.spectrogram,
        reads=config.model.reads,
        versions=index.versions,
        labels=said.labels,
        fold_names=said.folds,
        seed=said.seed,
        synthetic=said.synthetic,
        features_cost=said.features_cost,
        utterances=said.utterances,
        accepted=audited(folder)[1],
        origin=origin(said, index),
        hashed=bool(index.files),
        **{name: getattr(said, name) for name in (*_WORDS, *_NOTES)},
    )


def read_run(header: RunHeader, roll: UtteranceTable) -> Run:
    """Read the run of `header` with its finished folds, and add its utterances to `roll`.

    Raises:
        PipelineError: a fold is damaged or contradicts itself.
    """
    there = [name for name in header.fold_names if (header.path / name / "index.json").is_file()]
    if header.whole and len(there) < len(header.fold_names):
        missing = ", ".join(name for name in header.fold_names if name not in there)
        raise PipelineError(f"it is marked as finished but lacks fold {missing}; train again to repair it")
    known = len(roll.facts)
    try:
        run = Run(header, tuple(read_fold(header.path / name, header.labels, roll, header.target) for name in there))
        tested = [row for fold in run.folds for row in fold.by_raters.rows.tolist()]
        if len(set(tested)) < len(tested):
            raise PipelineError("two of its folds test the same utterance")
    except PipelineError:
        roll.forget(known)
        raise
    return run


def read_fold(folder: Path, labels: Sequence[str], roll: UtteranceTable, row: Target = TARGETS["class"]) -> FoldResult:
    """Read the fold in `folder`, and check its predictions against its counts.

    Args:
        folder: folder of the fold.
        labels: classes of the run, in its order.
        roll: the utterances of all runs.
        row: target of the run.

    Raises:
        PipelineError: a file is missing or damaged, or the counts differ from those of the predictions.
    """
    files = read_shape(folder / "index.json", IndexFile).files
    for name in (layout.PREDICTIONS, layout.RESULT):
        require_digest(folder / name, files)
    told = _arrays(read_predictions(folder / layout.PREDICTIONS, labels, row), labels, roll)
    said = read_shape(folder / layout.RESULT, ResultFile)
    fold = FoldResult(
        name=folder.name,
        path=folder,
        **told,
        best_epoch=said.best_epoch,
        epochs=said.epochs,
        seconds=said.seconds,
        cpu_seconds=said.cpu_seconds,
        gpu_seconds=said.gpu_seconds,
        silent=said.silent,
        files=files,
    )
    if row.classes and fold.confusion().counts.tolist() != said.counts:
        raise PipelineError(f"the counts of fold {folder.name} differ from those of its predictions")
    if layout.UNDECIDED not in files:
        return fold
    require_digest(folder / layout.UNDECIDED, files)
    beside = read_predictions(folder / layout.UNDECIDED, labels, row, decided=False)
    return replace(fold, undecided=replace(fold, **_arrays(beside, labels, roll)))


def _arrays(said: Predictions, labels: Sequence[str], roll: UtteranceTable) -> dict[str, Any]:
    """Return the fields of a `FoldResult` that come from a file of predictions.

    Args:
        said: the predictions.
        labels: classes of the run, in its order.
        roll: the utterances of all runs.
    """
    class_of = {label: place for place, label in enumerate(labels)}
    return {
        "rows": roll.rows(said.ids, said.facts),
        "target": np.array([class_of.get(one[-1], -1) for one in said.facts], dtype=np.int64),
        "prediction": np.array([class_of.get(label, -1) for label in said.prediction], dtype=np.int64),
        "log_prob": said.log_prob,
        "votes": said.votes,
        "attributes": said.attributes,
    }


@dataclass(frozen=True, eq=False)
class Predictions:
    """Contents of a file of predictions. U utterances, C classes."""

    ids: Sequence[str]
    facts: list[tuple[str, ...]]  # columns of `FACTS` by utterance
    prediction: Sequence[str]  # "" if the target has no classes
    log_prob: NDArray[np.float32]  # (U, C) mean log-probabilities; (U, 0) if the target has no classes
    votes: Floats | None  # (U, C) weights of votes; None if they are not the target
    attributes: Floats | None  # (2, U, 3) by the raters and by the model; None if they are not the target


def read_predictions(file: Path, labels: Sequence[str], row: Target, decided: bool = True) -> Predictions:
    """Read a file of predictions.

    Args:
        file: the file.
        labels: classes of the run.
        row: target of the run.
        decided: whether all lines have a class; otherwise none has one.

    Raises:
        PipelineError: it cannot be read, lacks a column, or is damaged.
    """
    where = f"{file.name} of fold {file.parent.name}"
    try:
        lines = list(csv.reader(io.StringIO(read_text(file), newline="")))
    except csv.Error as error:
        raise PipelineError(f"{where} is damaged ({error})") from None
    if len(lines) < 2:
        raise PipelineError(f"{where} is empty")
    place = {name: column for column, name in enumerate(lines[0])}
    scores = [f"log_p:{label}" for label in labels] if row.classes else []
    votes = [f"votes:{label}" for label in labels] if row.votes else []
    attributes = [prefix + name for prefix in ("", PREDICTED) for name in DIMENSIONS] if row.attributes else []
    wanted = [name for name in FACTS if name not in SPEAKER_FACTS] + (["prediction"] if row.classes else [])
    missing = [name for name in ("id", *wanted, *scores, *votes, *attributes) if name not in place]
    if missing:
        raise PipelineError(f"{where} has no column {', '.join(missing)}")
    if any(len(line) != len(place) for line in lines):
        raise PipelineError(f"{where} has a broken line")
    if any(len(cell) > LONGEST or "\0" in cell for line in lines for cell in line):
        raise PipelineError(f"{where} has a cell that is not text, or has more than {LONGEST} characters")
    columns = [[unguarded(cell) for cell in column] for column in zip(*lines[1:], strict=True)]
    try:
        numbers = {name: list(map(parse_float, columns[place[name]])) for name in (*scores, *votes, *attributes)}
        seconds = np.array(list(map(parse_float, columns[place["seconds"]])))
        segments = np.array(list(map(parse_int, columns[place["segments"]])))
    except (ValueError, OverflowError) as error:
        raise PipelineError(f"{where} is damaged ({error})") from None
    given = np.array([*numbers.values(), seconds])
    if not (np.isfinite(given).all() and (segments > 0).all()):
        raise PipelineError(f"{where} has scores or lengths that are not valid numbers")
    ids = columns[place["id"]]
    if len(set(ids)) < len(ids):
        raise PipelineError(f"{where} has an utterance twice")
    nothing = ("",) * len(ids)
    facts = list(zip(*(columns[place[name]] if name in place else nothing for name in FACTS), strict=True))
    prediction = columns[place["prediction"]] if row.classes else nothing
    told = {*prediction} - {*labels} if row.classes else set()
    if unknown := told | {*columns[place["label"]]} - ({*labels} if decided else {""}):
        raise PipelineError(f"{where} has an unknown class: {few(sorted(unknown))}")
    if votes and (np.array([numbers[name] for name in votes]).sum(0) <= 0).any():
        raise PipelineError(f"{where} has an utterance without votes")
    pairs = np.array([numbers[name] for name in attributes]).reshape(-1, len(DIMENSIONS), len(ids)).swapaxes(1, 2)
    return Predictions(
        ids,
        facts,
        prediction,
        np.array([numbers[name] for name in scores], np.float32).reshape(len(scores), len(ids)).T,
        np.array([numbers[name] for name in votes]).T if votes else None,
        pairs if attributes else None,
    )


def _folders(root: Path) -> Iterator[Path]:
    return (path for path in root.iterdir() if path.is_dir()) if root.is_dir() else iter(())


def _settings(file: Path) -> Config:
    try:
        return loads(read_text(file), "its config.toml")
    except RecursionError:
        raise PipelineError("its config.toml is damaged (tables in tables)") from None
