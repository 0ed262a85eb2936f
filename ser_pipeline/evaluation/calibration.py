"""How far probabilities can be believed: Brier score, logarithmic loss, expected calibration error.

Shapes: R seeds, U utterances, K clusters, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats, Ints
from ser_pipeline.evaluation.intervals import LEAST_CLUSTERS, Interval
from ser_pipeline.evaluation.jackknife import LEAST_SEEDS, LEVEL, variation
from ser_pipeline.evaluation.metrics import TINY, probabilities

BINS = 15
"""Equal bins of confidence. Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017."""


@dataclass(frozen=True)
class Reliability:
    """How often predictions of a confidence are right, in equal bins of confidence from 0 to 1."""

    count: Ints  # (bins,)
    confidence: Floats  # (bins,) mean confidence; NaN where a bin is empty
    accuracy: Floats  # (bins,) share that is right; NaN where a bin is empty

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean distance of confidence and accuracy, weighted by `count`; 0 to 1."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(gaps * self.count) / self.count.sum()) if self.count.any() else float("nan")


def reliability(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """The reliability of predictions with `confidence` (U,) in 0 to 1, of which `right` (U,) are right.

    Args:
        confidence: probability of the predicted class (U,), 0 to 1.
        right: whether it is the true one (U,).
        bins: of equal width.

    >>> round(reliability(np.array([0.9, 0.9]), np.array([True, False])).ece, 3)
    0.4
    """
    place = _bin(confidence, bins)
    count = np.bincount(place, minlength=bins)
    full = np.where(count > 0, count, np.nan)
    return Reliability(
        count=count,
        confidence=np.bincount(place, weights=confidence, minlength=bins) / full,
        accuracy=np.bincount(place, weights=right.astype(np.float64), minlength=bins) / full,
    )


@dataclass(frozen=True)
class Error:
    """A loss of probabilities, the smaller the better."""

    value: float  # over all utterances, the mean over seeds
    seed_deviation: float | None  # over seeds; None of one seed
    interval: Interval  # by the jackknife over clusters, on the logarithm


def errors(
    scores: NDArray[np.floating], target: Ints, cluster: Ints, *, crossed: bool = False, level: float = LEVEL
) -> dict[str, Error]:
    """Every loss of `LOSSES`, with its interval.

    The calibration error is that of the utterances at hand, which reads higher than the model's own the fewer they are;
    its interval is about the mean of such readings.

    Args:
        scores: log-probabilities of every seed, (R, U, C); they need not be normalised.
        target: true classes, (U,).
        cluster: of each utterance, (U,), 0 to K - 1.
        crossed: one model of each seed tests every cluster.
        level: of the intervals.
    """
    chances = probabilities(scores)
    return {name: _error(parts(chances, target, cluster), finish, crossed, level) for name, (parts, finish) in LOSSES}


def _error(parts: Floats, finish: Callable[[Floats], Floats], crossed: bool, level: float) -> Error:
    """The loss that `finish` makes of sums over clusters, from the parts (R, K, P) of every cluster."""
    seeds, clusters = parts.shape[:2]
    each = finish(parts.sum(1))  # (R,)
    value = float(each.mean())
    deviation = float(each.std(ddof=1)) if seeds > 1 else None
    training = not crossed or seeds >= LEAST_SEEDS
    why = f"{clusters} cluster{'s' if clusters != 1 else ''}; an interval takes {LEAST_CLUSTERS}"
    if clusters >= LEAST_CLUSTERS:
        left = finish(parts.sum(1, keepdims=True) - parts)  # (R, K)
        why = "" if value > 0 and (left > 0).all() else "the loss is 0 without one of the clusters"
    if why:
        return Error(value, deviation, Interval(float("nan"), float("nan"), level, clusters, training, why))
    half = float(variation(left, crossed=crossed, transform=np.log).reach((1 - level) / 2))
    return Error(value, deviation, Interval(value * np.exp(-half), value * np.exp(half), level, clusters, training))


def _mean(parts: Floats) -> Floats:
    """A mean from its sum and count, (..., 2)."""
    return np.asarray(parts[..., 0] / parts[..., 1])


def _brier(chances: Floats, target: Ints, cluster: Ints) -> Floats:
    """Sum over classes of the squared distance to what was true, 0 to 2.

    Source: Brier, Verification of Forecasts Expressed in Terms of Probability, 1950.
    """
    return _sums(np.square(chances - np.eye(chances.shape[-1])[target]).sum(-1), cluster)


def _log_loss(chances: Floats, target: Ints, cluster: Ints) -> Floats:
    """Negative natural logarithm of the true class's probability, in nats."""
    return _sums(-np.log(np.maximum(chances[:, np.arange(len(target)), target], TINY)), cluster)


def _sums(losses: Floats, cluster: Ints) -> Floats:
    """Sum and count of the losses (R, U) of every cluster, (R, K, 2)."""
    count = np.bincount(cluster)
    sums = np.stack([np.bincount(cluster, weights=row, minlength=len(count)) for row in losses])
    return np.stack([sums, np.broadcast_to(count, sums.shape)], axis=-1)


def _binned(chances: Floats, target: Ints, cluster: Ints) -> Floats:
    """Sum of confidence less right ones, by cluster and bin, and counts: (R, K, `BINS` + 1)."""
    clusters = int(cluster.max()) + 1
    confidence, right = chances.max(-1), chances.argmax(-1) == target
    place = cluster * BINS + _bin(confidence, BINS)
    gaps = [
        np.bincount(p, weights=g, minlength=clusters * BINS) for p, g in zip(place, confidence - right, strict=True)
    ]
    counts = np.broadcast_to(np.bincount(cluster)[None, :, None], (len(chances), clusters, 1))
    return np.concatenate([np.reshape(gaps, (len(chances), clusters, BINS)), counts], axis=-1)


def _calibration_error(parts: Floats) -> Floats:
    return np.asarray(np.abs(parts[..., :-1]).sum(-1) / parts[..., -1])


def _bin(confidence: Floats, bins: int) -> Ints:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


LOSSES: tuple[tuple[str, tuple[Callable[[Floats, Ints, Ints], Floats], Callable[[Floats], Floats]]], ...] = (
    ("brier", (_brier, _mean)),
    ("log_loss", (_log_loss, _mean)),
    ("ece", (_binned, _calibration_error)),
)
"""Name of each loss, what it sums over the utterances of a cluster, and what becomes of the sum."""
