"""Figures of the predicted attributes against the raters'."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ser_pipeline.arrays import Floats
from ser_pipeline.corpora.ratings import DIMENSIONS
from ser_pipeline.report.drawing import ACCENT, RULE, SOFT, Drawn, Plan
from ser_pipeline.report.rated import RatedPanel, ordered

POINTS = 2_000
"""A figure shows about this many utterances at most."""


SIZE = (2.9, 2.6)
"""Size of a panel in inches; a page of 1,000 pixels shows three side by side."""


def plans(panel: RatedPanel) -> list[Plan]:
    """Figures of the main model's first seed: predicted values against the raters', and the differences."""
    main = panel.panel.main
    if panel.kind != "vad" or main is None:
        return []
    pairs = ordered(main.runs[0], "attributes")[:: max(1, len(main.rows) // POINTS)]
    said = f"{main.name}, seed {main.seeds[0]}, one dot per utterance"
    scatter = [
        _dots(name, pairs[:, 1, place], pairs[:, 0, place], "predicted", "raters", diagonal=True)
        for place, name in enumerate(DIMENSIONS)
    ]
    left = [
        _dots(name, pairs[:, 1, place], pairs[:, 0, place] - pairs[:, 1, place], "predicted", "raters − predicted")
        for place, name in enumerate(DIMENSIONS)
    ]
    row = {one.what: one for one in panel.rows if one.model == main.name}
    alt = ", ".join(f"{name}: CCC {row[name].measures['ccc'].pooled:.2f}" for name in DIMENSIONS)
    return [
        Plan(f"scatter-{panel.id}", "Predicted and rated", f"{said}; on the line, both agree.", alt, scatter, SIZE),
        Plan(
            f"residual-{panel.id}",
            "Residuals",
            f"{said}; a trend is a systematic error.",
            alt,
            left,
            SIZE,
        ),
    ]


def _dots(title: str, x: Floats, y: Floats, across: str, up: str, diagonal: bool = False) -> Drawn:
    """Dots, with the line on which they would ideally lie.

    Args:
        title: of the panel.
        x: horizontal values (U,).
        y: vertical values (U,).
        across: label of the horizontal axis.
        up: label of the vertical axis.
        diagonal: whether the line is at y = x, otherwise at y = 0.
    """

    def draw(ax: Axes) -> None:
        every = np.concatenate([x, y]) if diagonal else x
        ends = [float(every.min()), float(every.max())]
        ax.plot(ends, ends if diagonal else [0, 0], color=SOFT, linewidth=0.8, linestyle="--")
        ax.scatter(x, y, s=7, c=ACCENT, linewidths=0, alpha=0.45)
        ax.set(xlabel=across, ylabel=up)
        ax.grid(color=RULE)
        ax.set_axisbelow(True)
        ax.set_title(title)

    return Drawn(draw)
