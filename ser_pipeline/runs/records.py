"""A run and its folds in memory; utterances are shared by all runs, and large arrays are read when needed."""

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
"""A function that is called with the number of runs read so far, and of all runs."""

SPEAKER_FACTS = ("gender", "age", "language")
"""Columns that are empty if a corpus does not have them, or if an earlier version wrote the file."""

FACTS = ("file", "speaker", "session", "dialogue", "script", *SPEAKER_FACTS, "seconds", "segments", "label")
"""Columns of predictions.csv that describe the utterance and do not depend on the model."""


PREDICTED = "predicted:"
"""Prefix of the columns of predictions.csv with predicted attributes."""

COUNTS = ("utterance", "samples")
"""Arrays of segments.npz with one whole number per segment."""


@dataclass(frozen=True)
class LeftOut:
    """A folder that the report leaves out, and the reason."""

    name: str
    reason: str
    corpus: str = ""  # of the run; "" where it does not say


@dataclass(frozen=True)
class Origin:
    """Provenance of a run; fields that an earlier version did not write are empty."""

    made: dict[str, list[Fact]] = field(default_factory=dict)  # the distinct values of each fact over its folds
    started: str = ""  # UTC; start of the first command
    ended: str = ""  # UTC; "" while unfinished
    seconds: float = 0.0  # from start to end, including pauses
    manifest: str = ""  # SHA-256 of the corpus's manifest
    contents: str = ""  # SHA-256 of `contents.csv`, which has the hash of every utterance's audio
    encoders: dict[str, dict[str, str]] = field(default_factory=dict)  # `content` and `revision` of pre-trained weights


@dataclass(frozen=True)
class RunHeader:
    """Description of a run, without its results."""

    path: Path
    corpus: str
    labels: tuple[str, ...]
    protocol: str
    selection: str  # one of `SELECTIONS`, or "last" if the last epoch is always used
    ablation: str
    seed: int
    preset: str
    features: str  # key of the features
    fold_names: tuple[str, ...]
    title: str
    synthetic: bool
    device: str
    precision: str
    test_corpus: str  # "" if it is the corpus itself
    audio_root: str
    settings: Mapping[str, Any]  # all settings except for the seed
    audio: Audio  # part of `settings`
    spectrogram: Spectrogram  # part of `settings`
    reads: tuple[str, ...]  # features that the model reads
    versions: Mapping[str, str]  # {} while unfinished
    whole: bool  # whether the run is finished
    features_cost: Mapping[str, float] = field(default_factory=dict)  # seconds of extraction; {} if unknown
    utterances: int = 0  # number of utterances that folds could test; 0 if unknown
    accepted: tuple[str, ...] = ()  # errors of the audit that the user accepted
    origin: Origin = field(default_factory=Origin)
    audio_roots: Mapping[str, str] = field(default_factory=dict)  # by corpus, if there are several; otherwise {}
    rated: bool = False  # whether utterances without a class are used in training
    hashed: bool = False  # whether its index has the hashes of its files

    @property
    def target(self) -> Target:
        """The target that the model predicts."""
        return TARGETS[str(self.settings.get("train", {}).get("target", "class"))]

    @property
    def roots(self) -> list[str]:
        """The known folders of its audio."""
        return [root for root in (self.audio_root, *self.audio_roots.values()) if root]

    @property
    def on_test(self) -> bool:
        """Whether the epoch was chosen on the test rows."""
        return self.selection in ON_TEST

    @property
    def name(self) -> str:
        """The folder's name, without `.partial`."""
        return self.path.name.removesuffix(PARTIAL)


@dataclass(frozen=True)
class UtteranceTable:
    """All utterances that some run was tested on, numbered in order of appearance."""

    row_of: dict[str, int] = field(default_factory=dict)  # row by id
    facts: list[tuple[str, ...]] = field(default_factory=list)  # columns of `FACTS` by row

    @property
    def ids(self) -> list[str]:
        """Ids of the utterances by row."""
        return list(self.row_of)

    def column(self, name: str) -> NDArray[np.str_]:
        """Return a column of FACTS, (utterances,), as text."""
        place = FACTS.index(name)
        return np.array([row[place] for row in self.facts])

    def numbers(self, name: str) -> Floats:
        """Return a column of FACTS, (utterances,), as numbers."""
        place = FACTS.index(name)
        return np.array([float(row[place]) for row in self.facts])

    def rows(self, ids: Sequence[str], facts: Sequence[tuple[str, ...]]) -> Ints:
        """Return the rows of `ids`, after adding those that are new.

        Raises:
            PipelineError: an id is known with other facts, so the two runs are of different corpora.
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
        """Remove all utterances after the first `count`, which came from a damaged run."""
        for name in self.ids[count:]:
            del self.row_of[name]
        del self.facts[count:]


def _changed(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    """Return the first of FACTS in which two descriptions of an utterance contradict each other, or "".

    Some differences are allowed. A file may be relative to another parent folder, if features were extracted from a
    corpus and from a part of it. Models with longer segments have fewer segments. With fewer classes, an utterance may
    have no label.
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
    """Merge two descriptions of an utterance that do not contradict each other: the second fills gaps of the first."""
    return tuple(
        second if name in (*SPEAKER_FACTS, "label") and not first else first
        for name, first, second in zip(FACTS, one, other, strict=True)
    )


