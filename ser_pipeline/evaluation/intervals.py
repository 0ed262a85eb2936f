"""Confidence intervals and tests of scores and differences, by the jackknife that leaves out one cluster at a time.

A cluster is the test data of one trained model: a speaker, a session or a group of speakers. Its utterances share
speakers and the randomness of one training, so K clusters are K observations, however many utterances they contain.
Where one model tests all speakers (an official split, another corpus), speakers and seeds are two crossed sources of
variance.

Intervals of shares are computed on the logit, which keeps them within 0 to 1 and balances misses above and below;
intervals of differences are not transformed. Quantiles are Student's t with K - 1 degrees of freedom.

Shapes: R seeds, K clusters, C classes; `...` are further leading axes.

Source: Cox and Snell, Analysis of Binary Data, 1989 (empirical logit); `jackknife.py` has the other sources.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats, Ints
from ser_pipeline.evaluation.jackknife import (
    LEAST_SEEDS,
    LEVEL,
    Spread,
    limits_without_spread,
    variation,
    without_seed,
)
from ser_pipeline.evaluation.metrics import METRICS, recalls

LEAST_CLUSTERS = 3
"""Smallest number of clusters for an interval; two have one degree of freedom, and a t quantile of 12.7."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval, which contains the true value in a share `level` of repetitions, or two NaN."""

    low: float
    high: float
    level: float = LEVEL
    clusters: int = 0  # K; for a recall, the clusters that contain the class
    training: bool = True  # whether it includes the variance between trainings; not with one model of one seed
    why: str = ""  # the reason why there is no interval, or ""


@dataclass(frozen=True)
class Difference:
    """The difference between two scores, -1 to 1."""

    value: float
    interval: Interval
    p: float | None  # two-sided, not corrected for multiple tests; None where no test is possible
    detectable: float | None  # smallest true difference that the test finds with `POWER`; None where unknown


def link(*columns: NDArray[np.integer]) -> Ints:
    """Return clusters (U,) of utterances that share a value in any of `columns` (U,), numbered from 0 by appearance.

    If two models test the same speaker, all utterances that the two models test form one cluster.

    >>> link(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7]))
    array([0, 0, 0, 1])
    """
    cluster = np.arange(len(columns[0]))
    codes = [np.unique(column, return_inverse=True)[1] for column in columns]
    while True:
        before = cluster
        for code in codes:
            least = np.full(code.max(initial=-1) + 1, len(cluster))
            np.minimum.at(least, code, cluster)
            cluster = least[code]
        if np.array_equal(before, cluster):
            return np.unique(cluster, return_inverse=True)[1].astype(np.int64)


def share_interval(counts: Ints, metric: str = "ua", *, crossed: bool = False, level: float = LEVEL) -> Interval:
    """Return the interval of a score that is pooled over clusters and averaged over seeds.

    Args:
        counts: confusion matrices, (R, K, C, C).
        metric: a key of `METRICS`.
        crossed: whether one model per seed tests every cluster.
        level: confidence level of the interval, 0 to 1.
    """
    if why := _impossible(counts, metric):
        return no_interval(counts.shape[1], level, why, has_luck(counts, crossed))
    low, high = share_limits(counts, METRICS[metric], sizes(counts, metric), crossed=crossed, level=level)
    return Interval(float(low), float(high), level, counts.shape[1], has_luck(counts, crossed))


def recall_intervals(counts: Ints, *, crossed: bool = False, level: float = LEVEL) -> list[Interval]:
    """Return the interval of each class's recall, (C,), over the clusters that contain the class.

    Args:
        counts: confusion matrices, (R, K, C, C).
        crossed: whether one model per seed tests every cluster.
        level: confidence level of the interval, 0 to 1.
    """
    found = []
    for place in range(counts.shape[-1]):
        kept = counts[:, counts[0, :, place].sum(-1) > 0]
        training = has_luck(counts, crossed)
        if kept.shape[1] < LEAST_CLUSTERS:
            why = f"the class is in {kept.shape[1]} of the clusters; an interval needs {LEAST_CLUSTERS}"
            found.append(no_interval(kept.shape[1], level, why, training))
            continue
        score = _recall(place)
        total = np.asarray(kept[0, :, place].sum(), dtype=np.float64)
        low, high = share_limits(kept, score, total, crossed=crossed, level=level)
        found.append(Interval(float(low), float(high), level, kept.shape[1], training))
    return found


