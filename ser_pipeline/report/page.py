"""The page: one HTML file with its style, its script and its figures inside."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
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
from ser_pipeline.report import compared, matrix, profiled, rated_tables, words
from ser_pipeline.report import experiment_tables as detail
from ser_pipeline.report import quality_tables as quality
from ser_pipeline.report import summary_tables as overview
from ser_pipeline.report.class_tables import OfModel, of_models
from ser_pipeline.report.commands import commands
from ser_pipeline.report.contents import WORST, Experiment, Report
from ser_pipeline.report.drawing import PAGE_COLOURS, Key, Picture
from ser_pipeline.report.headline import signed_by, summary
from ser_pipeline.report.latex import latex_table
from ser_pipeline.report.origins import facts
from ser_pipeline.report.results_table import results
from ser_pipeline.report.tables import MINUS, Cell, Column, Table
from ser_pipeline.text import capital, plural, portable

SPAN = (130, 18)
"""Width and height of an interval drawn in a table, in pixels."""


@dataclass(frozen=True)
class Chapter:
    """An experiment as the page shows it."""

    experiment: Experiment
    title: str
    facts: str
    epoch: str  # how the tested one was chosen
    tables: Mapping[str, Table]
    models: Sequence[OfModel]
    parts: Sequence[Table]
    pictures: Mapping[str, Picture]


def to_html(report: Report, pictures: Mapping[str, Sequence[Picture]], folder: Path) -> str:
    """The page of `report`, to be written into `folder`.

    Args:
        report: its content.
        pictures: figures of each experiment by its id.
        folder: where the page will be, for links to audio.
    """
    players = [_sound(report, one.file, folder) for one in report.worst[:WORST]]
    return render(
        "page.html",
        report=report,
        summary=summary(report),
        results=results(report),
        crossed=[matrix.table(one) for one in matrix.matrices(report)],
        heat=pictures.get(matrix.PICTURES, ()),
        comparison=compared.comparison(report),
        chapters=[
            _chapter(one, title, pictures.get(one.id, ()))
            for one, title in zip(report.experiments, titles(report.experiments), strict=True)
        ],
        rated=[(rated_tables.tables(one), pictures.get(one.id, ())) for one in report.rated],
        literature=overview.literature(report),
        worst=overview.worst(report),
        players=players if any(players) else [],
        sound=lambda file: _sound(report, file, folder),
        more_worst=max(0, len(report.worst) - WORST),
        runs=overview.runs(report),
        profiled=profiled.tables(report),
        setup=_setup(report),
        corpus=CORPORA.get(report.choice.corpus or ""),
    )


def render(template: str, **content: Any) -> str:
    """Fill a template of this folder; no line breaks between a number and its percent sign."""
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", _environment().get_template(template).render(content))


def _environment() -> jinja2.Environment:
    """Environment for the templates of this folder, with their filters and globals."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("ser_pipeline.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {
        "span": draw_span,
        "plural": plural,
        "key": draw_key,
        "whole": _whole,
        "latex": latex_table,
        "unbroken": unbroken,
    }
    made.globals |= {"css": Markup(_asset("page.css")), "js": Markup(_asset("page.js"))}
    return made


def draw_span(cell: Cell, column: Column) -> Markup:
    """An interval as a line with a dot, on the scale of its column; the scale's mark is a line, or an arrow to it."""
    if cell.span is None or column.scale is None:
        return Markup("")
    low, high, mark = column.scale
    width, height = SPAN
    x = [6 + (width - 12) * (value - low) / (high - low) for value in (*cell.span, mark)]
    middle = height / 2
    line = f'<line class="zero" x1="{x[3]:.1f}" x2="{x[3]:.1f}" y1="0" y2="{height}"/>'
    return Markup(
        f'<svg class="span" width="{width}" height="{height}" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f"{line if low <= mark <= high else ARROWS[mark > high]}"
        f'<line class="range" x1="{x[0]:.1f}" x2="{x[2]:.1f}" y1="{middle}" y2="{middle}"/>'
        f'<circle cx="{x[1]:.1f}" cy="{middle}" r="3.5"/></svg>'
    )


ARROWS = ('<path class="beyond" d="M5 6L0 9L5 12Z"/>', '<path class="beyond" d="M125 6L130 9L125 12Z"/>')
"""Arrows to a mark beyond the axis, to the left and to the right."""


