"""Where every fold stands, read from the files that whoever trains it writes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_pipeline.entry import Entry, partials
from ser_pipeline.runs import layout
from ser_pipeline.splits.folds import Fold
from ser_pipeline.text import lines
from ser_pipeline.training.plan import PlannedRun

POLL = 0.5
"""Seconds between two looks at the folds' histories, at least."""

REST = 20
"""How many times as long as a look the time to the next is, at least: thousands of folds are many files."""


@dataclass(frozen=True)
class Status:
    """How far one fold is."""

    run: str
    fold: str
    epoch: int
    done: bool
    last: Mapping[str, Any]  # the latest line of its history; empty before the first


Progress = Callable[[Sequence[Status]], None]
"""Told where every fold stands, twice a second where that costs little."""


def fold_entry(run: PlannedRun, fold: Fold) -> Entry:
    """The folder of a fold, in its run's as it is now."""
    folder = run.entry.path if run.entry.done else run.entry.partial
    return Entry(folder / fold.name, {"run": run.entry.path.name, "fold": fold.name})


@contextmanager
def watching(runs: Sequence[PlannedRun], progress: Progress) -> Iterator[None]:
    """Tell `progress` where the folds stand until the block ends."""
    stop = threading.Event()
    ended: dict[Path, Status] = {}

    def watch() -> None:
        took = 0.0
        while not stop.wait(max(POLL, REST * took)):
            began = time.monotonic()
            progress(statuses(runs, ended))
            took = time.monotonic() - began

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        progress(statuses(runs, ended))


def statuses(runs: Sequence[PlannedRun], ended: dict[Path, Status] | None = None) -> list[Status]:
    """Where every fold of `runs` stands, read from their histories; `ended` keeps what need not be read again."""
    ended = {} if ended is None else ended
    found = []
    for run in runs:
        work = partials(run.entry.partial)
        for fold in run.folds:
            place = run.entry.path / fold.name
            status = ended.get(place) or _status(run, fold, work)
            if status.done and status.last:  # else it was given its final name in between
                ended[place] = status
            found.append(status)
    return found


def _status(run: PlannedRun, fold: Fold, work: Mapping[str, Path]) -> Status:
    entry = fold_entry(run, fold)
    done = entry.done
    place = entry.path if done else work.get(fold.name, entry.partial)
    try:
        history = lines((place / layout.HISTORY).read_text(encoding="utf-8"))
    except OSError:
        history = []
    return Status(run.entry.path.name, fold.name, len(history), done, json.loads(history[-1]) if history else {})
