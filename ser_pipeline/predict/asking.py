"""Batches of segments from several recordings, and the models' outputs for them.

Shapes: F models, S segments, C classes, A attributes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.predict.answers import Unanswered
from ser_pipeline.predict.excerpts import Excerpt
from ser_pipeline.predict.front import Piece

Pieces = Sequence[tuple[Excerpt, Piece]]
"""Segments of one batch with their excerpts."""

Outputs = NDArray[np.float32]
"""Log-probabilities of classes, then attributes, -1 to 1, if there are any: (F, S, C + A)."""


class Scorer(Protocol):
    """Computes the outputs for segments: the models of a run, or an ONNX graph."""

    @property
    def size(self) -> int:
        """Best number of segments per call."""

    def __call__(self, rows: Mapping[str, Any], samples: NDArray[np.int64]) -> Outputs:
        """Return the models' outputs for segments.

        Args:
            rows: rows (S, ...) by name of the input, as stored for training; arrays, or tensors from some front ends.
            samples: number of samples of each segment without padding (S,).
        """


@runtime_checkable
class Beside(Scorer, Protocol):
    """A scorer that computes asynchronously on a device of its own."""

    @property
    def ahead(self) -> int:
        """Best number of batches to start before waiting for the first one."""

    def begin(self, rows: Mapping[str, Any], samples: NDArray[np.int64]) -> Callable[[], Outputs]:
        """Start a call, and return a function that waits for its result.

        Args:
            rows: as in `__call__`.
            samples: as in `__call__`.
        """


@dataclass
class Pending:
    """An excerpt whose segments are being scored."""

    excerpt: Excerpt
    outputs: list[Outputs] = field(default_factory=list)  # (F, S, C + A) each
    samples: list[NDArray[np.int64]] = field(default_factory=list)
    peak: float = 0.0
    done: bool = False

    def add(self, piece: Piece, outputs: Outputs) -> None:
        """Add the outputs for its next segments."""
        self.outputs.append(outputs)
        self.samples.append(piece.samples)
        self.peak, self.done = max(self.peak, piece.peak), piece.last

    def counted(self, least: int) -> tuple[Outputs, NDArray[np.int64]]:
        """Return outputs and numbers of samples of the segments that count, without a last one that is too short."""
        outputs = self.outputs[0] if len(self.outputs) == 1 else np.concatenate(self.outputs, axis=1)
        real = self.samples[0] if len(self.samples) == 1 else np.concatenate(self.samples)
        count = len(real) - (len(real) > 1 and int(real[-1]) < least)
        return outputs[:, :count], real[:count]


def scored(scorer: Scorer, pieces: Iterator[tuple[Excerpt, Piece]]) -> Iterator[tuple[Pieces, Outputs]]:
    """Yield every batch with the models' outputs, in order; an asynchronous scorer computes several batches ahead.

    Args:
        scorer: the models.
        pieces: the segments of all excerpts.
    """
    batches = _filled(pieces, scorer.size)
    if not isinstance(scorer, Beside):
        for batch in batches:
            yield batch, scorer(*_joined(batch))
        return
    begun: deque[tuple[Pieces, Callable[[], Outputs]]] = deque()
    for batch in batches:
        begun.append((batch, scorer.begin(*_joined(batch))))
        if len(begun) > scorer.ahead:
            first, found = begun.popleft()
            yield first, found()
    for first, found in begun:
        yield first, found()


def _joined(pieces: Pieces) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Concatenate the rows and numbers of samples of pieces."""
    several = [piece for _, piece in pieces]
    rows = {name: _one_after_other([piece.rows[name] for piece in several]) for name in several[0].rows}
    return rows, np.concatenate([piece.samples for piece in several])


def _one_after_other(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import torch  # already imported by the front end that made them

    return torch.cat(parts)


def _filled(pieces: Iterator[tuple[Excerpt, Piece]], size: int) -> Iterator[list[tuple[Excerpt, Piece]]]:
    """Group segments into batches of `size`, across excerpts."""
    batch: list[tuple[Excerpt, Piece]] = []
    room = size
    for excerpt, piece in pieces:
        first = 0
        while first < len(piece):
            last = min(first + room, len(piece))
            batch.append((excerpt, piece.part(first, last)))
            room -= last - first
            first = last
            if not room:
                yield batch
                batch, room = [], size
    if batch:
        yield batch


def enter(pieces: Pieces, found: Outputs, order: Iterable[Pending | Unanswered]) -> None:
    """Add the outputs for pieces to their pending excerpts.

    Args:
        pieces: the pieces of a batch.
        found: outputs for their segments.
        order: the pending excerpts.
    """
    waiting = {id(pending.excerpt): pending for pending in order if isinstance(pending, Pending)}
    first = 0
    for excerpt, piece in pieces:
        waiting[id(excerpt)].add(piece, found[:, first : first + len(piece)])
        first += len(piece)
