"""Runs on disk, as `train` left them: read once, shared facts kept once, heavy arrays read when asked for."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.entry import PARTIAL, read_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.metrics import Confusion, Floats, Ints, probabilities

FACTS = ("file", "speaker", "session", "dialogue", "script", "seconds", "segments", "label")
"""Columns of predictions.csv that belong to the utterance, whatever the model."""


@dataclass(frozen=True)
class LeftOut:
    """A folder that the report does not count, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Header:
    """What a run says of itself before its results are read."""

    path: Path
    corpus: str
    labels: tuple[str, ...]
    protocol: str
    selection: str  # what chose the epoch: "validation" or "test"
    ablation: str
    seed: int
    preset: str
    features: str  # key of the features
    fold_names: tuple[str, ...]
    title: str
    synthetic: bool
    device: str
    precision: str
    test_corpus: str  # "" where it is the corpus itself
    audio_root: str
    settings: Mapping[str, Any]  # the whole config, without the seed
    versions: Mapping[str, str]  # {} while unfinished
    whole: bool

    @property
    def name(self) -> str:
        """The folder's name, without `.partial`."""
        return self.path.name.removesuffix(PARTIAL)


@dataclass(frozen=True)
class Roll:
    """Every utterance of a corpus that some run was tested on; rows are given in order of appearance."""

    row_of: dict[str, int] = field(default_factory=dict)  # id -> row
    facts: list[tuple[str, ...]] = field(default_factory=list)  # as FACTS

    @property
    def ids(self) -> list[str]:
        """The utterances' ids by row."""
        return list(self.row_of)

    def column(self, name: str) -> NDArray[np.str_]:
        """A column of FACTS, (utterances,), as text."""
        place = FACTS.index(name)
        return np.array([row[place] for row in self.facts])

    def numbers(self, name: str) -> Floats:
        """A column of FACTS, (utterances,), as numbers."""
        place = FACTS.index(name)
        return np.array([float(row[place]) for row in self.facts])

    def rows(self, ids: Sequence[str], facts: Sequence[tuple[str, ...]]) -> Ints:
        """Rows of `ids`, new ones entered.

        Raises:
            PipelineError: an id is known with other facts: the two runs do not share a corpus.
        """
        for name, row in zip(ids, facts, strict=True):
            known = self.row_of.setdefault(name, len(self.facts))
            if known == len(self.facts):
                self.facts.append(row)
            elif self.facts[known] != row:
                changed = next(n for n, a, b in zip(FACTS, self.facts[known], row, strict=True) if a != b)
                raise PipelineError(f"utterance {name} has another {changed} than in the other runs")
        return np.array([self.row_of[name] for name in ids], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class FoldResult:
    """A fold's predictions of its test utterances. U utterances, C classes."""

    name: str
    path: Path
    rows: Ints  # (U,) rows of the roll
    target: Ints  # (U,) class index
    prediction: Ints  # (U,) class index
    log_prob: NDArray[np.float32]  # (U, C) mean log-probability of the segments
    best_epoch: int
    epochs: int
    seconds: float

    def confusion(self) -> Confusion:
        """Of the test utterances."""
        return Confusion.of(self.target, self.prediction, self.log_prob.shape[1])

    def segments(self, names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """Arrays of segments.npz: those of `names` that it has, or all; an unreadable file is a `PipelineError`."""
        return _arrays(self.path / "segments.npz", names)

    def examples(self) -> dict[str, NDArray[Any]]:
        """Arrays of examples.npz: `spectrogram` uint8 (N, bins, frames), `attention` (N, T), `utterance` (N,)."""
        stored = _arrays(self.path / "examples.npz", ())
        shapes = [stored[name].shape for name in ("spectrogram", "attention", "utterance") if name in stored]
        if [len(shape) for shape in shapes] != [3, 2, 1] or len({shape[0] for shape in shapes}) > 1:
            raise PipelineError(f"{self.path.name}/examples.npz has not what it should hold")
        if not (stored["utterance"] < len(self.rows)).all():
            raise PipelineError(f"{self.path.name}/examples.npz names utterances that its fold has not")
        return stored

    def history(self) -> list[dict[str, float]]:
        """The epochs in order; lines that cannot be read are left out."""
        lines = (_line(text) for text in _text(self.path / "history.jsonl").splitlines())
        return [line for line in lines if line]


@dataclass(frozen=True, eq=False)
class Run:
    """A run with the results of its whole folds."""

    header: Header
    folds: tuple[FoldResult, ...]

    @property
    def whole(self) -> bool:
        """Whether every fold is there."""
        return self.header.whole and len(self.folds) == len(self.header.fold_names)

    def joined(self, name: str) -> NDArray[Any]:
        """The array `name` of all folds, one after the other."""
        return np.concatenate([getattr(fold, name) for fold in self.folds])

    def probabilities(self) -> Floats:
        """(U, C) of all folds, one after the other."""
        return probabilities(self.joined("log_prob"))


def scan(root: Path) -> tuple[list[Header], list[LeftOut]]:
    """The runs below `root` by name, finished or not, and the folders that are none."""
    headers, left_out = [], []
    for folder in sorted(path for path in _folders(root) if not path.name.startswith(".")):
        try:
            headers.append(read_header(folder))
        except PipelineError as error:
            left_out.append(LeftOut(folder.name, str(error)))
    finished = {header.path.name for header in headers if header.whole}
    superseded = [header for header in headers if not header.whole and header.name in finished]
    left_out += [LeftOut(header.path.name, "a finished run has the same name") for header in superseded]
    return [header for header in headers if header not in superseded], left_out


def read_header(folder: Path) -> Header:
    """What the run in `folder` says of itself.

    Raises:
        PipelineError: it is no run, or damaged.
    """
    if not (folder / "run.json").is_file():
        raise PipelineError("it has no run.json, so it is not a run")
    said = read_json(folder / "run.json")
    whole = not folder.name.endswith(PARTIAL)
    index = read_json(folder / "index.json") if whole else {}
    try:
        return Header(
            path=folder,
            whole=whole,
            settings=_settings(folder / "config.toml"),
            versions=index.get("versions", {}),
            labels=tuple(said["labels"]),
            fold_names=tuple(said["folds"]),
            seed=int(said["seed"]),
            synthetic=bool(said["synthetic"]),
            **{name: str(said[name]) for name in _WORDS},
            **{name: str(said.get(name, "")) for name in _NOTES},
        )
    except KeyError as error:
        raise PipelineError(f"its run.json has no {error}") from None
    except (TypeError, ValueError) as error:
        raise PipelineError(f"its run.json is damaged ({error})") from None


def read_run(header: Header, roll: Roll) -> Run:
    """The run of `header` with its whole folds; its utterances are entered in `roll`.

    Raises:
        PipelineError: a fold is damaged or contradicts itself.
    """
    there = [name for name in header.fold_names if (header.path / name / "index.json").is_file()]
    if header.whole and len(there) < len(header.fold_names):
        missing = ", ".join(name for name in header.fold_names if name not in there)
        raise PipelineError(f"it is marked whole but lacks fold {missing}; train again to mend it")
    run = Run(header, tuple(read_fold(header.path / name, header.labels, roll) for name in there))
    if there and len(np.unique(run.joined("rows"))) < len(run.joined("rows")):
        raise PipelineError("two of its folds test the same utterance")
    return run


def read_fold(folder: Path, labels: Sequence[str], roll: Roll) -> FoldResult:
    """The fold in `folder`, checked against its own counts.

    Raises:
        PipelineError: a file is missing or damaged, or the counts are not those of the predictions.
    """
    facts, prediction, log_prob, ids = _predictions(folder / "predictions.csv", labels)
    class_of = {label: place for place, label in enumerate(labels)}
    said = read_json(folder / "result.json")
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
        )
        counts = np.array(said["counts"], dtype=np.int64)
    except KeyError as error:
        raise PipelineError(f"fold {folder.name} has an unknown class or lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise PipelineError(f"fold {folder.name} has a damaged result.json ({error})") from None
    if not np.array_equal(fold.confusion().counts, counts):
        raise PipelineError(f"the counts of fold {folder.name} are not those of its predictions")
    return fold


def _predictions(
    file: Path, labels: Sequence[str]
) -> tuple[list[tuple[str, ...]], Sequence[str], NDArray[np.float32], Sequence[str]]:
    """Facts, predicted labels, mean log-probabilities and ids of the lines of predictions.csv."""
    lines = list(csv.reader(_text(file).splitlines()))
    where = f"predictions.csv of fold {file.parent.name}"
    if len(lines) < 2:
        raise PipelineError(f"{where} is empty")
    place = {name: column for column, name in enumerate(lines[0])}
    scores = [f"log_p:{label}" for label in labels]
    missing = [name for name in ("id", "prediction", *FACTS, *scores) if name not in place]
    if missing:
        raise PipelineError(f"{where} has no column {', '.join(missing)}")
    if any(len(line) != len(place) for line in lines):
        raise PipelineError(f"{where} has a broken line")
    columns = list(zip(*lines[1:], strict=True))
    try:
        log_prob = np.array([columns[place[name]] for name in scores]).astype(np.float32).T
    except ValueError as error:
        raise PipelineError(f"{where} is damaged ({error})") from None
    if not np.isfinite(log_prob).all():
        raise PipelineError(f"{where} has scores that are no numbers")
    ids = columns[place["id"]]
    if len(set(ids)) < len(ids):
        raise PipelineError(f"{where} has an utterance twice")
    facts = list(zip(*(columns[place[name]] for name in FACTS), strict=True))
    return facts, columns[place["prediction"]], log_prob, ids


def _folders(root: Path) -> Iterator[Path]:
    return (path for path in root.iterdir() if path.is_dir()) if root.is_dir() else iter(())


def _settings(file: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(_text(file))
    except tomllib.TOMLDecodeError as error:
        raise PipelineError(f"its config.toml is damaged ({error})") from None
    settings.pop("seed", None)
    return settings


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"cannot read {file.parent.name}/{file.name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PipelineError(f"{file.parent.name}/{file.name} is damaged: it is not text") from None


def _line(text: str) -> dict[str, float]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _arrays(file: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in (names or stored.files) if name in stored.files}
    except Exception as error:  # numpy and zipfile raise a dozen kinds for a damaged archive
        raise PipelineError(f"{file.parent.name}/{file.name} cannot be read ({error})") from None


_WORDS = ("corpus", "protocol", "selection", "ablation", "preset", "features")
_NOTES = ("title", "device", "precision", "test_corpus", "audio_root")

Progress = Callable[[int, int], None]
