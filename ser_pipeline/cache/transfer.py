"""Copy a cache of features to an object store and back; folders are complete or absent on both sides.

The index of a folder is copied last. A store gets its final name here only after all checksums were verified. Copying
that was stopped resumes with the same command.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from ser_pipeline.cache import catalogue, manifest, shards
from ser_pipeline.cache.catalogue import FeatureSet
from ser_pipeline.cache.store import read_store
from ser_pipeline.entry import Entry
from ser_pipeline.errors import PipelineError
from ser_pipeline.file_names import path_name
from ser_pipeline.names import guess
from ser_pipeline.remote import Progress, RemoteFolder, copy_all, open_folder, require_room

INDEX = "index.json"

Told = Callable[[str], None]
"""Called with the name of every folder that was copied."""

Sent = tuple[Path, str, list[str]]
"""A folder, its name on the object store, and its files that are missing there."""


@dataclass(frozen=True)
class _Folder:
    """A complete folder of a cache on an object store."""

    name: str  # "emodb-KEY", or "emodb-KEY/mfcc-KEY"
    files: Mapping[str, int]  # name -> bytes of each of its files


class _Count:
    """Counts copied files over all folders."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done, self._guard = progress, total, 0, threading.Lock()

    def copy_all(self, names: list[str], work: Callable[[str], None]) -> None:
        """Run `work` for every name, several at once, and report progress."""

        def counted(name: str) -> None:
            work(name)
            with self._guard:
                self._done += 1
                self._progress(self._done, self._total)

        copy_all(names, counted)


