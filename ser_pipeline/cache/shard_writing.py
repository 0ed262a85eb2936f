"""Write one HDF5 shard completely or not at all, without a second copy of its rows in memory."""

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
    """Writes a shard: the rows of an utterance as soon as they are computed, the tables at the end."""

    def __init__(self, out: BinaryIO, head: Mapping[str, Any], keys: Sequence[str], rows: int, compress: bool) -> None:
        """Prepare to write; the first rows show the shape and type of all.

        Args:
            out: the file, empty.
            head: attributes of the file.
            keys: content key of each utterance.
            rows: total number of rows.
            compress: whether to compress every row, which requires all rows in memory.
        """
        self._out, self._head, self._keys, self._rows, self._compress = out, head, keys, rows, compress
        self._kept: list[Array] = []
        self._tables: dict[str, list[Any]] = {"checksum": [], "counts": [], "minimum": [], "maximum": []}

    def add(self, part: Array, extremes: bool) -> None:
        """Add the rows (S, *shape) of the next utterance.

        Args:
            part: the rows.
            extremes: whether to store their minimum and maximum over segments and frames.
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
        """Write what precedes and what follows the rows: HDF5 stores tables after rows that have few bytes."""
        image, offset = self._index(self._filled())
        row = 0 if self._compress else self._like.dtype.itemsize * math.prod(self._like.shape[1:])
        end = offset + self._rows * row
        for start, part in ((0, image[:offset]), (end, image[end:])):
            self._out.seek(start)
            self._out.write(part)

    def _filled(self) -> dict[str, Array]:
        """The tables of the utterances that were added so far, with the keys of all."""
        found: dict[str, Array] = {
            "checksum": np.array(self._tables["checksum"], np.uint64),
            "key": np.array(self._keys, "S32"),
            "counts": np.array(self._tables["counts"], np.int64),
        }
        return found | {title: np.stack(rows) for title in TABLES[3:] if (rows := self._tables[title])}

    def _room(self) -> dict[str, Array]:
        """Tables with their final sizes, filled with the first utterance's values."""
        count = {"checksum": self._rows}
        return {
            title: np.resize(table, (count.get(title, len(self._keys)), *table.shape[1:]))
            for title, table in self._filled().items()
        }

    def _index(self, tables: dict[str, Array]) -> tuple[bytes, int]:
        """The bytes of a file with these tables, and the position of its rows.

        The bytes are built in memory and written by hand: if HDF5 itself meets a full disk, it cannot even close the
        file.
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
    """Write one shard, completely or not at all; the same input gives the same bytes.

    The context's value is a function that writes the rows (S, *shape) of one utterance after the other.

    Args:
        file: path of the shard.
        feature: name of the feature, stored as an attribute.
        settings: settings of the rows, stored as an attribute.
        keys: content key of each utterance.
        rows: total number of rows.
        extremes: whether to store each utterance's minimum and maximum over segments and frames.
        compress: whether to compress every row with bitshuffle and LZ4: about half the bytes, a few times slower to
            read.
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
    """Write the rows of utterances that are all in memory, as `writing_shard` does.

    Args:
        file: path of the shard.
        feature: name of the feature.
        settings: settings of the rows.
        keys: content key of each utterance.
        parts: (S, *shape) rows of each utterance.
        extremes: whether to store each utterance's minimum and maximum.
        compress: whether to compress every row.
    """
    count = sum(map(len, parts))
    with writing_shard(file, feature, settings, keys, count, extremes=extremes, compress=compress) as take:
        for part in parts:
            take(part)


def _reserve(shard: h5py.File, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Reserve space for the rows at the end of the file, unwritten; return its position.

    Args:
        shard: the file.
        shape: shape of all rows.
        dtype: type of their numbers.
    """
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)  # the same rows give the same bytes at any time
    data = h5py.h5d.create(shard.id, b"rows", h5py.h5t.py_create(dtype), h5py.h5s.create_simple(shape), layout)
    return int(data.get_offset())
