"""Inference times of the report's models, if `ser-pipeline profile` measured them."""

from __future__ import annotations

from collections.abc import Iterator

from ser_pipeline.report.contents import Report
from ser_pipeline.report.tables import Cell, Column, Table, count, once, text
from ser_pipeline.runs.profiled import Profile, profiles
from ser_pipeline.runs.records import RunHeader
from ser_pipeline.text import plural

COLUMNS = (
    Column("Part", number=False),
    Column("Batch", hint="Recordings at a time; the largest that fits or was tried."),
    Column("Median, ms"),
    Column("95 %, ms", hint="Of twenty calls or fewer, nineteen of twenty take no longer."),
    Column("Real-time factor", hint="Seconds of work for a second of audio."),
    Column("Engine", number=False),
)

SUMS = (Column("Quantity", number=False), Column("Value", hint="Smaller is cheaper."))


def tables(report: Report) -> list[Table]:
    """The times, and the sizes, of each run of the report on each device on which it was measured."""
    every = [(header, found) for header in report.headers for found in profiles(header.path)]
    return [table for place, one in enumerate(every) for table in _tables(f"profile-{place + 1}", *one)]


def _tables(name: str, header: RunHeader, found: Profile) -> Iterator[Table]:
    """The times of a run's models on a device, and everything else.

    Args:
        name: of the table of times.
        header: of the run.
        found: what was measured.
    """
    day = found.measured.partition("T")[0]
    model = f"{header.ablation}, {header.protocol}, seed {header.seed}"
    heard = f"{found.seconds:g} s of noise by {plural(len(found.folds), 'fold')}"
    times = Table(name, f"{model}: {heard}, {found.device}", COLUMNS, tuple(_rows(found)), note=f"Measured on {day}.")
    yield once(times, ("Engine",))
    sums = tuple((text(what), Cell(value)) for what, value in found.sums)
    yield Table(f"{name}-sizes", f"{model}: sizes", SUMS, sums)


def _rows(found: Profile) -> Iterator[tuple[Cell, ...]]:
    for engine, one in found.timings:
        times = Cell(f"{one.median_ms:,.2f}", one.median_ms), Cell(f"{one.p95_ms:,.2f}", one.p95_ms)
        factor = Cell(f"{one.real_time_factor:.5f}", one.real_time_factor)
        yield text(one.part), count(one.batch), *times, factor, text(engine)
