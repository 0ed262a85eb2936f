"""A fold's history for TensorBoard, where that is installed: `tensorboard --logdir runs`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ser_pipeline.entry import writing

FOLDER = "tensorboard"
BEGINNING = "events.out.tfevents"  # of a file's name, as its readers want it; the last epoch follows


def log_epochs(fold: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the epochs of `history` that are not there yet into the folder `fold`; nothing without TensorBoard.

    Each call writes one event file, whole or absent and named after its last epoch, so that a fold that was killed and
    resumed neither lacks an epoch nor has one twice.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        return
    there = [file.suffix[1:] for file in (fold / FOLDER).glob(f"{BEGINNING}.*")]
    last = max((int(epoch) for epoch in there if epoch.isdigit()), default=0)
    new = [record for record in history if record["epoch"] > last]
    if not new:
        return
    with writing(fold / FOLDER / f"{BEGINNING}.{new[-1]['epoch']:06d}") as temporary, temporary.open("wb") as stream:
        writer = RecordWriter(stream)
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        for record in new:
            values = [Summary.Value(tag=TAGS[key], simple_value=record[key]) for key in TAGS if key in record]
            event = Event(wall_time=time.time(), step=record["epoch"], summary=Summary(value=values))
            writer.write(event.SerializeToString())


TAGS = {
    "loss": "loss/training",
    "validation_loss": "loss/validation",
    "wa": "validation/wa",
    "ua": "validation/ua",
    "ccc": "validation/ccc",
    "lr": "training/lr",
    "segments_per_second": "training/segments_per_second",
}
"""Field of an epoch's record -> its name in TensorBoard."""