def push(
    cache: Path,
    url: str,
    corpora: tuple[str, ...] = (),
    told: Told = lambda name: None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Copy the complete features of `corpora`, or of all, to a URL; files that exist there are not copied again.

    Args:
        cache: folder of the features.
        url: URL of a folder, which need not exist.
        corpora: names of corpora.
        told: called with the name of every folder that was copied.
        progress: called with the number of copied files, and the total.

    Raises:
        PipelineError: there are no such features, or the object store cannot be written.
    """
    remote = open_folder(url)
    sources = [catalogue.find(cache, name) for name in corpora] or catalogue.sources(cache)
    if not sources:
        raise PipelineError(f"no features in {cache}; extract some first: ser-pipeline features")
    there = {name: int(about["size"]) for name, about in _files(remote).items()}
    work = {source.corpus: list(_unsent(source.folder, there)) for source in sources}
    count = _Count(progress, sum(len(files) for folders in work.values() for *_, files in folders))
    for source in sources:
        for folder, name, files in work[source.corpus]:
            count.copy_all(files, lambda one, folder=folder, name=name: remote.send(folder / one, f"{name}/{one}"))  # type: ignore[misc]
            remote.send(folder / INDEX, f"{name}/{INDEX}")
            told(name)
        pointer = catalogue.features_root(cache) / f"{source.corpus}.json"
        remote.send(pointer, pointer.name)


def _unsent(corpus: Path, there: Mapping[str, int]) -> Iterator[Sent]:
    """Complete folders of a corpus whose index is missing there, each with the files that are missing there."""
    for folder in (corpus, *sorted(path for path in corpus.glob("*-*") if (path / INDEX).is_file())):
        name = folder.relative_to(corpus.parent).as_posix()
        if f"{name}/{INDEX}" not in there:
            files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name != INDEX]
            yield folder, name, [one.name for one in files if there.get(f"{name}/{one.name}") != one.stat().st_size]


def pull(
    cache: Path,
    url: str,
    corpora: tuple[str, ...] = (),
    told: Told = lambda name: None,
    progress: Progress = lambda done, total: None,
) -> list[FeatureSet]:
    """Copy the complete features of `corpora`, or of all, from a URL to a cache; existing folders are not copied again.

    Args:
        cache: folder of the features.
        url: URL of a folder that `push` filled.
        corpora: names of corpora.
        told: called with the name of every folder that was copied.
        progress: called with the number of copied files, and the total.

    Returns:
        The features, which `train` uses from now on.

    Raises:
        PipelineError: there are no features, a file is damaged, the disk is full, or the object store cannot be read.
    """
    remote, root = open_folder(url), catalogue.features_root(cache)
    files = _files(remote)
    known = sorted(name.removesuffix(".json") for name in files if "/" not in name)
    for corpus in corpora:
        if corpus not in known:
            listed = ", ".join(known) or "none"
            raise PipelineError(f"no features of '{corpus}' at {url}; {guess(corpus, known)}known: {listed}")
    found = [_pointer(remote, corpus, root) for corpus in corpora or known]
    if not found:
        raise PipelineError(f"there are no features at {url}; `ser-pipeline cache push` copies them there")
    missing = [one for one in _whole(files) if not (root / one.name / INDEX).is_file()]
    missing = [one for one in missing if any(_is_of(one, source) for source in found)]
    require_room(sum(sum(one.files.values()) for one in missing), root, url)
    count = _Count(progress, sum(len(one.files) - 1 for one in missing))
    for source in found:
        for one in missing:
            if _is_of(one, source):
                _receive(remote, one, root, count)
                told(one.name)
        catalogue.register(cache, source)
    return found


def _is_of(folder: _Folder, source: FeatureSet) -> bool:
    """Whether a folder belongs to the features `source`."""
    return folder.name.partition("/")[0] == source.folder.name


def _files(remote: RemoteFolder) -> dict[str, Mapping[str, Any]]:
    """The files there; empty if the folder does not exist yet."""
    try:
        return remote.files()
    except PipelineError as error:
        if isinstance(error.__context__, FileNotFoundError):
            return {}
        raise


def _whole(files: Mapping[str, Mapping[str, Any]]) -> list[_Folder]:
    """The folders with an index, each corpus before its stores."""
    found = []
    for name in sorted(files, key=lambda one: one.count("/")):
        place = PurePosixPath(name)
        if place.name == INDEX and 2 <= len(place.parts) <= 3:
            for part in place.parts[:-1]:
                path_name(part, "a folder of the cache")
            inside = {
                PurePosixPath(other).name: int(about["size"])
                for other, about in files.items()
                if PurePosixPath(other).parent == place.parent
            }
            found.append(_Folder(place.parent.as_posix(), inside))
    return found


def _receive(remote: RemoteFolder, folder: _Folder, root: Path, count: _Count) -> None:
    """Copy a folder here; it gets its final name once it is complete and its checksums were verified.

    Args:
        remote: the object store.
        folder: the folder to copy.
        root: local folder of all features.
        count: counts the files.
    """
    entry = Entry(root / folder.name, {})
    with entry.lock():
        if entry.done:
            return
        entry.begin()

        def fetch(name: str) -> None:
            if not _there(entry.partial / name, folder.files[name]):  # otherwise an earlier call copied it
                remote.fetch(f"{folder.name}/{name}", entry.partial / name)

        count.copy_all([name for name in folder.files if name != INDEX], fetch)
        remote.fetch(f"{folder.name}/{INDEX}", entry.partial / INDEX)
        try:
            _check(entry.partial)
        except PipelineError as error:
            (entry.partial / INDEX).unlink(missing_ok=True)
            if isinstance(error, shards.DamagedError):
                error.file.unlink(missing_ok=True)
            what = str(error).partition(";")[0]
            raise PipelineError(f"{folder.name} at {remote.url} is damaged: {what}; push it again") from None
        entry.partial.rename(entry.path)


def _check(folder: Path) -> None:
    """Verify all checksums of a folder before it gets its final name.

    Raises:
        PipelineError: a checksum differs, or a file is missing.
    """
    if (folder / manifest.FILE).is_file():
        manifest.read(folder)
        return
    index = read_store(folder)
    for name in index["shards"]:
        shard = shards.open_shard(folder / name, index["inputs"])
        shard.check(range(len(shard.rows)))


def _there(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def _pointer(remote: RemoteFolder, corpus: str, root: Path) -> FeatureSet:
    """Read a pointer on the object store in the same way as one in the cache."""
    path_name(corpus, "a corpus")
    with TemporaryDirectory() as staging:
        file = Path(staging) / f"{corpus}.json"
        remote.fetch(file.name, file)
        said = catalogue.read_pointer(file)
    return FeatureSet(said.corpus, root / said.folder.name, said.root, said.preset, said.settings)
