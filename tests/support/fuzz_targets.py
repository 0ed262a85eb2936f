"""Targets of malformed input: each takes a random source and must not raise.

A user would see a `PipelineError` as one line; every other exception is a fault.
"""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ser_pipeline import config
from ser_pipeline.cache import catalogue
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs.reading import read_run, scan
from ser_pipeline.runs.records import UtteranceTable
from ser_pipeline.splits.folds import read_folds
from support.run_folders import Planted, people, write_run

STRANGE: tuple[Any, ...] = (None, True, -1, 0, 10**30, 1.5, float("nan"), "", "../x", "a\x00b", "\u2028", [], {}, [[]])


def other_json(value: Any, rng: random.Random) -> Any:
    """Return valid JSON of another shape: one value in `value` is replaced, removed or duplicated."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        rest = {key: part for key, part in value.items() if key != name}
        return rest if rng.random() < 0.1 else value | {name: other_json(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        parts = [other_json(value[place], rng)] * rng.choice((0, 1, 1, 2))
        return [*value[:place], *parts, *value[place + 1 :]]
    return rng.choice(STRANGE)


def other_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with flipped bits, truncated, repeated, or with a run of one byte."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        place = rng.randrange(min(len(found), 200) if rng.random() < 0.5 else len(found)) if found else 0
        kind = rng.randrange(4)
        if kind == 0 and found:
            found[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[place : place + 4] = bytes([rng.choice((0, 127, 255))]) * 4
        elif kind == 2:
            del found[place : place + rng.randrange(64)]
        elif rng.random() < 0.2:
            found = found[:place]
    return bytes(found)


def of_settings(folder: Path) -> Callable[[random.Random], None]:
    """Feed TOML of settings with changed bytes."""
    text = config.dumps(config.Config()).encode()
    return lambda rng: config.loads(other_bytes(text, rng).decode("utf-8", "replace"), "strange.toml") and None


def of_folds(folder: Path) -> Callable[[random.Random], None]:
    """Feed malformed files of folds."""
    everyone = [Utterance(f"u{n}", f"u{n}.wav", "abc"[n % 3], f"s{n % 4}") for n in range(24)]
    everyone.sort(key=lambda one: (one.speaker, one.id))
    parts = {part: [one.id for one in everyone if one.speaker in who] for part, who in PARTS.items()}
    value = {"protocol": "speaker", "selection": "validation", "folds": [{"name": "s0", **parts}]}

    def feed(rng: random.Random) -> None:
        (folder / "folds.json").write_text(json.dumps(other_json(value, rng)))
        read_folds(folder / "folds.json", everyone)

    return feed


PARTS = {"train": ("s2", "s3"), "validation": ("s1",), "test": ("s0",)}


def of_pointers(folder: Path) -> Callable[[random.Random], None]:
    """Feed malformed pointers of a cache."""
    file = folder / "features" / "emodb.json"
    file.parent.mkdir(parents=True)
    value = {"folder": "emodb-0123456789ab", "root": "/corpus", "preset": "paper", "settings": ["train.lr=1"]}

    def feed(rng: random.Random) -> None:
        file.write_text(json.dumps(other_json(value, rng)))
        catalogue.find(folder, "emodb")

    return feed


def of_runs(folder: Path) -> Callable[[random.Random], None]:
    """Feed a run with one file that is malformed or has changed bytes."""
    made = write_run(folder / "kept", people(each=4, speakers=("1F", "1M")), Planted(probes={"mfcc": 0.5}))
    files = [file for file in sorted(made.rglob("*")) if file.suffix in (".json", ".csv", ".toml", ".npz", ".jsonl")]
    shutil.copytree(made, folder / "runs" / made.name)

    def feed(rng: random.Random) -> None:
        file = rng.choice(files)
        changed = folder / "runs" / file.relative_to(folder / "kept")
        if file.suffix == ".json" and rng.random() < 0.8:
            changed.write_text(json.dumps(other_json(json.loads(file.read_text()), rng)))
        else:
            changed.write_bytes(other_bytes(file.read_bytes(), rng))
        try:
            for header in scan(folder / "runs")[0]:
                run = read_run(header, UtteranceTable())
                for fold in run.folds:
                    fold.history()
                    fold.segments()
        finally:
            shutil.copy(file, changed)

    return feed


TARGETS: Mapping[str, Callable[[Path], Callable[[random.Random], None]]] = {
    "settings": of_settings,
    "folds": of_folds,
    "pointers": of_pointers,
    "runs": of_runs,
}
"""Name -> function of an empty folder that returns a function which feeds one malformed input."""


class Drawn(random.Random):
    """A random source that draws from a fuzzer's bytes, and zeros after these are used up."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._left = io.BytesIO(data)

    def getrandbits(self, k: int, /) -> int:
        size = (k + 7) // 8
        return int.from_bytes(self._left.read(size).ljust(size, b"\0"), "big") >> (-k % 8)

    def random(self) -> float:
        return self.getrandbits(53) / (1 << 53)


def one_line(feed: Callable[[random.Random], None], rng: random.Random) -> str:
    """Feed one input; returns the error line that a user would see, "" if the input was accepted.

    Args:
        feed: function that processes the input.
        rng: source that the input is drawn from.
    """
    try:
        feed(rng)
    except PipelineError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""
