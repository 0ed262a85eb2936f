"""The context of a stored segment of samples: its neighbours in the store, and its position in the utterance.

Both are tables with one row per segment, like those of the stores. They are read from the store of waveforms itself,
which contains the segments of an utterance one after the other.

Shapes: N rows, S samples of a segment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ser_pipeline.arrays import Array, Rows

if TYPE_CHECKING:
    from ser_pipeline.cache.joined import JoinedStore
    from ser_pipeline.cache.manifest import Manifest
    from ser_pipeline.cache.store import Store

AROUND = "around"
"""Name of the table of neighbouring samples in a batch."""

PLACE = "place"
"""Name of the table of positions in a batch."""


@dataclass(frozen=True)
class Around:
    """Samples before and after each segment, int16 (before + after,); 0 beyond the utterance.

    Damaged rows are found when they are read as segments, which happens in the same epoch.
    """

    store: Store | JoinedStore  # store of the waveforms
    manifest: Manifest  # manifest of their segments
    before: int
    after: int
    dtype: np.dtype[Any] = field(default=np.dtype(np.int16), init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row, without its number."""
        return (self.before + self.after,)

    def read(self, rows: Rows, out: Array | None = None) -> Array:
        """Read `rows` (N,) in their order, into `out` (N, before + after) if given."""
        out = np.empty((len(rows), *self.shape), self.dtype) if out is None else out
        out[:] = 0
        utterance = self.manifest.segments[rows, 0]
        firsts, counts = self.manifest.firsts[utterance], self.manifest.stored[utterance]
        for target, row, first, count in zip(out, rows.tolist(), firsts.tolist(), counts.tolist(), strict=True):
            self._earlier(target[: self.before], row, first)
            self._later(target[self.before :], row, first + count)
        return out

    def prefetch(self, rows: Rows) -> None:
        """Do nothing: the neighbours of a row are next to it on the disk."""

    def _earlier(self, target: Array, row: int, first: int) -> None:
        size, left = self.manifest.audio.segment, len(target)
        while left and row > first:
            row, count = row - 1, min(left, size)
            target[left - count : left] = self.store.piece(row, 1 + size - count, 1 + size)
            left -= count

    def _later(self, target: Array, row: int, end: int) -> None:
        size, there = self.manifest.audio.segment, 0
        while there < len(target) and row + 1 < end:
            row, count = row + 1, min(len(target) - there, size)
            target[there : there + count] = self.store.piece(row, 1, 1 + count)
            there += count


@dataclass(frozen=True)
class Places:
    """Samples of the utterance before each segment, and from the segment's start on, int64 (2,)."""

    manifest: Manifest
    shape: tuple[int, ...] = (2,)
    dtype: np.dtype[Any] = field(default=np.dtype(np.int64), init=False)

    def read(self, rows: Rows, out: Array | None = None) -> Array:
        """Read `rows` (N,) in their order, into `out` (N, 2) if given."""
        out = np.empty((len(rows), 2), self.dtype) if out is None else out
        utterance, first, _ = self.manifest.segments[rows].T
        out[:, 0], out[:, 1] = first, self.manifest.samples[utterance] - first
        return out

    def prefetch(self, rows: Rows) -> None:
        """Do nothing: the positions are in memory."""
