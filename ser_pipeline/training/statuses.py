"""States of folds, read from the files that the training processes write."""

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
"""Minimum seconds between two reads of the folds' histories."""

REST = 20
"""Minimum time between two reads as a multiple of a read's duration, since thousands of folds have many files."""


@dataclass(frozen=True)
class Status:
    """The state of one fold."""

    run: str
    fold: str
    epoch: int  # number of finished epochs
    done: bool
    last: Mapping[str, Any]  # the latest record of its history; empty before the first epoch has ended
    title: tuple[str, ...] = ()  # protocol, ablation and seed of its run, such as ("speaker", "full-mean", "s1")


Progress = Callable[[Sequence[Status]], None]
"""A function that is called with the states of all folds, about twice a second."""


def fold_entry(run: PlannedRun, fold: Fold) -> Entry:
    """Return the entry of a fold in the current folder of its run, which may be unfinished."""
    folder = run.entry.path if run.entry.done else run.entry.partial
    return Entry(folder / fold.name, {"run": run.entry.path.name, "fold": fold.name})


@contextmanager
def watching(runs: Sequence[PlannedRun], progress: Progress) -> Iterator[None]:
    """Call `progress` with the states of the folds until the block ends."""
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
    """Read the states of all folds of `runs`; `ended` caches those of finished folds."""
    ended = {} if ended is None else ended
    found = []
    for run in runs:
        work = partials(run.entry.partial)
        for fold in run.folds:
            place = run.entry.path / fold.name
            status = ended.get(place) or _status(run, fold, work)
            if status.done and status.last:  # otherwise it got its final name between the two reads
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
    last = json.loads(history[-1]) if history else {}
    title = (str(run.about["protocol"]), str(run.about["ablation"]), f"s{run.config.seed}")
    return Status(run.entry.path.name, fold.name, len(history), done, last, title)
