"""Copy rows of memory-mapped shards with one call per batch, on as many threads as torch has.

torch copies rows of one tensor outside of the interpreter, in parallel (`index_select`). Here, that tensor spans the
addresses of all maps of a store, and its rows overlap: row i begins at item i and has the length of a piece of a stored
row. Any row of any map therefore consists of some of its rows. Memory between the maps is never read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ser_pipeline.arrays import Rows
from ser_pipeline.cache.store import Store

PIECES = (64, 16_384)
"""Smallest and largest number of items of a piece: torch only parallelises over rows of fewer than 32,768."""

ITEMS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of a number -> the integer type that stands in for its own type."""


class Gather:
    """Reads rows of a memory-mapped store."""

    def __init__(self, store: Store) -> None:
        """Find the addresses of the rows."""
        self.store, maps, items = store, store.maps, int(np.prod(store.shape))
        width, self.size = store.dtype.itemsize, piece(items)
        self.type = ITEMS[width]
        starts = [rows.ctypes.data for rows in maps]
        low, high = min(starts), max(rows.ctypes.data + rows.nbytes for rows in maps)
        span = torch.frombuffer((ctypes.c_char * (high - low)).from_address(low), dtype=self.type)
        self._pieces = span.as_strided((len(span) - self.size + 1, self.size), (1, 1))
        firsts = [
            (start - low) // width + np.arange(len(rows)) * items for start, rows in zip(starts, maps, strict=True)
        ]
        self._first, self._steps = np.concatenate(firsts), np.arange(0, items, self.size)

    def __call__(self, rows: Rows, out: Tensor) -> None:
        """Copy `rows` (N,) in their order to `out` (N, *shape); rows that are read for the first time are verified.

        Raises:
            DamagedError: a row's bytes have changed since they were written.
        """
        if not self.store.seen(rows):
            self.store.read(rows, out=out.numpy())
            return
        places = torch.from_numpy((self._first[rows][:, None] + self._steps).reshape(-1))
        torch.index_select(self._pieces, 0, places, out=out.view(self.type).view(-1, self.size))


def gatherer(store: Any) -> Callable[[Rows, Tensor], None]:
    """Return a function that copies rows (N,) of a store, or of a similar object, to a tensor (N, *shape)."""
    if isinstance(store, Store) and store.maps and piece(int(np.prod(store.shape))) >= PIECES[0]:
        return Gather(store)
    return lambda rows, out: store.read(rows, out=out.numpy())


def piece(items: int) -> int:
    """Items of the pieces into which a row of `items` is divided: the largest divisor within `PIECES[1]`.

    >>> piece(12_000), piece(48_001), piece(101)
    (12000, 2087, 101)
    """
    return max(size for size in range(1, min(items, PIECES[1]) + 1) if items % size == 0)