def difference(
    one: Ints, other: Ints, metric: str = "ua", *, crossed: bool = False, level: float = LEVEL
) -> Difference:
    """Return the paired difference `one` minus `other` of pooled scores, averaged over seeds, with interval and test.

    Args:
        one: confusion matrices, (R, K, C, C), with the same clusters and seeds as `other`.
        other: confusion matrices of the model that is subtracted.
        metric: a key of `METRICS`.
        crossed: whether one model per seed tests every cluster.
        level: confidence level of the interval, 0 to 1.

    Raises:
        ValueError: the seeds, the clusters, or the number of utterances of a cluster and class differ.
    """
    if one.shape != other.shape or not np.array_equal(one.sum(-1), other.sum(-1)):
        raise ValueError("a paired difference needs the same seeds, clusters and utterances")
    score = METRICS[metric]
    value = float((score(one.sum(1)) - score(other.sum(1))).mean())
    training = has_luck(one, crossed)
    clusters = one.shape[1]
    if why := _impossible(one, metric) or _impossible(other, metric):
        return Difference(value, no_interval(clusters, level, why, training), None, None)
    spread = variation(_left_out(one, score) - _left_out(other, score), crossed=crossed)
    if value != 0 and not spread.known:
        why = "all clusters differ by the same amount, so their variance cannot be estimated"
        return Difference(value, no_interval(clusters, level, why, training), None, None)
    return difference_of(value, spread, clusters, training, level)


def group_difference(
    one: Ints, other: Ints, metric: str = "ua", *, crossed: bool = False, level: float = LEVEL
) -> Difference:
    """Return the difference between a model's scores on two groups of utterances, such as women and men.

    If no cluster contains both groups, the variances of the two scores add up, each with the degrees of freedom of its
    own clusters. If a cluster contains both, or each seed's model tests both, the scores are correlated, and the
    jackknife leaves a cluster out of both groups at once.

    Args:
        one: confusion matrices of the first group, (R, K, C, C); all 0 in a cluster without the group.
        other: confusion matrices of the second group, with the same clusters and seeds.
        metric: a key of `METRICS`.
        crossed: whether one model per seed tests every cluster.
        level: confidence level of the interval and of the test, 0 to 1.
    """
    score = METRICS[metric]
    value = float((score(one.sum(1)) - score(other.sum(1))).mean())
    training = has_luck(one, crossed)
    held = [counts.sum((0, 2, 3)) > 0 for counts in (one, other)]
    own = [counts[:, there] for counts, there in zip((one, other), held, strict=True)]
    clusters = min(counts.shape[1] for counts in own)
    why = _impossible(own[0], metric) or _impossible(own[1], metric)
    if not why and metric != "wa" and not np.array_equal(*(counts.sum((0, 1, 3)) > 0 for counts in own)):
        why = "one of the two groups lacks a class that the other contains"
    if why:
        return Difference(value, no_interval(clusters, level, why, training), None, None)
    if (held[0] & held[1]).any() or (crossed and training):
        spread = variation(_left_out(one, score) - _left_out(other, score), crossed=crossed)
    else:
        both = [variation(_left_out(counts, score), crossed=crossed) for counts in own]
        spread = Spread(np.concatenate([x.parts for x in both]), np.concatenate([x.degrees for x in both]))
    if not spread.known:
        why = "no cluster differs from another, so their variance cannot be estimated"
        return Difference(value, no_interval(clusters, level, why, training), None, None)
    return difference_of(value, spread, clusters, training, level)


