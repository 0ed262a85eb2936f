"""Agreement of raters, and the score that it allows a model to reach.

Shapes: U utterances, C categories, R raters of an utterance.

Sources: Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011; Shrout and Fleiss, Psychological Bulletin 86,
1979, case 1 (each utterance has different raters).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ser_pipeline.arrays import Floats


def alpha_of_votes(counts: ArrayLike) -> float:
    """Return Krippendorff's alpha of nominal votes `counts` (U, C), 1 for full agreement; NaN if it is undefined.

    Utterances with fewer than two votes do not count. An example of two utterances, where two raters agree on one:

    >>> round(alpha_of_votes([[2, 0], [1, 1]]), 3)
    0.0
    """
    votes = np.asarray(counts, np.float64)
    votes = votes[votes.sum(1) >= 2]
    pairs = votes.sum(1) - 1
    total, by_category = votes.sum(), votes.sum(0)
    expected = (total**2 - (by_category**2).sum()) / (total - 1) if total > 1 else 0.0
    if not expected:
        return float("nan")
    observed = ((votes.sum(1) ** 2 - (votes**2).sum(1)) / pairs).sum()
    return float(1 - observed / expected)


def alpha_of_values(ratings: Sequence[Sequence[float]]) -> float:
    """Return Krippendorff's alpha of interval data, from the values of each utterance's raters.

    >>> alpha_of_values([[1, 1], [3, 3]])
    1.0
    """
    several = [np.asarray(values, np.float64) for values in ratings if len(values) > 1]
    if not several:
        return float("nan")
    every = np.concatenate(several)
    expected = every.var() * len(every) / (len(every) - 1)  # half the mean squared difference of all pairs
    if not expected:
        return float("nan")
    observed = sum(len(values) * values.var(ddof=1) for values in several) / len(every)
    return float(1 - observed / expected)


def reliability_of_means(ratings: Sequence[Sequence[float]]) -> float:
    """Return the intraclass correlation of the raters' means, ICC(1, k), 0 to 1, where k is the mean number of raters.

    It is the expected correlation with the means of another panel of raters. Its square root is the correlation with
    the quantity that the means measure, and the largest that a model can be expected to reach.

    >>> reliability_of_means([[1, 1], [3, 3]])
    1.0
    """
    several = [np.asarray(values, np.float64) for values in ratings if len(values) > 1]
    if len(several) < 2:
        return float("nan")
    sizes = np.array([len(values) for values in several], np.float64)
    within = sum(float(((values - values.mean()) ** 2).sum()) for values in several) / (sizes.sum() - len(several))
    every = np.concatenate(several)
    spread = sum(len(values) * float((values.mean() - every.mean()) ** 2) for values in several)
    between = spread / (len(several) - 1)
    return float(max(0.0, 1 - within / between)) if between else float("nan")


def one_against_others(counts: ArrayLike) -> float:
    """Return how often a rater agrees with the majority of the others, 0 to 1: the accuracy of a human listener.

    If n classes tie for the others' majority, a rater who chose one of them counts as 1 / n. Utterances with fewer than
    two votes do not count; NaN if none remains.

    >>> one_against_others([[3, 0], [2, 1]])
    0.6666666666666666

    Args:
        counts: numbers of votes (U, C), whole.
    """
    votes = np.asarray(counts, np.float64)
    votes = votes[votes.sum(1) >= 2]
    agreed = np.zeros(votes.shape, np.float64)
    for category in range(votes.shape[1]):
        others: Floats = votes.copy()
        others[:, category] -= 1
        top = others.max(1, keepdims=True) == others
        agreed[:, category] = np.where(top[:, category], 1 / top.sum(1), 0.0)
    return float((agreed * votes).sum() / votes.sum()) if votes.size else float("nan")
