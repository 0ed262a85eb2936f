"""Ratings of an utterance: votes for classes, and arousal, valence and dominance on a scale."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ser_pipeline.arrays import Floats

Votes = tuple[tuple[str, float], ...]
"""Label -> total weight of its votes, as pairs; `ELSEWHERE` collects votes for no class."""

ELSEWHERE = ""
"""Key of votes for no class: another label, "other", or no answer."""

DIMENSIONS = ("arousal", "valence", "dominance")
"""The attributes, in the order of all their arrays and columns."""

Ratings = tuple[float, float, float]
"""One value of each of `DIMENSIONS`."""


CENTRED = (-1.0, 1.0)
"""Ends of the scale on which attributes are trained, whatever the corpus's."""


@dataclass(frozen=True, slots=True)
class Vad:
    """Arousal, valence and dominance of an utterance on its corpus's own scale."""

    values: Ratings  # the corpus's values, usually the mean of the raters
    scale: tuple[float, float]  # the ends of the scale
    raters: tuple[Ratings, ...] = ()  # each rater's values, if the corpus publishes them

    @property
    def outside(self) -> bool:
        """Whether a value is outside the ends of the scale, as some published values are; they are used unchanged."""
        low, high = self.scale
        return not all(low <= value <= high for value in self.values)

    def on(self, scale: tuple[float, float]) -> Vad:
        """Convert to another scale linearly, from end to end.

        >>> Vad((1.0, 2.0, 3.0), (1.0, 3.0)).on((0.0, 1.0)).values
        (0.0, 0.5, 1.0)
        """
        if scale == self.scale:
            return self

        def moved(ratings: Ratings) -> Ratings:
            one, two, three = moved_to(scale, np.array(ratings), self.scale).tolist()
            return one, two, three

        return Vad(moved(self.values), scale, tuple(map(moved, self.raters)))


def moved_to(scale: tuple[float, float], values: Floats, own: tuple[float, float]) -> Floats:
    """Convert values to another scale linearly, from end to end.

    Args:
        scale: the ends of the new scale.
        values: values on their own scale, of any shape.
        own: the ends of their own scale.
    """
    (low, high), (least, most) = own, scale
    return np.asarray(least + (values - low) / (high - low) * (most - least))


def mean_of(raters: Sequence[Ratings], scale: tuple[float, float]) -> Vad | None:
    """The mean of raters, with each rater's values; None if there are none.

    Args:
        raters: values of each rater.
        scale: ends of the scale.
    """
    if not raters:
        return None
    arousal, valence, dominance = (sum(values) / len(raters) for values in zip(*raters, strict=True))
    return Vad((arousal, valence, dominance), scale, tuple(raters))


def counted(ballots: Iterable[Sequence[str]]) -> Votes:
    """Count the votes of raters, each of whom chose one label or divides a vote among several; sorted by label.

    >>> counted([["ang"], ["ang", "fru"]])
    (('ang', 1.5), ('fru', 0.5))
    """
    weights: dict[str, float] = defaultdict(float)
    for labels in ballots:
        for label in labels:
            weights[label] += 1 / len(labels)
    return tuple(sorted(weights.items()))


def merged(votes: Votes, classes: Mapping[str, str]) -> Votes:
    """Convert votes for labels to votes for classes, sorted by class; votes for other labels go to `ELSEWHERE`.

    Args:
        votes: votes for labels.
        classes: label -> its class.

    >>> merged((("exc", 1.0), ("fru", 1.0), ("hap", 1.0)), {"exc": "happy", "hap": "happy"})
    (('', 1.0), ('happy', 2.0))
    """
    weights: dict[str, float] = defaultdict(float)
    for label, weight in votes:
        weights[classes.get(label, ELSEWHERE)] += weight
    return tuple(sorted(weights.items()))


def votes_for_classes(votes: Votes) -> float:
    """The total weight of votes for classes."""
    return sum(weight for label, weight in votes if label != ELSEWHERE)


def vote_weights(votes: Iterable[Votes], labels: Sequence[str]) -> Floats:
    """Votes of U utterances for each of C labels, (U, C) float64; votes for other labels are left out.

    >>> vote_weights([(("joy", 2.0), ("sad", 1.0)), ()], ["sad", "joy"]).tolist()
    [[1.0, 2.0], [0.0, 0.0]]
    """
    rows = [dict(one) for one in votes]
    return np.array([[row.get(label, 0.0) for label in labels] for row in rows]).reshape(len(rows), len(labels))
