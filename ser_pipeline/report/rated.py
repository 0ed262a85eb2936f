"""Scores against the raters for models of votes, or of arousal, valence and dominance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ser_pipeline.arrays import Floats, Ints
from ser_pipeline.corpora.ratings import DIMENSIONS
from ser_pipeline.evaluation.attributes import sums_of
from ser_pipeline.evaluation.intervals import Difference, Interval
from ser_pipeline.evaluation.metrics import probabilities
from ser_pipeline.evaluation.rated import (
    RATED,
    RatedScore,
    Reading,
    by_cluster,
    rated_difference,
    reading,
    vote_sums,
)
from ser_pipeline.evaluation.significance import holm
from ser_pipeline.report import words
from ser_pipeline.report.groups import Group, Panel, clusters, shared
from ser_pipeline.runs.records import Run
from ser_pipeline.text import capital


@dataclass(frozen=True)
class Measure:
    """A score of a group."""

    fold_mean: float  # mean over folds, each the mean over seeds
    fold_deviation: float | None  # over folds; None with one fold
    pooled: float  # over all utterances, the mean over seeds
    seed_deviation: float | None  # over seeds; None with one seed
    interval: Interval  # of the pooled score, by the jackknife over clusters
    constant: float  # pooled score if the mean of all test utterances is predicted


@dataclass(frozen=True)
class RatedVersus:
    """A model minus the main one, in the first score of each table."""

    difference: Difference
    corrected: float | None = None  # p after Holm's correction for all tests of the table


@dataclass(frozen=True)
class RatedRow:
    """A group's scores in one thing: the votes, or one of the attributes."""

    model: str
    what: str  # "votes", or an attribute
    seeds: tuple[int, ...]
    utterances: int
    undecided: int  # turns among them without a class, which count for all scores of votes but the accuracy
    measures: dict[str, Measure]  # by the names of `RATED`
    slope: float | None  # of attributes: slope of the raters' value over the predicted one, seeds pooled
    versus: RatedVersus | None  # None: it is the main model, or they share no seeds or utterances


@dataclass(frozen=True)
class RatedPanel:
    """An experiment of models of one kind."""

    id: str
    title: str
    kind: str  # a key of `RATED`
    panel: Panel
    rows: tuple[RatedRow, ...]


def rated_panels(found: Sequence[Panel], speaker: Ints) -> tuple[RatedPanel, ...]:
    """All experiments whose models predict votes or attributes and that have a whole run.

    Args:
        found: the experiments of all runs.
        speaker: number of each utterance's speaker, by row of the utterance table.
    """
    made: list[RatedPanel] = []
    for panel in (replace(one, groups=tuple(map(_by_raters, one.groups))) for one in found):
        target = panel.header.target
        kinds = [kind for kind, there in (("votes", target.votes), ("vad", target.attributes)) if there]
        for kind in kinds if panel.whole else ():
            told = "the raters' votes" if kind == "votes" else ", ".join(DIMENSIONS)
            title = f"{words.experiment(panel.header)}: {told}"
            name = f"rated-{kind}-{len(made) + 1}"
            made.append(RatedPanel(name, capital(title), kind, panel, tuple(_rows(panel, kind, speaker))))
    return tuple(made)


def _by_raters(group: Group) -> Group:
    """The group including the turns without a class, which its folds tested against the raters."""
    runs = [replace(run, folds=tuple(fold.by_raters for fold in run.folds)) for run in group.runs]
    return replace(group, runs=tuple(runs))


def parts(group: Group, kind: str) -> dict[str, Floats]:
    """What each utterance adds to the sums of each predicted thing, (R, U, M), in the order of `group.rows`.

    Args:
        group: with whole runs.
        kind: a key of `RATED`.
    """
    if kind == "votes":
        right = group.predictions == group.target
        return {"votes": vote_sums(_shares(group), probabilities(group.log_prob), right, group.target >= 0)}
    pairs = np.stack([ordered(run, "attributes") for run in group.runs])  # (R, U, 2, 3)
    sums = sums_of(pairs[:, :, 0], pairs[:, :, 1])
    return {name: sums[:, :, place] for place, name in enumerate(DIMENSIONS)}


def ordered(run: Run, name: str) -> Floats:
    """Votes (U, C) or attributes (U, 2, 3) of all folds of a run, in the order of the utterance table's rows."""
    arrays = [getattr(fold, name) for fold in run.folds]
    every = np.concatenate([x.swapaxes(0, 1) if name == "attributes" else x for x in arrays])
    return np.asarray(every[np.argsort(run.concatenated("rows"), kind="stable")])


