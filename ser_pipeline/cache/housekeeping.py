"""What lies in a cache: list it, check and mend it, and find what nothing refers to."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ser_pipeline.cache import catalogue, manifest, shards
from ser_pipeline.cache.file_index import FOLDER as SEEN
from ser_pipeline.config import Audio, Features
from ser_pipeline.entry import PARTIAL, Entry, read_index
from ser_pipeline.errors import PipelineError
from ser_pipeline.inputs import INPUTS

LOCKS = ".locks"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """A folder of a cache."""

    path: Path
    kind: str  # "corpus", "mfcc", …; "unfinished"
    bytes: int  # of a corpus: of everything in it
    changed: float  # seconds since the epoch
    source: str  # what it was made from


@dataclass(frozen=True)
class Damage:
    """What is wrong with one file or folder, and the command that makes it again."""

    path: Path
    what: str
    command: str


def contents(cache: Path) -> list[Item]:
    """Every corpus with its stores, sorted by name, then what is unfinished in it."""
    roots = {source.folder: source for source in catalogue.sources(cache)}
    return [item for folder in _corpora(cache) for item in _items(folder, roots.get(folder))]


def verify(cache: Path) -> list[Damage]:
    """Check every checksum, and every shard's utterances against the manifest, and take out what is damaged.

    A damaged store becomes unfinished, without its damaged shards, so that `features` makes these alone again.
    """
    found: list[Damage] = []
    for folder in _corpora(cache):
        with Entry(_final(folder), {}).lock():
            found += _verify(folder, cache)
    return found


def unused(cache: Path) -> list[Item]:
    """What may go: features that no corpus's pointer names, and unfinished work that no process holds."""
    pointed = {source.folder for source in catalogue.sources(cache)}
    found = []
    for folder in _corpora(cache):
        if _held(_final(folder)):
            continue
        if folder not in pointed:
            found.append(_item(folder, "unfinished" if folder.name.endswith(PARTIAL) else "corpus", "nothing"))
        else:
            found += [_item(store, "unfinished", folder.name) for store in _stores(folder) if _unfinished(store)]
    return found


def remove(items: list[Item], cache: Path) -> None:
    """Delete `items`, and the locks and memories of what is no longer there."""
    for item in items:
        shutil.rmtree(item.path)
    root = catalogue.features_root(cache)
    for folder in [root, *_corpora(cache)]:
        for lock in sorted((folder / LOCKS).glob("*")):
            if not _held(folder / lock.name) and not any(folder.glob(f"{lock.name}*")):
                lock.unlink()
    if not catalogue.sources(cache):
        shutil.rmtree(root / SEEN, ignore_errors=True)


def size(path: Path) -> int:
    """Bytes of the files below `path`."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _corpora(cache: Path) -> list[Path]:
    """The folders that hold a manifest and its stores, finished or not."""
    root = catalogue.features_root(cache)
    return sorted(path for path in root.glob("*-*") if path.is_dir())


def _stores(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*-*") if path.is_dir())


def _unfinished(path: Path) -> bool:
    return path.name.endswith(PARTIAL)


def _final(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(PARTIAL))


def _held(path: Path) -> bool:
    """Whether a process is writing `path`."""
    lock = path.parent / LOCKS / path.name
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def _items(folder: Path, source: catalogue.FeatureSet | None) -> Iterator[Item]:
    yield _item(folder, "unfinished" if _unfinished(folder) else "corpus", str(source.root) if source else "nothing")
    for store in _stores(folder):
        inputs: Mapping[str, Any] = {}
        with suppress(PipelineError):
            inputs = read_index(store)["inputs"]
        settings = " ".join(f"{name}={value}" for name, value in inputs.get("settings", {}).items())
        yield _item(store, "unfinished" if _unfinished(store) else str(inputs.get("feature", "damaged")), settings)


def _item(path: Path, kind: str, source: str) -> Item:
    index = path / "index.json"
    return Item(path, kind, size(path), (index if index.exists() else path).stat().st_mtime, source)


def _verify(folder: Path, cache: Path) -> Iterator[Damage]:
    """What is damaged in one corpus; mended as it is found."""
    if _unfinished(folder):
        return
    try:
        data = manifest.read(folder)
    except PipelineError as error:
        yield Damage(folder, str(error), "ser-pipeline features CORPUS ROOT")
        _reopen(folder)
        return
    source = next((s for s in catalogue.sources(cache) if s.folder == folder), None)
    for store in _stores(folder):
        damaged = list(_damaged(store, data))
        if damaged:
            command = _command(data.corpus, source, store)
            yield from (Damage(path, what, command) for path, what in damaged)
            _mend(store, [path for path, _ in damaged])


def _damaged(store: Path, data: manifest.Manifest) -> Iterator[tuple[Path, str]]:
    """Files of `store` that are not what was written, with what is wrong."""
    row = INPUTS.get(store.name.rpartition("-")[0])
    data = data.whole if row and row.kind == "utterance" else data
    expected = [
        (data.keys[first:last], data.counts[first:last].tolist()) for first, last in shards.shard_bounds(data.counts)
    ]
    if not _unfinished(store):
        try:
            names = read_index(store)["shards"]
        except (PipelineError, KeyError) as error:
            yield store / "index.json", str(error)
            names = []
        if names and len(names) != len(expected):
            yield store / "index.json", f"names {len(names)} shards, and there should be {len(expected)}"
    for number, (keys, counts) in enumerate(expected):
        file = store / shards.name(number)
        if _unfinished(store) and not file.exists():
            continue
        try:
            shard = shards.open_shard(file)
            if shard.keys != keys or shard.counts.tolist() != counts:
                raise shards.DamagedError(file, "its utterances are not those of the manifest")
            shard.check(range(len(shard.rows)))
        except shards.DamagedError as error:
            yield file, error.what


def _mend(store: Path, damaged: list[Path]) -> None:
    """Take the damaged files out of `store`, and leave it unfinished."""
    for file in damaged:
        file.unlink(missing_ok=True)
    if not _unfinished(store):
        _reopen(store)


def _reopen(folder: Path) -> None:
    """Make a whole folder unfinished, in place of one that lies there already."""
    entry = Entry(folder, {})
    if entry.partial.exists():
        shutil.rmtree(entry.partial)
    entry.reopen()


def _command(corpus: str, source: catalogue.FeatureSet | None, store: Path) -> str:
    """The command that makes the missing shards of `store` again."""
    root = str(source.root) if source else "ROOT"
    words = ["ser-pipeline", "features", corpus, *([] if corpus == "demo" else [root])]
    name = store.name.rsplit("-", 1)[0]
    with suppress(PipelineError, KeyError, TypeError):
        inputs = read_index(store)["inputs"]
        usual = asdict(Audio()), asdict(getattr(Features(), name)) if hasattr(Features(), name) else {}
        for table, now, before in zip(
            ("audio", f"features.{name}"), (inputs["audio"], inputs["settings"]), usual, strict=True
        ):
            words += [f"--set {table}.{key}={value}" for key, value in now.items() if value != before.get(key)]
    return " ".join([*words, "--feature", name])
