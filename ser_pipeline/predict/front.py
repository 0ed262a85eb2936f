"""Conversion of samples to the inputs of a model, as `features` does for training, in parts of bounded size.

Shapes: S segments, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from ser_pipeline.audio import BLOCK
from ser_pipeline.config import Config
from ser_pipeline.features import streamed
from ser_pipeline.features.acoustic import FEATURES
from ser_pipeline.inputs import INPUTS
from ser_pipeline.predict.excerpts import Excerpt

LONGEST = 300.0
"""Largest length of audio in seconds that is converted at once.

No corpus has such long utterances. The rows of a longer recording are computed in parts, with the same result. A model
of whole utterances gets equal parts of it, and their log-probabilities are averaged like those of segments.
"""

TOGETHER = 120.0
"""Smallest length of audio in seconds per call of a frozen encoder of whole utterances, which keeps all cores busy."""

KEY = "0" * 16
"""Placeholder of an utterance's key, which seeds augmentation; predictions have no augmentation."""


@dataclass(frozen=True)
class Piece:
    """Neighbouring segments of one excerpt."""

    rows: Mapping[str, Any]  # rows (S, ...) by input, as stored for training: arrays or tensors
    samples: NDArray[np.int64]  # (S,) number of samples of each segment without padding
    peak: float  # largest magnitude of the samples
    last: bool  # whether it is the end of the excerpt

    def __len__(self) -> int:
        return len(self.samples)

    def part(self, first: int, last: int) -> Piece:
        """Return segments `first` to `last` (exclusive)."""
        rows = {name: rows[first:last] for name, rows in self.rows.items()}
        return Piece(rows, self.samples[first:last], self.peak, self.last and last >= len(self))


class FrontEnd(Protocol):
    """Computes the rows that a model reads."""

    def __call__(self, excerpts: Iterable[Excerpt]) -> Iterator[tuple[Excerpt, Piece]]:
        """Yield the pieces of every excerpt in order."""


class RowMaker(Protocol):
    """Computes rows from stored waveforms by a frozen speech encoder: a `features.frozen.Maker`."""

    def __call__(
        self, waveforms: NDArray[np.int16], samples: NDArray[np.int64], counts: NDArray[np.int64], keys: list[str]
    ) -> list[NDArray[np.float16]]:
        """Return the rows of every utterance; `waveforms` has `counts` (U,) segments of each, one after the other."""


class RowRenderer(Protocol):
    """Computes features on a device: a `features.rendering.Rendering`."""

    def rows(self, name: str, samples: NDArray[np.float32]) -> NDArray[Any]:
        """Return the rows (S, ...) of a feature of a whole utterance (N,)."""

    def parts(self, name: str, read: Callable[[int, int], NDArray[np.float32]], samples: int) -> Iterator[NDArray[Any]]:
        """Yield the rows of a recording in parts, with only a part of it in memory.

        Args:
            name: name of the feature.
            read: returns samples from a first one to a last one (exclusive).
            samples: number of samples.
        """


