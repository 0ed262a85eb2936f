"""HDF5 shards: one file for one feature of some utterances. `shard_writing.py` writes them, `store.py` joins them.

A shard contains `rows` (one for each segment, contiguous and page-aligned, or compressed) and a `checksum` of each row.
For every utterance it contains its `key`, its number of rows in `counts`, and, for images, the `minimum` and `maximum`
of each bin. It contains no names or labels, so that moving or relabelling audio costs nothing. `cache/README.md`
describes the format.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64, xxh3_64_intdigest

from ser_pipeline.arrays import Array
from ser_pipeline.errors import PipelineError

FORMAT = 3
ALIGNMENT = 4096  # bytes: a page, so that rows can be memory-mapped
TABLES = ("checksum", "key", "counts", "minimum", "maximum")
"""Tables besides the rows; only images have the last two."""

ROWS = 256  # approximate maximum of rows per shard: 6 to 25 MB, small enough to divide among processes
EVENLY = 4  # the number of shards, if above 1, is a multiple of this


class DamagedError(PipelineError):
    """A shard's bytes are not what was written."""

    def __init__(self, file: Path, what: str) -> None:
        super().__init__(f"{file} is damaged ({what}); `ser-pipeline cache verify` finds and repairs damage")
        self.file, self.what = file, what

    def __reduce__(self) -> tuple[type[DamagedError], tuple[Path, str]]:
        """Support pickling, for errors in worker processes."""
        return DamagedError, (self.file, self.what)


def name(number: int) -> str:
    """File name of shard `number`.

    >>> name(7)
    '007.h5'
    """
    return f"{number:03d}.h5"


