"""Inference times of the report's models, if `ser-pipeline profile` measured them."""

from __future__ import annotations

from collections.abc import Iterator

from ser_pipeline.report.contents import Report
from ser_pipeline.report.tables import Cell, Column, Table, count, text
from ser_pipeline.runs.profiled import Profile, profiles

COLUMNS = (
    Column("Engine", number=False),
    Column("Part", number=False),
    Column("Batch", hint="Recordings at a time; the largest that fits or was tried."),
    Column("Median, ms"),
    Column("95 %, ms", hint="95 % of the calls take at most this long."),
    Column("Real-time factor", hint="Seconds of work per second of audio."),
)


def tables(report: Report) -> list[Table]:
    """A table for each device on which a run of the report was measured."""
    return [_table(header.path.name, one) for header in report.headers for one in profiles(header.path)]


def _table(run: str, found: Profile) -> Table:
    """The times of a run's models on a device, with the other figures in the note."""
    sums = "; ".join(f"{name}: {value}" for name, value in found.sums)
    return Table(f"profile-{run}", f"{run}: {found.heard}", COLUMNS, tuple(_rows(found)), note=sums)


def _rows(found: Profile) -> Iterator[tuple[Cell, ...]]:
    for engine, one in found.timings:
        times = Cell(f"{one.median_ms:.2f}", one.median_ms), Cell(f"{one.p95_ms:.2f}", one.p95_ms)
        factor = Cell(f"{one.real_time_factor:.5f}", one.real_time_factor)
        yield text(engine), text(one.part), count(one.batch), *times, factor
