"""Counted costs of work: opened files, listed folders, calls. Unlike seconds, they are the same on every machine."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType


@dataclass
class Touched:
    """How often Python opened each file and listed each folder below `root`; C libraries' accesses do not count."""

    root: Path
    opened: Counter[Path] = field(default_factory=Counter)
    listed: Counter[Path] = field(default_factory=Counter)


_watching: list[Touched] = []


def _hear(event: str, args: tuple[object, ...]) -> None:
    if _watching and event in ("open", "os.listdir", "os.scandir") and isinstance(args[0], str | bytes | os.PathLike):
        path = Path(os.fsdecode(args[0]))
        for touched in _watching:
            if path.is_relative_to(touched.root):
                (touched.opened if event == "open" else touched.listed)[path] += 1


sys.addaudithook(_hear)  # permanent, as Python cannot remove a hook


@contextmanager
def touching(root: Path) -> Iterator[Touched]:
    """Count accesses to files and folders below `root` within the block."""
    touched = Touched(root)
    _watching.append(touched)
    try:
        yield touched
    finally:
        _watching.remove(touched)


def calls(work: Callable[[], object]) -> int:
    """Count the calls of Python and C functions by `work` in this thread."""
    count = 0

    def seen(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count
