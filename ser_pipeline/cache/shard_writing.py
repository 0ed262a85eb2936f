"""One HDF5 shard as it is written: whole or not at all, with no second copy of its rows in memory."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from xxhash import xxh3_64_intdigest

from ser_pipeline.arrays import Array
from ser_pipeline.cache.shards import ALIGNMENT, FORMAT, TABLES, compression, tables_checksum
from ser_pipeline.entry import writing


class ShardWriter:
    """A shard as it is written: the rows of an utterance as soon as they are made, the tables when all are there."""

    def __init__(self, out: BinaryIO, head: Mapping[str, Any], keys: Sequence[str], rows: int, compress: bool) -> None:
        """Write nothing yet: what the rows look like is known by the first of them.

        Args:
            out: the file, empty.
            head: attributes that the file gets.
            keys: content key of each utterance.
            rows: of all utterances.
            compress: whether to pack every row, for which all are kept in memory.
        """
        self._out, self._head, self._keys, self._rows, self._compress = out, head, keys, rows, compress
        self._kept: list[Array] = []
        self._tables: dict[str, list[Any]] = {"checksum": [], "counts": [], "minimum": [], "maximum": []}

    def add(self, part: Array, extremes: bool) -> None:
        """Take the rows (S, *shape) of the next utterance.

        Args:
            part: the rows.
            extremes: whether to keep their minimum and maximum over segments and frames.
        """
        self._tables["checksum"] += [xxh3_64_intdigest(row.data) for row in part]
        self._tables["counts"].append(len(part))
        if extremes:
            self._tables["minimum"].append(part.min(axis=(0, 2)))
            self._tables["maximum"].append(part.max(axis=(0, 2)))
        if self._compress:
            self._kept.append(part)
            return
        if len(self._tables["counts"]) == 1:
            self._like = part[:0]
            self._out.seek(self._index(self._room())[1])
        self._out.write(part.data)

    def finish(self) -> None:
        """Write what stands before the rows, and after them, where HDF5 puts tables behind rows of few bytes."""
        image, offset = self._index(self._filled())
        row = 0 if self._compress else self._like.dtype.itemsize * math.prod(self._like.shape[1:])
        end = offset + self._rows * row
        for start, part in ((0, image[:offset]), (end, image[end:])):
            self._out.seek(start)
            self._out.write(part)

    def _filled(self) -> dict[str, Array]:
        """The tables of the utterances that were taken so far, with the keys of all."""
        found: dict[str, Array] = {
            "checksum": np.array(self._tables["checksum"], np.uint64),
            "key": np.array(self._keys, "S32"),
            "counts": np.array(self._tables["counts"], np.int64),
        }
        return found | {title: np.stack(rows) for title in TABLES[3:] if (rows := self._tables[title])}

    def _room(self) -> dict[str, Array]:
        """Tables as large as they will be, of which the first utterance is there."""
        count = {"checksum": self._rows}
        return {
            title: np.resize(table, (count.get(title, len(self._keys)), *table.shape[1:]))
            for title, table in self._filled().items()
        }

    def _index(self, tables: dict[str, Array]) -> tuple[bytes, int]:
        """The bytes of a file with these tables, and where the rows begin in it.

        Made in memory and then written by hand: HDF5 that meets a full disk cannot even close its file.
        """
        image, offset = io.BytesIO(), 0
        with h5py.File(image, "w", alignment_threshold=ALIGNMENT, alignment_interval=ALIGNMENT) as shard:
            shard.attrs.update({"format": FORMAT, **self._head, "tables_checksum": tables_checksum(tables)})
            for title, table in tables.items():
                shard[title] = table
            if self._compress:
                rows = np.concatenate(self._kept)
                shard.create_dataset("rows", data=rows, chunks=(1, *rows.shape[1:]), **compression())
            else:
                offset = _reserve(shard, (self._rows, *self._like.shape[1:]), self._like.dtype)
        return image.getvalue(), offset


@contextmanager
def writing_shard(
    file: Path,
    feature: str,
    settings: Mapping[str, Any],
    keys: Sequence[str],
    rows: int,
    *,
    extremes: bool,
    compress: bool = False,
) -> Iterator[Callable[[Array], None]]:
    """Makes one shard of the rows of utterances, whole or not at all; the same input gives the same bytes.

    Yields what takes the rows (S, *shape) of utterance after utterance, and writes them at once.

    Args:
        file: where the shard goes.
        feature: its name, kept as an attribute.
        settings: what the rows were made with, kept as an attribute.
        keys: content key of each utterance.
        rows: of all utterances.
        extremes: whether to keep each utterance's minimum and maximum over segments and frames.
        compress: whether to pack every row by bitshuffle and LZ4: about half the bytes, a few times slower to read.
    """
    head = {"feature": feature, "settings": json.dumps(settings, sort_keys=True)}
    with writing(file) as temporary, temporary.open("wb") as out:
        shard = ShardWriter(out, head, keys, rows, compress)
        yield partial(shard.add, extremes=extremes)
        shard.finish()


def write_shard(
    file: Path,
    feature: str,
    settings: Mapping[str, Any],
    keys: Sequence[str],
    parts: Sequence[Array],
    *,
    extremes: bool,
    compress: bool = False,
) -> None:
    """Write the rows of utterances, all of which are there, as `writing_shard` does.

    Args:
        file: where the shard goes.
        feature: its name.
        settings: what the rows were made with.
        keys: content key of each utterance.
        parts: (S, *shape) rows of each utterance.
        extremes: whether to keep each utterance's minimum and maximum.
        compress: whether to pack every row.
    """
    count = sum(map(len, parts))
    with writing_shard(file, feature, settings, keys, count, extremes=extremes, compress=compress) as take:
        for part in parts:
            take(part)


def _reserve(shard: h5py.File, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Make room for the rows at the end of the file, unwritten; returns where it begins.

    Args:
        shard: the file.
        shape: of all rows.
        dtype: of their numbers.
    """
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)  # the same rows give the same bytes at any time
    data = h5py.h5d.create(shard.id, b"rows", h5py.h5t.py_create(dtype), h5py.h5s.create_simple(shape), layout)
    return int(data.get_offset())
