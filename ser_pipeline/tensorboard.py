"""A fold's history for TensorBoard, where that is installed: `tensorboard --logdir runs`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ser_pipeline.entry import writing

FOLDER = "tensorboard"


def log_epochs(fold: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the epochs of `history` that are not there yet into the folder `fold`; nothing without TensorBoard.

    Every epoch is an event file of its own, whole or absent, so that a fold that was killed and resumed neither
    lacks an epoch nor has one twice.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        return
    for record in history:
        file = fold / FOLDER / f"events.out.tfevents.{record['epoch']:06d}"  # readers want this beginning
        if file.exists():
            continue
        values = [Summary.Value(tag=TAGS[key], simple_value=record[key]) for key in TAGS if key in record]
        events = (
            Event(wall_time=time.time(), file_version="brain.Event:2"),  # what every event file starts with
            Event(wall_time=time.time(), step=record["epoch"], summary=Summary(value=values)),
        )
        with writing(file) as temporary, temporary.open("wb") as stream:
            writer = RecordWriter(stream)
            for event in events:
                writer.write(event.SerializeToString())


TAGS = {
    "loss": "loss/training",
    "validation_loss": "loss/validation",
    "wa": "validation/wa",
    "ua": "validation/ua",
    "lr": "training/lr",
    "segments_per_second": "training/segments_per_second",
}
"""Field of an epoch's record -> its name in TensorBoard."""
