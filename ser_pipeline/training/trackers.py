"""Trackers that log the epochs and scores of a fold in addition to its own files, by their names in `train --log`.

The process that trains a fold passes all of its epochs to a tracker again after each one, and the tracker adds the
missing ones. A killed and resumed fold therefore neither lacks an epoch nor has one twice.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ser_pipeline.entry import read_json, write_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.evaluation.metrics import Confusion
from ser_pipeline.names import unknown
from ser_pipeline.runs import layout
from ser_pipeline.training import mlflow_runs, tensorboard
from ser_pipeline.training.points import History, Point, points, whose

CSV = "log.csv"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracker:
    """A place to log to, with the library that it needs."""

    write: Callable[[Path, Sequence[Point]], None]  # logs the missing points of a fold's or run's folder
    library: str = ""  # library that it needs, which is also the name of the extra


def write_csv(folder: Path, numbers: Sequence[Point]) -> None:
    """Write `log.csv` with one line per number, so that the files of many folds can be concatenated.

    Args:
        folder: folder of the fold or run.
        numbers: all points so far.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "fold", "epoch", "name", "value"])
    writer.writerows([*whose(folder), point.epoch, point.name, point.value] for point in numbers)
    write_text(folder / CSV, text.getvalue(), flush=False)


TRACKERS = {
    "csv": Tracker(write_csv),
    "tensorboard": Tracker(tensorboard.write, "tensorboard"),
    "mlflow": Tracker(mlflow_runs.write, "mlflow"),
}


def chosen(names: str) -> tuple[str, ...]:
    """Return the trackers of a comma-separated list, each once.

    Args:
        names: the list; "" for none.

    Raises:
        PipelineError: a tracker is unknown, or its library is not installed.

    >>> chosen("csv,csv")
    ('csv',)
    """
    found = named(names)
    for name in found:
        library = TRACKERS[name].library
        if library and find_spec(library) is None:
            raise PipelineError(f"--log {name} needs {library}: pip install 'ser-pipeline[{library}]'")
    return found


def named(names: str) -> tuple[str, ...]:
    """Return the trackers of a list as `chosen` does, whether or not their libraries are installed.

    Raises:
        PipelineError: a tracker is unknown.
    """
    found = tuple(dict.fromkeys(filter(None, (name.strip() for name in names.split(",")))))
    for name in found:
        if name not in TRACKERS:
            raise PipelineError(unknown("tracker", name, TRACKERS))
    return found


def log_epochs(trackers: Sequence[str], folder: Path, history: History) -> None:
    """Log the epochs of a fold so far.

    Args:
        trackers: keys of `TRACKERS`.
        folder: folder of the fold.
        history: all epochs so far.
    """
    _write(trackers, folder, list(points(history)))


def log_scores(trackers: Sequence[str], folder: Path, history: History) -> None:
    """Log the epochs of a tested fold, and the test scores at its best epoch.

    Args:
        trackers: keys of `TRACKERS`.
        folder: folder of the fold, with its result.
        history: all epochs.
    """
    if trackers:
        result = read_json(folder / layout.RESULT)
        scores = {name: result[name] for name in ("wa", "ua", "ccc") if name in result}
        tested = [Point(f"test/{name}", result["best_epoch"], value) for name, value in scores.items()]
        _write(trackers, folder, [*points(history), *tested])


def log_run(trackers: Sequence[str], folder: Path, folds: Sequence[str]) -> None:
    """Log the scores of a finished run: the means over its folds, and the pooled WA and UA of all test utterances.

    Args:
        trackers: keys of `TRACKERS`.
        folder: folder of the run.
        folds: names of its folds.
    """
    results = [read_json(folder / fold / layout.RESULT) for fold in folds] if trackers else []
    scores = {
        f"mean/{name}": sum(one[name] for one in results) / len(results)
        for name in ("wa", "ua", "ccc")
        if results and all(name in one for one in results)
    }
    if results and all(one.get("counts") for one in results):
        total = Confusion(np.sum([one["counts"] for one in results], axis=0))
        scores |= {"pooled/wa": total.wa, "pooled/ua": total.ua}
    _write(trackers, folder, [Point(name, 0, value) for name, value in scores.items()])


def _write(trackers: Sequence[str], folder: Path, numbers: Sequence[Point]) -> None:
    """Pass the numbers to every tracker; a failing tracker, such as an unreachable server, does not stop training."""
    for name in trackers if numbers else ():
        try:
            TRACKERS[name].write(folder, numbers)
        except Exception as error:  # every library raises its own kinds of errors
            log.warning("not logged to %s: %s", name, str(error).partition("\n")[0])
