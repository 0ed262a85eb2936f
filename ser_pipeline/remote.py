"""Folders on object stores, with any URL that fsspec supports: list them, and copy files from and to them.

Files are written under a temporary name and renamed, so that a file with its final name is complete. Existing files are
not copied again. Errors of networks and permissions become one line.
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
"""Number of files that are copied at the same time."""

SEEN = ".copied.json"
"""File in a copied folder with the size and the store's version of each file, by name."""

VERSIONS = ("ETag", "etag", "md5Hash", "generation", "mtime", "created")
"""Fields in which stores report the version of a file."""

FLAT = ("s3", "s3a", "gs", "gcs", "az", "abfs")
"""Kinds of URL whose stores have no folders; creating one could create a bucket."""

Progress = Callable[[int, int], None]
"""A function that is called with the number of files done, and of all."""


def is_url(place: object) -> bool:
    """Whether a place is a URL.

    >>> is_url("s3://bucket/corpus"), is_url("~/corpus")
    (True, False)
    """
    return bool(re.match(r"[a-z][a-z0-9+.-]+://", str(place)))


@dataclass(frozen=True)
class RemoteFolder:
    """A folder at a URL."""

    url: str
    system: Any  # a file system of fsspec
    path: str  # path of the folder in it

    def files(self) -> dict[str, Mapping[str, Any]]:
        """Return the store's description of each file, by its path relative to the folder.

        Raises:
            PipelineError: the store cannot be listed, or a path leads out of the folder.
        """
        with told(self.url):
            self.system.invalidate_cache()
            listed = self.system.find(self.path, detail=True)
        prefix, found = f"{self.path.strip('/')}/", {}
        for path, about in listed.items():
            name = path.strip("/").removeprefix(prefix)
            if about.get("type") == "file" and name and not name.endswith("/"):
                if any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name:
                    raise PipelineError(f"{self.url} has a file '{name}' with an unsafe path; rename it there")
                found[name] = about
        return found

    def read(self, name: str) -> bytes:
        """Read a small file."""
        with told(self.url):
            return bytes(self.system.cat_file(self._place(name)))

    def fetch(self, name: str, file: Path) -> None:
        """Copy the file `name` to `file`, atomically."""
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
    """Open the folder at a URL.

    Raises:
        PipelineError: the kind of URL is unknown, or the package for it is not installed.
    """
    with told(url):
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
        return RemoteFolder(url, system, path)


@contextmanager
def told(url: str) -> Iterator[None]:
    """Replace any error of a store or its library by one line; networks and clouds raise many kinds of errors.

    Raises:
        PipelineError: an error was raised in the block.
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
        raise PipelineError(f"no permission for {url} ({_first(error)}); check your credentials") from None
    except Exception as error:
        kind = type(error).__name__
        if "Credentials" in kind:
            raise PipelineError(f"no permission for {url} ({_first(error)}); check your credentials") from None
        raise PipelineError(f"{url} cannot be reached ({kind}: {_first(error)})") from None


def copied(url: str, folder: Path, progress: Progress = lambda done, total: None) -> Path:
    """Copy the folder or file at a URL into `folder`, and return its path; unchanged files are not copied again.

    Args:
        url: URL of a corpus's folder, or of a table, whose folder is copied.
        folder: folder in which the copy gets a folder of its own.
        progress: called with the number of files done, and of all.

    Raises:
        PipelineError: it cannot be read, or does not fit on the disk.
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
    """Check that files fit on the disk.

    Args:
        size: size of the files in bytes.
        folder: folder on the disk, which is created.
        url: source of the files.

    Raises:
        PipelineError: they do not fit; the message has both sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise PipelineError(
            f"{url} has {size / 1e9:.1f} GB to copy, but {folder} has only {free / 1e9:.1f} GB free; "
            "choose a larger disk with --cache"
        )


def _copy(names: list[str], work: Callable[[str], None], progress: Progress, total: int) -> None:
    """Do `work` for every name, several at the same time; after an error or Ctrl-C, no further one is started."""
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
    """Do `work` for every name, several at the same time."""
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
