"""The manifest of a corpus: every utterance with its class, its length and the hash of its audio."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats, Rows
from ser_pipeline.config import Audio, merge
from ser_pipeline.corpora.corpus import PERSONAL, RATED, Classes, Utterance
from ser_pipeline.corpora.ratings import DIMENSIONS, Vad
from ser_pipeline.entry import VERIFY, Entry, read_index, write_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.shape import ShapeError, shaped
from ser_pipeline.text import few, lines

FILE = "manifest.jsonl"
DEFAULTS = {field.name: field.default for field in fields(Utterance)}
VALUES = attrgetter(*DEFAULTS)
PLAIN: dict[str, Callable[[Any], Any]] = {"votes": dict, "vad": asdict}
"""Field with another form in JSON -> function that converts it."""

LONGEST = 1 << 40
"""Maximum samples of an utterance, two years of sound, so that sums stay within 64 bits."""


@dataclass(frozen=True)
class Manifest:
    """The utterances of a corpus, ordered by speaker, then id, as in every store."""

    corpus: str
    classes: Classes
    audio: Audio
    utterances: tuple[Utterance, ...]  # `emotion` is a class, or "" if the utterance is only rated
    keys: tuple[str, ...]  # 32 hex digits of the audio's bytes (and of the stretch)
    samples: Rows  # (U,) samples at `audio.rate`
    least: int = 0  # a last segment with fewer real samples is stored, but not used

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in order."""
        return tuple(self.classes)

    @cached_property
    def target(self) -> Rows:
        """(U,) class of each utterance as an index into `labels`; -1 for rated utterances without a class."""
        index = {"": -1} | {label: number for number, label in enumerate(self.labels)}
        return np.array([index[utterance.emotion] for utterance in self.utterances], np.int64)

    @cached_property
    def counts(self) -> Rows:
        """(U,) number of each utterance's segments that are used: they train, and vote for its class."""
        return np.asarray(self.audio.heard(self.samples, self.least), np.int64)

    @cached_property
    def stored(self) -> Rows:
        """(U,) number of each utterance's segments that are stored."""
        return np.asarray(self.audio.segments(self.samples), np.int64)

    @cached_property
    def firsts(self) -> Rows:
        """(U,) row of each utterance's first segment."""
        return np.asarray(np.cumsum(self.stored) - self.stored, np.int64)

    @cached_property
    def segments(self) -> Rows:
        """(S, 3) utterance row, first sample and number of real samples of every stored segment."""
        utterance = np.repeat(np.arange(len(self.utterances)), self.stored)
        first = (np.arange(len(utterance)) - self.firsts[utterance]) * self.audio.segment
        return np.stack([utterance, first, np.clip(self.samples[utterance] - first, 0, self.audio.segment)], axis=1)

    @cached_property
    def attributes(self) -> Floats:
        """Arousal, valence and dominance of the utterances that have them, on the corpus's own scale, (U, 3)."""
        return np.array([one.vad.values for one in self.utterances if one.vad]).reshape(-1, len(DIMENSIONS))

    @cached_property
    def scale(self) -> tuple[float, float]:
        """The ends of the scale of the attributes.

        Raises:
            PipelineError: the utterances have different scales.
        """
        scales = sorted({one.vad.scale for one in self.utterances if one.vad})
        if len(scales) != 1:
            listed = " and ".join(f"{low:g} to {high:g}" for low, high in scales)
            raise PipelineError(f"{self.corpus} has attributes on several scales, {listed}; convert them to one")
        return scales[0]

    @cached_property
    def whole(self) -> Manifest:
        """The same utterances, each as one segment."""
        return replace(self, audio=self.audio.whole)

    def rows(self, utterances: NDArray[np.integer[Any]]) -> Rows:
        """The rows of the used segments of the utterance rows `utterances`, in their order."""
        counts = self.counts[utterances]
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.asarray(np.repeat(self.firsts[utterances], counts) + inside, np.int64)

    def entry(self, root: Path) -> Entry:
        """The folder below `root` of this manifest and its stores."""
        return Entry.keyed(root, self.corpus, self.inputs)

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """Everything that the stores depend on."""
        return {
            "corpus": self.corpus,
            "classes": dict(self.classes),
            "audio": self.audio,
            "utterances": _digest(self._text(without=(*PERSONAL, *RATED))),
        }

    def write(self, folder: Path) -> None:
        """Write `manifest.jsonl`, one line per utterance, to `folder`."""
        write_text(folder / FILE, self._text())

    def update(self, folder: Path) -> None:
        """Write the manifest to a folder of the same key if the details of the speakers there differ."""
        text = self._text()
        if (folder / FILE).read_text(encoding="utf-8") != text:
            write_text(folder / FILE, text)

    def _text(self, without: tuple[str, ...] = ()) -> str:
        return "".join(f"{line}\n" for line in self._lines(without))

    def _lines(self, without: tuple[str, ...]) -> Iterator[str]:
        plain = json.JSONEncoder(ensure_ascii=False).encode
        for utterance, key, samples in zip(self.utterances, self.keys, self.samples.tolist(), strict=True):
            values = zip(DEFAULTS, VALUES(utterance), strict=True)
            known = {
                name: PLAIN[name](value) if name in PLAIN else value
                for name, value in values
                if value != DEFAULTS[name] and name not in without
            }
            yield plain({**known, "key": key, "samples": samples})


