"""The rows of several stores as one table in a chosen order, for testing on another corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ser_pipeline.arrays import Array, Rows
from ser_pipeline.cache.shards import DamagedError
from ser_pipeline.cache.store import Store
from ser_pipeline.text import few


class JoinedStore:
    """Utterances selected by content key from several stores of one feature; reads like a `Store`."""

    def __init__(self, stores: Sequence[Store], keys: Sequence[str]) -> None:
        """Find the rows of the utterances `keys`; raises `DamagedError` if no store contains one of them."""
        self.stores = tuple(stores)
        places: dict[str, tuple[int, int, int, int]] = {}
        for number, store in enumerate(self.stores):
            counts = np.concatenate([shard.counts for shard in store.shards])
            firsts = np.cumsum(counts) - counts
            for row, key in enumerate(store.keys):
                places.setdefault(key, (number, row, int(firsts[row]), int(counts[row])))
        if missing := [key for key in keys if key not in places]:
            raise DamagedError(self.stores[0].folder, f"it has no rows of {few(missing, 1)}")
        chosen = np.array([places[key] for key in keys], np.int64).reshape(-1, 4)
        self._utterances = chosen[:, :2]
        owner, first, counts = chosen[:, 0], chosen[:, 2], chosen[:, 3]
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        self.firsts: Rows = np.cumsum(counts) - counts
        self._owner: Rows = np.repeat(owner, counts)
        self._row: Rows = np.repeat(first, counts) + inside

    def __len__(self) -> int:
        """The total number of rows."""
        return len(self._row)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return self.stores[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers in a row."""
        return self.stores[0].dtype

    def read(self, rows: Rows, out: Array | None = None) -> Array:
        """Copy `rows` (N,) in their order, verified, to `out` (N, *shape) if given."""
        out = np.empty((len(rows), *self.shape), self.dtype) if out is None else out
        for number, store in enumerate(self.stores):
            here = np.flatnonzero(self._owner[rows] == number)
            if len(here):
                out[here] = store.read(self._row[rows[here]])
        return out

    def piece(self, row: int, start: int, stop: int) -> Array:
        """Numbers `start` to `stop` of a row of vectors, without verifying its checksum.

        Args:
            row: number of the row.
            start: the first number.
            stop: the number after the last.
        """
        return self.stores[int(self._owner[row])].piece(int(self._row[row]), start, stop)

    def prefetch(self, rows: Rows) -> None:
        """Ask the operating system to read `rows` from the disk in advance."""
        for number, store in enumerate(self.stores):
            store.prefetch(self._row[rows[self._owner[rows] == number]])

    def extremes(self, utterances: Rows) -> tuple[Array, Array]:
        """Minimum and maximum of each bin over the utterance rows `utterances`."""
        parts = []
        for number, store in enumerate(self.stores):
            here = self._utterances[utterances]
            rows = here[here[:, 0] == number, 1]
            if len(rows):
                parts.append(store.extremes(rows))
        lows, highs = zip(*parts, strict=True)
        return np.min(lows, axis=0), np.max(highs, axis=0)
