"""Overview page of all reports in a folder: the main score of each, and the history of its runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ser_pipeline.entry import PARTIAL, read_json, write_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.report import page, words
from ser_pipeline.report.summary_tables import minutes
from ser_pipeline.report.tables import ABSENT, POOLED, Cell, Column, Table, count, percent, text
from ser_pipeline.text import plural

INDEX = "index.html"

GENERATOR = "ser-pipeline report"
"""Generator named in the page; a page of the same file name without it is not overwritten."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OnShelf:
    """A report as shown in the overview page."""

    name: str  # of its folder
    link: str
    title: str
    about: str
    main: tuple[Cell, ...]  # its row among all reports
    history: Table

    @property
    def accepted(self) -> str:
        """Remark for every table of a page; empty here because the reports have their own."""
        return ""


def write_shelf(root: Path) -> None:
    """Write the overview page of the reports in `root`, unless the file there is another page."""
    file, reports = root / INDEX, list(_reports(root))
    if not reports or (file.exists() and GENERATOR not in file.read_text(encoding="utf-8", errors="replace")):
        return
    rows = tuple(one.main for one in reports)
    overview = Table("all", "All reports", COLUMNS, rows, note="The main model of each report, chosen by its protocol.")
    about = {"report": reports[0], "reports": reports, "overview": overview, "generator": GENERATOR}
    write_text(file, page.render("reports.html", sound=None, **about))


def _reports(root: Path) -> Iterator[OnShelf]:
    """The reports below `root`, without those that cannot be read or lack fields (of earlier versions)."""
    for file in sorted(root.glob(f"*/{INDEX}")):
        try:
            yield _report(file, read_json(file.with_name("results.json")))
        except (PipelineError, KeyError, TypeError, IndexError, AttributeError) as error:
            log.debug("%s: %s", file, error)


def _report(file: Path, found: Mapping[str, Any]) -> OnShelf:
    name, experiments, origins = file.parent.name, found["experiments"], found["origins"]
    days = sorted(one["ended"][:10] for one in origins if one["ended"])
    first = experiments[0] if experiments else None
    row = next((row for row in first["rows"] if row["result"]), None) if first else None
    ua = row["result"]["scores"]["ua"] if row else None
    main = (
        text(found["title"], "strong"),
        percent(ua["pooled"], tone="strong") if ua else ABSENT,
        _between(ua["interval"]) if ua else ABSENT,
        text(_model(row) if row else ""),
        text(first["title"] if first else ""),
        count(len(origins)),
        text(days[-1] if days else ""),
    )
    span = " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))
    about = f"{name}: {plural(len(origins), 'run')}" + (f", {span}" if span else "")
    place = words.slug(name) or "report"
    return OnShelf(place, f"{quote(name)}/{INDEX}", found["title"], about, main, _history(found, place))


def _between(interval: Mapping[str, Any]) -> Cell:
    low, high = interval["low"], interval["high"]
    return ABSENT if low is None else Cell(f"{100 * low:.1f} to {100 * high:.1f}", low)


def _model(row: Mapping[str, Any]) -> str:
    return f"{row['ablation']} ({row['variant']})" if row["variant"] else str(row["ablation"])


def _history(found: Mapping[str, Any], name: str) -> Table:
    """The runs of a report, newest first; `name` is the report's."""
    models = {
        name.removesuffix(PARTIAL): (_model(row), one["title"])
        for one in found["experiments"]
        for row in one["rows"]
        for name in (*row["runs"], *row["unfinished"])
    }
    newest = sorted(found["origins"], key=lambda one: one["ended"] or one["started"], reverse=True)
    rows = tuple(_run(one, *models.get(one["run"], ("", ""))) for one in newest)
    return Table(f"history-{name}", "Runs, newest first", HISTORY, rows)


def _run(one: Mapping[str, Any], model: str, experiment: str) -> tuple[Cell, ...]:
    ended, started = one["ended"][:16].replace("T", " "), one["started"][:16].replace("T", " ")
    commits = ", ".join(str(commit)[:7] for commit in one["made"].get("commit", ()))
    return (
        text(ended or f"{started}, unfinished".strip(", ")),
        text(model),
        percent(one.get("ua")),
        percent(one.get("wa")),
        minutes(one["seconds"]),
        text(commits),
        text(experiment),
        text(one["run"]),
    )


COLUMNS = (
    Column("Report", number=False),
    Column("UA", group="Pooled, %", hint=POOLED),
    Column("95 % interval", group="Pooled, %"),
    Column("Model", number=False),
    Column("Protocol and preset", number=False),
    Column("Runs"),
    Column("Last run", number=False),
)

HISTORY = (
    Column("Ended, UTC", number=False),
    Column("Model", number=False),
    Column("UA", group="Pooled, %", hint="Of this run only."),
    Column("WA", group="Pooled, %", hint="Of this run only."),
    Column("Minutes", hint="From the start of its first command to the end of its last, pauses included."),
    Column("Commit", number=False),
    Column("Protocol and preset", number=False),
    Column("Run", number=False),
)