@dataclass(frozen=True, eq=False)
class FoldResult:
    """A fold's predictions of its test utterances. U utterances, C classes."""

    name: str
    path: Path
    rows: Ints  # (U,) rows of the `UtteranceTable`
    target: Ints  # (U,) class index
    prediction: Ints  # (U,) class index; -1 if the target has no classes
    log_prob: NDArray[np.float32]  # (U, C) mean log-probability of the segments; (U, 0) if the target has no classes
    best_epoch: int
    epochs: int
    seconds: float
    cpu_seconds: float | None = None  # of training and testing; None if an earlier version trained it
    gpu_seconds: float | None = None
    silent: float = 0.0  # share of test segments whose co-attention weights are all zero
    files: Mapping[str, str] = field(default_factory=dict, repr=False)  # digest by name, from its index
    votes: Floats | None = None  # (U, C) weight of the raters of each class; None if it is not the target
    attributes: Floats | None = None  # (2, U, 3) by raters and model, on the corpus's scale; None if not the target
    undecided: FoldResult | None = None  # results for utterances without a class, which only scores by raters include

    @property
    def by_raters(self) -> FoldResult:
        """All rated utterances: the test utterances, followed by those without a class, whose target is -1."""
        both = (self, self.undecided)
        if both[1] is None:
            return self
        found: dict[str, Any] = {"undecided": None}
        for name in ("rows", "target", "prediction", "log_prob", "votes", "attributes"):
            arrays = [getattr(one, name) for one in both]
            found[name] = None if arrays[0] is None else np.concatenate(arrays, axis=int(name == "attributes"))
        return replace(self, **found)

    def confusion(self) -> Confusion:
        """Return the confusion matrix of the test utterances."""
        return Confusion.of(self.target, self.prediction, self.log_prob.shape[1])

    def segments(self, names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """Read the arrays of segments.npz: those of `names` that exist, or all.

        Raises:
            PipelineError: the file is damaged, or its arrays do not match the fold's utterances and classes.
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
            raise PipelineError(f"{self.path.name}/{layout.SEGMENTS} has unexpected contents")
        return stored

    def examples(self) -> dict[str, NDArray[Any]]:
        """Read examples.npz: `spectrogram` uint8 (N, bins, frames), `attention` (N, T), `utterance` (N,).

        Raises:
            PipelineError: the file is damaged, or its arrays have other shapes or belong to other utterances.
        """
        stored = self._arrays(layout.EXAMPLES, ())
        shapes = [stored[name].shape for name in ("spectrogram", "attention", "utterance") if name in stored]
        kinds = "".join(stored[name].dtype.kind for name in ("spectrogram", "attention", "utterance") if name in stored)
        lengths = {shape[0] for shape in shapes if shape}
        if [len(shape) for shape in shapes] != [3, 2, 1] or kinds != "ufi" or len(lengths) > 1 or 0 in sum(shapes, ()):
            raise PipelineError(f"{self.path.name}/{layout.EXAMPLES} has unexpected contents")
        if not ((stored["utterance"] >= 0) & (stored["utterance"] < len(self.rows))).all():
            raise PipelineError(f"{self.path.name}/{layout.EXAMPLES} names utterances that its fold does not have")
        return stored

    def history(self) -> list[dict[str, float]]:
        """Read the records of the epochs in order; unreadable lines are left out."""
        require_digest(self.path / layout.HISTORY, self.files)
        epochs = (_line(text) for text in lines(read_text(self.path / layout.HISTORY)))
        return [epoch for epoch in epochs if epoch]

    def _arrays(self, file: str, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        require_digest(self.path / file, self.files)
        return _arrays(self.path / file, names)


def _scores(name: str) -> bool:
    """Whether an array of segments.npz has one column per class."""
    return name == "log_prob" or name.startswith(("shuffled:", "zeroed:"))


@dataclass(frozen=True, eq=False)
class Run:
    """A run with the results of its finished folds."""

    header: RunHeader
    folds: tuple[FoldResult, ...]

    @property
    def whole(self) -> bool:
        """Whether all folds are finished."""
        return self.header.whole and len(self.folds) == len(self.header.fold_names)

    def concatenated(self, name: str) -> NDArray[Any]:
        """Concatenate the array `name` of all folds."""
        return np.concatenate([getattr(fold, name) for fold in self.folds])


def read_text(file: Path) -> str:
    """Read a text file of a run; raise a `PipelineError` if it is missing or damaged."""
    try:
        if file.exists() and not file.is_file():  # reading from a pipe would block
            raise PipelineError(f"{file.parent.name}/{file.name} is not a file")
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
                raise ValueError("it is compressed, but a run's arrays never are")
            return {name: stored[name] for name in (names or stored.files) if name in stored.files}
    except Exception as error:  # numpy and zipfile raise many kinds of errors for a damaged archive
        raise PipelineError(f"{file.parent.name}/{file.name} cannot be read ({error})") from None
