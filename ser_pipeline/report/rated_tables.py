"""Scores against raters as tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ser_pipeline.evaluation.intervals import Interval
from ser_pipeline.evaluation.rated import ATTRIBUTES, VOTES
from ser_pipeline.report.rated import RatedPanel, RatedRow
from ser_pipeline.report.tables import (
    ABSENT,
    DASH,
    MINUS,
    Cell,
    Column,
    Table,
    chance,
    count,
    luck,
    select,
    tests,
    text,
)

NOTES = {
    "votes": "Against the raters' votes for the classes, all as heavy: Jensen-Shannon and Kullback-Leibler divergence, "
    "0 being the raters' own distribution; how often the likeliest class is the label; macro F1 of the classes over "
    "1 / C. ",
    "vad": "Against the raters' means, on the corpus's scale: concordance (CCC) and correlation, 1 being the most, and "
    "mean absolute error. Slope: how much the raters' value rises with the predicted one; under 1 predictions are too "
    "far apart, over 1 too close. ",
}
"""What the tables of each kind say of their scores; the constant is the best prediction that is alike for all."""


HEADS = ("folds", "pooled", "95 % interval", "constant")
"""Columns of a score; no correlation with a constant can be told."""


def table(panel: RatedPanel) -> Table:
    """A row for each model and thing that it tells."""
    scores = VOTES if panel.kind == "votes" else ATTRIBUTES
    columns = [Column("Model", number=False), Column("Tells", number=False), Column("Seeds")]
    for name, score in scores.items():
        columns += [Column(head, group=score.words) for head in HEADS if head != "constant" or name != "pearson"]
    columns += [Column("Slope")] if panel.kind == "vad" else []
    lead = next(iter(scores.values())).words
    columns += [Column(head, group=f"Against the main model, {lead}") for head in ("difference", "95 % interval", "p")]
    found = [measure.interval for row in panel.rows for measure in row.measures.values()]
    note = NOTES[panel.kind] + tests([row.versus.difference.p for row in panel.rows if row.versus]) + luck(found)
    return Table(panel.id, panel.title, tuple(columns), tuple(_cells(row) for row in panel.rows), (), note)


def brief(panel: RatedPanel) -> Table:
    """The same with the first score alone, for a terminal."""
    lead = next(iter((VOTES if panel.kind == "votes" else ATTRIBUTES).values())).words
    return select(table(panel), lambda column: column.group in ("", lead) and column.title not in ("Seeds", "folds"))


def _cells(row: RatedRow) -> tuple[Cell, ...]:
    cells = [text(row.model, "strong"), text(row.what), count(len(row.seeds))]
    for name, measure in row.measures.items():
        spread = "" if measure.fold_deviation is None else f" ± {measure.fold_deviation:.3f}"
        cells += [
            replace(_number(measure.fold_mean), text=_number(measure.fold_mean).text + spread),
            _number(measure.pooled, "strong"),
            _range(measure.interval),
            *([_number(measure.constant, "muted")] if name != "pearson" else []),
        ]
    cells += [] if row.slope is None else [_number(row.slope)]
    if row.versus is None:
        return (*cells, ABSENT, ABSENT, ABSENT)
    found = row.versus.difference
    return (*cells, _number(found.value), _range(found.interval), chance(row.versus.corrected))


def _number(value: float, tone: str = "") -> Cell:
    """A number of three digits."""
    return ABSENT if np.isnan(value) else Cell(f"{round(value, 3) + 0.0:.3f}".replace("-", MINUS), value, tone)


def _range(interval: Interval) -> Cell:
    if np.isnan(interval.low):
        return Cell(DASH, tone="muted", hint=f"No interval: {interval.why}.")
    return Cell(f"{_number(interval.low).text} to {_number(interval.high).text}", interval.low)
