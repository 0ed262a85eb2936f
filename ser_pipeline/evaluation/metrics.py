"""Confusion matrices and scores of whole utterances.

Shapes: U utterances, S segments, C classes. Rows of a confusion matrix are the true classes, columns the predicted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ser_pipeline.arrays import Floats, Ints

TINY = np.finfo(np.float64).tiny  # keeps the logarithm of a probability finite


@dataclass(frozen=True, eq=False)
class Confusion:
    """A confusion matrix; `+` adds the matrices of two folds.

    >>> both = Confusion.of([0, 0, 1], [0, 1, 1], classes=2) + Confusion.of([1], [1], classes=2)
    >>> both.wa, both.ua
    (0.75, 0.75)
    """

    counts: Ints  # (C, C)

    @classmethod
    def of(cls, target: ArrayLike, prediction: ArrayLike, classes: int) -> Confusion:
        """Return the confusion matrix of predictions.

        Args:
            target: indices of the true classes (U,), 0 to `classes` - 1.
            prediction: indices of the predicted classes (U,), 0 to `classes` - 1.
            classes: C.
        """
        pairs = np.asarray(target, dtype=np.int64) * classes + np.asarray(prediction, dtype=np.int64)
        return cls(np.bincount(pairs, minlength=classes * classes).reshape(classes, classes))

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Confusion) and np.array_equal(self.counts, other.counts)

    @property
    def total(self) -> int:
        """Number of utterances."""
        return int(self.counts.sum())

    @property
    def recalls(self) -> Floats:
        """Recall of each class, (C,), 0 to 1; NaN for a class that is absent."""
        return recalls(self.counts)

    @property
    def wa(self) -> float:
        """Weighted accuracy: the share of correct utterances, 0 to 1; NaN without utterances."""
        return float(wa(self.counts))

    @property
    def ua(self) -> float:
        """Unweighted accuracy: the mean recall of the classes that are present, 0 to 1."""
        return float(ua(self.counts))

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that are present or predicted, 0 to 1; NaN without utterances."""
        return float(macro_f1(self.counts))


def recalls(counts: NDArray[np.number]) -> Floats:
    """Return the recall of each class, (..., C), of matrices (..., C, C); NaN for an absent class."""
    return _ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1))


def wa(counts: NDArray[np.number]) -> Floats:
    """Return the weighted accuracy, (...), of matrices (..., C, C)."""
    return _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)))


def ua(counts: NDArray[np.number]) -> Floats:
    """Return the unweighted accuracy, (...), of matrices (..., C, C)."""
    return _mean(recalls(counts))


def macro_f1(counts: NDArray[np.number]) -> Floats:
    """Return the macro F1, (...), of matrices (..., C, C)."""
    return _mean(_ratio(2 * np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1) + counts.sum(-2)))


def utterance_scores(
    log_prob: NDArray[np.floating],
    utterance: NDArray[np.integer],
    count: int,
    how: str = "log-probability",
    samples: NDArray[np.integer] | None = None,
) -> Floats:
    """Combine the scores of segments into scores of utterances, (U, C); the largest is the prediction.

    Args:
        log_prob: natural log-probabilities of segments, (S, C).
        utterance: each segment's utterance, (S,), 0 to `count` - 1; every utterance has a segment.
        count: number of utterances.
        how: a key of `SCORES`; the published code averages log-probabilities.
        samples: number of samples of each segment without padding, (S,), its weight for the keys in `WEIGHTED`.

    Raises:
        ValueError: `how` needs `samples`, and they are missing.

    >>> segments, real = np.log([[0.6, 0.4], [0.6, 0.4], [0.05, 0.95]]), np.array([48_000, 48_000, 100])
    >>> {how: int(utterance_scores(segments, np.zeros(3, int), 1, how, real).argmax()) for how in SCORES}
    {'log-probability': 1, 'probability': 1, 'vote': 0, 'duration': 0}
    """
    weight = _weights(utterance, count, how, samples)
    return SCORES[how](np.asarray(log_prob, dtype=np.float64), np.asarray(utterance), count, weight)


