"""Plots of probabilities over the waveform of a recording, one per channel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ser_pipeline.entry import writing
from ser_pipeline.predict.answers import Answer, Unanswered
from ser_pipeline.predict.recordings import Decoded, InMemory, Opened
from ser_pipeline.report.drawing import CLASS_COLOURS, RULE, STYLE

POINTS = 1_600
"""Number of columns of a plotted waveform."""

BLOCK = 1 << 18
"""Number of samples that are read at once."""


@dataclass(frozen=True)
class Outlined:
    """The contents of the plot of one channel of a recording."""

    file: str
    channel: int | None
    seconds: float
    envelope: NDArray[np.float32]  # (POINTS,) largest magnitude of each column, 0 to 1
    answers: list[Answer] = field(default_factory=list)


@dataclass
class Pictures:
    """The plots of all recordings, drawn after all predictions."""

    folder: Path
    labels: Sequence[str]
    rate: int  # sampling rate of the decoded recordings in Hz
    kept: list[Outlined] = field(default_factory=list)

    def hear(self, recording: Opened) -> None:
        """Compute the outlines of a recording while its samples are available."""
        for track in recording.tracks:
            seconds = track.samples.count / self.rate
            self.kept.append(Outlined(recording.name, track.channel, seconds, envelope(track.samples)))

    def add(self, answer: Answer | Unanswered) -> None:
        """Add an answer to the plot of its channel; of several plots of one recording, the first incomplete one."""
        if isinstance(answer, Answer):
            mine = [one for one in self.kept if (one.file, one.channel) == (answer.file, answer.channel)]
            later = (one for one in mine if not one.answers or one.answers[-1].start < answer.start)
            next(later, mine[-1]).answers.append(answer)

    def draw(self) -> Iterator[Path]:
        """Write a PNG for every channel that has an answer, and yield its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        used: dict[str, int] = {}
        for picture in self.kept:
            if picture.answers:
                name = re.sub(r"[^\w.-]", "_", Path(picture.file).stem) or "recording"
                name += "" if picture.channel is None else f"-channel{picture.channel}"
                used[name] = used.get(name, 0) + 1
                file = self.folder / (name + (f"-{used[name]}" if used[name] > 1 else "") + ".png")
                with writing(file) as temporary:
                    _figure(picture, self.labels).savefig(temporary, format="png", dpi=150)
                yield file


def envelope(samples: Decoded | InMemory) -> NDArray[np.float32]:
    """Return the largest magnitude (POINTS,) of each column of a waveform, which is read in blocks."""
    found = np.zeros(POINTS, np.float32)
    for first in range(0, samples.count, BLOCK):
        last = min(first + BLOCK, samples.count)
        column = np.arange(first, last) * POINTS // samples.count
        np.maximum.at(found, column, np.abs(samples.read(first, last)))
    return found


def _figure(picture: Outlined, labels: Sequence[str]) -> Figure:
    """Draw the outline in grey, and a line for each class, 0 to 1."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3), layout="constrained")
        axes = figure.subplots()
        outline = picture.envelope / max(float(picture.envelope.max()), 1e-9) / 2
        times = np.linspace(0, picture.seconds, POINTS)
        axes.fill_between(times, 0.5 - outline, 0.5 + outline, color=RULE, linewidth=0)
        for place, label in enumerate(labels):
            colour = CLASS_COLOURS[place % len(CLASS_COLOURS)]
            axes.plot(*_line(picture.answers, label), color=colour, linewidth=1.6, label=label, solid_capstyle="butt")
        axes.set(xlim=(0, picture.seconds), ylim=(0, 1), xlabel="seconds", ylabel="probability", title=picture.file)
        figure.legend(loc="outside right upper", frameon=False)
    return figure


def _line(answers: Sequence[Answer], label: str) -> tuple[list[float], list[float]]:
    """Return times and probabilities: steps, or a line through the centres if answers overlap."""
    if any(one.end > after.start for one, after in pairwise(answers)):
        return [(one.start + one.end) / 2 for one in answers], [one.probabilities[label] for one in answers]
    times = [time for one in answers for time in (one.start, one.end, np.nan)]
    return times, [share for one in answers for share in (one.probabilities[label],) * 2 + (np.nan,)]
