"""Answers of the models for a recording, or for a part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """The models' prediction for a recording from `start` to `end`."""

    file: str  # as given by the caller; "-" for standard input, "" for samples and bytes
    start: float  # seconds into the recording
    end: float  # seconds into the recording
    emotion: str | None  # the likeliest class; None below the requested confidence, or without classes
    probabilities: Mapping[str, float]  # by class, 0 to 1, summing to 1; with target votes the raters' distribution
    spread: float | None  # standard deviation over models of the likeliest class's probability; None for one model
    channel: int | None = None  # counted from 1; None for the mean of all channels
    speaker: str = ""  # speaker of the turn
    note: str = ""  # reasons to trust the answer less
    attributes: Mapping[str, float] = field(default_factory=dict)  # arousal, valence, dominance on the corpus's scale
    left_out_by: str = ""  # for a recording that one of the models was trained on: the fold that tested on it

    @property
    def confidence(self) -> float:
        """Probability of the likeliest class, 0 to 1; NaN if the models predict no classes."""
        return max(self.probabilities.values(), default=float("nan"))


@dataclass(frozen=True)
class Unanswered:
    """A recording, or a part of it, without a prediction."""

    file: str  # as given by the caller
    error: str  # the reason, in one line
