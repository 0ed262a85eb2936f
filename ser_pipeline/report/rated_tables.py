"""Tables of scores against the raters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ser_pipeline.evaluation.intervals import Interval
from ser_pipeline.evaluation.rated import RATED, RatedScore
from ser_pipeline.report.rated import RatedPanel, RatedRow
from ser_pipeline.report.tables import (
    ABSENT,
    CORRECTED,
    DASH,
    DIFFERENCE,
    FOLDS,
    MINUS,
    POOLED,
    TEST,
    Cell,
    Column,
    Table,
    chance,
    count,
    luck,
    once,
    select,
    tests,
    text,
)
from ser_pipeline.text import plural

NOTES = {
    "votes": "Compared with the raters' votes for the C classes, each utterance with equal weight: Jensen-Shannon and "
    "Kullback-Leibler divergence (0: equal to the raters' distribution), accuracy of the most probable class, and "
    "macro F1 of the classes whose share is over 1 / C. ",
    "vad": "Compared with the raters' means, on the corpus's scale: concordance (CCC) and correlation (at best 1), and "
    "mean absolute error. Slope: how much the raters' value rises with the predicted one; below 1 the predictions are "
    "too far apart, above 1 too close together. ",
}
"""Explanation of the scores in the tables of each kind."""

CONSTANT = "Constant is the score of always predicting the mean of all test utterances. "
"""Explanation of the column of constant predictions."""


AGAINST, SLOPE = "Against the main model, ", "Slope"
"""Start of some column heads, and one head."""


def _columns(name: str, score: RatedScore) -> Iterator[Column]:
    """The columns of a score; there is no correlation with a constant."""
    how = f"leave-one-out jackknife over the test sets of single models, Student's t, on {score.scale.words}."
    yield Column("folds", group=score.words, hint=FOLDS)
    yield Column("pooled", group=score.words, hint=POOLED)
    yield Column("95 % interval", group=score.words, hint=f"Of the pooled score: {how}")
    if name != "pearson":
        yield Column("constant", group=score.words, hint=CONSTANT.strip())


def tables(panel: RatedPanel) -> list[Table]:
    """Two tables, a row for each model and predicted thing: the first score with its tests, and the other scores."""
    whole, lead = _table(panel), _lead(panel)
    own = select(whole, lambda column: column.title != SLOPE and column.group in ("", lead, AGAINST + lead))
    rest = select(whole, lambda column: column.title != "Seeds" and column.group not in (lead, AGAINST + lead))
    rest = replace(rest, id=f"{rest.id}-others", caption=f"{rest.caption}, other scores", note="")
    return [own, once(rest, ("Output", "constant"))]


def _lead(panel: RatedPanel) -> str:
    """Name of the first score of a panel."""
    return next(iter(RATED[panel.kind].values())).words


def _table(panel: RatedPanel) -> Table:
    """The table with all columns."""
    scores = RATED[panel.kind]
    columns = [Column("Model", number=False), Column("Output", number=False), Column("Seeds")]
    for name, score in scores.items():
        columns += _columns(name, score)
    columns += [Column(SLOPE)] if panel.kind == "vad" else []
    hints = {"difference": "", "95 % interval": DIFFERENCE, "p": f"{TEST} {CORRECTED}"}
    columns += [Column(head, group=AGAINST + _lead(panel), hint=hint) for head, hint in hints.items()]
    found = [measure.interval for row in panel.rows for measure in row.measures.values()]
    several = [row.versus.difference.p for row in panel.rows if row.versus]
    tested = tests(several, detectable=False) if several else ""
    note = (NOTES[panel.kind] + _undecided(panel) + CONSTANT + tested).rstrip() + luck(found)
    table = Table(panel.id, panel.title, tuple(columns), tuple(_cells(row) for row in panel.rows), (), note)
    return table if several else select(table, lambda column: not column.group.startswith(AGAINST))


def _undecided(panel: RatedPanel) -> str:
    """Note on test turns without a class, if there are any."""
    several, row = plural(panel.rows[0].undecided, "turn"), panel.rows[0]
    but = "all scores but the accuracy" if panel.kind == "votes" else "all scores"
    return f"{several} of {row.utterances} have no class and count for {but}. " if row.undecided else ""


def brief(panel: RatedPanel) -> Table:
    """The table with only the first score, for a terminal."""
    kept = ("", _lead(panel))
    return select(_table(panel), lambda column: column.group in kept and column.title not in ("Seeds", "folds"))


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
    """A number with three decimals."""
    return ABSENT if np.isnan(value) else Cell(f"{round(value, 3) + 0.0:.3f}".replace("-", MINUS), value, tone)


def _range(interval: Interval) -> Cell:
    if np.isnan(interval.low):
        return Cell(DASH, tone="muted", hint=f"No interval: {interval.why}.")
    return Cell(f"{_number(interval.low).text} to {_number(interval.high).text}", interval.low)
