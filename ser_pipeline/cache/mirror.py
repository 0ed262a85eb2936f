"""Train from a cache behind a URL: its shards are copied to a bounded local folder as they are read.

The mirror has the folders of the cache with all of their files except the shards, so that stores are opened as usual. A
shard is copied when its store is opened, which reads its tables, and again when its rows are needed after it was
removed. It gets its final name only after its checksums were verified. When the folder is full, the least recently used
shards are removed, except for those in use.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ser_pipeline.arrays import Array
from ser_pipeline.cache.shards import DamagedError, Shard, open_shard
from ser_pipeline.entry import read_json, write_json, writing
from ser_pipeline.errors import PipelineError
from ser_pipeline.remote import RemoteFolder, copy_all, is_url, open_folder
from ser_pipeline.text import parse_float

FILE = "mirror.json"
"""File of a mirror that contains its URL."""

INDEX, SHARD = "index.json", ".h5"

GB = 100.0
"""Maximum gigabytes of shards in a mirror, unless `SER_PIPELINE_LOCAL_GB` sets another number."""


def asked_bytes() -> int:
    """Maximum bytes of shards in a mirror.

    Raises:
        PipelineError: `SER_PIPELINE_LOCAL_GB` is not a number above 0.
    """
    text = os.environ.get("SER_PIPELINE_LOCAL_GB") or str(GB)
    with suppress(ValueError):
        if 0 < (size := parse_float(text)) <= 1e9:
            return int(size * 1e9)
    raise PipelineError(f"SER_PIPELINE_LOCAL_GB is '{text}', not a number of gigabytes above 0")


def local_cache(place: Path | str) -> Path:
    """The folder of a cache: the folder itself, or the mirror of a URL, which is updated now.

    Args:
        place: a folder, or the URL of a folder that `cache push` filled.

    Raises:
        PipelineError: the URL cannot be read, or has no features.
    """
    if not is_url(place):
        return Path(place)
    url = str(place).rstrip("/")
    asked_bytes()
    remote = open_folder(url)
    folder = Path(os.environ.get("SER_PIPELINE_LOCAL") or "cache/mirrors")
    mirror = folder / f"{PurePosixPath(remote.path).name or 'root'}-{sha256(url.encode()).hexdigest()[:12]}"
    files = {name: int(about["size"]) for name, about in remote.files().items() if not name.endswith(SHARD)}
    if not any("/" not in name for name in files):
        raise PipelineError(f"there are no features at {url}; `ser-pipeline cache push` copies them there")
    write_json(mirror / FILE, {"url": url})
    wanted = [name for name, size in files.items() if not _there(mirror / "features" / name, size)]
    for last in (False, True):  # a folder is complete once its index exists
        names = [name for name in wanted if name.endswith(INDEX) == last]
        copy_all(names, lambda name: remote.fetch(name, mirror / "features" / name))
    return mirror


def _there(file: Path, size: int) -> bool:
    """Whether a file need not be copied again; pointers always are, since they may have changed."""
    return file.parent.name != "features" and file.is_file() and file.stat().st_size == size


def open_shards(folder: Path, names: list[str], inputs: Mapping[str, Any]) -> list[Shard]:
    """The shards of a store; those of a mirror are copied when they are needed.

    Args:
        folder: folder of the store.
        names: names of its shards.
        inputs: inputs of the store.
    """
    root = folder.absolute().parents[2]
    if not (root / FILE).is_file():
        return [open_shard(folder / name, inputs) for name in names]
    opened = dict[str, Shard]()
    shelf = _shelf(root)

    def copy(name: str) -> None:
        with shelf.shard(folder.absolute() / name, inputs) as shard:
            rows = FarRows(shelf, shard.file, inputs, len(shard.rows), shard.rows.shape[1:], shard.rows.dtype)
            opened[name] = replace(shard, rows=rows, offset=None)

    copy_all(names, copy)
    return [opened[name] for name in names]


@dataclass(frozen=True)
class FarRows:
    """The rows of a shard of a mirror, which is copied when they are needed; they are indexed like other rows."""

    shelf: Shelf
    file: Path
    inputs: Mapping[str, Any]
    count: int
    inner: tuple[int, ...]  # shape of a row
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """(R, *shape of a row)."""
        return (self.count, *self.inner)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: Any) -> Array:
        with self.shelf.shard(self.file, self.inputs) as shard:
            return np.array(shard.rows[place])


@dataclass
class Shelf:
    """The local shards of a mirror, as one process uses them; other processes may use the same folder."""

    root: Path  # folder of the mirror
    remote: RemoteFolder
    most: int  # bytes
    _open: dict[Path, Shard] = field(default_factory=dict)
    _used: dict[Path, int] = field(default_factory=dict)  # number of threads that use it now
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def shard(self, file: Path, inputs: Mapping[str, Any]) -> Iterator[Shard]:
        """A shard that exists locally for the duration of the block.

        Args:
            file: its path in the mirror.
            inputs: inputs of its store.

        Raises:
            PipelineError: the shard cannot be copied, or is damaged at its source.
        """
        with self._guard:
            self._used[file] = self._used.get(file, 0) + 1
        try:
            found = self._open.get(file) or self._opened(file, inputs)
            try:
                os.utime(file)
            except FileNotFoundError:  # another process removed it; what is mapped stays valid for the block
                self._open.pop(file, None)
            yield found
        finally:
            with self._guard:
                self._used[file] -= 1

    def _opened(self, file: Path, inputs: Mapping[str, Any]) -> Shard:
        try:
            found = open_shard(file, inputs)
        except DamagedError:  # usually the file is missing
            self._copy(file, inputs)
            found = open_shard(file, inputs)
        with self._guard:
            self._open[file] = found
        return found

    def _copy(self, file: Path, inputs: Mapping[str, Any]) -> None:
        name = file.relative_to(self.root.absolute() / "features").as_posix()
        with writing(file) as temporary:
            self.remote.fetch(name, temporary)
            try:
                copy = open_shard(temporary, inputs)
                copy.check(range(len(copy.rows)))
            except DamagedError as error:
                raise PipelineError(f"{name} at {self.remote.url} is damaged ({error.what})") from None
            self._make_room(temporary.stat().st_size)

    def _make_room(self, size: int) -> None:
        """Remove the least recently used shards until `size` more bytes fit."""
        there = [(about.st_mtime_ns, about.st_size, file) for file, about in _shards(self.root)]
        total = size + sum(size for _, size, _ in there)
        for _, each, file in sorted(there):
            with self._guard:
                if total <= self.most:
                    return
                if not self._used.get(file):
                    self._open.pop(file, None)
                    file.unlink(missing_ok=True)
                    total -= each


def _shards(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for file in root.absolute().glob(f"features/*/*/*{SHARD}"):
        with suppress(FileNotFoundError):  # another process removed it
            yield file, file.stat()


@cache
def _shelf(root: Path) -> Shelf:
    """The local shards of a mirror, for all stores that a process opens."""
    return Shelf(root, open_folder(str(read_json(root / FILE)["url"])), asked_bytes())
