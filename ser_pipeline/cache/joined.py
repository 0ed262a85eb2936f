"""The rows of several stores as one table, in an order of the asker's: what testing on another corpus reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ser_pipeline.arrays import Array, Rows
from ser_pipeline.cache.shards import DamagedError
from ser_pipeline.cache.store import Store
from ser_pipeline.text import few


class JoinedStore:
    """Utterances chosen by their content keys from several stores of one feature; reads like a `Store`."""

    def __init__(self, stores: Sequence[Store], keys: Sequence[str]) -> None:
        """Finds the rows of the utterances `keys`; one that no store holds is a `DamagedError`."""
        self.stores = tuple(stores)
        places: dict[str, tuple[int, int, int, int]] = {}
        for number, store in enumerate(self.stores):
            counts = np.concatenate([shard.counts for shard in store.shards])
            firsts = np.cumsum(counts) - counts
            for row, key in enumerate(store.keys):
                places.setdefault(key, (number, row, int(firsts[row]), int(counts[row])))
        if missing := [key for key in keys if key not in places]:
            raise DamagedError(self.stores[0].folder, f"it holds no rows of {few(missing, 1)}")
        chosen = np.array([places[key] for key in keys], np.int64).reshape(-1, 4)
        self._utterances = chosen[:, :2]
        owner, first, counts = chosen[:, 0], chosen[:, 2], chosen[:, 3]
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        self.firsts: Rows = np.cumsum(counts) - counts
        self._owner: Rows = np.repeat(owner, counts)
        self._row: Rows = np.repeat(first, counts) + inside

    def __len__(self) -> int:
        """How many rows the stores have together."""
        return len(self._row)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row, without its number."""
        return self.stores[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers in a row."""
        return self.stores[0].dtype

    def read(self, rows: Rows, out: Array | None = None) -> Array:
        """Copies of `rows` (N,) in their order, verified, into `out` (N, *shape) where given."""
        out = np.empty((len(rows), *self.shape), self.dtype) if out is None else out
        for number, store in enumerate(self.stores):
            here = np.flatnonzero(self._owner[rows] == number)
            if len(here):
                out[here] = store.read(self._row[rows[here]])
        return out

    def piece(self, row: int, start: int, stop: int) -> Array:
        """The numbers `start` to `stop` of a row of vectors, without a look at its checksum.

        Args:
            row: which.
            start: the first.
            stop: the one after the last.
        """
        return self.stores[int(self._owner[row])].piece(int(self._row[row]), start, stop)

    def prefetch(self, rows: Rows) -> None:
        """Ask the system to read `rows` from the disk ahead of their use."""
        for number, store in enumerate(self.stores):
            store.prefetch(self._row[rows[self._owner[rows] == number]])

    def extremes(self, utterances: Rows) -> tuple[Array, Array]:
        """Minimum and maximum a bin over the utterance rows `utterances`."""
        parts = []
        for number, store in enumerate(self.stores):
            here = self._utterances[utterances]
            rows = here[here[:, 0] == number, 1]
            if len(rows):
                parts.append(store.extremes(rows))
        lows, highs = zip(*parts, strict=True)
        return np.min(lows, axis=0), np.max(highs, axis=0)
