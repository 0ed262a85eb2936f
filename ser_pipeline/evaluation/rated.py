"""Scores against raters, of sums over utterances: value, interval and paired test, by the jackknife over clusters.

Each utterance adds a row of numbers; a score is a function of the sums, so that what a cluster adds can be left out.
Intervals are on a scale on which a score's spread hardly depends on it: Fisher's z for correlations and CCC, the
logarithm for distances and errors, the logit for shares; differences are as they are.

Shapes: R seeds, U utterances, K clusters, C classes, M numbers an utterance.

Sources: Lin, Biometrics 54, 1998 (z of CCC); Lin, IEEE Transactions on Information Theory 37, 1991 (Jensen-Shannon);
Chou et al., EMO-SUPERB, SLT 2024 (classes over 1 / C); of the jackknife, `jackknife.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats, Ints
from ser_pipeline.evaluation import attributes
from ser_pipeline.evaluation.intervals import Difference, Interval, difference_of, has_luck, no_interval, too_few
from ser_pipeline.evaluation.jackknife import LEVEL, variation
from ser_pipeline.evaluation.metrics import TINY

HEAD = 5
"""Numbers before those of classes in what an utterance adds under votes: 1, both distances, right or not, classed."""

EDGE = 1e-9
"""Distance from the ends of a scale at which a score has no finite place on the scale of its interval."""


@dataclass(frozen=True)
class Scale:
    """The scale of an interval: there and back, where a score must lie, and what it is called."""

    there: Callable[[Floats], Floats]
    back: Callable[[Floats], Floats]
    low: float
    high: float
    words: str


def _logit(share: Floats) -> Floats:
    return np.asarray(np.log(share / (1 - share)))


def _logistic(value: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-value)))


FISHER = Scale(np.arctanh, np.tanh, -1.0, 1.0, "Fisher's z")
LOGARITHM = Scale(np.log, np.exp, 0.0, np.inf, "the logarithm")
LOGIT = Scale(_logit, _logistic, 0.0, 1.0, "the logit")


@dataclass(frozen=True)
class RatedScore:
    """A row of the tables of scores below."""

    words: str
    score: Callable[[Floats], Floats]  # of sums (..., M)
    scale: Scale
    rises: bool  # whether more is better


@dataclass(frozen=True)
class Reading:
    """A score over all utterances."""

    value: float  # the mean over seeds
    seed_deviation: float | None  # over seeds; None of one seed
    interval: Interval


ATTRIBUTES: Mapping[str, RatedScore] = {
    "ccc": RatedScore("CCC", attributes.ccc, FISHER, rises=True),
    "pearson": RatedScore("Pearson", attributes.pearson, FISHER, rises=True),
    "mae": RatedScore("MAE", attributes.mae, LOGARITHM, rises=False),
}
"""Scores of an attribute, of the sums of `attributes.sums_of`."""


def vote_sums(
    wanted: Floats, told: Floats, right: NDArray[np.bool_], classed: NDArray[np.bool_] | bool = True
) -> Floats:
    """What each utterance adds under votes, (..., U, 5 + 3 C): as `HEAD` has it, and the cells of classes.

    Args:
        wanted: the raters' shares (U, C).
        told: the model's probabilities (..., U, C).
        right: whether the likeliest class is the label (..., U).
        classed: whether there is a label (..., U): turns without one count for all but the accuracy.
    """
    wanted = np.broadcast_to(wanted, told.shape)
    least = 1 / wanted.shape[-1]
    both, there, said = (wanted > least) & (told > least), wanted > least, told > least
    distances = jensen_shannon(wanted, told), kullback(wanted, told)
    head = np.stack([np.ones(right.shape), *distances, right, np.broadcast_to(classed, right.shape)], axis=-1)
    return np.concatenate([head, both, there, said], axis=-1).astype(np.float64)


def kullback(wanted: Floats, told: Floats) -> Floats:
    """Kullback-Leibler divergence of `told` (..., C) from `wanted` (..., C), in bits, (...)."""
    ratio = np.where(wanted > 0, wanted, 1.0) / np.maximum(told, TINY)
    return np.asarray(np.where(wanted > 0, wanted * np.log2(ratio), 0.0).sum(-1))


def jensen_shannon(wanted: Floats, told: Floats) -> Floats:
    """Jensen-Shannon divergence of `wanted` and `told` (..., C), 0 to 1 bit, (...).

    >>> jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])).item()
    1.0
    """
    middle = (wanted + told) / 2
    return (kullback(wanted, middle) + kullback(told, middle)) / 2


def _share(place: int, of: int = 0) -> Callable[[Floats], Floats]:
    return lambda sums: np.asarray(sums[..., place] / np.maximum(sums[..., of], 1))


def _macro_f1(sums: Floats) -> Floats:
    """Mean F1 of the classes that raters or the model give over 1 / C to some utterance."""
    both, there, said = np.split(sums[..., HEAD:], 3, axis=-1)
    known = there + said > 0
    each = np.where(known, 2 * both / np.where(known, there + said, 1), 0.0)
    return np.asarray(each.sum(-1) / np.maximum(known.sum(-1), 1))


VOTES: Mapping[str, RatedScore] = {
    "js": RatedScore("Jensen-Shannon, bits", _share(1), LOGARITHM, rises=False),
    "kl": RatedScore("KL, bits", _share(2), LOGARITHM, rises=False),
    "accuracy": RatedScore("accuracy of the top class", _share(3, of=4), LOGIT, rises=True),
    "f1": RatedScore("macro F1 over 1 / C", _macro_f1, LOGIT, rises=True),
}
"""Scores of a distribution, of the sums of `vote_sums`."""

RATED: Mapping[str, Mapping[str, RatedScore]] = {"votes": VOTES, "vad": ATTRIBUTES}
"""What is told -> its scores, the first of which models are compared by."""


def by_cluster(parts: Floats, cluster: Ints) -> Floats:
    """Sums (R, K, M) of what the utterances of each cluster add (R, U, M); `cluster` (U,) is 0 to K - 1."""
    found = np.zeros((int(cluster.max()) + 1, *parts.shape[:1], parts.shape[-1]))
    np.add.at(found, cluster, parts.swapaxes(0, 1))
    return found.swapaxes(0, 1)


def reading(sums: Floats, score: RatedScore, *, crossed: bool = False, level: float = LEVEL) -> Reading:
    """A score over all clusters, with its interval.

    Args:
        sums: of each seed and cluster (R, K, M).
        score: a row of `ATTRIBUTES` or `VOTES`.
        crossed: one model of each seed tests every cluster.
        level: of the interval.
    """
    seeds, clusters = sums.shape[:2]
    each = score.score(sums.sum(1))
    value, deviation = float(each.mean()), float(each.std(ddof=1)) if seeds > 1 else None
    training = has_luck(sums, crossed)

    def none(why: str) -> Reading:
        return Reading(value, deviation, no_interval(clusters, level, why, training))

    if why := too_few(clusters):
        return none(why)
    left, scale = _left_out(sums, score), score.scale
    inside = (left > scale.low + EDGE) & (left < scale.high - EDGE)
    if not inside.all() or not scale.low + EDGE < value < scale.high - EDGE:
        return none("the score is at an end of its scale, or cannot be told, without one of the clusters")
    spread = variation(left, crossed=crossed, transform=scale.there)
    if not spread.known:
        return none("no cluster differs from another, which tells nothing of how clusters vary")
    middle, half = float(scale.there(np.asarray(value))), float(spread.reach((1 - level) / 2))
    low, high = (float(scale.back(np.asarray(end))) for end in (middle - half, middle + half))
    return Reading(value, deviation, Interval(low, high, level, clusters, training))


def rated_difference(
    one: Floats, other: Floats, score: RatedScore, *, crossed: bool = False, level: float = LEVEL
) -> Difference:
    """`one` minus `other` over the same clusters, with its interval and two-sided test.

    Args:
        one: sums of each seed and cluster (R, K, M).
        other: those of the model that is subtracted.
        score: a row of `ATTRIBUTES` or `VOTES`.
        crossed: one model of each seed tests every cluster.
        level: of the interval.
    """
    clusters, training = one.shape[1], has_luck(one, crossed)
    value = float((score.score(one.sum(1)) - score.score(other.sum(1))).mean())

    def none(why: str) -> Difference:
        return Difference(value, no_interval(clusters, level, why, training), None, None)

    if why := too_few(clusters):
        return none(why)
    apart = _left_out(one, score) - _left_out(other, score)
    if not np.isfinite(apart).all():
        return none("the score cannot be told without one of the clusters")
    spread = variation(apart, crossed=crossed)
    if not spread.known:
        return none("every cluster differs by the same amount, which tells nothing of how clusters vary")
    return difference_of(value, spread, clusters, training, level)


def _left_out(sums: Floats, score: RatedScore) -> Floats:
    """The score of each seed without each cluster, (R, K)."""
    return score.score(sums.sum(1, keepdims=True) - sums)
