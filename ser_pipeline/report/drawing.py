"""Drawing with matplotlib in two forms: files for a paper, and SVG with the colours and fonts of the page.

Every figure is a row of small panels. A file shows them next to each other; the page wraps them, so that they can be
read on a phone. The colours `INK`, `SOFT` and `RULE` follow the page's light or dark mode.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import IO, Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ser_pipeline.entry import writing

INK, SOFT, RULE, PAPER = "#1b1f24", "#5b6571", "#d5dae0", "#fdfefe"
ACCENT = "#0b62a4"
MARK = "#d45d01"

CLASS_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#8c6d1f", "#7f7f7f")
"""Colours for any colour vision. Source: Okabe and Ito, Color Universal Design, 2008, except for the last two."""

CLASS_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

PAGE_COLOURS = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    RULE: "var(--rule)",
    ACCENT: "var(--accent)",
    MARK: "var(--mark)",
    PAPER: "var(--paper)",
    **{colour: f"var(--class-{place})" for place, colour in enumerate(CLASS_COLOURS)},
}
"""CSS variables that replace colours on the page, where dark mode may change them."""

STYLE: Any = {  # matplotlib's type of it lists three hundred names
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": RULE,
    "axes.labelcolor": SOFT,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "ser-pipeline",
    "image.composite_image": False,
}

PNG_DPI = 200

KINDS = {"svg": "Date", "pdf": "CreationDate", "png": "Software"}
"""Metadata that differs between times or machines and is left out, by the kind of file."""


@dataclass(frozen=True)
class Drawn:
    """A panel: a function that draws it, and tooltips."""

    draw: Callable[[Axes], None]
    hints: Mapping[str, str] = field(default_factory=dict)  # tooltips by the gid of an artist
    sound: str = ""  # file in the corpus's folder that can be played with it


@dataclass(frozen=True)
class Key:
    """A row of a legend."""

    label: str
    colour: str
    marker: str  # matplotlib's marker, "-" for a line, "--" for a dashed one


@dataclass(frozen=True)
class Picture:
    """A figure for the page."""

    id: str
    title: str
    caption: str
    alt: str
    panels: tuple[str, ...]  # SVG elements
    keys: tuple[Key, ...]
    width: int  # best width of a panel in pixels
    files: tuple[str, ...]  # names of files in `figures/`
    sounds: tuple[str, ...] = ()  # file in the corpus's folder for each panel, or ""


@dataclass(frozen=True)
class Plan:
    """A figure before it is drawn."""

    id: str
    title: str
    caption: str
    alt: str
    panels: Sequence[Drawn]
    size: tuple[float, float] = (3.2, 2.7)  # size of a panel in inches
    keys: tuple[Key, ...] = ()
    columns: int = 4  # side by side in a file
    alike: bool = False  # whether all panels have the same axes, so that the first one's layout is that of all


def render(plan: Plan, folder: Path) -> Picture:
    """Draw `plan` for the page, and into `folder` as SVG, PDF and PNG."""
    with _style():
        place = _layout(plan)
        panels = tuple(_panel(panel, plan, number, place) for number, panel in enumerate(plan.panels))
        names = tuple(_save(plan, folder, place))
    sounds = tuple(panel.sound for panel in plan.panels)
    width = round(plan.size[0] * 100)
    return Picture(plan.id, plan.title, plan.caption, plan.alt, panels, plan.keys, width, names, sounds)


def clean(svg: str, prefix: str, hints: Mapping[str, str]) -> str:
    """Convert an SVG file of matplotlib to an element of the page.

    Args:
        svg: text of the file.
        prefix: prefix of every id, which makes ids unique on the page.
        hints: tooltips by gid.
    """
    body = svg[svg.index("<svg") :].strip()
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", body))
    for gid, words in hints.items():
        body = body.replace(f'<g id="{gid}">', f"<g><title>{escape(words)}</title>")
    body = re.sub(r' id="([^"]*)"', lambda match: f' id="{prefix}-{match[1]}"' if match[1] in used else "", body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", body)
    for colour, variable in PAGE_COLOURS.items():
        body = body.replace(colour, variable)
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", body)
    body = re.sub(r"font: (?:bold|700) ([\d.]+px) [^;\"]*", r"font-weight: 600; font-size: \1", body)
    head = re.sub(r' (width|height|xmlns:xlink|version)="[^"]*"', "", body[: body.index(">")])
    return f'{head} aria-hidden="true" focusable="false"{body[body.index(">") :]}'


def _layout(plan: Plan) -> Bbox:
    """The position of the axes in every panel, as fractions of it, as large as the labels allow."""
    boxes = []
    for panel in plan.panels[:1] if plan.alike else plan.panels:
        figure = Figure(figsize=plan.size, layout="constrained")
        axes = figure.add_subplot()
        panel.draw(axes)
        engine = figure.get_layout_engine()
        assert engine is not None
        engine.execute(figure)
        boxes.append(axes.get_position(original=True))
    corners = [max(box.x0 for box in boxes), max(box.y0 for box in boxes)]
    corners += [min(box.x1 for box in boxes), min(box.y1 for box in boxes)]
    return Bbox.from_extents(*corners)


def _panel(panel: Drawn, plan: Plan, number: int, place: Bbox) -> str:
    """A panel as an element of the page.

    Args:
        panel: what is drawn.
        plan: that it is of.
        number: of the panel.
        place: of its axes.
    """
    figure = Figure(figsize=plan.size)
    panel.draw(figure.add_axes(place.bounds))
    text = io.StringIO()
    _write(figure, text, "svg")
    return clean(text.getvalue(), f"{plan.id}-{number}", panel.hints)


def _save(plan: Plan, folder: Path, place: Bbox) -> Iterator[str]:
    """Draw the panels side by side, on white, into every kind of file.

    Args:
        plan: of the figure.
        folder: of the files.
        place: of the axes in each panel.
    """
    columns = min(plan.columns, len(plan.panels))
    rows = -(-len(plan.panels) // columns)
    legend = 0.35 if plan.keys else 0.0
    width, height = plan.size[0] * columns, plan.size[1] * rows + legend
    figure = Figure(figsize=(width, height), facecolor="white")
    for number, panel in enumerate(plan.panels):
        row, column = divmod(number, columns)
        left, low = (column + place.x0) * plan.size[0], legend + (rows - 1 - row + place.y0) * plan.size[1]
        bounds = (left / width, low / height, place.width * plan.size[0] / width, place.height * plan.size[1] / height)
        panel.draw(figure.add_axes(bounds))
    if plan.keys:
        handles = [_handle(key) for key in plan.keys]
        figure.legend(handles=handles, loc="lower center", ncols=min(len(handles), 4 * columns))
    for kind in KINDS:
        name = f"{plan.id}.{kind}"
        with writing(folder / name) as file:
            _write(figure, file, kind)
        yield name


def _write(figure: Figure, file: Path | IO[str], kind: str) -> None:
    """Draw `figure` to `file` once; `savefig` would draw it twice to find the layout.

    Args:
        figure: with its axes in their places.
        file: where it is written to; of SVG also text in memory.
        kind: of `KINDS`.
    """
    figure.set_dpi(PNG_DPI)  # the previous canvas has set its own
    canvas = {"svg": FigureCanvasSVG, "pdf": FigureCanvasPdf, "png": FigureCanvasAgg}[kind](figure)
    getattr(canvas, f"print_{kind}")(file, metadata={KINDS[kind]: None})


def _handle(key: Key) -> Any:
    from matplotlib.lines import Line2D

    line = key.marker in ("-", "--")
    style: dict[str, Any] = {"linestyle": key.marker} if line else {"linestyle": "none", "marker": key.marker}
    return Line2D([], [], color=key.colour, label=key.label, markersize=5, **style)


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context(STYLE):
        yield
