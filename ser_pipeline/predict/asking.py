"""Batches of segments that fill over recordings, and what the models say of them.

Legend of shapes: F models, S segments, C classes, A attributes.
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
"""Segments of one batch, and what they are of."""

Outputs = NDArray[np.float32]
"""Log-probabilities of classes, then attributes of -1 to 1 where there are some, (F, S, C + A) by F models."""


class Scorer(Protocol):
    """Log-probabilities of segments: the models of a run, or what stands in for them."""

    @property
    def size(self) -> int:
        """Segments that are best given at a time."""

    def __call__(self, rows: Mapping[str, Any], samples: NDArray[np.int64]) -> Outputs:
        """What the models say of segments.

        Args:
            rows: name of an input -> its rows (S, ...), as they are stored for training: arrays, or tensors where the
                front end makes these.
            samples: (S,) real samples of each segment.
        """


@runtime_checkable
class Beside(Scorer, Protocol):
    """A scorer on a device of its own, beside which this process can go on."""

    @property
    def ahead(self) -> int:
        """Batches that are best begun before the first of them is waited for."""

    def begin(self, rows: Mapping[str, Any], samples: NDArray[np.int64]) -> Callable[[], Outputs]:
        """Begin with what a call does; what it returns waits for the result.

        Args:
            rows: as for a call.
            samples: as for a call.
        """


@dataclass
class Pending:
    """An excerpt whose segments are being asked about."""

    excerpt: Excerpt
    outputs: list[Outputs] = field(default_factory=list)  # (F, S, C + A) each
    samples: list[NDArray[np.int64]] = field(default_factory=list)
    peak: float = 0.0
    done: bool = False

    def add(self, piece: Piece, outputs: Outputs) -> None:
        """Keep what the models said of its next segments."""
        self.outputs.append(outputs)
        self.samples.append(piece.samples)
        self.peak, self.done = max(self.peak, piece.peak), piece.last

    def counted(self, least: int) -> tuple[Outputs, NDArray[np.int64]]:
        """Outputs and real samples of the segments that count: a last one of several with too few does not."""
        outputs = self.outputs[0] if len(self.outputs) == 1 else np.concatenate(self.outputs, axis=1)
        real = self.samples[0] if len(self.samples) == 1 else np.concatenate(self.samples)
        count = len(real) - (len(real) > 1 and int(real[-1]) < least)
        return outputs[:, :count], real[:count]


def scored(scorer: Scorer, pieces: Iterator[tuple[Excerpt, Piece]]) -> Iterator[tuple[Pieces, Outputs]]:
    """What the models say of every batch, in order; a device of their own is given others before one is waited for.

    Args:
        scorer: the models.
        pieces: of all excerpts.
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
    """Rows and real samples of pieces, one after the other."""
    several = [piece for _, piece in pieces]
    rows = {name: _one_after_other([piece.rows[name] for piece in several]) for name in several[0].rows}
    return rows, np.concatenate([piece.samples for piece in several])


def _one_after_other(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import torch  # as what made them does

    return torch.cat(parts)


def _filled(pieces: Iterator[tuple[Excerpt, Piece]], size: int) -> Iterator[list[tuple[Excerpt, Piece]]]:
    """The same segments, `size` at a time, whichever excerpts they are of."""
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
    """Enter what the models say of pieces where it belongs.

    Args:
        pieces: of a batch.
        found: of their segments.
        order: what is asked about.
    """
    waiting = {id(pending.excerpt): pending for pending in order if isinstance(pending, Pending)}
    first = 0
    for excerpt, piece in pieces:
        waiting[id(excerpt)].add(piece, found[:, first : first + len(piece)])
        first += len(piece)
