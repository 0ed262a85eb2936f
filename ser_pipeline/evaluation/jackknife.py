"""Variance of an estimate: the jackknife over clusters, with seeds as a second, crossed source.

Shapes: R seeds, K clusters, P sources of variance; `...` are further leading axes.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11 (jackknife); Searle, Casella and
McCulloch, Variance Components, 1992 (crossed sources); Banerjee, Biometrika 48, 1961 (a quantile for each source); Korn
and Graubard, Survey Methodology 24, 1998 (shares without spread); Bloom, Evaluation Review 19, 1995 (detectable
difference).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats

LEVEL = 0.95
"""Confidence level of intervals: the share of repetitions in which an interval contains the true value."""

POWER = 0.8
"""Probability that a two-sided test at 1 - `LEVEL` finds a difference of the detectable size."""

LEAST_SEEDS = 2
"""Smallest number of seeds from which the variance between trainings is known if one model tests all speakers."""

TINY = 1e-24
"""Largest variance of a share that can be rounding error."""

HALVINGS = 60
"""Bisection steps for a p-value; 60 are exact to 1e-16."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Variance of an estimate by source, each with its degrees of freedom."""

    parts: Floats  # (..., P) variances
    degrees: Floats  # (P,) degrees of freedom

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether there is any variance, (...)."""
        return np.asarray(self.parts.sum(-1) > TINY)

    def reach(self, tail: Floats | float) -> Floats:
        """Return the distance (...) that the estimate's error exceeds upwards with probability `tail` (...).

        The standard error of each source is multiplied by its own t quantile; the squares add up.
        """
        from scipy.special import stdtrit

        quantiles = stdtrit(self.degrees, np.asarray(tail)[..., None])
        return np.asarray(np.sqrt((np.square(quantiles) * self.parts).sum(-1)))

    def p_value(self, value: Floats) -> Floats:
        """Return the two-sided p-value (...) of `value` (...) against 0: an interval of level 1 - p ends at 0."""
        low, high = np.zeros(np.shape(value)), np.full(np.shape(value), 0.5)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            beyond = self.reach(middle) > np.abs(value)
            low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
        return np.asarray(low + high)

    def detectable(self, level: float = LEVEL, power: float = POWER) -> Floats:
        """Return the smallest true difference (...) that a two-sided test at 1 - `level` finds with this power."""
        return self.reach((1 - level) / 2) + self.reach(1 - power)


def variation(
    left: Floats, *, crossed: bool = False, transform: Callable[[Floats], Floats] = lambda share: share
) -> Spread:
    """Return the variance of the transformed mean score over seeds.

    Without `crossed`, or with fewer than `LEAST_SEEDS` seeds, the only source is the jackknife over clusters. With
    `crossed`, clusters and seeds are two sources. Both contain their interaction, which is subtracted from the source
    with more parts, whose variance is known better. Intervals then contain the true value in 94 to 98 % of cases, the
    most when both sources are of similar size.

    Args:
        left: score of each seed without each cluster, (..., R, K).
        crossed: whether one model per seed tests every cluster.
        transform: applied to the mean score over seeds.
    """
    seeds, clusters = left.shape[-2:]
    own = _jackknife(transform(left.mean(-2)))
    if not crossed or seeds < LEAST_SEEDS:
        return Spread(own[..., None], np.array([clusters - 1.0]))
    without = transform(without_seed(left))
    luck = _jackknife(without.mean(-1))
    residual = without - without.mean(-1, keepdims=True) - without.mean(-2, keepdims=True)
    residual += without.mean((-1, -2), keepdims=True)
    both = (seeds - 1) * (clusters - 1) / (seeds * clusters) * np.square(residual).sum((-1, -2))
    if clusters >= seeds:
        own = np.maximum(own - both, 0)
    else:
        luck = np.maximum(luck - both, 0)
    return Spread(np.stack([own, luck], axis=-1), np.array([clusters - 1.0, seeds - 1.0]))


def limits_without_spread(value: Floats, size: Floats, clusters: int, level: float) -> tuple[Floats, Floats]:
    """Return the limits of Clopper and Pearson, each (...), of a share in clusters that do not differ.

    The size is reduced by the ratio of squared t quantiles with size - 1 and K - 1 degrees of freedom.

    Args:
        value: shares (...), 0 to 1.
        size: number of utterances of each share (...).
        clusters: K.
        level: confidence level, 0 to 1.
    """
    from scipy.special import betaincinv, stdtrit

    tail = (1 - level) / 2
    ratio = stdtrit(np.maximum(size - 1, 1), 1 - tail) / stdtrit(clusters - 1.0, 1 - tail)
    reduced = size * np.minimum(1, ratio) ** 2
    right = np.clip(value, 0, 1) * reduced
    wrong = reduced - right
    least = 1e-9  # parameters of the beta distribution must be above 0; with 0 the limit is 0 or 1
    low = betaincinv(np.maximum(right, least), wrong + 1, tail)
    high = betaincinv(right + 1, np.maximum(wrong, least), 1 - tail)
    return np.where(right < least, 0.0, low), np.where(wrong < least, 1.0, high)


def without_seed(left: Floats) -> Floats:
    """Return the mean over the other seeds, (..., R, K), for each seed left out."""
    seeds = left.shape[-2]
    return np.asarray((left.sum(-2, keepdims=True) - left) / (seeds - 1))


def _jackknife(values: Floats) -> Floats:
    """Return the jackknife variance (...) from values with each of N parts left out, (..., N)."""
    parts = values.shape[-1]
    return np.asarray((parts - 1) * values.var(-1))
