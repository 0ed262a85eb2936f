"""Scores against raters, with intervals and paired tests by the jackknife over clusters.

Each utterance adds a vector of numbers, and a score is a function of the sums, so that any cluster can be left out.
Intervals are computed on a scale on which a score's variance hardly depends on its value: Fisher's z for correlations
and CCC, the logarithm for divergences and errors, the logit for shares. Differences are not transformed.

Shapes: R seeds, U utterances, K clusters, C classes, M numbers per utterance.

Sources: Lin, Biometrics 54, 1998 (z of CCC); Lin, IEEE Transactions on Information Theory 37, 1991 (Jensen-Shannon);
Chou et al., EMO-SUPERB, SLT 2024 (classes over 1 / C); `jackknife.py` has the sources of the jackknife.
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
"""Numbers in a row of `vote_sums` before those of classes: 1, both divergences, correct or not, labelled or not."""

EDGE = 1e-9
"""Distance from the ends of a score's range within which the transformed score is not finite."""


@dataclass(frozen=True)
class Scale:
    """The transformation of an interval: its function and inverse, the range of the score, and its name."""

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
    """A score, as listed in the tables below."""

    words: str
    score: Callable[[Floats], Floats]  # maps sums (..., M) to the score (...)
    scale: Scale
    rises: bool  # whether higher is better


@dataclass(frozen=True)
class Reading:
    """A score over all utterances."""

    value: float  # mean over seeds
    seed_deviation: float | None  # standard deviation over seeds; None for one seed
    interval: Interval


ATTRIBUTES: Mapping[str, RatedScore] = {
    "ccc": RatedScore("CCC", attributes.ccc, FISHER, rises=True),
    "pearson": RatedScore("Pearson", attributes.pearson, FISHER, rises=True),
    "mae": RatedScore("MAE", attributes.mae, LOGARITHM, rises=False),
}
"""Scores of an attribute, from the sums of `attributes.sums_of`."""


def vote_sums(
    wanted: Floats, told: Floats, right: NDArray[np.bool_], classed: NDArray[np.bool_] | bool = True
) -> Floats:
    """Return each utterance's terms of the sums for votes, (..., U, 5 + 3 C).

    The first five are listed at `HEAD`. Then follow, for each class, whether its share is above 1 / C for both the
    raters and the model, for the raters, and for the model.

    Args:
        wanted: the raters' shares of votes (U, C).
        told: the model's probabilities (..., U, C).
        right: whether the likeliest class is the label (..., U).
        classed: whether there is a label (..., U); utterances without one count in every score but the accuracy.
    """
    wanted = np.broadcast_to(wanted, told.shape)
    least = 1 / wanted.shape[-1]
    both, there, said = (wanted > least) & (told > least), wanted > least, told > least
    distances = jensen_shannon(wanted, told), kullback(wanted, told)
    head = np.stack([np.ones(right.shape), *distances, right, np.broadcast_to(classed, right.shape)], axis=-1)
    return np.concatenate([head, both, there, said], axis=-1).astype(np.float64)


def kullback(wanted: Floats, told: Floats) -> Floats:
    """Return the Kullback-Leibler divergence of `told` (..., C) from `wanted` (..., C), in bits, (...)."""
    ratio = np.where(wanted > 0, wanted, 1.0) / np.maximum(told, TINY)
    return np.asarray(np.where(wanted > 0, wanted * np.log2(ratio), 0.0).sum(-1))


def jensen_shannon(wanted: Floats, told: Floats) -> Floats:
    """Return the Jensen-Shannon divergence of `wanted` and `told` (..., C), 0 to 1 bit, (...).

    >>> jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])).item()
    1.0
    """
    middle = (wanted + told) / 2
    return (kullback(wanted, middle) + kullback(told, middle)) / 2


def _share(place: int, of: int = 0) -> Callable[[Floats], Floats]:
    return lambda sums: np.asarray(sums[..., place] / np.maximum(sums[..., of], 1))


def _macro_f1(sums: Floats) -> Floats:
    """Return the mean F1 of the classes that raters or the model give more than 1 / C in some utterance."""
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
"""Scores of a distribution over classes, from the sums of `vote_sums`."""

RATED: Mapping[str, Mapping[str, RatedScore]] = {"votes": VOTES, "vad": ATTRIBUTES}
"""Scores by target; models are compared by the first one."""


def by_cluster(parts: Floats, cluster: Ints) -> Floats:
    """Sum the terms (R, U, M) of utterances over each cluster, (R, K, M); `cluster` (U,) is 0 to K - 1."""
    found = np.zeros((int(cluster.max()) + 1, *parts.shape[:1], parts.shape[-1]))
    np.add.at(found, cluster, parts.swapaxes(0, 1))
    return found.swapaxes(0, 1)


def reading(sums: Floats, score: RatedScore, *, crossed: bool = False, level: float = LEVEL) -> Reading:
    """Return a score over all clusters, with its interval.

    Args:
        sums: sums of each seed and cluster (R, K, M).
        score: a value of `ATTRIBUTES` or `VOTES`.
        crossed: whether one model per seed tests every cluster.
        level: confidence level of the interval, 0 to 1.
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
        return none("without one of the clusters the score is undefined, or at the end of its range")
    spread = variation(left, crossed=crossed, transform=scale.there)
    if not spread.known:
        return none("no cluster differs from another, so their variance cannot be estimated")
    middle, half = float(scale.there(np.asarray(value))), float(spread.reach((1 - level) / 2))
    low, high = (float(scale.back(np.asarray(end))) for end in (middle - half, middle + half))
    return Reading(value, deviation, Interval(low, high, level, clusters, training))


def rated_difference(
    one: Floats, other: Floats, score: RatedScore, *, crossed: bool = False, level: float = LEVEL
) -> Difference:
    """Return the paired difference `one` minus `other` over the same clusters, with its interval and two-sided test.

    Args:
        one: sums of each seed and cluster (R, K, M).
        other: sums of the model that is subtracted.
        score: a value of `ATTRIBUTES` or `VOTES`.
        crossed: whether one model per seed tests every cluster.
        level: confidence level of the interval, 0 to 1.
    """
    clusters, training = one.shape[1], has_luck(one, crossed)
    value = float((score.score(one.sum(1)) - score.score(other.sum(1))).mean())

    def none(why: str) -> Difference:
        return Difference(value, no_interval(clusters, level, why, training), None, None)

    if why := too_few(clusters):
        return none(why)
    apart = _left_out(one, score) - _left_out(other, score)
    if not np.isfinite(apart).all():
        return none("without one of the clusters the score is undefined")
    spread = variation(apart, crossed=crossed)
    if not spread.known:
        return none("all clusters differ by the same amount, so their variance cannot be estimated")
    return difference_of(value, spread, clusters, training, level)


def _left_out(sums: Floats, score: RatedScore) -> Floats:
    """Return the score of each seed without each cluster, (R, K)."""
    return score.score(sums.sum(1, keepdims=True) - sums)
