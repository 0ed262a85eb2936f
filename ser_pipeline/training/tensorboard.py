"""Logging of folds and runs for TensorBoard: `tensorboard --logdir runs`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ser_pipeline.entry import writing
from ser_pipeline.training.points import Point

FOLDER = "tensorboard"
BEGINNING = "events.out.tfevents"  # prefix of file names that TensorBoard requires; the number of points follows


def write(folder: Path, points: Sequence[Point]) -> None:
    """Write the `points` that are not yet in `folder`.

    Each call writes one event file atomically and names it after the number of points so far. A fold that was killed
    and resumed therefore neither lacks a point nor has one twice.

    Args:
        folder: folder of the fold or run.
        points: all points so far, in order.
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