def utterance_means(
    values: NDArray[np.floating],
    utterance: NDArray[np.integer],
    count: int,
    how: str = "log-probability",
    samples: NDArray[np.integer] | None = None,
) -> Floats:
    """Average values of segments over utterances, (U, A), with the weights of `utterance_scores`.

    Args:
        values: values of segments, (S, A).
        utterance: each segment's utterance, (S,).
        count: number of utterances.
        how: a key of `SCORES`; segments are weighted if it is in `WEIGHTED`.
        samples: number of samples of each segment without padding, (S,).
    """
    weight = _weights(utterance, count, how, samples)
    return _means(np.asarray(values, dtype=np.float64), np.asarray(utterance), count, weight)


def _weights(utterance: NDArray[np.integer], count: int, how: str, samples: NDArray[np.integer] | None) -> Floats:
    """Return the weight of each segment, (S,)."""
    if how not in WEIGHTED:
        return np.ones(len(utterance))
    if samples is None:
        raise ValueError(f"the score by {how} needs the number of real samples of every segment")
    total = np.bincount(utterance, weights=samples, minlength=count)
    return np.where(total[utterance] > 0, samples, 1.0)


def probabilities(scores: NDArray[np.floating]) -> Floats:
    """Normalise log-probabilities (..., C) to probabilities that sum to 1."""
    exact = np.asarray(scores, dtype=np.float64)
    shifted = np.exp(exact - exact.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def _log_probability(log_prob: Floats, utterance: NDArray[np.integer], count: int, weight: Floats) -> Floats:
    """Return the mean log-probability of the segments."""
    return _means(log_prob, utterance, count, weight)


def _probability(log_prob: Floats, utterance: NDArray[np.integer], count: int, weight: Floats) -> Floats:
    """Return the logarithm of the mean probability of the segments."""
    return np.asarray(np.log(np.maximum(_means(np.exp(log_prob), utterance, count, weight), TINY)))


def _vote(log_prob: Floats, utterance: NDArray[np.integer], count: int, weight: Floats) -> Floats:
    """Return the logarithm of each class's share of votes; half a vote, split by mean log-probability, breaks ties."""
    votes = _sums(np.eye(log_prob.shape[1])[log_prob.argmax(1)], utterance, count)
    votes += probabilities(_means(log_prob, utterance, count, weight)) / 2
    return np.asarray(np.log(np.maximum(votes / votes.sum(1, keepdims=True), TINY)))


def _means(values: Floats, utterance: NDArray[np.integer], count: int, weight: Floats) -> Floats:
    """Return the means of the rows of `values` (S, C), weighted by `weight` (S,), for each utterance, (U, C)."""
    total = np.bincount(utterance, weights=weight, minlength=count)
    return _sums(values * weight[:, None], utterance, count) / total[:, None]


def _sums(values: Floats, utterance: NDArray[np.integer], count: int) -> Floats:
    """Return the sums of the rows of `values` (S, C) for each utterance, (U, C)."""
    return np.stack([np.bincount(utterance, weights=column, minlength=count) for column in values.T], axis=1)


def _ratio(above: NDArray[np.number], below: NDArray[np.number]) -> Floats:
    """Return `above / below`, NaN where `below` is 0."""
    result = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=result, where=np.asarray(below) != 0)
    return result


def _mean(values: Floats) -> Floats:
    """Return the mean over the last axis without NaN; NaN if all values are NaN."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(-1), known.sum(-1))


SCORES: dict[str, Callable[[Floats, NDArray[np.integer], int, Floats], Floats]] = {
    "log-probability": _log_probability,
    "probability": _probability,
    "vote": _vote,
    "duration": _log_probability,
}
"""Functions of segments (S, C), their utterances (S,), the number of utterances, and weights (S,)."""

WEIGHTED = ("duration",)
"""Keys of `SCORES` that weight a segment by its number of samples without padding; the others weight all equally."""

METRICS: dict[str, Callable[[NDArray[np.number]], Floats]] = {"wa": wa, "ua": ua, "macro_f1": macro_f1}
"""Scores of confusion matrices, in the order of the tables."""
