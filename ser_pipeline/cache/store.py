"""One feature of a whole corpus: the rows of many shards as one table, each row verified when it is first read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Array
from ser_pipeline.cache.mirror import open_shards
from ser_pipeline.cache.shards import DamagedError, name
from ser_pipeline.entry import VERIFY, read_index
from ser_pipeline.errors import PipelineError
from ser_pipeline.shape import ShapeError, shaped


@dataclass(frozen=True)
class _StoreIndex:
    """Required contents of the index of a store."""

    feature: str
    settings: dict[str, Any]
    audio: dict[str, Any]
    version: int
    shards: list[str]


def read_store(folder: Path) -> dict[str, Any]:
    """Read the index of a store; its shards must be numbered from 000.h5 on.

    Raises:
        PipelineError: the index is missing or damaged, or names other files.
    """
    index = read_index(folder)
    try:
        made = shaped({**index["inputs"], "shards": index.get("shards")}, _StoreIndex)
    except ShapeError as error:
        raise PipelineError(f"{folder / 'index.json'} is damaged ({error}); {VERIFY}") from None
    if made.shards != [name(number) for number in range(max(1, len(made.shards)))]:
        raise PipelineError(f"{folder / 'index.json'} is damaged (its shards are not 000.h5, 001.h5, …); {VERIFY}")
    return index


@cache
def allow_open_files() -> None:
    """Raise this process's limit of open files as far as allowed: every mapped shard is an open file.

    Most systems start at 1,024 and allow 500 times as many; 400 hours of audio need some 2,000 shards per store.
    """
    with suppress(ImportError, OSError, ValueError):
        import resource  # not available on Windows

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Store:
    """One feature of a whole corpus: the rows of many shards as one table, each row verified when it is first read."""

    def __init__(self, folder: Path, feature: str = "") -> None:
        """Open the store in `folder`; it must contain `feature`, if given."""
        index = read_store(folder)
        allow_open_files()
        if feature not in ("", index["inputs"]["feature"]):
            raise DamagedError(folder, f"it contains {index['inputs']['feature']}, not {feature}")
        self.folder = folder
        self.shards = open_shards(folder, index["shards"], index["inputs"])
        if len({(shard.rows.shape[1:], shard.rows.dtype) for shard in self.shards}) > 1:
            raise DamagedError(self.shards[0].file, "its rows are not like those of the other shards")
        self.starts = np.cumsum([0] + [len(shard.rows) for shard in self.shards])
        self._maps = [shard.rows for shard in self.shards]
        self._unseen = np.ones(len(self), bool)

    def __len__(self) -> int:
        """The number of rows."""
        return int(self.starts[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return tuple(self.shards[0].rows.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers in a row."""
        found: np.dtype[Any] = self.shards[0].rows.dtype
        return found

    @property
    def keys(self) -> tuple[str, ...]:
        """Content key of every utterance, in order."""
        return tuple(key for shard in self.shards for key in shard.keys)

    def require(self, keys: Sequence[str], counts: NDArray[np.int64]) -> None:
        """Refuse a store that does not contain the utterances of a manifest in their order.

        Args:
            keys: (U,) content keys.
            counts: (U,) segments of each utterance.

        Raises:
            DamagedError: names the first shard that differs.
        """
        first = 0
        for shard in self.shards:
            last = first + len(shard.keys)
            if shard.keys != tuple(keys[first:last]) or not np.array_equal(shard.counts, counts[first:last]):
                raise DamagedError(shard.file, "its utterances are not those of the manifest")
            first = last
        if first != len(keys):
            raise DamagedError(self.folder / "index.json", "it lacks the last utterances of the manifest")

    def read(self, rows: NDArray[np.int64], out: Array | None = None) -> Array:
        """Copy `rows` (N,) in their order to `out` (N, *shape) if given.

        Raises:
            DamagedError: a row's bytes have changed since they were written.
        """
        out = np.empty((len(rows), *self.shape), self.dtype) if out is None else out
        owner, local = self._places(rows)
        places = zip(out, owner.tolist(), local.tolist(), self._unseen[rows].tolist(), strict=True)
        for target, number, row, unseen in places:
            target[...] = self._maps[number][row]
            if unseen:  # verified at once, while the copy is still in the processor's cache
                self.shards[number].compare(row, target)
        self._unseen[rows] = False
        return out

    @property
    def maps(self) -> list[Array]:
        """The mapped rows of every shard, (R, *shape) each; empty if a shard is compressed."""
        return self._maps if all(isinstance(rows, np.ndarray) for rows in self._maps) else []

    def seen(self, rows: NDArray[np.int64]) -> bool:
        """Whether all of `rows` were read before, and thus verified."""
        return not self._unseen[rows].any()

    @property
    def firsts(self) -> NDArray[np.int64]:
        """(U,) first row of each utterance."""
        counts = np.concatenate([shard.counts for shard in self.shards])
        return np.asarray(np.cumsum(counts) - counts, np.int64)

    def piece(self, row: int, start: int, stop: int) -> Array:
        """Numbers `start` to `stop` of a row of vectors, without verifying its checksum.

        Args:
            row: number of the row.
            start: the first number.
            stop: the number after the last.
        """
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return np.asarray(self._maps[number][row - int(self.starts[number]), start:stop])

    def prefetch(self, rows: NDArray[np.int64]) -> None:
        """Ask the operating system to read `rows` from the disk in advance, if it supports that."""
        if not hasattr(os, "posix_fadvise"):
            return
        owner, local = self._places(rows)
        for number in np.unique(owner).tolist():
            self.shards[number].prefetch(local[owner == number].tolist())

    def _places(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Shard of each of `rows`, and its row there."""
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        return owner, rows - self.starts[owner]

    def extremes(self, utterances: NDArray[np.int64]) -> tuple[Array, Array]:
        """Minimum and maximum of each bin, (bins,) each, over the utterance rows `utterances`."""
        lows = np.concatenate([shard.minimum for shard in self.shards if shard.minimum is not None])
        highs = np.concatenate([shard.maximum for shard in self.shards if shard.maximum is not None])
        return lows[utterances].min(axis=0), highs[utterances].max(axis=0)
