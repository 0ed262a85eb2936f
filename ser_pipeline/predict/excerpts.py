"""Excerpts of recordings to predict: whole recordings, windows, turns, channels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ser_pipeline.audio import Samples
from ser_pipeline.errors import PipelineError
from ser_pipeline.predict.answers import Unanswered
from ser_pipeline.predict.recordings import Channels, Opened, Track
from ser_pipeline.predict.turns import SpeakerTurn


@dataclass(frozen=True)
class Question:
    """The excerpts to predict of every recording, and the confidence that an answer needs."""

    window: float | None = None  # length of a window in seconds; None for the whole recording or turn
    stride: float | None = None  # seconds between the starts of two windows; None for `window`
    channels: Channels = "mix"
    turns: tuple[SpeakerTurn, ...] = ()  # turns to predict one by one; () for the whole recording
    unsure: float = 0.0  # smallest probability of an answer, 0 to 1

    def __post_init__(self) -> None:
        for name, value in (("window", self.window), ("stride", self.stride)):
            if value is not None and not 0 < value < math.inf:
                raise PipelineError(f"a {name} must be a number of seconds above 0, not {value:g}")
        if self.stride is not None and self.window is None:
            raise PipelineError("a stride needs a window")


@dataclass(frozen=True)
class Excerpt:
    """A part of a recording that is predicted as one utterance."""

    recording: Opened
    track: Track
    first: int  # first sample, at the model's rate
    last: int  # end, exclusive
    speaker: str = ""

    def __len__(self) -> int:
        return self.last - self.first

    def read(self, first: int, last: int) -> Samples:
        """Read its samples `first` to `last` (exclusive), counted from its start."""
        return self.track.samples.read(self.first + first, self.first + last)


def excerpts(recording: Opened, question: Question, rate: int) -> Iterator[Excerpt | Unanswered]:
    """Yield the excerpts of one recording, ordered by channel and time.

    Args:
        recording: the decoded recording.
        question: the excerpts to predict.
        rate: sampling rate of the decoded recording in Hz.
    """
    for track in recording.tracks:
        if question.turns:
            parts = _turns(recording, track, question, rate)
        else:
            parts = iter([Excerpt(recording, track, 0, track.samples.count)])
        for part in parts:
            if isinstance(part, Unanswered) or question.window is None:
                yield part
            else:
                yield from _windows(part, question.window, question.stride or question.window, rate)


def _turns(recording: Opened, track: Track, question: Question, rate: int) -> Iterator[Excerpt | Unanswered]:
    """Yield the turns of one channel; with split channels, turns of other channels are left out."""
    for turn in question.turns:
        here = turn.channel in (None, track.channel) or question.channels != "split"
        if not (turn.of(recording.name) and here):
            continue
        first, last = round(turn.start * rate), min(round(turn.end * rate), track.samples.count)
        if first < last:
            yield Excerpt(recording, track, first, last, turn.speaker)
        else:
            there = f"the recording ends at {track.samples.count / rate:.3f} s"
            who = turn.speaker or "an unnamed speaker"
            said = f"no audio in the turn of {who} from {turn.start:g} to {turn.end:g} s: {there}"
            yield Unanswered(recording.name, said)


def _windows(excerpt: Excerpt, window: float, stride: float, rate: int) -> Iterator[Excerpt]:
    """Yield windows from the start of an excerpt; none is contained in another.

    The last one ends with the excerpt unless the stride is longer than the window.
    """
    size, step = max(1, round(window * rate)), max(1, round(stride * rate))
    start = excerpt.first
    while start < excerpt.last:
        end = min(start + size, excerpt.last)
        yield Excerpt(excerpt.recording, excerpt.track, start, end, excerpt.speaker)
        if end == excerpt.last:
            return
        start += step