@dataclass(frozen=True)
class _Inputs:
    """Required contents of the index of a features folder."""

    corpus: str
    classes: dict[str, tuple[str, ...]]
    audio: dict[str, Any]
    utterances: str  # digest of the manifest's text


_KEY = re.compile(r"[0-9a-f]{32}")


def read(folder: Path) -> Manifest:
    """Read the manifest of a complete features folder.

    Raises:
        PipelineError: the folder is incomplete or its files are damaged.
    """
    index = read_index(folder)
    try:
        said = shaped(index["inputs"], _Inputs, "inputs")
        if sorted(shaped(index.get("labels", list(said.classes)), list[str], "labels")) != sorted(said.classes):
            raise ShapeError("its labels are not its classes")
        text = (folder / FILE).read_text(encoding="utf-8")
        records = [json.loads(line) for line in lines(text)]
        keys = tuple(record.pop("key") for record in records)
        samples = [record.pop("samples") for record in records]
        utterances = [Utterance(**_rated(record)) for record in records]
        _require_records(keys, samples, utterances, said.classes)
        audio = merge(Audio(), said.audio, "audio.")
        found = Manifest(said.corpus, said.classes, audio, tuple(utterances), keys, np.array(samples, np.int64))
        if found.inputs["utterances"] != said.utterances:
            raise ShapeError("its checksum differs")
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, PipelineError) as error:
        raise PipelineError(f"{folder / FILE} is damaged ({error}); {VERIFY}") from None


def _require_records(
    keys: Sequence[Any], samples: Sequence[Any], utterances: Sequence[Utterance], classes: Classes
) -> None:
    """Refuse invalid records: wrong types, malformed keys, no samples, unknown classes, duplicate ids.

    Columns are checked as a whole, since a manifest may have hundreds of thousands of lines.
    """
    for name, hint in get_type_hints(Utterance).items():
        if name in PLAIN:
            continue  # `_rated` has checked it
        column = list(map(attrgetter(name), utterances))
        if not set(map(type, column)) <= {hint, *get_args(hint)}:
            shaped(column, list[hint], name)  # type: ignore[valid-type]
        if hint is str:
            "".join(column).encode()  # fails on lone surrogates
    if not all(map(_KEY.fullmatch, keys)):
        raise ShapeError("a key is not 32 hex digits")
    if set(map(type, samples)) != {int} or min(samples) < 1 or max(samples) > LONGEST:
        raise ShapeError("samples are not whole numbers above 0")
    if unknown := {utterance.emotion for utterance in utterances} - {"", *classes}:
        raise ShapeError(f"{few(sorted(unknown))} is not one of its classes")
    if len({utterance.id for utterance in utterances}) < len(utterances):
        raise ShapeError("an id occurs twice")


def _rated(record: dict[str, Any]) -> dict[str, Any]:
    """Convert the votes and attributes of a line's record to an utterance's types.

    Raises:
        ShapeError: they are invalid.
    """
    if "votes" in record:
        votes = shaped(record["votes"], dict[str, float], "votes")
        if min(votes.values(), default=1) < 0:
            raise ShapeError("votes are numbers of 0 or more")
        record["votes"] = tuple(votes.items())
    if "vad" in record:
        record["vad"] = vad = shaped(record["vad"], Vad, "vad")
        if len(vad.values) != 3 or len(vad.scale) != 2 or any(len(one) != 3 for one in vad.raters):
            raise ShapeError("vad is not three values on a scale of two ends")
        if vad.scale[0] >= vad.scale[1]:
            raise ShapeError("the scale of vad does not rise")
    return record


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
