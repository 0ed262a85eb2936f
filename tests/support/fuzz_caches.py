"""Malformed folders of a cache: valid JSON of other shapes with right and wrong keys."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from ser_pipeline.cache import catalogue, housekeeping, manifest
from ser_pipeline.config import load
from ser_pipeline.data.stream import open_data
from ser_pipeline.entry import key
from support.fuzz_targets import other_bytes, other_json
from support.sounds import write_emodb
from support.stores import make


def of_caches(folder: Path) -> Callable[[random.Random], None]:
    """Feed a cache with one malformed file: it is read as by `train`, listed, verified and pruned."""
    root = write_emodb(folder / "corpus", speakers=2, takes=1)
    kept = folder / "kept"
    made = make(root, kept / "features", load("paper"), names=("mfcc",))
    catalogue.register(kept, catalogue.FeatureSet("emodb", made, root))
    files = [file.relative_to(kept) for file in sorted(kept.rglob("*")) if file.is_file() and ".locks" not in str(file)]

    def feed(rng: random.Random) -> None:
        cache = folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(kept, cache)
        _change(cache / rng.choice(files), rng)
        _read(cache)
        housekeeping.contents(cache)
        housekeeping.verify(cache)
        housekeeping.remove(housekeeping.unused(cache), cache)

    return feed


def _read(cache: Path) -> None:
    source = catalogue.find(cache, "emodb")
    data = manifest.read(source.folder)
    stores = sorted(source.folder.glob("mfcc-*"))
    if stores:
        open_data(data, {"mfcc": stores[:1]})


def _change(file: Path, rng: random.Random) -> None:
    """Change a file of the cache; most changed indexes get the key of their new content."""
    if file.suffix not in (".json", ".jsonl") or rng.random() < 0.2:
        file.write_bytes(other_bytes(file.read_bytes(), rng))
        return
    if file.suffix == ".jsonl":
        lines = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
        place = rng.randrange(len(lines))
        lines[place] = json.dumps(other_json(json.loads(lines[place]), rng))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        index = file.with_name("index.json")
        if file.name == "manifest.jsonl" and rng.random() < 0.7:
            said = json.loads(index.read_text(encoding="utf-8"))
            said["inputs"]["utterances"] = hashlib.sha256(file.read_bytes()).hexdigest()
            index.write_text(json.dumps(said), encoding="utf-8")
            _rename(index)
        return
    file.write_text(json.dumps(other_json(json.loads(file.read_text(encoding="utf-8")), rng)), encoding="utf-8")
    if file.name == "index.json" and rng.random() < 0.7:
        _rename(file)


def _rename(index: Path) -> None:
    """Rename a folder of the cache to the key of its index's inputs, and update its pointer."""
    said = json.loads(index.read_text(encoding="utf-8"))
    if not isinstance(said, dict) or not isinstance(said.get("inputs"), dict):
        return
    folder = index.parent
    new = folder.rename(folder.with_name(f"{folder.name.rpartition('-')[0]}-{key(said['inputs'])}"))
    pointer = new.parent / "emodb.json"
    if pointer.is_file():
        pointer.write_text(json.dumps(json.loads(pointer.read_text()) | {"folder": new.name}), encoding="utf-8")
