"""Logging of folds and runs to MLflow, at `$MLFLOW_TRACKING_URI`, in the experiment `$MLFLOW_EXPERIMENT_NAME`.

A fold stores the id of its MLflow run, and a resumed fold continues that run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from ser_pipeline.entry import write_text
from ser_pipeline.locks import lock_file
from ser_pipeline.training.points import Point, whose

IDENTITY = "mlflow.txt"
"""Name of the file with the id of the MLflow run of a fold or run."""

EXPERIMENT = "ser-pipeline"
"""Default name of the experiment."""

MOST = 1_000
"""Largest number of metrics in one call."""

LAST = ("test/", "mean/", "pooled/")
"""Prefixes of the names of scores, which are logged last."""


def write(folder: Path, points: Sequence[Point]) -> None:
    """Log the `points` that are not logged yet.

    Args:
        folder: folder of the fold or run.
        points: all points so far, in order.
    """
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    lock = lock_file(folder.parents[bool(whose(folder)[1])] / "mlflow")
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):  # one process at a time, since the first one creates the tables of a database
        client = MlflowClient()
        run, now = _run(client, folder), round(1000 * time.time())
        new = [Metric(point.name, point.value, now, point.epoch) for point in _missing(client, run, points)]
        for first in range(0, len(new), MOST):
            client.log_batch(run, metrics=new[first : first + MOST])
        if any(point.name.startswith(LAST) for point in points):
            client.set_terminated(run)


def _missing(client: Any, run: str, points: Sequence[Point]) -> list[Point]:
    """Return the `points` that are missing in an MLflow run."""
    names = dict.fromkeys(point.name for point in points)
    there = {(name, metric.step) for name in names for metric in client.get_metric_history(run, name)}
    return [point for point in points if (point.name, point.epoch) not in there]


def _run(client: Any, folder: Path) -> str:
    """Return the id of a folder's MLflow run, which is created if there is none."""
    file = folder / IDENTITY
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    run, fold = whose(folder)
    tags = {"run": run, "fold": fold} if fold else {"run": run}
    name = f"{run}/{fold}" if fold else run
    made = client.create_run(_experiment(client), tags=tags, run_name=name)
    write_text(file, made.info.run_id + "\n")
    return str(made.info.run_id)


def _experiment(client: Any) -> str:
    """Return the id of the experiment, which is created if needed, possibly by another process at the same time."""
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    with suppress(MlflowException):
        if client.get_experiment_by_name(name) is None:
            client.create_experiment(name)
    return str(client.get_experiment_by_name(name).experiment_id)
