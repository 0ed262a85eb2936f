"""Confusion matrices by cluster, Holm's correction for multiple tests, and McNemar's test.

Shapes: R seeds, K clusters, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Ints


def cluster_counts(target: Ints, predictions: NDArray[np.integer], cluster: Ints, clusters: int, classes: int) -> Ints:
    """Return the confusion matrices of every seed and cluster, (R, K, C, C).

    Args:
        target: true class, (U,).
        predictions: predicted class of each seed, (R, U).
        cluster: cluster of each utterance, (U,), 0 to `clusters` - 1.
        clusters: K.
        classes: C.
    """
    seeds = np.arange(len(predictions))[:, None]
    cells = ((seeds * clusters + cluster) * classes + target) * classes + predictions
    counts = np.bincount(cells.ravel(), minlength=len(predictions) * clusters * classes * classes)
    return counts.reshape(len(predictions), clusters, classes, classes)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for the number of tests, in the same order; None stands for no test and stays None.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    tested = np.array([p for p in p_values if p is not None], dtype=np.float64)
    order = np.argsort(tested, kind="stable")
    scaled = tested[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    found = iter(corrected.tolist())
    return [None if p is None else next(found) for p in p_values]


def mcnemar(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Return McNemar's exact test: the utterances only the first or only the other got right, and a two-sided p-value.

    The test assumes independent utterances, but those of one speaker are not independent. Report it in addition to
    `difference`, not instead.

    >>> mcnemar(np.array([True, True, True, False]), np.array([False, False, False, False]))
    (3, 0, 0.25)
    """
    first, second = int(np.sum(right & ~other)), int(np.sum(other & ~right))
    total = first + second
    tail = sum(math.comb(total, k) for k in range(min(first, second) + 1))
    return first, second, min(1.0, 2 * tail / 2**total)
