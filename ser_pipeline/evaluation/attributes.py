"""Scores of arousal, valence and dominance, of sums over utterances, so that any part can be left out and put back.

Shapes: U utterances, A attributes; further axes in front, `...`.

Source: Lin, A Concordance Correlation Coefficient to Evaluate Reproducibility, Biometrics 45, 1989.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats

SUMS = 7
"""Numbers that an utterance adds to the sums of an attribute: as `sums_of` has them."""


def sums_of(wanted: NDArray[np.floating], said: NDArray[np.floating]) -> Floats:
    """What each utterance adds to the sums: 1, both values, their squares, their product, their distance; (..., A, 7).

    Args:
        wanted: (..., A) by the raters.
        said: (..., A) by a model.
    """
    true, told = np.broadcast_arrays(np.asarray(wanted, np.float64), np.asarray(said, np.float64))
    return np.stack([np.ones_like(true), true, told, true**2, told**2, true * told, np.abs(true - told)], axis=-1)


def ccc(sums: Floats) -> Floats:
    """Concordance correlation coefficient, -1 to 1, (...) of sums (..., 7); NaN where all values are alike.

    >>> ccc(sums_of(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])).sum(0)).item()
    1.0
    """
    true, told, spread, other, both = _moments(sums)
    return _ratio(2 * both, spread + other + (true - told) ** 2)


def pearson(sums: Floats) -> Floats:
    """Correlation, -1 to 1, (...) of sums (..., 7); NaN where one of both does not vary."""
    _, _, spread, other, both = _moments(sums)
    return _ratio(both, np.sqrt(np.maximum(spread, 0) * np.maximum(other, 0)))


def mae(sums: Floats) -> Floats:
    """Mean absolute error on the scale of the values, (...) of sums (..., 7)."""
    return _ratio(sums[..., 6], sums[..., 0])


def _moments(sums: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Both means, both variances and the covariance, each (...), of sums (..., 7)."""
    count = np.maximum(sums[..., 0], 1)
    true, told, squares, others, products = (sums[..., place] / count for place in range(1, 6))
    return true, told, squares - true**2, others - told**2, products - true * told


def _ratio(above: Floats, below: Floats) -> Floats:
    """`above / below`, NaN where `below` is no more than what rounding leaves."""
    enough = np.asarray(below) > 1e-12
    return np.where(enough, above / np.where(enough, below, 1.0), np.nan)