def _shares(group: Group) -> Floats:
    """The raters' distribution over the classes (U, C); it is the same for all seeds."""
    weights = ordered(group.runs[0], "votes")
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def _constant(group: Group, kind: str) -> dict[str, Floats]:
    """`parts` (1, U, M) if the mean over all utterances is predicted for each of them."""
    if kind == "votes":
        wanted = _shares(group)
        told = np.broadcast_to(wanted.mean(0), wanted.shape)
        right = told.argmax(-1) == group.target
        return {"votes": vote_sums(wanted, told[None], right[None], group.target >= 0)}
    true = ordered(group.runs[0], "attributes")[:, 0]
    sums = sums_of(true, np.broadcast_to(true.mean(0), true.shape))[None]
    return {name: sums[:, :, place] for place, name in enumerate(DIMENSIONS)}


def _rows(panel: Panel, kind: str, speaker: Ints) -> Iterator[RatedRow]:
    """A row for each model and thing that it predicts; the tests of a table are corrected together."""
    found = [row for group in panel.whole for row in _of_group(group, panel, kind, speaker)]
    corrected = iter(holm([row.versus.difference.p for row in found if row.versus]))
    for row in found:
        yield replace(row, versus=replace(row.versus, corrected=next(corrected))) if row.versus else row


def _of_group(group: Group, panel: Panel, kind: str, speaker: Ints) -> Iterator[RatedRow]:
    apart, usual = clusters(speaker, group), _constant(group, kind)
    versus = _versus(group, panel, kind, speaker)
    cluster = np.unique(apart.of[group.rows], return_inverse=True)[1]
    for what, one in parts(group, kind).items():
        measures = {
            name: _measure(one, cluster, group, score, usual[what], apart.crossed)
            for name, score in RATED[kind].items()
        }
        slope = None if kind == "votes" else _slope(one.sum((0, 1)))
        sizes = len(group.rows), int((group.target < 0).sum())
        yield RatedRow(group.name, what, group.seeds, *sizes, measures, slope, versus.get(what))


def _measure(one: Floats, cluster: Ints, group: Group, score: RatedScore, usual: Floats, crossed: bool) -> Measure:
    """A score computed from what the utterances add (R, U, M).

    Args:
        one: what they add.
        cluster: of each utterance (U,).
        group: they are of its folds.
        score: an entry of `RATED`.
        usual: what they add with the constant prediction (1, U, M).
        crossed: whether one model per seed is tested on every cluster.
    """
    each = score.score(by_cluster(one, group.fold)).mean(0)  # by fold
    found: Reading = reading(by_cluster(one, cluster), score, crossed=crossed)
    return Measure(
        fold_mean=float(np.nanmean(each)) if np.isfinite(each).any() else float("nan"),
        fold_deviation=float(np.nanstd(each, ddof=1)) if np.isfinite(each).sum() > 1 else None,
        pooled=found.value,
        seed_deviation=found.seed_deviation,
        interval=found.interval,
        constant=float(score.score(usual.sum(1))[0]),
    )


def _slope(sums: Floats) -> float:
    """Slope of the regression of the raters' value on the predicted one."""
    count, true, told, _, others, products, _ = sums
    spread = others / count - (told / count) ** 2
    return float((products / count - true * told / count**2) / spread) if spread > 0 else float("nan")


def _versus(group: Group, panel: Panel, kind: str, speaker: Ints) -> dict[str, RatedVersus]:
    """The group minus the main one, over their common seeds and utterances.

    Empty for the main one, and if they have nothing in common.

    Args:
        group: with whole runs.
        panel: its experiment.
        kind: a key of `RATED`.
        speaker: number of each utterance's speaker, by row of the utterance table.
    """
    main = panel.main
    both = shared(group, main) if main and group is not main else None
    if both is None:
        return {}
    *pair, mask = both
    apart = clusters(speaker, *pair)
    sides: list[dict[str, Floats]] = []
    for each in pair:
        kept = mask[each.rows]
        cluster = np.unique(apart.of[each.rows[kept]], return_inverse=True)[1]
        sides.append({what: by_cluster(added[:, kept], cluster) for what, added in parts(each, kind).items()})
    first = next(iter(RATED[kind].values()))
    one, other = sides
    return {what: RatedVersus(rated_difference(one[what], other[what], first, crossed=apart.crossed)) for what in one}
