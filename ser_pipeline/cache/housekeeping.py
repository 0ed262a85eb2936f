"""List what is in a cache, verify and repair it, and find what is unused."""

from __future__ import annotations

import glob
import itertools
import json
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ser_pipeline import locks
from ser_pipeline.cache import catalogue, manifest, shards
from ser_pipeline.cache.file_index import FOLDER as SEEN
from ser_pipeline.cache.store import read_store
from ser_pipeline.claims import at_work
from ser_pipeline.config import Audio, Features
from ser_pipeline.corpora import CORPORA
from ser_pipeline.entry import PARTIAL, Entry, key, read_index
from ser_pipeline.errors import PipelineError
from ser_pipeline.inputs import INPUTS, LEVELS
from ser_pipeline.parts import alone


@dataclass(frozen=True)
class Item:
    """A folder in a cache."""

    path: Path
    kind: str  # "corpus", "mfcc", …; "unfinished"
    bytes: int  # for a corpus, of everything in it
    changed: float  # seconds since the epoch
    source: str  # what it was extracted from


@dataclass(frozen=True)
class Damage:
    """What is wrong with one file or folder, and the command that creates it again."""

    path: Path
    what: str
    command: str


def contents(cache: Path) -> list[Item]:
    """All corpora with their stores, sorted by name; unfinished folders come last."""
    roots = {source.folder: source for source in catalogue.sources(cache)}
    return [item for folder in _corpora(cache) for item in _items(folder, roots.get(folder))]


