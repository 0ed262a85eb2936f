"""Numbers that trackers log of a fold, with their names and epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_pipeline.entry import PARTIAL
from ser_pipeline.runs import layout

History = Sequence[Mapping[str, Any]]
"""Records of epochs, as in `history.jsonl`."""

TAGS = {
    "loss": "loss/training",
    "validation_loss": "loss/validation",
    "wa": "validation/wa",
    "ua": "validation/ua",
    "ccc": "validation/ccc",
    "lr": "training/lr",
    "segments_per_second": "training/segments_per_second",
}
"""Name of a number in every tracker, by the field of an epoch's record."""


@dataclass(frozen=True)
class Point:
    """A number of an epoch."""

    name: str
    epoch: int
    value: float


def points(history: History) -> Iterator[Point]:
    """Yield the numbers of all epochs."""
    for record in history:
        yield from (Point(TAGS[key], int(record["epoch"]), float(record[key])) for key in TAGS if key in record)


def whose(folder: Path) -> tuple[str, str]:
    """Return the names of the run and fold of a folder; the fold is "" for a run's folder."""
    run = _plain(folder.parent.name)
    return (run, _plain(folder.name)) if (folder.parent / layout.RUN).exists() else (_plain(folder.name), "")


def _plain(name: str) -> str:
    return name.partition(PARTIAL)[0]
