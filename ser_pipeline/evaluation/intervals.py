"""How sure a score or a difference is: leave-one-cluster-out jackknife intervals and tests.

A cluster is what one trained model tests (a speaker, a session, a group of speakers): its utterances share the people
and the luck of one training, so that K clusters are K observations, however many utterances they hold. Where one model
tests everybody (an official split, another corpus), speakers and seeds are two crossed sources of variance.

Shares are treated on the logit, which keeps intervals within 0 to 1 and its misses balanced; differences as they are.
Quantiles are Student's t with K - 1 degrees of freedom.

Shapes: R seeds, K clusters, C classes. Every function takes further axes in front, `...`.

Source: Cox and Snell, Analysis of Binary Data, 1989 (empirical logit); of the rest, `jackknife.py`.
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
"""Clusters without which there is no interval: two give one degree of freedom, and a quantile of 12.7."""


@dataclass(frozen=True)
class Interval:
    """A range that holds the true value in `level` of repetitions; both ends NaN where there is none."""

    low: float
    high: float
    level: float = LEVEL
    clusters: int = 0  # K; of a recall, those that hold the class
    training: bool = True  # whether the luck of training is in it; not where one model of one seed tests everybody
    why: str = ""  # there is none


@dataclass(frozen=True)
class Difference:
    """One score minus another on the same utterances, in -1 to 1."""

    value: float
    interval: Interval
    p: float | None  # two-sided, not corrected; None where no test is possible
    detectable: float | None  # smallest true difference that such a test finds with `POWER`; None as for `p`


def link(*columns: NDArray[np.integer]) -> Ints:
    """Clusters of utterances that share a value in any of `columns` (U,), numbered from 0 in order of appearance.

    A speaker whom two models test makes one cluster of all that these two test.

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
    """Interval of the seeds' mean of a share pooled over clusters.

    Args:
        counts: confusion matrices, (R, K, C, C).
        metric: a key of `METRICS`.
        crossed: one model of each seed tests every cluster.
        level: of the interval.
    """
    if why := _impossible(counts, metric):
        return no_interval(counts.shape[1], level, why, has_luck(counts, crossed))
    low, high = share_limits(counts, METRICS[metric], sizes(counts, metric), crossed=crossed, level=level)
    return Interval(float(low), float(high), level, counts.shape[1], has_luck(counts, crossed))


