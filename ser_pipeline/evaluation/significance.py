"""How sure a score or a difference is, when utterances come in clusters by speaker.

Ten speakers are ten observations, however many utterances each has: so intervals resample speakers, and tests swap
two models within whole speakers. Shapes: R seeds, K speakers, C classes; B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.evaluation.metrics import METRICS, Floats, Ints

FEW_SPEAKERS = 20
"""Below this many speakers an interval is a rough guide, and narrower than it should be."""

EXACT_SPEAKERS = 16
"""Up to this many speakers all sign flips are tried: 2^16 = 65,536."""

DRAWS = 10_000
"""Resamples of an interval, and of a test that is not exact."""

CHUNK = 1_000
"""Resamples at a time, which bounds the memory."""


@dataclass(frozen=True)
class Interval:
    """A range that holds the true value in `level` of repetitions."""

    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class Difference:
    """One score minus another on the same utterances, in 0 to 1."""

    value: float
    interval: Interval
    p: float  # two-sided, of the paired permutation over speakers, not corrected
    speakers: int


def speaker_counts(target: Ints, predictions: NDArray[np.integer], speaker: Ints, speakers: int, classes: int) -> Ints:
    """Confusion matrices of every seed and speaker, (R, K, C, C).

    Args:
        target: true class, (U,).
        predictions: predicted class of each seed, (R, U).
        speaker: speaker of each utterance, (U,) in 0 to `speakers` - 1.
        speakers: K.
        classes: C.
    """
    seeds = np.arange(len(predictions))[:, None]
    cells = ((seeds * speakers + speaker) * classes + target) * classes + predictions
    counts = np.bincount(cells.ravel(), minlength=len(predictions) * speakers * classes * classes)
    return counts.reshape(len(predictions), speakers, classes, classes)


def bootstrap(counts: Ints, metric: str = "ua", *, seed: int = 0, draws: int = DRAWS, level: float = 0.95) -> Interval:
    """Percentile interval of the seeds' mean pooled score, by resampling speakers.

    Args:
        counts: confusion matrices, (R, K, C, C).
        metric: a key of `METRICS`.
        seed: of the resampling.
        draws: resamples.
        level: of the interval.
    """
    return _percentiles(_resampled(counts, METRICS[metric], seed, draws), level)


def difference(
    one: Ints, other: Ints, metric: str = "ua", *, seed: int = 0, draws: int = DRAWS, level: float = 0.95
) -> Difference:
    """`one` minus `other`: seeds' mean pooled scores of the same utterances, by confusion matrices (R, K, C, C).

    The interval resamples speakers, the p-value swaps the two models within speakers.
    """
    score = METRICS[metric]
    value = score(one.sum(1)).mean() - score(other.sum(1)).mean()
    gaps = _resampled(one, score, seed, draws) - _resampled(other, score, seed, draws)
    p = sign_flip(contributions(one, other, metric), seed=seed, draws=draws)
    return Difference(float(value), _percentiles(gaps, level), p, one.shape[1])


def contributions(one: Ints, other: Ints, metric: str = "ua") -> Floats:
    """What each speaker adds to the difference of two scores, (K,); their sum is the difference.

    Both models are tested on the same utterances, so WA and UA are linear in the speakers' right answers, and
    swapping the models within a speaker turns the sign of that speaker's share.

    Raises:
        ValueError: the metric is not linear, or the utterances are not the same.
    """
    totals = one.sum(-1)[0]
    if metric not in ("wa", "ua") or not (totals == other.sum(-1)).all() or not (totals == one.sum(-1)).all():
        raise ValueError("a paired test needs wa or ua of the same utterances")
    right = [np.diagonal(counts, axis1=-2, axis2=-1).mean(0) for counts in (one, other)]  # (K, C)
    sizes = totals.sum(0)  # (C,)
    weights = np.full(len(sizes), 1 / max(1, sizes.sum())) if metric == "wa" else _class_weights(sizes)
    return np.asarray((right[0] - right[1]) @ weights)


def sign_flip(shares: Floats, *, seed: int = 0, draws: int = DRAWS) -> float:
    """Two-sided p-value of the sum of `shares` (K,) when each sign is as likely as its opposite.

    Exact up to `EXACT_SPEAKERS`, else by `draws` random flips, of which the observed signs are one.

    >>> sign_flip(np.ones(5))
    0.0625
    """
    observed = abs(shares.sum()) * (1 - 1e-9)  # sums of equal terms in another order differ in the last bit
    if len(shares) <= EXACT_SPEAKERS:
        sums = np.zeros(1)
        for share in shares:
            sums = np.concatenate([sums + share, sums - share])
        return float(np.mean(np.abs(sums) >= observed - 1e-15))
    rng = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, draws, CHUNK):
        signs = rng.choice((-1.0, 1.0), size=(min(CHUNK, draws - start), len(shares)))
        extreme += int(np.sum(np.abs(signs @ shares) >= observed - 1e-15))
    return (extreme + 1) / (draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for the number of comparisons, in the same order.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(p) for p in corrected]


def mcnemar(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Utterances that only the first got right, that only the other did, and the exact two-sided p-value.

    It takes utterances for independent, which those of one speaker are not: a companion of `difference`, not a
    substitute.

    >>> mcnemar(np.array([True, True, True, False]), np.array([False, False, False, False]))
    (3, 0, 0.25)
    """
    first, second = int(np.sum(right & ~other)), int(np.sum(other & ~right))
    total = first + second
    tail = sum(math.comb(total, k) for k in range(min(first, second) + 1))
    return first, second, min(1.0, 2 * tail / 2**total)


def _resampled(counts: Ints, score: Callable[[NDArray[np.number]], Floats], seed: int, draws: int) -> Floats:
    """Scores (B,) of resampled speakers; the same seed draws the same speakers."""
    seeds, speakers, classes, _ = counts.shape
    rng = np.random.default_rng(seed)
    flat = counts.transpose(2, 3, 0, 1).reshape(-1, speakers).astype(np.float64)  # (C C R, K)
    scores = []
    for start in range(0, draws, CHUNK):
        chosen = rng.multinomial(speakers, np.full(speakers, 1 / speakers), size=min(CHUNK, draws - start))
        drawn = (flat @ chosen.T).reshape(classes, classes, seeds, -1)  # resamples last: sums over classes are fast
        scores.append(score(drawn.transpose(3, 2, 0, 1)).mean(1))
    return np.concatenate(scores)


def _percentiles(values: Floats, level: float) -> Interval:
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def _class_weights(sizes: Ints) -> Floats:
    """Weight of a right answer of each class in UA, (C,); 0 for an absent class."""
    present = sizes > 0
    return np.where(present, 1 / np.maximum(sizes, 1) / max(1, present.sum()), 0.0)