def shard_bounds(counts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """First utterance, and last plus one, of each shard: about `ROWS` rows, never a part of an utterance.

    Several shards have about the same size, and two or four processes can share them evenly, so that none of them
    waits for another at the end.

    >>> list(shard_bounds(np.full(300, 1)))
    [(0, 75), (75, 150), (150, 225), (225, 300)]
    """
    rows = np.cumsum(counts)
    number = -(-int(rows[-1]) // ROWS)
    number += -number % EVENLY if number > 1 else 0
    last = np.searchsorted(rows, rows[-1] * np.arange(1, number + 1) / number) + 1
    ends = [0, *np.unique(last).tolist()]
    yield from pairwise(ends)


@dataclass(frozen=True)
class Shard:
    """The opened tables of a shard; its rows are memory-mapped, not read."""

    file: Path
    feature: str  # name of its feature
    settings: Mapping[str, Any]  # settings of the rows, including their audio and version
    rows: Any  # (R, *shape) read-only map of the file; the HDF5 data set if compressed, which is indexed the same way
    offset: int | None  # position of the rows in the file; None if they are compressed
    checksum: NDArray[np.uint64]  # (R,)
    keys: tuple[str, ...]  # (U,)
    counts: NDArray[np.int64]  # (U,)
    minimum: NDArray[np.uint8] | None  # (U, bins)
    maximum: NDArray[np.uint8] | None  # (U, bins)

    @property
    def firsts(self) -> NDArray[np.int64]:
        """(U,) first row of each utterance."""
        return np.cumsum(self.counts) - self.counts

    def check(self, rows: Iterable[int]) -> None:
        """Verify the checksums of `rows`.

        Raises:
            DamagedError: names the first row whose bytes have changed.
        """
        for row in rows:
            self.compare(row, self.rows[row])

    def compare(self, row: int, copy: Array) -> None:
        """Verify a copy of one row.

        Raises:
            DamagedError: its checksum differs.
        """
        if xxh3_64_intdigest(copy.data) != self.checksum[row]:
            raise DamagedError(self.file, f"row {row}: its checksum differs")

    def prefetch(self, rows: Iterable[int]) -> None:
        """Ask the operating system to read `rows` from the disk, without waiting."""
        if self.offset is not None:
            width = self.rows[:1].nbytes
            with self.file.open("rb") as file:
                for row in rows:
                    os.posix_fadvise(file.fileno(), self.offset + row * width, width, os.POSIX_FADV_WILLNEED)


def tables_checksum(tables: dict[str, Array]) -> np.uint64:
    """XXH3 over the tables in the order of `TABLES`."""
    value = xxh3_64()
    for title in TABLES:
        if title in tables:
            value.update(tables[title].tobytes())
    return np.uint64(value.intdigest())


def compression(file: Path | None = None) -> dict[str, Any]:
    """Arguments for h5py to compress rows; reading them needs the same package.

    Raises:
        PipelineError: the package is not installed; the message names `file`, if one is to be read.
    """
    try:
        import hdf5plugin  # registers its filters with HDF5
    except ImportError:
        what = f"{file} is compressed" if file else "--compress needs a package"
        raise PipelineError(f"{what}; install it with: pip install hdf5plugin") from None
    return dict(hdf5plugin.Bitshuffle())


def open_shard(file: Path, inputs: Mapping[str, Any] | None = None) -> Shard:
    """Open the tables of a shard, and map its rows.

    Args:
        file: path of the shard.
        inputs: inputs of its store, which the shard's feature and settings must match.

    Raises:
        DamagedError: the file is missing, truncated, not a shard, or belongs to another store.
        PipelineError: the operating system refuses to open it, which does not imply damage.
    """
    if not file.is_file():
        raise DamagedError(file, "it is missing" if not file.exists() else "it is not a file")
    try:
        with h5py.File(file, "r", locking=False) as shard:  # a complete shard never changes, and NFS may lack locks
            if shard.attrs["format"] != FORMAT:
                raise DamagedError(file, f"format {shard.attrs['format']}, but this version reads {FORMAT}")
            feature, settings = str(shard.attrs["feature"]), dict(json.loads(shard.attrs["settings"]))
            rows, offset = _rows(file, shard)
            tables = {title: shard[title][:] for title in TABLES if title in shard}
            intact = tables_checksum(tables) == shard.attrs["tables_checksum"] and _fits(tables, rows)
            keys = tuple(key.decode() for key in tables["key"])
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EIO, errno.EINVAL):
            raise PipelineError(f"cannot read {file}: {os.strerror(error.errno)}") from None
        raise DamagedError(file, f"{error}") from None
    if not intact:
        raise DamagedError(file, "the checksum of its tables differs")
    if inputs is not None and feature != inputs["feature"]:
        raise DamagedError(file, f"it contains {feature:.40}, not {inputs['feature']}")
    if inputs is not None and settings != json.loads(json.dumps(shard_settings(inputs), default=asdict)):
        raise DamagedError(file, "its settings are not those of its store")
    extremes = tables.get("minimum"), tables.get("maximum")
    return Shard(file, feature, settings, rows, offset, tables["checksum"], keys, tables["counts"], *extremes)


def _fits(tables: Mapping[str, Array], rows: Any) -> bool:
    """Whether the tables have their types and lengths, and every utterance has a row."""
    wanted = {"checksum": np.dtype(np.uint64), "key": np.dtype("S32"), "counts": np.dtype(np.int64)}
    utterances = {len(table) for title, table in tables.items() if title != "checksum"}
    return bool(
        all((tables[title].dtype, tables[title].ndim) == (kind, 1) for title, kind in wanted.items())
        and utterances == {len(tables["counts"])}
        and (tables["counts"] > 0).all()
        and rows.ndim > 1
        and len(rows) == len(tables["checksum"]) == tables["counts"].sum()
    )


def shard_settings(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that shards of a store with these `inputs` contain."""
    kept = {name: inputs[name] for name in ("audio", "version", "content") if name in inputs}
    return {**kept, **inputs["settings"]}


def plain_inputs(feature: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a shard's store, derived from the shard; only for features that need no speech encoder.

    Args:
        feature: name of the shard's feature.
        settings: settings in the shard.
    """
    own = {name: value for name, value in settings.items() if name not in ("audio", "version")}
    made = {"feature": feature, "version": settings.get("version"), "shards": FORMAT}
    return {**made, "audio": settings.get("audio"), "settings": own}


def _rows(file: Path, shard: h5py.File) -> tuple[Any, int | None]:
    """The rows, and their position in the file."""
    data = shard["rows"]
    if data.chunks is None:
        offset = data.id.get_offset()
        # A plain array over the map: taking a row from a `memmap` costs microseconds in Python.
        return np.asarray(np.memmap(file, data.dtype, "r", offset, data.shape)).view(np.ndarray), offset
    compression(file)
    return h5py.File(file, "r", locking=False)["rows"], None
