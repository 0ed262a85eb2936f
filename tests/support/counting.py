"""What work costs, counted: files opened, folders listed, calls. Unlike seconds, these are alike on any machine."""

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
    """How often Python opened each file and listed each folder below `root`; what a C library opens is not seen."""

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


sys.addaudithook(_hear)  # for good, as Python has no way to take one back


@contextmanager
def touching(root: Path) -> Iterator[Touched]:
    """Counts files and folders below `root` while it is open."""
    touched = Touched(root)
    _watching.append(touched)
    try:
        yield touched
    finally:
        _watching.remove(touched)


def calls(work: Callable[[], object]) -> int:
    """How many functions, Python's and C's, `work` calls in this thread."""
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
