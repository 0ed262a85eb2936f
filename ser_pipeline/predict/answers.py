"""What is said of a recording, or of a part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """What the models say of a recording from `start` to `end`."""

    file: str  # as it was asked for; "-" for standard input, "" for samples and bytes
    start: float  # seconds into the recording
    end: float  # seconds into the recording
    emotion: str | None  # the likeliest class; None where the models are less sure than was asked for, or tell none
    probabilities: Mapping[str, float]  # class -> 0 to 1, summing to 1; under target votes the raters' distribution
    spread: float | None  # standard deviation over the folds' models of the likeliest class's probability; None for one
    channel: int | None = None  # from 1 on; None: the mean of all
    speaker: str = ""  # who has the turn
    note: str = ""  # what makes the answer worth less, in words
    attributes: Mapping[str, float] = field(default_factory=dict)  # arousal, valence, dominance on the corpus's scale
    left_out_by: str = ""  # for a recording that models asked had learned from: the fold that tested on it

    @property
    def confidence(self) -> float:
        """Probability of the likeliest class, 0 to 1; NaN where the models tell no class."""
        return max(self.probabilities.values(), default=float("nan"))


@dataclass(frozen=True)
class Unanswered:
    """A recording, or a part of it, that could not be answered for."""

    file: str  # as it was asked for
    error: str  # why, in one line
