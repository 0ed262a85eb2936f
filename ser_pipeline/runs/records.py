"""A run and its folds as the report holds them: shared facts once, heavy arrays read when asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats, Ints
from ser_pipeline.config import Audio, Spectrogram
from ser_pipeline.entry import PARTIAL, require_digest
from ser_pipeline.errors import PipelineError
from ser_pipeline.evaluation.metrics import Confusion
from ser_pipeline.provenance import Fact
from ser_pipeline.runs import layout
from ser_pipeline.settings import ON_TEST
from ser_pipeline.shape import shaped
from ser_pipeline.targets import TARGETS, Target
from ser_pipeline.text import lines

Progress = Callable[[int, int], None]
"""Told how many runs are read, and how many there are."""

SPEAKER_FACTS = ("gender", "age", "language")
"""Columns that earlier versions did not write, and that a corpus may not know; empty there."""

FACTS = ("file", "speaker", "session", "dialogue", "script", *SPEAKER_FACTS, "seconds", "segments", "label")
"""Columns of predictions.csv that belong to the utterance, whatever the model."""


PREDICTED = "predicted:"
"""What the name of a column of predictions.csv begins with that has a predicted attribute."""

COUNTS = ("utterance", "samples")
"""Arrays of segments.npz that hold one whole number a segment."""


@dataclass(frozen=True)
class LeftOut:
    """A folder that the report does not count, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Origin:
    """Where a run comes from; what an earlier version did not write is empty."""

    made: dict[str, list[Fact]] = field(default_factory=dict)  # the distinct values of each fact over its folds
    started: str = ""  # UTC; by the command that began it
    ended: str = ""  # UTC; "" while unfinished
    seconds: float = 0.0  # from its start to its end, pauses included
    manifest: str = ""  # SHA-256 of the corpus's manifest
    contents: str = ""  # SHA-256 of `contents.csv`, which has the hash of every utterance's audio
    encoders: dict[str, dict[str, str]] = field(default_factory=dict)  # `content` and `revision` of pre-trained weights


@dataclass(frozen=True)
class RunHeader:
    """What a run says of itself before its results are read."""

    path: Path
    corpus: str
    labels: tuple[str, ...]
    protocol: str
    selection: str  # one of `SELECTIONS`, or "last" where nothing chooses the epoch
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
    audio: Audio  # of `settings`
    spectrogram: Spectrogram  # of `settings`
    reads: tuple[str, ...]  # features that the model reads
    versions: Mapping[str, str]  # {} while unfinished
    whole: bool
    features_cost: Mapping[str, float] = field(default_factory=dict)  # seconds as of a fold; {} where not known
    utterances: int = 0  # that folds could test; 0 where the run does not say
    accepted: tuple[str, ...] = ()  # errors of the audit that were taken as they are
    origin: Origin = field(default_factory=Origin)
    audio_roots: Mapping[str, str] = field(default_factory=dict)  # of each of several corpora; {} of one
    rated: bool = False  # whether utterances of no class train
    hashed: bool = False  # whether its index has the hashes of its files

    @property
    def target(self) -> Target:
        """What it learned to tell."""
        return TARGETS[str(self.settings.get("train", {}).get("target", "class"))]

    @property
    def roots(self) -> list[str]:
        """The folders of its audio, as far as it says them."""
        return [root for root in (self.audio_root, *self.audio_roots.values()) if root]

    @property
    def on_test(self) -> bool:
        """Whether the rows that it tests chose the epoch."""
        return self.selection in ON_TEST

    @property
    def name(self) -> str:
        """The folder's name, without `.partial`."""
        return self.path.name.removesuffix(PARTIAL)


@dataclass(frozen=True)
class UtteranceTable:
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
                if changed := _changed(self.facts[known], row):
                    raise PipelineError(f"utterance {name} has another {changed} than in the other runs")
                self.facts[known] = _together(self.facts[known], row)
        return np.array([self.row_of[name] for name in ids], dtype=np.int64)

    def forget(self, count: int) -> None:
        """Take out all utterances but the first `count`: those of a run that turned out to be damaged."""
        for name in self.ids[count:]:
            del self.row_of[name]
        del self.facts[count:]


