"""Quality of probabilities: Brier score, logarithmic loss and expected calibration error.

Shapes: R seeds, U utterances, K clusters, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats, Ints
from ser_pipeline.evaluation.intervals import Interval, has_luck, too_few
from ser_pipeline.evaluation.jackknife import LEVEL, variation
from ser_pipeline.evaluation.metrics import TINY, probabilities

BINS = 15
"""Equal bins of confidence. Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017."""


@dataclass(frozen=True)
class Reliability:
    """Accuracy as a function of confidence, in equal bins of confidence from 0 to 1."""

    count: Ints  # (bins,) predictions in each bin
    confidence: Floats  # (bins,) mean confidence; NaN where a bin is empty
    accuracy: Floats  # (bins,) share of correct predictions; NaN where a bin is empty

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy, weighted by `count`; 0 to 1."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(gaps * self.count) / self.count.sum()) if self.count.any() else float("nan")


def reliability(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Return the reliability of predictions.

    Args:
        confidence: probability of the predicted class (U,), 0 to 1.
        right: whether the predicted class is the true one (U,).
        bins: number of bins of equal width.

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
    """A loss of predicted probabilities; smaller is better."""

    value: float  # over all utterances, averaged over seeds
    seed_deviation: float | None  # standard deviation over seeds; None for one seed
    interval: Interval  # by the jackknife over clusters
    corrected: float | None = None  # without the bias of a small sample; None for a mean, which has no such bias


def errors(
    scores: NDArray[np.floating], target: Ints, cluster: Ints, *, crossed: bool = False, level: float = LEVEL
) -> dict[str, Error]:
    """Return the Brier score, logarithmic loss and expected calibration error (ECE), each with its interval.

    The intervals of the first two are computed on the logarithm. The ECE is biased upwards, and more so for fewer
    utterances, because random deviations within a bin count as miscalibration. Its interval is therefore centred on the
    bias-corrected error. Its upper limit is computed on the square root. Its lower limit is 0 if the measured error
    could come from a calibrated model.

    Args:
        scores: log-probabilities of every seed, (R, U, C); they need not be normalised.
        target: true classes, (U,).
        cluster: cluster of each utterance, (U,), 0 to K - 1.
        crossed: whether one model per seed tests every cluster.
        level: confidence level of the intervals, 0 to 1.
    """
    chances = probabilities(scores)
    means = {name: _mean_loss(parts(chances, target, cluster), crossed, level) for name, parts in MEANS.items()}
    return means | {"ece": _calibration_error(_binned(chances, target, cluster), crossed, level)}


def _mean_loss(parts: Floats, crossed: bool, level: float) -> Error:
    """Return the mean of a loss from its sum and count in every cluster, (R, K, 2)."""
    value, deviation, why = _read(_mean, parts)
    left = _mean(parts.sum(1, keepdims=True) - parts)  # (R, K)
    if not why and (value <= 0 or (left <= 0).any()):
        why = "the loss is 0 without one of the clusters"
    if why:
        return Error(value, deviation, _interval(parts, crossed, level, why=why))
    half = float(variation(left, crossed=crossed, transform=np.log).reach((1 - level) / 2))
    return Error(value, deviation, _interval(parts, crossed, level, value * np.exp(-half), value * np.exp(half)))


def _calibration_error(parts: Floats, crossed: bool, level: float) -> Error:
    """Return the expected calibration error from the sums of every cluster, which `_binned` computes."""
    value, deviation, why = _read(_distance, parts)
    if why:
        return Error(value, deviation, _interval(parts, crossed, level, why=why))
    spread = variation(_corrected(parts.sum(1, keepdims=True) - parts), crossed=crossed)
    corrected, beyond = (float(reading(parts.sum(1)).mean()) for reading in (_corrected, _beyond_luck))
    if not spread.known:
        why = "no cluster differs from another, so their variance cannot be estimated"
        return Error(value, deviation, _interval(parts, crossed, level, why=why), max(0.0, corrected))
    half = float(spread.reach((1 - level) / 2))
    low = max(0.0, corrected - half) if beyond > half else 0.0
    high = min(1.0, corrected + half + half**2 / (4 * max(corrected, half / 2)))
    return Error(value, deviation, _interval(parts, crossed, level, low, high), max(0.0, corrected))


def _read(reading: Callable[[Floats], Floats], parts: Floats) -> tuple[float, float | None, str]:
    """Return the mean of `reading` over seeds, its standard deviation, and why there is no interval, or ""."""
    seeds, clusters = parts.shape[:2]
    each = reading(parts.sum(1))  # (R,)
    return float(each.mean()), float(each.std(ddof=1)) if seeds > 1 else None, too_few(clusters)


def _interval(
    parts: Floats, crossed: bool, level: float, low: float = np.nan, high: float = np.nan, why: str = ""
) -> Interval:
    return Interval(float(low), float(high), level, parts.shape[1], has_luck(parts, crossed), why)


def _mean(parts: Floats) -> Floats:
    """Return the mean (...) from its sum and count, (..., 2)."""
    return np.asarray(parts[..., 0] / parts[..., 1])


def _brier(chances: Floats, target: Ints, cluster: Ints) -> Floats:
    """Return the sum and count in every cluster of the Brier score, 0 to 2 per utterance.

    The score is the squared difference between probabilities and the one-hot true class, summed over classes.

    Source: Brier, Verification of Forecasts Expressed in Terms of Probability, 1950.
    """
    return _sums(np.square(chances - np.eye(chances.shape[-1])[target]).sum(-1), cluster)


def _log_loss(chances: Floats, target: Ints, cluster: Ints) -> Floats:
    """Return the sum and count in every cluster of the negative log-probability of the true class, in nats."""
    return _sums(-np.log(np.maximum(chances[:, np.arange(len(target)), target], TINY)), cluster)


def _sums(losses: Floats, cluster: Ints) -> Floats:
    """Return the sum and count of the losses (R, U) in every cluster, (R, K, 2)."""
    count = np.bincount(cluster)
    sums = np.stack([np.bincount(cluster, weights=row, minlength=len(count)) for row in losses])
    return np.stack([sums, np.broadcast_to(count, sums.shape)], axis=-1)


def _binned(chances: Floats, target: Ints, cluster: Ints) -> Floats:
    """Return the terms of the error and of its standard error, to be summed over clusters, (R, K, 3 `BINS` + 3).

    For every bin: the sum of confidence minus the number of correct predictions, its square, and its product with the
    cluster's number of utterances. Then that number, its square, and 1.
    """
    clusters = int(cluster.max()) + 1
    confidence, right = chances.max(-1), chances.argmax(-1) == target
    place = cluster * BINS + _bin(confidence, BINS)
    sums = [
        np.bincount(p, weights=g, minlength=clusters * BINS) for p, g in zip(place, confidence - right, strict=True)
    ]
    gaps = np.reshape(sums, (len(chances), clusters, BINS))
    count = np.broadcast_to(np.bincount(cluster)[None, :, None].astype(np.float64), (len(chances), clusters, 1))
    return np.concatenate([gaps, gaps**2, gaps * count, count, count**2, np.ones_like(count)], axis=-1)


def _gaps(sums: Floats) -> tuple[Floats, Floats]:
    """Return the mean gap of each bin (..., `BINS`) and its standard error over clusters, as for a ratio of sums."""
    gap, squares, products = np.split(sums[..., :-3], 3, axis=-1)
    count, count_squares, clusters = np.moveaxis(sums[..., -3:, None], -2, 0)
    mean = gap / count
    apart = np.maximum(squares - 2 * mean * products + mean**2 * count_squares, 0)
    return mean, np.sqrt(apart * clusters / (clusters - 1)) / count


def _distance(sums: Floats) -> Floats:
    """Return the uncorrected expected calibration error, (...)."""
    return np.asarray(np.abs(sums[..., :BINS]).sum(-1) / sums[..., -3])


def _corrected(sums: Floats) -> Floats:
    """Return the error (...) minus its bias from sampling, if the measured gaps were the true ones.

    Source: Leone, Nelson and Nottingham, Technometrics 3, 1961 (mean of a folded normal variable).
    """
    from scipy.special import ndtr

    mean, error = _gaps(sums)
    distance = np.abs(mean)
    ratio = np.divide(distance, error, out=np.full_like(distance, np.inf), where=error > 0)
    luck = 2 * (error * np.exp(-(ratio**2) / 2) / np.sqrt(2 * np.pi) - distance * ndtr(-ratio))
    return np.asarray((distance - luck).sum(-1))


def _beyond_luck(sums: Floats) -> Floats:
    """Return the error (...) minus the error that a calibrated model would have on average."""
    mean, error = _gaps(sums)
    return np.asarray((np.abs(mean) - error * np.sqrt(2 / np.pi)).sum(-1))


def _bin(confidence: Floats, bins: int) -> Ints:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


MEANS: dict[str, Callable[[Floats, Ints, Ints], Floats]] = {"brier": _brier, "log_loss": _log_loss}
"""Losses that are means over utterances; each function returns its sum and count in every cluster, (R, K, 2)."""

LOSSES = (*MEANS, "ece")
"""Names of all losses."""