@dataclass(frozen=True)
class StoredRows:
    """Computes rows in the form of the stores of `features`."""

    config: Config
    makers: Mapping[str, RowMaker] = field(default_factory=dict)  # of the inputs from frozen encoders
    rendering: RowRenderer | None = None  # of the features that training computes on its device
    rendered: tuple[str, ...] = ()  # names of these features

    def __call__(self, excerpts: Iterable[Excerpt]) -> Iterator[tuple[Excerpt, Piece]]:
        """Yield the pieces of every excerpt in order."""
        if self.config.model.whole:
            yield from self._of_whole(excerpts)
            return
        for excerpt in excerpts:
            for piece in self._of_segments(excerpt):
                yield excerpt, piece

    def _of_whole(self, excerpts: Iterable[Excerpt]) -> Iterator[tuple[Excerpt, Piece]]:
        """Yield a row for each excerpt, or for each of its equal parts; the encoder processes several at once."""
        waiting: list[tuple[Excerpt, NDArray[np.float32], bool]] = []
        rate = self.config.audio.rate
        for excerpt in excerpts:
            edges = np.linspace(0, len(excerpt), 1 + -(-len(excerpt) // round(LONGEST * rate))).round().astype(int)
            for first, last in pairwise(edges):
                waiting.append((excerpt, excerpt.read(first, last), last == len(excerpt)))
                if sum(len(samples) for _, samples, _ in waiting) >= TOGETHER * rate:
                    yield from self._encoded(waiting)
                    waiting = []
        yield from self._encoded(waiting)

    def _encoded(self, waiting: list[tuple[Excerpt, NDArray[np.float32], bool]]) -> Iterator[tuple[Excerpt, Piece]]:
        if not waiting:
            return
        signals = [samples for _, samples, _ in waiting]
        made = {
            name: self._frozen(name, signals) if name in self.makers else [self._rows(name, part) for part in signals]
            for name in self.config.model.reads
        }
        for place, (excerpt, samples, last) in enumerate(waiting):
            rows = {name: parts[place] for name, parts in made.items()}
            yield excerpt, Piece(rows, np.array([len(samples)], np.int64), peak_of(samples), last)

    def _of_segments(self, excerpt: Excerpt) -> Iterator[Piece]:
        """Yield the segments of an excerpt, at once if it is shorter than `LONGEST`."""
        audio, count = self.config.model_audio, len(excerpt)
        total = audio.segments(count)
        real = np.clip(count - np.arange(total, dtype=np.int64) * audio.segment, 0, audio.segment)
        if count <= LONGEST * audio.rate:
            samples = excerpt.read(0, count)
            rows = {name: self._rows(name, samples) for name in self.config.model.reads}
            yield Piece(rows, real, peak_of(samples), last=True)
            return
        peak, first = max(map(peak_of, _blocks(excerpt))), 0
        streams = [self._stream(name, excerpt, total) for name in self.config.model.reads]
        for several in zip(*streams, strict=True):
            last = first + len(several[0])
            rows = dict(zip(self.config.model.reads, several, strict=True))
            yield Piece(rows, real[first:last], peak, last == total)
            first = last

    def _stream(self, name: str, excerpt: Excerpt, total: int) -> Iterator[NDArray[Any]]:
        """Yield the rows of an input of a long excerpt with `total` segments in parts.

        A frozen encoder processes one part at a time too, without the rest as context.
        """
        audio, count = self.config.model_audio, streamed.SEGMENTS
        if self.rendering and name in self.rendered:
            yield from _in_parts(self.rendering.parts(name, excerpt.read, len(excerpt)), count)
            return
        if name not in self.makers:
            heard = partial(_blocks, excerpt)
            yield from _alone(streamed.parts(name, heard, len(excerpt), audio, self._settings(name)))
            return
        for first in range(0, total, count):
            last = min((first + count) * audio.segment, len(excerpt))
            yield self._rows(name, excerpt.read(first * audio.segment, last))[: min(count, total - first)]

    def _rows(self, name: str, samples: NDArray[np.float32]) -> NDArray[Any]:
        """Compute the rows (S, ...) of an input under a lock, since transforms and numpy's threads are process-wide."""
        if name in self.makers:
            return self._joined(name, self._frozen(name, [samples])[0])
        if self.rendering and name in self.rendered:
            return self.rendering.rows(name, samples)
        with _ALONE, _threads().limit(limits=1, user_api="blas"):  # the last digit depends on the number of threads
            made: NDArray[Any] = FEATURES[name].rows(samples, self.config.model_audio, self._settings(name))
        return made

    def _frozen(self, name: str, signals: list[NDArray[np.float32]]) -> list[NDArray[np.float16]]:
        """Compute the rows (S, ...) of each signal by a frozen encoder, from its stored segments."""
        audio = self.config.audio
        stored = [FEATURES["waveform"].rows(samples, audio, None) for samples in signals]
        counts = np.array([len(rows) for rows in stored], np.int64)
        real = [
            np.clip(len(samples) - np.arange(count, dtype=np.int64) * audio.segment, 0, audio.segment)
            for samples, count in zip(signals, counts, strict=True)
        ]
        return self.makers[name](np.concatenate(stored), np.concatenate(real), counts, [KEY] * len(signals))

    def _joined(self, name: str, rows: NDArray[np.float16]) -> NDArray[np.float16]:
        """Join the rows of stored segments to those of the model's segments."""
        several = self.config.model.segments
        if several == 1:
            return rows
        import torch  # already imported by the frozen encoder

        from ser_pipeline.data.neighbours import JOIN

        missing = np.zeros((-len(rows) % several, *rows.shape[1:]), rows.dtype)
        parted = np.concatenate([rows, missing]).reshape(-1, several, *rows.shape[1:])
        return np.asarray(JOIN[INPUTS[name].form](torch.from_numpy(parted)).numpy())

    def _settings(self, name: str) -> Any:
        return getattr(self.config.features, name, None)


_ALONE = Lock()
"""Lock of the thread that computes rows."""


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def _alone(parts: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Yield the same parts, each computed under the lock."""
    while True:
        with _ALONE, _threads().limit(limits=1, user_api="blas"):
            part = next(parts, None)
        if part is None:
            return
        yield part


def _in_parts(parts: Iterator[NDArray[Any]], count: int) -> Iterator[NDArray[Any]]:
    """Yield the same rows in parts of up to `count`."""
    for part in parts:
        for first in range(0, len(part), count):
            yield part[first : first + count]


def _blocks(excerpt: Excerpt) -> Iterator[NDArray[np.float32]]:
    for first in range(0, len(excerpt), BLOCK):
        yield excerpt.read(first, min(first + BLOCK, len(excerpt)))


def peak_of(samples: NDArray[np.float32]) -> float:
    """Return the largest magnitude."""
    return float(max(samples.max(initial=0), -samples.min(initial=0)))