def share_limits(
    counts: Ints,
    score: Callable[[NDArray[np.number]], Floats],
    size: Floats,
    *,
    crossed: bool = False,
    level: float = LEVEL,
) -> tuple[Floats, Floats]:
    """Return the lower and upper limits, each (...), of a pooled share that is averaged over seeds.

    If a share is 0 or 1, with all clusters or without one of them, half an utterance is added to both the correct and
    the wrong ones before the logit. If no cluster differs from another (all correct, all wrong), the limits are those
    of Clopper and Pearson with the effective sample size of Korn and Graubard.

    Args:
        counts: confusion matrices, (..., R, K, C, C).
        score: maps matrices (..., C, C) to shares (...), 0 to 1.
        size: number of utterances that the share counts, (...).
        crossed: whether one model per seed tests every cluster.
        level: confidence level of the interval, 0 to 1.
    """
    value = score(counts.sum(-3)).mean(-1)
    left = _left_out(counts, score)
    means = left.mean(-2)
    bound = ((means <= 0) | (means >= 1)).any(-1)
    if crossed and counts.shape[-4] >= LEAST_SEEDS:
        without = without_seed(left)
        bound |= ((without <= 0) | (without >= 1)).any((-1, -2))

    def transform(share: Floats) -> Floats:
        axes = tuple(range(bound.ndim, share.ndim))
        total, at = np.expand_dims(size, axes), np.expand_dims(bound, axes)
        inside = np.where(at, (share * total + 0.5) / (total + 1), share)
        return np.asarray(np.log(inside / (1 - inside)))

    spread = variation(left, crossed=crossed, transform=transform)
    half = spread.reach((1 - level) / 2)
    middle = transform(value)
    flat = ~spread.known
    exact = limits_without_spread(value, size, counts.shape[-3], level)
    low, high = (1 / (1 + np.exp(-(middle + side))) for side in (-half, half))
    return np.where(flat, exact[0], low), np.where(flat, exact[1], high)


def sizes(counts: Ints, metric: str) -> Floats:
    """Return the number of utterances, (...), that a score of `counts` (..., R, K, C, C) counts.

    A mean of C recalls has the variance of a share of C^2 / sum(1 / n_c) utterances, where n_c is the size of a class.
    """
    total = counts.sum((-1, -3))[..., 0, :].astype(np.float64)  # (..., C)
    if metric != "ua":
        return np.asarray(total.sum(-1))
    present = total > 0
    return np.asarray(present.sum(-1) ** 2 / np.where(present, 1 / np.maximum(total, 1), 0).sum(-1))


def _impossible(counts: Ints, metric: str) -> str:
    """Return the reason why there is no interval, or ""."""
    if why := too_few(counts.shape[1]):
        return why
    held = counts.sum(-1)  # (R, K, C)
    if metric == "macro_f1":
        held = held + counts.sum(-2)
    alone = int(((held > 0).sum(1) == 1).any(0).sum())
    if metric != "wa" and alone:
        return f"{alone} class{'es are' if alone > 1 else ' is'} in one cluster only, so the variance is unknown"
    return ""


def difference_of(value: float, spread: Spread, clusters: int, training: bool, level: float) -> Difference:
    """Return a difference with its interval and, if its variance includes that between trainings, its test.

    Args:
        value: one score minus another.
        spread: variance of the difference, by the jackknife.
        clusters: K.
        training: whether the variance includes that between trainings, as in `has_luck`.
        level: confidence level of the interval, 0 to 1.
    """
    half = float(spread.reach((1 - level) / 2))
    interval = Interval(value - half, value + half, level, clusters, training)
    if not training:
        return Difference(value, interval, None, None)
    if not spread.known:
        return Difference(value, interval, 1.0, None)
    return Difference(value, interval, float(spread.p_value(np.asarray(value))), float(spread.detectable(level)))


def no_interval(clusters: int, level: float, why: str, training: bool) -> Interval:
    """Return an interval without limits.

    Args:
        clusters: K.
        level: confidence level that the interval would have, 0 to 1.
        why: the reason why there is no interval.
        training: as in `has_luck`.
    """
    return Interval(float("nan"), float("nan"), level, clusters, training, why)


def has_luck(parts: NDArray[np.number], crossed: bool) -> bool:
    """Whether the clusters, or the seeds, of `parts` (R, K, ...) show the variance between trainings."""
    return not crossed or len(parts) >= LEAST_SEEDS


def too_few(clusters: int) -> str:
    """Return why there are too few clusters for an interval, or "".

    >>> too_few(1), too_few(3)
    ('1 cluster; an interval needs 3', '')
    """
    said = f"{clusters} cluster{'s' if clusters != 1 else ''}; an interval needs {LEAST_CLUSTERS}"
    return said if clusters < LEAST_CLUSTERS else ""


def _recall(place: int) -> Callable[[NDArray[np.number]], Floats]:
    return lambda matrices: recalls(matrices)[..., place]


def _left_out(counts: Ints, score: Callable[[NDArray[np.number]], Floats]) -> Floats:
    """Return the score of each seed without each cluster, (..., R, K)."""
    return score(counts.sum(-3, keepdims=True) - counts)
