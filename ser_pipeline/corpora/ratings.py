"""What raters said of an utterance: votes for classes, and arousal, valence and dominance on a scale."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ser_pipeline.arrays import Floats

Votes = tuple[tuple[str, float], ...]
"""Label -> weight of the raters who chose it, as pairs; `ELSEWHERE` has those who chose no class."""

ELSEWHERE = ""
"""The place of votes for what is no class: another label, "other", or no answer."""

DIMENSIONS = ("arousal", "valence", "dominance")
"""The attributes, in the order of all their arrays and columns."""

Ratings = tuple[float, float, float]
"""One value of each of `DIMENSIONS`."""


CENTRED = (-1.0, 1.0)
"""Ends of the scale that attributes are learned on, whatever the corpus's."""


@dataclass(frozen=True, slots=True)
class Vad:
    """Arousal, valence and dominance of an utterance on its corpus's own scale."""

    values: Ratings  # the corpus's: as a rule the mean of the raters
    scale: tuple[float, float]  # the ends of the scale
    raters: tuple[Ratings, ...] = ()  # what each of them said, where the corpus publishes it

    @property
    def outside(self) -> bool:
        """Whether a value lies outside of the ends of the scale, as corpora publish some: it is taken as it is."""
        low, high = self.scale
        return not all(low <= value <= high for value in self.values)

    def on(self, scale: tuple[float, float]) -> Vad:
        """The same on another scale, end to end.

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
    """Values on another scale, end to end.

    Args:
        scale: the ends of the other.
        values: on their own, of any shape.
        own: its ends.
    """
    (low, high), (least, most) = own, scale
    return np.asarray(least + (values - low) / (high - low) * (most - least))


def mean_of(raters: Sequence[Ratings], scale: tuple[float, float]) -> Vad | None:
    """The mean of raters, with what each of them said; None without one.

    Args:
        raters: the values of each.
        scale: its ends.
    """
    if not raters:
        return None
    arousal, valence, dominance = (sum(values) / len(raters) for values in zip(*raters, strict=True))
    return Vad((arousal, valence, dominance), scale, tuple(raters))


def counted(ballots: Iterable[Sequence[str]]) -> Votes:
    """The votes of raters, each of whom chose one label or shares a vote among several, sorted by label.

    >>> counted([["ang"], ["ang", "fru"]])
    (('ang', 1.5), ('fru', 0.5))
    """
    weights: dict[str, float] = defaultdict(float)
    for labels in ballots:
        for label in labels:
            weights[label] += 1 / len(labels)
    return tuple(sorted(weights.items()))


def merged(votes: Votes, classes: Mapping[str, str]) -> Votes:
    """Votes for labels as votes for classes, sorted by class; those for other labels are `ELSEWHERE`.

    Args:
        votes: for labels.
        classes: label -> its class.

    >>> merged((("exc", 1.0), ("fru", 1.0), ("hap", 1.0)), {"exc": "happy", "hap": "happy"})
    (('', 1.0), ('happy', 2.0))
    """
    weights: dict[str, float] = defaultdict(float)
    for label, weight in votes:
        weights[classes.get(label, ELSEWHERE)] += weight
    return tuple(sorted(weights.items()))


def votes_for_classes(votes: Votes) -> float:
    """The weight of the votes that are for a class."""
    return sum(weight for label, weight in votes if label != ELSEWHERE)


def vote_weights(votes: Iterable[Votes], labels: Sequence[str]) -> Floats:
    """The weight of the votes of U utterances for each of C labels, (U, C) float64; those for others are left out.

    >>> vote_weights([(("joy", 2.0), ("sad", 1.0)), ()], ["sad", "joy"]).tolist()
    [[1.0, 2.0], [0.0, 0.0]]
    """
    rows = [dict(one) for one in votes]
    return np.array([[row.get(label, 0.0) for label in labels] for row in rows]).reshape(len(rows), len(labels))