def draw_key(key: Key) -> Markup:
    """The symbol of a legend's entry."""
    colour = PAGE_COLOURS.get(key.colour, key.colour)
    if key.marker in ("-", "--"):
        dash = ' stroke-dasharray="4 3"' if key.marker == "--" else ""
        shape = f'<path d="M0 6H18" stroke="{colour}" stroke-width="2"{dash}/>'
    else:
        shape = f'<g fill="{colour}">{MARKERS.get(key.marker, MARKERS["o"])}</g>'
    return Markup(f'<svg width="18" height="12" viewBox="0 0 18 12" aria-hidden="true">{shape}</svg>')


def unbroken(command: str) -> Markup:
    """A command whose lines break at blanks and after commas alone, not at the hyphens of options and names."""
    words = (re.findall(r"[^,]+,*|,+", word) for word in command.split(" "))
    return Markup(" ").join(Markup("").join(Markup("<i>{}</i>").format(piece) for piece in word) for word in words)


def _whole(share: float) -> str:
    """A share in percent without decimals, for the end of an axis."""
    return f"{100 * share:.0f}".replace("-", MINUS)


def _asset(name: str) -> str:
    return (resources.files("ser_pipeline.report") / name).read_text(encoding="utf-8")


def titles(experiments: Sequence[Experiment]) -> list[str]:
    """What each experiment is called: its protocol, with what tells it from others of that protocol."""
    headers = [one.panel.header for one in experiments]
    names = [capital(words.protocol(header.protocol)) for header in headers]
    names = [
        name + (f", tested on {header.test_corpus}" if header.test_corpus else "")
        for name, header in zip(names, headers, strict=True)
    ]
    found = []
    for name, header in zip(names, headers, strict=True):
        rivals = [other for other, called in zip(headers, names, strict=True) if called == name]
        parts = [
            f"target {header.target.name}" if len({other.target.name for other in rivals}) > 1 else "",
            f"preset {header.preset}" if len({other.preset for other in rivals}) > 1 else "",
            plural(len(header.labels), "class") if len({other.labels for other in rivals}) > 1 else "",
        ]
        found.append(", ".join(filter(None, (name, *parts))))
    return found


def _chapter(experiment: Experiment, title: str, pictures: Sequence[Picture]) -> Chapter:
    """An experiment as the page shows it.

    Args:
        experiment: what it is.
        title: what it is called.
        pictures: of it.
    """
    found = {
        "grid": detail.grid(experiment),
        "ablation": detail.ablations(experiment),
        "recalls": detail.recalls(experiment),
        "speakers": detail.by_speaker(experiment),
        "sources": quality.sources(experiment),
        "calibrations": quality.calibrations(experiment),
        "ways": detail.ways(experiment),
        "probes": detail.probes(experiment),
    }
    header = experiment.panel.header
    facts = [plural(len(header.fold_names), "fold"), f"preset {header.preset}", plural(len(header.labels), "class")]
    facts += [f"target {header.target.name}"] if header.target.name != "class" else []
    return Chapter(
        experiment=experiment,
        title=title,
        facts=", ".join(facts),
        epoch=words.epoch(header.selection),
        tables={name: table for name, table in found.items() if table and table.rows},
        models=list(of_models(experiment)),
        parts=detail.parts(experiment),
        pictures={picture.id.split("-")[0]: picture for picture in pictures},
    )


def _sound(report: Report, file: str, folder: Path) -> str:
    """A link to the audio of an utterance, relative to `folder`; "" if there is no such file.

    A browser resolves `..` in the page's address as text, so symbolic links are not resolved here either.

    Args:
        report: the audio is of its main model's corpus.
        file: path below the corpus's folder; with several corpora, it begins with the corpus's name.
        folder: where the page will be.
    """
    header, (corpus, _, rest) = report.main[0].header if report.main else None, file.partition("/")
    joined = header.audio_roots.get(corpus, "") if header else ""
    root, own = (joined, rest) if joined or header is None else (header.audio_root, file)
    there = Path(root) / own
    if not (root and own and _of_corpus(own) and there.is_file()):
        return ""
    return quote(os.path.relpath(there.absolute(), folder.absolute()).replace(os.sep, "/"))


def _of_corpus(file: str) -> bool:
    """Whether a path, which may come from an untrusted run, is an audio file below its corpus's folder."""
    path = PurePosixPath(file.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts and path.suffix.lower() in AUDIO


def _setup(report: Report) -> dict[str, Any]:
    """Settings, versions and commands of the main model, or of the first model if none has a whole run."""
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
        "signed": signed_by(report),
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
"""matplotlib's markers as SVG shapes in a box of 18 by 12."""
