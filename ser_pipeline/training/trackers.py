"""Where the epochs and scores of a fold are logged beside its own files: a row a tracker, as `train --log` names them.

A tracker is handed all of a fold's epochs again and again, by the process that holds the fold, and adds those that it
has not got: what was killed and goes on lacks no epoch and has none twice.
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
    """One place to log to."""

    write: Callable[[Path, Sequence[Point]], None]  # of a folder of a fold or run: those that are not there yet
    library: str = ""  # that has to be installed, which is also the name of the extra


def write_csv(folder: Path, numbers: Sequence[Point]) -> None:
    """Write `log.csv`: a line a number, so that the files of many folds can be put one below the other.

    Args:
        folder: of the fold or run.
        numbers: all of them.
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
    """The trackers of a list with commas between, each once.

    Args:
        names: what the user asked for; "": none.

    Raises:
        PipelineError: one that is not known, or whose library is not installed.

    >>> chosen("csv,csv")
    ('csv',)
    """
    found = dict.fromkeys(filter(None, (name.strip() for name in names.split(","))))
    for name in found:
        if name not in TRACKERS:
            raise PipelineError(unknown("tracker", name, TRACKERS))
        library = TRACKERS[name].library
        if library and find_spec(library) is None:
            raise PipelineError(f"--log {name} needs {library}: pip install 'ser-pipeline[{library}]'")
    return tuple(found)


def log_epochs(trackers: Sequence[str], folder: Path, history: History) -> None:
    """Log the epochs of a fold as far as it has come.

    Args:
        trackers: names of `TRACKERS`.
        folder: of the fold.
        history: all its epochs.
    """
    _write(trackers, folder, list(points(history)))


def log_scores(trackers: Sequence[str], folder: Path, history: History) -> None:
    """Log the epochs of a fold that has been tested, and at the epoch that was kept the scores of the test.

    Args:
        trackers: names of `TRACKERS`.
        folder: of the fold, with its result.
        history: all its epochs.
    """
    if trackers:
        result = read_json(folder / layout.RESULT)
        scores = {name: result[name] for name in ("wa", "ua", "ccc") if name in result}
        tested = [Point(f"test/{name}", result["best_epoch"], value) for name, value in scores.items()]
        _write(trackers, folder, [*points(history), *tested])


def log_run(trackers: Sequence[str], folder: Path, folds: Sequence[str]) -> None:
    """Log the scores of a whole run: the means over its folds, and WA and UA of all test utterances together.

    Args:
        trackers: names of `TRACKERS`.
        folder: of the run.
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
    """Hand the numbers to every tracker; one that fails, as a server that is away, does not stop the training."""
    for name in trackers if numbers else ():
        try:
            TRACKERS[name].write(folder, numbers)
        except Exception as error:  # every library has kinds of its own
            log.warning("not logged to %s: %s", name, str(error).partition("\n")[0])
