"""Which parts of recordings are asked about: whole ones, windows, turns, channels."""

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
    """What is asked of every recording."""

    window: float | None = None  # seconds that are answered for at a time; None: all
    stride: float | None = None  # seconds from one window to the next; None: `window`
    channels: Channels = "mix"
    turns: tuple[SpeakerTurn, ...] = ()  # answered for one by one; none: the whole recording
    unsure: float = 0.0  # probability under which there is no answer

    def __post_init__(self) -> None:
        for name, value in (("window", self.window), ("stride", self.stride)):
            if value is not None and not 0 < value < math.inf:
                raise PipelineError(f"a {name} is a number of seconds over 0, not {value:g}")
        if self.stride is not None and self.window is None:
            raise PipelineError("a stride goes with a window")


@dataclass(frozen=True)
class Excerpt:
    """Samples that are answered for as one utterance."""

    recording: Opened
    track: Track
    first: int  # sample at the model's rate
    last: int  # sample after the end
    speaker: str = ""

    def __len__(self) -> int:
        return self.last - self.first

    def read(self, first: int, last: int) -> Samples:
        """Its samples from `first` to `last`, counted from its beginning."""
        return self.track.samples.read(self.first + first, self.first + last)


def excerpts(recording: Opened, question: Question, rate: int) -> Iterator[Excerpt | Unanswered]:
    """What is asked of one recording, in the order of channels and of time.

    Args:
        recording: decoded.
        question: what is asked.
        rate: Hz of the decoded samples.
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
    """The turns of one channel; a turn of another one is left out where channels are told apart."""
    for turn in question.turns:
        here = turn.channel in (None, track.channel) or question.channels != "split"
        if not (turn.of(recording.name) and here):
            continue
        first, last = round(turn.start * rate), min(round(turn.end * rate), track.samples.count)
        if first < last:
            yield Excerpt(recording, track, first, last, turn.speaker)
        else:
            there = f"the recording ends at {track.samples.count / rate:.3f} s"
            said = f"no audio in the turn of {turn.speaker or 'nobody'} from {turn.start:g} to {turn.end:g} s: {there}"
            yield Unanswered(recording.name, said)


def _windows(excerpt: Excerpt, window: float, stride: float, rate: int) -> Iterator[Excerpt]:
    """Windows from its beginning on; the last one ends with it, and none lies wholly within another."""
    size, step = max(1, round(window * rate)), max(1, round(stride * rate))
    start = excerpt.first
    while start < excerpt.last:
        end = min(start + size, excerpt.last)
        yield Excerpt(excerpt.recording, excerpt.track, start, end, excerpt.speaker)
        if end == excerpt.last:
            return
        start += step