def verify(cache: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> list[Damage]:
    """Verify every checksum, and every shard's utterances against the manifest; remove what is damaged.

    A damaged store becomes unfinished, without its damaged shards, so that `features` computes only these again. Data
    behind a link may belong to another cache: it is verified, but not changed.

    Args:
        cache: folder of the features.
        progress: called with the number of verified shards, and of all.
    """
    total = sum(1 for folder in _corpora(cache) for store in _stores(folder) for _ in store.glob("*.h5"))
    numbers = itertools.count(1)

    def checked() -> None:
        progress(min(next(numbers), total), total)

    sources, broken = catalogue.pointers(cache)
    found = [Damage(pointer.file, pointer.what, pointer.command) for pointer in broken]
    for folder in _corpora(cache):
        with alone(_final(folder)):
            found += _verify(folder, next((source for source in sources if source.folder == folder), None), checked)
    return found


def unused(cache: Path) -> list[Item]:
    """Find removable items: features that no pointer names, and unfinished work that no process holds.

    Features of a corpus with a broken pointer are kept, since the pointer should name them.
    """
    sources, broken = catalogue.pointers(cache)
    pointed = {source.folder for source in sources}
    kept = {pointer.corpus for pointer in broken}
    found = []
    for folder in _corpora(cache):
        busy = locks.is_held(_final(folder)) or at_work(_final(folder))
        if busy or folder.name.rpartition("-")[0] in kept:
            continue
        if folder not in pointed:
            found.append(_item(folder, "unfinished" if folder.name.endswith(PARTIAL) else "corpus", "nothing"))
        else:
            found += [_item(store, "unfinished", folder.name) for store in _stores(folder) if _unfinished(store)]
    return found


def remove(items: list[Item], cache: Path) -> None:
    """Delete `items`, and the locks and file indexes that belong to them; of a link, only the link is deleted.

    Raises:
        PipelineError: an item belongs to another user.
    """
    for item in items:
        try:
            item.path.unlink() if item.path.is_symlink() else shutil.rmtree(item.path)
        except OSError as error:
            raise PipelineError(f"cannot remove {item.path}: {error.strerror}") from None
    root = catalogue.features_root(cache)
    for folder in [root, *(path for path in _corpora(cache) if not path.is_symlink())]:
        for lock in sorted((folder / locks.FOLDER).glob("*")):
            name = lock.name.removesuffix(locks.MARK)
            if not locks.is_held(folder / name) and not any(folder.glob(f"{glob.escape(name)}*")):
                lock.unlink(missing_ok=True)
    if not any(root.glob("[!.]*.json")):
        shutil.rmtree(root / SEEN, ignore_errors=True)


def size(path: Path) -> int:
    """Bytes of the files below `path`."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _corpora(cache: Path) -> list[Path]:
    """The folders of a manifest and its stores, finished or not."""
    root = catalogue.features_root(cache)
    return sorted(path for path in root.glob("*-*") if path.is_dir())


def _stores(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*-*") if path.is_dir())


def _unfinished(path: Path) -> bool:
    return path.name.endswith(PARTIAL)


def _final(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(PARTIAL))


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


def _verify(folder: Path, source: catalogue.FeatureSet | None, checked: Callable[[], None]) -> Iterator[Damage]:
    """Damage of one corpus; repaired as it is found, unless it is behind a link.

    Args:
        folder: folder of a manifest and its stores.
        source: the corpus that refers to it, if any.
        checked: called after each shard.
    """
    if _unfinished(folder):
        return
    try:
        data = manifest.read(folder)
    except PipelineError as error:
        command = shlex.join(_words(folder.name.rpartition("-")[0], source))
        yield Damage(folder, _told(str(error), folder), command)
        if not folder.is_symlink():
            _reopen(folder)
        return
    for store in _stores(folder):
        damaged = list(_damaged(store, data, checked))
        if damaged:
            command = _command(data.corpus, source, store)
            yield from (Damage(path, _told(what, folder, store), command) for path, what in damaged)
            if not (folder.is_symlink() or store.is_symlink()):
                _mend(store, [path for path, _ in damaged])


def _told(what: str, *folders: Path) -> str:
    """Describe damage; if one of `folders`, which contain it, is a link, say that it was not removed."""
    links = [folder for folder in folders if folder.is_symlink()]
    return f"{what}; it was not removed, since {links[0]} is a link: remove the link" if links else what


def _damaged(store: Path, data: manifest.Manifest, checked: Callable[[], None]) -> Iterator[tuple[Path, str]]:
    """Damaged files of `store`, with a description.

    Args:
        store: folder of shards.
        data: the manifest.
        checked: called after each shard.
    """
    row = INPUTS.get(store.name.rpartition("-")[0])
    data = data.whole if row and row.kind == "utterance" else data
    expected = [
        (data.keys[first:last], data.stored[first:last].tolist()) for first, last in shards.shard_bounds(data.stored)
    ]
    inputs = None
    if not _unfinished(store):
        try:
            index = read_store(store)
            inputs = index["inputs"]
            if len(index["shards"]) != len(expected):
                yield store / "index.json", f"names {len(index['shards'])} shards instead of {len(expected)}"
        except PipelineError as error:
            yield store / "index.json", str(error)
    for number, (keys, counts) in enumerate(expected):
        file = store / shards.name(number)
        if _unfinished(store) and not file.exists():
            continue
        try:
            shard = shards.open_shard(file, inputs)
            if inputs is None and not _of_its_store(shard, store):
                raise shards.DamagedError(file, "its settings are not those of its store")
            if shard.keys != keys or shard.counts.tolist() != counts:
                raise shards.DamagedError(file, "its utterances are not those of the manifest")
            shard.check(range(len(shard.rows)))
        except shards.DamagedError as error:
            yield file, error.what
        checked()


def _of_its_store(shard: shards.Shard, store: Path) -> bool:
    """Whether a shard's own settings give its store's key; used without an index, and lenient for unfinished stores."""
    name, _, digits = store.name.removesuffix(PARTIAL).rpartition("-")
    if name in INPUTS and not INPUTS[name].function:  # the key depends on more than the shards contain
        return _unfinished(store)
    return key(shards.plain_inputs(shard.feature, shard.settings)) == digits


def _mend(store: Path, damaged: list[Path]) -> None:
    """Remove the damaged files from `store`, and make it unfinished."""
    for file in damaged:
        file.unlink(missing_ok=True)
    if not _unfinished(store):
        _reopen(store)


def _reopen(folder: Path) -> None:
    """Make a complete folder unfinished; replaces an unfinished folder of the same name."""
    entry = Entry(folder, {})
    if entry.partial.is_symlink():
        entry.partial.unlink()
    elif entry.partial.exists():
        shutil.rmtree(entry.partial)
    entry.reopen()


def _command(corpus: str, source: catalogue.FeatureSet | None, store: Path) -> str:
    """The command that computes the missing shards of `store` again."""
    words = _words(corpus, source)
    name = store.name.rsplit("-", 1)[0]
    alone = name in LEVELS
    name = LEVELS[name].table if alone else name
    with suppress(PipelineError, KeyError, TypeError):
        inputs = read_index(store)["inputs"]
        usual = asdict(Audio()), asdict(getattr(Features(), name)) if hasattr(Features(), name) else {}
        for table, now, before in zip(
            ("audio", f"features.{name}"), (inputs["audio"], inputs["settings"]), usual, strict=True
        ):
            for setting, value in now.items():
                if value != before.get(setting):
                    told = value if isinstance(value, str) else json.dumps(value)
                    words += ["--set", f"{table}.{setting}={told}"]
    return shlex.join([*words, *(["--store", "waveform"] if alone else []), "--feature", name])


def _words(corpus: str, source: catalogue.FeatureSet | None) -> list[str]:
    """The words of the command that extracts the features of `corpus`."""
    known = [corpus, str(source.root) if source else "ROOT"] if corpus in CORPORA else ["table", "FILE"]
    return ["ser-pipeline", "features", *(known if corpus != "demo" else known[:1])]
