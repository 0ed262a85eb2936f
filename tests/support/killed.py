"""What a test starts and kills: importable, as it is another process."""

import os
from importlib.metadata import entry_points
from pathlib import Path

from ser_pipeline.cache import shards as shard_store
from ser_pipeline.training import checkpoint


def run_command(folder: Path, args: list[str]) -> None:
    os.chdir(folder)
    shard_store.ROWS = 24
    checkpoint.WRITE_SECONDS = 0.0  # every epoch reaches the disk, so that kills find folds in their middle
    if "1" in args and hasattr(os, "sched_setaffinity"):  # one job: one core, so that threads do not wait in turn
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    (command,) = entry_points(group="console_scripts", name="ser-pipeline")
    command.load()(args)
