"""Numbers of a fold for TensorBoard: `tensorboard --logdir runs`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ser_pipeline.entry import writing
from ser_pipeline.training.points import Point

FOLDER = "tensorboard"
BEGINNING = "events.out.tfevents"  # of a file's name, as its readers want it; how many numbers there are then, follows


def write(folder: Path, points: Sequence[Point]) -> None:
    """Write those of `points` that are not there yet into `folder`.

    Each call writes one event file, whole or absent and named after how many numbers there are with it, so that a fold
    that was killed and resumed neither lacks one nor has one twice.

    Args:
        folder: of the fold or run.
        points: all of them, in the order in which they came.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    there = [file.suffix[1:] for file in (folder / FOLDER).glob(f"{BEGINNING}.*")]
    new = points[max((int(number) for number in there if number.isdigit()), default=0) :]
    if not new:
        return
    with writing(folder / FOLDER / f"{BEGINNING}.{len(points):06d}") as temporary, temporary.open("wb") as stream:
        writer = RecordWriter(stream)
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        for epoch, several in groupby(new, lambda point: point.epoch):
            values = [Summary.Value(tag=point.name, simple_value=point.value) for point in several]
            writer.write(Event(wall_time=time.time(), step=epoch, summary=Summary(value=values)).SerializeToString())
