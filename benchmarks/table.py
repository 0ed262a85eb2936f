"""Measurements as ratios, and their Markdown table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """One measurement in the table."""

    area: str
    way: str
    figure: str  # with its unit
    ratio: float | None = None  # how many times better ser-pipeline is


def rounds(
    ways: Mapping[str, Callable[[], float]], count: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median rate of each alternative over `count` alternating rounds; each returns the amount that it processed.

    A round before them warms up caches and buffers.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(count):
        for name, way in ways.items():
            began = clock()
            amount = way()
            rates[name].append(amount / (clock() - began))
    return {name: median(found) for name, found in rates.items()}


def compared(area: str, rates: Mapping[str, float], ours: str, unit: str) -> list[Row]:
    """Rates as rows, each with how many times faster `ours` is."""
    return [Row(area, name, f"{rate:,.0f} {unit}", rates[ours] / rate) for name, rate in rates.items()]


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a table."""
    lines = ["| | way | measured | ser-pipeline is |", "|---|---|---|---|"]
    last = ""
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
        lines.append(f"| {row.area if row.area != last else ''} | {row.way} | {row.figure} | {ratio} |")
        last = row.area
    return "\n".join(lines) + "\n"
