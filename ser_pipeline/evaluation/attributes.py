"""Scores of arousal, valence and dominance, computed from sums over utterances so that any part can be left out.

Shapes: U utterances, A attributes; `...` are further leading axes.

Source: Lin, A Concordance Correlation Coefficient to Evaluate Reproducibility, Biometrics 45, 1989.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats

SUMS = 7
"""Length of the vector that `sums_of` returns for an utterance and attribute."""


def sums_of(wanted: NDArray[np.floating], said: NDArray[np.floating]) -> Floats:
    """Return each utterance's terms of the sums, (..., A, 7).

    The terms are 1, the raters' and the model's value, their squares, their product, and their absolute difference.

    Args:
        wanted: the raters' values, (..., A).
        said: the model's values, (..., A).
    """
    true, told = np.broadcast_arrays(np.asarray(wanted, np.float64), np.asarray(said, np.float64))
    return np.stack([np.ones_like(true), true, told, true**2, told**2, true * told, np.abs(true - told)], axis=-1)


def ccc(sums: Floats) -> Floats:
    """Return the concordance correlation coefficient, -1 to 1, (...), from sums (..., 7); NaN if all values are equal.

    >>> ccc(sums_of(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])).sum(0)).item()
    1.0
    """
    true, told, spread, other, both = _moments(sums)
    return _ratio(2 * both, spread + other + (true - told) ** 2)


def pearson(sums: Floats) -> Floats:
    """Return Pearson's correlation, -1 to 1, (...), from sums (..., 7); NaN if one of the two does not vary."""
    _, _, spread, other, both = _moments(sums)
    return _ratio(both, np.sqrt(np.maximum(spread, 0) * np.maximum(other, 0)))


def mae(sums: Floats) -> Floats:
    """Return the mean absolute error in the unit of the values, (...), from sums (..., 7)."""
    return _ratio(sums[..., 6], sums[..., 0])


def _moments(sums: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return both means, both variances and the covariance, each (...), from sums (..., 7)."""
    count = np.maximum(sums[..., 0], 1)
    true, told, squares, others, products = (sums[..., place] / count for place in range(1, 6))
    return true, told, squares - true**2, others - told**2, products - true * told


def _ratio(above: Floats, below: Floats) -> Floats:
    """Return `above / below`, NaN where `below` is not above rounding error."""
    enough = np.asarray(below) > 1e-12
    return np.where(enough, above / np.where(enough, below, 1.0), np.nan)
