"""Folders on object stores, by any URL that fsspec reads: listed, copied here, copied there.

A file is written beside its place and renamed, so that one with its name is whole, and what is here already is not
copied again. What a library says of networks and permissions becomes one line.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from ser_pipeline.entry import write_json, writing
from ser_pipeline.errors import PipelineError

TOGETHER = 8
"""Files that are copied at a time."""

SEEN = ".copied.json"
"""File of a copied folder: name of each file -> its size and what its store says of its version."""

VERSIONS = ("ETag", "etag", "md5Hash", "generation", "mtime", "created")
"""What one store or another says of the version of a file."""

FLAT = ("s3", "s3a", "gs", "gcs", "az", "abfs")
"""Kinds of URL whose stores have no folders: to make one could make a bucket."""

Progress = Callable[[int, int], None]
"""Told the files that are done and wanted."""


def is_url(place: object) -> bool:
    """Whether a place is named by a URL.

    >>> is_url("s3://bucket/corpus"), is_url("~/corpus")
    (True, False)
    """
    return bool(re.match(r"[a-z][a-z0-9+.-]+://", str(place)))


@dataclass(frozen=True)
class RemoteFolder:
    """A folder behind a URL."""

    url: str
    system: Any  # a file system of fsspec
    path: str  # of the folder in it

    def files(self) -> dict[str, Mapping[str, Any]]:
        """Name below the folder -> what the store says of each file.

        Raises:
            PipelineError: the store cannot be listed, or a name would lead out of the folder.
        """
        with told(self.url):
            self.system.invalidate_cache()
            listed = self.system.find(self.path, detail=True)
        prefix, found = f"{self.path.strip('/')}/", {}
        for path, about in listed.items():
            name = path.strip("/").removeprefix(prefix)
            if about.get("type") == "file" and name and not name.endswith("/"):
                if any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name:
                    raise PipelineError(f"{self.url} has a file '{name}', whose name leads elsewhere; rename it there")
                found[name] = about
        return found

    def read(self, name: str) -> bytes:
        """The bytes of a small file."""
        with told(self.url):
            return bytes(self.system.cat_file(self._place(name)))

    def fetch(self, name: str, file: Path) -> None:
        """Copy the file `name` to `file`, which is whole or absent."""
        with told(self.url), writing(file) as temporary:
            self.system.get_file(self._place(name), str(temporary))

    def send(self, file: Path, name: str) -> None:
        """Copy `file` to the file `name`."""
        place = self._place(name)
        with told(self.url):
            if self.url.partition("://")[0] not in FLAT:
                self.system.makedirs(place.rpartition("/")[0], exist_ok=True)
            self.system.put_file(str(file), place)

    def _place(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"


def open_folder(url: str) -> RemoteFolder:
    """The folder behind a URL.

    Raises:
        PipelineError: no such kind of URL, or the package for it is not installed.
    """
    with told(url):
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
        return RemoteFolder(url, system, path)


@contextmanager
def told(url: str) -> Iterator[None]:
    """Say in one line what a store or its library refuses: dozens of kinds, of a network and of each cloud.

    Raises:
        PipelineError: for whatever is raised in the block.
    """
    try:
        yield
    except PipelineError:
        raise
    except ImportError as error:
        package = error.name or url.partition(":")[0]
        raise PipelineError(
            f"{url} needs a package that is not installed ({package}): pip install 'ser-pipeline[remote]'"
        ) from None
    except FileNotFoundError:
        raise PipelineError(f"there is nothing at {url}; check the name of the bucket and of the folder") from None
    except PermissionError as error:
        raise PipelineError(f"{url} is forbidden to you ({_first(error)}); check your credentials") from None
    except Exception as error:
        kind = type(error).__name__
        if "Credentials" in kind:
            raise PipelineError(f"{url} is forbidden to you ({_first(error)}); check your credentials") from None
        raise PipelineError(f"{url} cannot be reached ({kind}: {_first(error)})") from None


def copied(url: str, folder: Path, progress: Progress = lambda done, total: None) -> Path:
    """The folder or file behind a URL, copied below `folder`; what is there and has not changed is not copied again.

    Args:
        url: of a corpus's folder, or of a table, whose folder is copied.
        folder: in which the copy gets a folder of its own.
        progress: told the files that are done and wanted.

    Raises:
        PipelineError: it cannot be read, or is larger than what is free on the disk.
    """
    remote, table = open_folder(url.rstrip("/")), ""
    with told(url):
        if remote.system.isfile(remote.path):
            above, _, table = remote.path.rpartition("/")
            remote = RemoteFolder(remote.url.rpartition("/")[0], remote.system, above)
    place = folder / f"{PurePosixPath(remote.path).name or 'root'}-{sha256(remote.url.encode()).hexdigest()[:12]}"
    files = remote.files()
    if not files:
        raise PipelineError(f"there is nothing at {url}; check the name of the bucket and of the folder")
    before = _seen(place / SEEN)
    now: dict[str, list[Any]] = {name: [int(about["size"]), _version(about)] for name, about in files.items()}
    missing = [name for name in sorted(files) if before.get(name) != now[name] or not _whole(place / name, now[name])]
    require_room(sum(int(now[name][0]) for name in missing), folder, url)
    _copy(missing, lambda name: remote.fetch(name, place / name), progress, len(files))
    for name in set(before) - set(now):
        (place / name).unlink(missing_ok=True)
    if before != now:
        write_json(place / SEEN, now)
    return place / table


def require_room(size: int, folder: Path, url: str) -> None:
    """Refuse what is larger than what is free on the disk.

    Args:
        size: bytes.
        folder: on the disk, made now.
        url: where they come from.

    Raises:
        PipelineError: says both sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise PipelineError(
            f"{url} has {size / 1e9:.1f} GB that are not here, and {folder} has {free / 1e9:.1f} GB free; "
            "choose a larger disk with --cache"
        )


def _copy(names: list[str], work: Callable[[str], None], progress: Progress, total: int) -> None:
    """Do `work` for every name, several at a time; after a mistake or Ctrl-C, none is begun any more."""
    done = total - len(names)
    progress(done, total)
    threads = ThreadPoolExecutor(TOGETHER)
    try:
        for _ in threads.map(work, names):
            done += 1
            progress(done, total)
    finally:
        threads.shutdown(cancel_futures=True)


def copy_all(names: list[str], work: Callable[[str], None]) -> None:
    """Do `work` for every name, several at a time."""
    _copy(names, work, lambda done, total: None, len(names))


def _seen(file: Path) -> dict[str, list[Any]]:
    with suppress(OSError, ValueError):
        return dict(json.loads(file.read_text(encoding="utf-8")))
    return {}


def _version(about: Mapping[str, Any]) -> str:
    return next((str(about[name]) for name in VERSIONS if about.get(name)), "")


def _whole(file: Path, known: list[Any]) -> bool:
    with suppress(OSError):
        return bool(file.stat().st_size == known[0])
    return False


def _first(error: Exception) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__)[:200]