def recall_intervals(counts: Ints, *, crossed: bool = False, level: float = LEVEL) -> list[Interval]:
    """Interval of each class's recall, (C,), over the clusters that hold the class.

    Args:
        counts: confusion matrices, (R, K, C, C).
        crossed: one model of each seed tests every cluster.
        level: of the interval.
    """
    found = []
    for place in range(counts.shape[-1]):
        kept = counts[:, counts[0, :, place].sum(-1) > 0]
        training = has_luck(counts, crossed)
        if kept.shape[1] < LEAST_CLUSTERS:
            why = f"the class is in {kept.shape[1]} of the clusters; an interval takes {LEAST_CLUSTERS}"
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
    """`one` minus `other`: the seeds' mean of pooled scores, with its interval, test and detectable size.

    Args:
        one: confusion matrices, (R, K, C, C), by the same clusters and seeds as the other's.
        other: those of the model that is subtracted.
        metric: a key of `METRICS`.
        crossed: one model of each seed tests every cluster.
        level: of the interval.

    Raises:
        ValueError: seeds, clusters, or utterances of a cluster and class are not the same.
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
        why = "every cluster differs by the same amount, which tells nothing of how clusters vary"
        return Difference(value, no_interval(clusters, level, why, training), None, None)
    return difference_of(value, spread, clusters, training, level)


def group_difference(
    one: Ints, other: Ints, metric: str = "ua", *, crossed: bool = False, level: float = LEVEL
) -> Difference:
    """`one` minus `other`, the same model's scores of two groups of utterances, such as women's and men's.

    Where no cluster holds both groups, the variances of both add up, each with the degrees of freedom of its own
    clusters. Where some do, or the seeds test both, what they share is in the difference: it is left out whole.

    Args:
        one: confusion matrices, (R, K, C, C), of the first group; all 0 for a cluster that it is not in.
        other: those of the other group, by the same clusters and seeds.
        metric: a key of `METRICS`.
        crossed: one model of each seed tests every cluster.
        level: of the interval, and of the test whose detectable size is told.
    """
    score = METRICS[metric]
    value = float((score(one.sum(1)) - score(other.sum(1))).mean())
    training = has_luck(one, crossed)
    held = [counts.sum((0, 2, 3)) > 0 for counts in (one, other)]
    own = [counts[:, there] for counts, there in zip((one, other), held, strict=True)]
    clusters = min(counts.shape[1] for counts in own)
    why = _impossible(own[0], metric) or _impossible(own[1], metric)
    if not why and metric != "wa" and not np.array_equal(*(counts.sum((0, 1, 3)) > 0 for counts in own)):
        why = "one of the two lacks a class that the other holds"
    if why:
        return Difference(value, no_interval(clusters, level, why, training), None, None)
    if (held[0] & held[1]).any() or (crossed and training):
        spread = variation(_left_out(one, score) - _left_out(other, score), crossed=crossed)
    else:
        both = [variation(_left_out(counts, score), crossed=crossed) for counts in own]
        spread = Spread(np.concatenate([x.parts for x in both]), np.concatenate([x.degrees for x in both]))
    if not spread.known:
        why = "no cluster differs from another, which tells nothing of how clusters vary"
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
    """Lower and upper limits, each (...), of the seeds' mean of a pooled share.

    Where a share is 0 or 1 with all or without one of the clusters, half an utterance is added on either side before
    the logit. Where no cluster differs from another (all right, all wrong), the limits are Clopper and Pearson's at
    Korn and Graubard's size.

    Args:
        counts: confusion matrices, (..., R, K, C, C).
        score: a share in 0 to 1, (...), of matrices (..., C, C).
        size: utterances that the share counts, (...).
        crossed: one model of each seed tests every cluster.
        level: of the interval.
    """
    value = score(counts.sum(-3)).mean(-1)
    left = _left_out(counts, score)
    means = left.mean(-2)
    bound = ((means <= 0) | (means >= 1)).any(-1) | (value <= 0) | (value >= 1)
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
    flat = ~spread.known | (value <= 0) | (value >= 1)
    exact = limits_without_spread(value, size, counts.shape[-3], level)
    low, high = (1 / (1 + np.exp(-(middle + side))) for side in (-half, half))
    return np.where(flat, exact[0], low), np.where(flat, exact[1], high)


def sizes(counts: Ints, metric: str) -> Floats:
    """Utterances, (...), that a share of `counts` (..., R, K, C, C) counts.

    A mean of C recalls varies as a share of C^2 / sum(1 / n_c) utterances does, where n_c is the size of a class.
    """
    total = counts.sum((-1, -3))[..., 0, :].astype(np.float64)  # (..., C)
    if metric != "ua":
        return np.asarray(total.sum(-1))
    present = total > 0
    return np.asarray(present.sum(-1) ** 2 / np.where(present, 1 / np.maximum(total, 1), 0).sum(-1))


def _impossible(counts: Ints, metric: str) -> str:
    """Why there is no interval, or ""."""
    if why := too_few(counts.shape[1]):
        return why
    held = counts.sum(-1)  # (R, K, C)
    if metric == "macro_f1":
        held = held + counts.sum(-2)
    alone = int(((held > 0).sum(1) == 1).any(0).sum())
    if metric != "wa" and alone:
        return f"{alone} class{'es are' if alone > 1 else ' is'} in one cluster alone, whose spread cannot be known"
    return ""


def difference_of(value: float, spread: Spread, clusters: int, training: bool, level: float) -> Difference:
    """A difference with its interval and, where the luck of training shows in the spread, its test.

    Args:
        value: one score minus another.
        spread: of what it is without each cluster.
        clusters: K.
        training: whether the luck of training shows, as `has_luck` says.
        level: of the interval.
    """
    half = float(spread.reach((1 - level) / 2))
    interval = Interval(value - half, value + half, level, clusters, training)
    if not training:
        return Difference(value, interval, None, None)
    if not spread.known:
        return Difference(value, interval, 1.0, None)
    return Difference(value, interval, float(spread.p_value(np.asarray(value))), float(spread.detectable(level)))


def no_interval(clusters: int, level: float, why: str, training: bool) -> Interval:
    """The place of an interval that cannot be told.

    Args:
        clusters: K.
        level: of the interval that is not there.
        why: in words.
        training: as `has_luck` says.
    """
    return Interval(float("nan"), float("nan"), level, clusters, training, why)


def has_luck(parts: NDArray[np.number], crossed: bool) -> bool:
    """Whether the luck of training shows in how the clusters, or the seeds, of `parts` (R, K, ...) differ."""
    return not crossed or len(parts) >= LEAST_SEEDS


def too_few(clusters: int) -> str:
    """Why so few clusters give no interval; "" where they are enough.

    >>> too_few(1), too_few(3)
    ('1 cluster; an interval takes 3', '')
    """
    said = f"{clusters} cluster{'s' if clusters != 1 else ''}; an interval takes {LEAST_CLUSTERS}"
    return said if clusters < LEAST_CLUSTERS else ""


def _recall(place: int) -> Callable[[NDArray[np.number]], Floats]:
    return lambda matrices: recalls(matrices)[..., place]


def _left_out(counts: Ints, score: Callable[[NDArray[np.number]], Floats]) -> Floats:
    """Score of each seed without each cluster, (..., R, K)."""
    return score(counts.sum(-3, keepdims=True) - counts)
