"""The page: one HTML file with its style, its script and its figures inside."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import jinja2
import tomli_w
from markupsafe import Markup

from ser_pipeline.corpora import CORPORA
from ser_pipeline.corpora.layout import AUDIO
from ser_pipeline.report import compared, matrix, published, rated_tables, words
from ser_pipeline.report import experiment_tables as detail
from ser_pipeline.report import quality_tables as quality
from ser_pipeline.report import summary_tables as overview
from ser_pipeline.report.commands import commands
from ser_pipeline.report.compare import Versus
from ser_pipeline.report.contents import WORST, Experiment, Report
from ser_pipeline.report.drawing import PAGE_COLOURS, Key, Picture
from ser_pipeline.report.groups import Group
from ser_pipeline.report.origins import facts
from ser_pipeline.report.scores import Result
from ser_pipeline.report.tables import MINUS, Cell, Column, Table, between, percent, told
from ser_pipeline.text import plural, portable

SPAN = (130, 18)
"""Width and height of an interval that is drawn in a table, in pixels."""


UNFINISHED = "No run is finished yet: nothing can be averaged. What is there stands below."
"""What the summary says where there is no score."""


@dataclass(frozen=True)
class Tick:
    """A mark on the scale of the summary."""

    label: str
    share: float  # 0 to 1


@dataclass(frozen=True)
class Chapter:
    """An experiment as the page shows it."""

    experiment: Experiment
    title: str
    facts: str
    epoch: str  # which one is tested
    tables: Mapping[str, Table]
    parts: Sequence[Table]
    pictures: Mapping[str, Picture]


def to_html(report: Report, pictures: Mapping[str, Sequence[Picture]], folder: Path) -> str:
    """The page of `report`, to be written into `folder`.

    Args:
        report: what it says.
        pictures: figures of each experiment by its id.
        folder: where the page will be, for links to audio.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ser_pipeline.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"span": draw_span, "plural": plural, "key": draw_key, "whole": _whole}
    players = list(_players(report, folder))
    return environment.get_template("page.html").render(
        report=report,
        css=Markup(_asset("page.css")),
        js=Markup(_asset("page.js")),
        summary=_summary(report),
        results=overview.results(report),
        crossed=[matrix.table(one) for one in matrix.matrices(report)],
        heat=pictures.get(matrix.PICTURES, ()),
        comparison=compared.comparison(report),
        chapters=[_chapter(experiment, pictures.get(experiment.id, ())) for experiment in report.experiments],
        rated=[(rated_tables.tables(one), pictures.get(one.id, ())) for one in report.rated],
        literature=overview.literature(report),
        worst=overview.worst(report),
        players=players if any(players) else [],
        more_worst=max(0, len(report.worst) - WORST),
        runs=overview.runs(report),
        setup=_setup(report),
        corpus=CORPORA.get(report.choice.corpus or ""),
    )


def draw_span(cell: Cell, column: Column) -> Markup:
    """An interval as a line with a dot, on the scale of its column."""
    if cell.span is None or column.scale is None:
        return Markup("")
    low, high, mark = column.scale
    width, height = SPAN
    x = [6 + (width - 12) * (value - low) / (high - low) for value in (*cell.span, mark)]
    middle = height / 2
    return Markup(
        f'<svg class="span" width="{width}" height="{height}" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f'<line class="zero" x1="{x[3]:.1f}" x2="{x[3]:.1f}" y1="0" y2="{height}"/>'
        f'<line class="range" x1="{x[0]:.1f}" x2="{x[2]:.1f}" y1="{middle}" y2="{middle}"/>'
        f'<circle cx="{x[1]:.1f}" cy="{middle}" r="3.5"/></svg>'
    )


def draw_key(key: Key) -> Markup:
    """The sign of a row of a legend."""
    colour = PAGE_COLOURS.get(key.colour, key.colour)
    if key.marker in ("-", "--"):
        dash = ' stroke-dasharray="4 3"' if key.marker == "--" else ""
        shape = f'<path d="M0 6H18" stroke="{colour}" stroke-width="2"{dash}/>'
    else:
        shape = f'<g fill="{colour}">{MARKERS.get(key.marker, MARKERS["o"])}</g>'
    return Markup(f'<svg width="18" height="12" viewBox="0 0 18 12" aria-hidden="true">{shape}</svg>')


def _whole(share: float) -> str:
    """A share in percent without decimals, for the end of an axis."""
    return f"{100 * share:.0f}".replace("-", MINUS)


def _asset(name: str) -> str:
    return (resources.files("ser_pipeline.report") / name).read_text(encoding="utf-8")