def _changed(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    """The first of FACTS in which two utterances differ, or "".

    A file may be named from another folder above it, as where features were made of a corpus and of a part of it;
    models that hear longer segments have fewer; and of fewer classes, a turn may have none.
    """
    for name, first, second in zip(FACTS, one, other, strict=True):
        longer, shorter = sorted((first, second), key=len, reverse=True)
        alike = (
            first == second
            or name == "segments"
            or (name == "file" and longer.endswith(f"/{shorter}"))
            or (name in (*SPEAKER_FACTS, "label") and not shorter)
        )
        if not alike:
            return name
    return ""


def _together(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """What is known of an utterance from two runs that do not contradict each other: the first, with what it lacks."""
    return tuple(
        second if name in (*SPEAKER_FACTS, "label") and not first else first
        for name, first, second in zip(FACTS, one, other, strict=True)
    )


@dataclass(frozen=True, eq=False)
class FoldResult:
    """A fold's predictions of its test utterances. U utterances, C classes."""

    name: str
    path: Path
    rows: Ints  # (U,) rows of the roll
    target: Ints  # (U,) class index
    prediction: Ints  # (U,) class index; -1 where the target has no classes
    log_prob: NDArray[np.float32]  # (U, C) mean log-probability of the segments; (U, 0) as above
    best_epoch: int
    epochs: int
    seconds: float
    cpu_seconds: float | None = None  # of training and testing it; None: of an earlier version
    gpu_seconds: float | None = None
    silent: float = 0.0  # share of test segments whose co-attention weights are all zero
    files: Mapping[str, str] = field(default_factory=dict, repr=False)  # name -> digest, as its index has them
    votes: Floats | None = None  # (U, C) weight of the raters of each class; None where it is not the target
    attributes: Floats | None = None  # (2, U, 3) by the raters and by the model, on the corpus's scale; None as above
    undecided: FoldResult | None = None  # the same of turns of no class, which scores of classes do not count

    @property
    def by_raters(self) -> FoldResult:
        """All that raters judged: the test utterances, and after them the turns of no class, whose target is -1."""
        both = (self, self.undecided)
        if both[1] is None:
            return self
        found: dict[str, Any] = {"undecided": None}
        for name in ("rows", "target", "prediction", "log_prob", "votes", "attributes"):
            arrays = [getattr(one, name) for one in both]
            found[name] = None if arrays[0] is None else np.concatenate(arrays, axis=int(name == "attributes"))
        return replace(self, **found)

    def confusion(self) -> Confusion:
        """The confusion matrix of the test utterances."""
        return Confusion.of(self.target, self.prediction, self.log_prob.shape[1])

    def segments(self, names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """Arrays of segments.npz: those of `names` that it has, or all.

        Raises:
            PipelineError: the file is damaged, or its arrays are not of the fold's utterances and classes.
        """
        stored = self._arrays(layout.SEGMENTS, names)
        lengths = {len(array) for array in stored.values() if array.ndim}
        utterance = stored.get("utterance", np.empty(0, np.int32))
        if (
            any(
                (array.ndim, array.dtype.kind) != ((1, "i") if name in COUNTS else (2, "f"))
                for name, array in stored.items()
            )
            or any(array.shape[1] != self.log_prob.shape[1] for name, array in stored.items() if _scores(name))
            or len(lengths) > 1
            or not ((utterance >= 0) & (utterance < len(self.rows))).all()
        ):
            raise PipelineError(f"{self.path.name}/{layout.SEGMENTS} has not what it should hold")
        return stored

    def examples(self) -> dict[str, NDArray[Any]]:
        """Arrays of examples.npz: `spectrogram` uint8 (N, bins, frames), `attention` (N, T), `utterance` (N,).

        Raises:
            PipelineError: the file is damaged, or its arrays have other shapes, or are of other utterances.
        """
        stored = self._arrays(layout.EXAMPLES, ())
        shapes = [stored[name].shape for name in ("spectrogram", "attention", "utterance") if name in stored]
        kinds = "".join(stored[name].dtype.kind for name in ("spectrogram", "attention", "utterance") if name in stored)
        lengths = {shape[0] for shape in shapes if shape}
        if [len(shape) for shape in shapes] != [3, 2, 1] or kinds != "ufi" or len(lengths) > 1 or 0 in sum(shapes, ()):
            raise PipelineError(f"{self.path.name}/{layout.EXAMPLES} has not what it should hold")
        if not ((stored["utterance"] >= 0) & (stored["utterance"] < len(self.rows))).all():
            raise PipelineError(f"{self.path.name}/{layout.EXAMPLES} names utterances that its fold has not")
        return stored

    def history(self) -> list[dict[str, float]]:
        """The epochs in order; lines that cannot be read are left out."""
        require_digest(self.path / layout.HISTORY, self.files)
        epochs = (_line(text) for text in lines(read_text(self.path / layout.HISTORY)))
        return [epoch for epoch in epochs if epoch]

    def _arrays(self, file: str, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        require_digest(self.path / file, self.files)
        return _arrays(self.path / file, names)


def _scores(name: str) -> bool:
    """Whether an array of segments.npz has a column a class."""
    return name == "log_prob" or name.startswith(("shuffled:", "zeroed:"))


@dataclass(frozen=True, eq=False)
class Run:
    """A run with the results of its whole folds."""

    header: RunHeader
    folds: tuple[FoldResult, ...]

    @property
    def whole(self) -> bool:
        """Whether every fold is there."""
        return self.header.whole and len(self.folds) == len(self.header.fold_names)

    def concatenated(self, name: str) -> NDArray[Any]:
        """The array `name` of all folds, one after the other."""
        return np.concatenate([getattr(fold, name) for fold in self.folds])


def read_text(file: Path) -> str:
    """The text of a file of a run; a missing or damaged one is a `PipelineError`."""
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise PipelineError(f"{file.parent.name}/{file.name} is no file")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"cannot read {file.parent.name}/{file.name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PipelineError(f"{file.parent.name}/{file.name} is damaged: it is not text") from None


def _line(text: str) -> dict[str, float]:
    try:
        return shaped(json.loads(text), dict[str, float]) if '"epoch"' in text else {}
    except (ValueError, RecursionError):
        return {}


def _arrays(file: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            if sum(part.file_size for part in stored.zip.infolist()) > 2 * file.stat().st_size:
                raise ValueError("it is packed, as no run's arrays are")
            return {name: stored[name] for name in (names or stored.files) if name in stored.files}
    except Exception as error:  # numpy and zipfile raise a dozen kinds for a damaged archive
        raise PipelineError(f"{file.parent.name}/{file.name} cannot be read ({error})") from None