def _summary(report: Report) -> dict[str, Any]:
    """What a hurried reader needs of the first experiment."""
    if report.main is None:
        told = "Scores against raters stand below; no finished run tells classes." if report.rated else UNFINISHED
        return {"score": None, "told": told, "warnings": _warnings(report)}
    first, (group, result) = report.experiments[0], report.main
    ua, wa = result.scores["ua"], result.scores["wa"]
    return {
        "score": percent(ua.pooled).text,
        "interval": _interval(group, result),
        "low": ua.interval.low,
        "value": ua.pooled,
        "high": ua.interval.high,
        "ticks": list(_ticks(group, result.chance)),
        "group": group,
        "result": result,
        "wa": percent(wa.pooled).text,
        "f1": percent(result.scores["macro_f1"].pooled).text,
        "chance": percent(result.chance).text,
        "largest": percent(result.largest.support / result.utterances).text,
        "facts": _facts(group, result),
        "sentences": list(_sentences(report, first)),
        "warnings": _warnings(report),
    }


def _interval(group: Group, result: Result) -> str:
    """The interval of UA, and what it is made of."""
    interval = result.scores["ua"].interval
    if interval.why:
        return f"No interval: {interval.why}"
    made = words.clusters(group.header.protocol, interval.clusters, result.crossed)
    luck = "" if interval.training else "; the luck of training is not in it"
    return f"95 % interval {between(interval).text} %, from {made}{luck}"


def _ticks(group: Group, chance: float) -> Iterator[Tick]:
    yield Tick(f"chance {100 * chance:.0f}", chance)
    for row in published.TABLE_1.get(group.header.protocol, ()):
        comparable = group.header.corpus == published.CORPUS and set(group.header.labels) == published.LABELS
        if row.name == published.PAPER and row.ua and comparable:
            yield Tick(f"paper {row.ua:.1f}", row.ua / 100)


def _facts(group: Group, result: Result) -> list[tuple[str, str]]:
    """What was run, on what."""
    header = group.header
    ua, wa = result.scores["ua"], result.scores["wa"]
    folds = plural(len(header.fold_names), "fold")
    return [
        (
            "Protocol",
            words.protocol(header.protocol) + (f", tested on {header.test_corpus}" if header.test_corpus else ""),
        ),
        ("Data", f"{_coverage(group, result)} by {plural(result.speakers, 'speaker')}"),
        ("Classes", ", ".join(header.labels)),
        *([("Tells", header.target.words)] if header.target.name != "class" else []),
        ("Trained", f"{folds}, {plural(len(group.runs), 'seed')}, preset {header.preset}"),
        ("Epoch", words.epoch(header.selection)),
        (
            "Mean over folds",
            f"UA {_spread(ua.fold_mean, ua.fold_deviation)}, WA {_spread(wa.fold_mean, wa.fold_deviation)}",
        ),
    ]


def _coverage(group: Group, result: Result) -> str:
    """How many utterances were tested, of those that the corpus has."""
    there = group.header.utterances
    return f"{result.utterances} of {plural(there, 'utterance')}" if there else plural(result.utterances, "utterance")


def _spread(value: float, deviation: float | None) -> str:
    return f"{100 * value:.1f}" + (f" ± {100 * deviation:.1f}" if deviation is not None else "") + " %"


WHOLE_PROTOCOL = "The published code's protocol, which validates on the test fold and trains on every other speaker,"
"""What adds to the scores where more than the epoch differs."""


def _sentences(report: Report, first: Experiment) -> Iterator[str]:
    """How the main model compares, a sentence each."""
    group, result = first.main or (None, None)
    if group is None or result is None:
        return
    rows = [row for row in first.rows if row.versus]
    found = [row.versus for row in rows if row.versus]
    apart = [one for one in found if one.ua_corrected is not None and one.ua_corrected <= 0.05]
    if rows:
        yield (
            f"{len(apart)} of {plural(len(rows), 'other model')} in its table can be told apart from it "
            f"(5 %, {_power(found)})."
        )
    for gap in report.gaps:
        if gap.honest is group:
            yield (
                f"{'Choosing the epoch on the test fold' if gap.alone else WHOLE_PROTOCOL} adds "
                f"{told(gap.versus.ua)}{': the leakage gap' if gap.alone else ''}."
            )
    printed = detail.printed(first)
    if printed and printed.ua is not None:
        points = 100 * result.scores["ua"].fold_mean - printed.ua
        where = "above" if points > 0 else "below"
        yield (
            f"The mean over folds is {abs(points):.1f} points {where} the paper’s {printed.ua:.2f} %, "
            "whose epoch was chosen on the test fold and which has no interval: no test is possible."
        )


def _power(found: Sequence[Versus]) -> str:
    """How many tests of UA there are, and what differences one alone could show."""
    tested = [one.ua for one in found if one.ua.p is not None]
    if not tested:
        return "no test is possible"
    said = f"{plural(len(tested), 'test')}, corrected together"
    known = sorted(one.detectable for one in tested if one.detectable is not None)
    if not known:
        return said
    sizes = " to ".join(dict.fromkeys(percent(size).text for size in (known[0], known[-1])))
    return f"{said}; one alone could show a difference of {sizes} points"


def _warnings(report: Report) -> list[str]:
    return [one.message for one in report.findings if one.severity in ("error", "warning")]


def _chapter(experiment: Experiment, pictures: Sequence[Picture]) -> Chapter:
    found = {
        "grid": detail.grid(experiment),
        "ablation": detail.ablations(experiment),
        "classes": detail.classes(experiment),
        "recalls": detail.recalls(experiment),
        "speakers": detail.by_speaker(experiment),
        "sources": quality.sources(experiment),
        "calibrations": quality.calibrations(experiment),
        "ways": detail.ways(experiment),
        "probes": detail.probes(experiment),
    }
    header = experiment.panel.header
    facts = [plural(len(header.fold_names), "fold"), f"preset {header.preset}", f"{len(header.labels)} classes"]
    return Chapter(
        experiment=experiment,
        title=words.capital(words.protocol(header.protocol))
        + (f", tested on {header.test_corpus}" if header.test_corpus else ""),
        facts=", ".join(facts),
        epoch=words.epoch(header.selection),
        tables={name: table for name, table in found.items() if table and table.rows},
        parts=detail.parts(experiment),
        pictures={picture.id.split("-")[0]: picture for picture in pictures},
    )


def _players(report: Report, folder: Path) -> Iterator[str]:
    """A link to the audio of each of the worst utterances, as seen from `folder`; "" where it cannot be reached.

    A browser takes `..` off the page's address as it is written, whatever links to folders are in it.
    """
    root = report.main[0].header.audio_root if report.main else ""
    for one in report.worst[:WORST]:
        file = Path(root) / one.file
        there = bool(root) and _of_corpus(one.file) and file.is_file()
        yield quote(os.path.relpath(file.absolute(), folder.absolute()).replace(os.sep, "/")) if there else ""


def _of_corpus(file: str) -> bool:
    """Whether a path, which a stranger may have written, is of audio below its corpus's folder."""
    path = PurePosixPath(file.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts and path.suffix.lower() in AUDIO


def _setup(report: Report) -> dict[str, Any]:
    """Settings, versions and commands of the main model, or of the first run where nothing is whole."""
    first = report.panels[0]
    header = (first.main or first.groups[0]).header
    versions: dict[str, set[str]] = {}
    for one in report.headers:
        for name, version in one.versions.items():
            versions.setdefault(name, set()).add(version)
    return {
        "name": (first.main or first.groups[0]).name,
        "toml": tomli_w.dumps(portable(dict(header.settings))),
        "versions": [(name, ", ".join(sorted(found))) for name, found in sorted(versions.items())],
        "devices": ", ".join(sorted({one.device for one in report.headers} - {""})),
        "facts": facts(report.headers),
        "commands": list(commands(report)),
    }


def _polygon(*points: tuple[float, float]) -> str:
    return f'<polygon points="{" ".join(f"{x},{y}" for x, y in points)}"/>'


MARKERS = {
    "o": '<circle cx="9" cy="6" r="4"/>',
    "s": '<rect x="5.5" y="2.5" width="7" height="7"/>',
    "^": _polygon((9, 1.5), (13.5, 10), (4.5, 10)),
    "v": _polygon((9, 10.5), (13.5, 2), (4.5, 2)),
    "D": _polygon((9, 1), (14, 6), (9, 11), (4, 6)),
    "P": '<path d="M7 2h4v2h2v4h-2v2H7V8H5V4h2z"/>',
    "X": '<path d="M6 1l3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3-3-3z"/>',
    "*": _polygon(
        (9, 0.5), (10.4, 4.4), (14.5, 4.4), (11.2, 7), (12.4, 11), (9, 8.6), (5.6, 11), (6.8, 7), (3.5, 4.4), (7.6, 4.4)
    ),
}
"""matplotlib's markers as shapes in a box of 18 by 12."""
