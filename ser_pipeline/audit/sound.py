"""Listening to a corpus: what each utterance's audio is like, decoded in parallel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from ser_pipeline import audio
from ser_pipeline.audit.copies import RATE as COMPARED
from ser_pipeline.audit.copies import UNMARKED, Landmarks, Marks
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.errors import PipelineError

FULL = 0.999  # of full scale: a sample there is at the converter's limit
RUN = 3  # samples at the limit in a row, from which on they are clipping and not a peak
FRAME = 0.02  # s
PAST = 0.05  # s beyond its file that an utterance may end without a word: tables round
SILENT = 40.0  # dB below the utterance's loudest frame


@dataclass(frozen=True)
class Sound:
    """What an utterance's audio is like."""

    seconds: float = 0.0
    rate: int = 0  # Hz
    channels: int = 0
    peak: float = 0.0  # largest magnitude, 1 is full scale
    loudest: float = 0.0  # half the range of the channel that moves most: without what stays the same
    quietest: float = 0.0  # half the range of the channel that moves least
    mixed: float = 0.0  # half the range of the mean of the channels, which is what features are made of
    offset: float = 0.0  # mean of the mix
    clipped: float = 0.0  # share of samples in runs at full scale
    silent: float = 0.0  # share of frames that are silent against the loudest one
    digest: str = ""  # of rate and decoded samples; "" where they are all zero, or broken
    marks: Landmarks = field(default=UNMARKED, compare=False, repr=False)  # none where it is broken
    notes: tuple[str, ...] = ()  # what was odd about the file, which could be read all the same
    fault: str = ""  # "missing", "truncated", "unreadable", "not-finite", or ""
    detail: str = ""  # of the fault, in words


def listen(
    utterances: Sequence[Utterance],
    folder: Path,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Sound]:
    """The sound of every utterance, in order.

    Args:
        utterances: their files are below `folder`.
        folder: the corpus's.
        jobs: threads; all cores where None.
        progress: called with how many are done, and of how many.
    """
    work = Parallel(n_jobs=jobs or -1, prefer="threads", batch_size=8, return_as="generator")
    sounds = []
    for sound in work(delayed(listen_to)(folder, utterance) for utterance in utterances):
        sounds.append(sound)
        if progress:
            progress(len(sounds), len(utterances))
    return sounds


def listen_to(folder: Path, utterance: Utterance) -> Sound:
    """The sound of one utterance; a fault is told, never raised."""
    try:
        with audio.Recording(folder / utterance.file, utterance.file) as recording:
            return _describe(recording, utterance)
    except OSError as error:
        return Sound(fault="missing", detail=f"{utterance.file}: {error.strerror}")
    except PipelineError as error:
        kinds = {audio.TruncatedError: "truncated", audio.NotFiniteError: "not-finite"}
        return Sound(fault=kinds.get(type(error), "unreadable"), detail=str(error).removesuffix(audio.ADVICE))


def read_mono(
    folder: Path, utterance: Utterance, stretch: tuple[float, float] | None = None
) -> tuple[NDArray[np.float32], int]:
    """Samples (samples,), the mean of the channels, and their rate in Hz, of an utterance that was found whole.

    Args:
        folder: of the corpus.
        utterance: which.
        stretch: seconds into it, first and last; None: all of it.
    """
    start, end = utterance.start, utterance.end
    if stretch:
        start, end = (start or 0.0) + stretch[0], (start or 0.0) + stretch[1]
    return audio.decode(folder / utterance.file, utterance.file, COMPARED, start, end), COMPARED


def _describe(recording: audio.Recording, utterance: Utterance) -> Sound:
    """What the recording is like from the utterance's start to its end, a block at a time."""
    rate = recording.header.rate
    first, last, samples = audio.span(recording.header, rate, utterance.start, utterance.end)
    if not samples:
        seconds = recording.header.frames / rate
        raise PipelineError(
            f"{utterance.file} is {seconds:.2f} s long and holds nothing from {utterance.start} to {utterance.end} s"
        )
    heard = _Heard(rate, recording.channels)
    for block in recording.blocks(first, last):
        heard.add(block)
    notes = [*recording.notes]
    if utterance.end is not None and utterance.end > recording.header.frames / rate + PAST:
        notes.append(f"ends at {recording.header.frames / rate:.2f} s, before the utterance's end, {utterance.end:g} s")
    return heard.sound(tuple(notes))


class _Heard:
    """What is known of a recording after some of its blocks."""

    def __init__(self, rate: int, channels: int) -> None:
        self._rate = rate
        self._low, self._high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._mix = [np.inf, -np.inf, 0.0]  # least, largest, sum
        self._clipping = Clipping()
        self._samples = 0
        self._hash = hashlib.sha256(rate.to_bytes(4, "little"))
        self._frames = Frames(max(1, round(FRAME * rate)))
        self._marks = Marks(rate)

    def add(self, block: NDArray[np.float32]) -> None:
        """Hear another block, (samples, channels)."""
        self._low, self._high = np.minimum(self._low, block.min(axis=0)), np.maximum(self._high, block.max(axis=0))
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        least, largest, total = self._mix
        self._mix = [
            min(least, float(mono.min())),
            max(largest, float(mono.max())),
            total + float(mono.sum(dtype="f8")),
        ]
        self._clipping.add(np.abs(block).max(axis=1) >= FULL)
        self._samples += len(mono)
        self._hash.update(np.ascontiguousarray(mono).data)
        self._frames.add(mono)
        self._marks.add(mono)

    def sound(self, notes: tuple[str, ...]) -> Sound:
        """What all of it was like."""
        ranges = (self._high - self._low) / 2
        least, largest, total = self._mix
        return Sound(
            seconds=self._samples / self._rate,
            rate=self._rate,
            channels=len(ranges),
            peak=float(max(-self._low.min(), self._high.max())),
            loudest=float(ranges.max()),
            quietest=float(ranges.min()),
            mixed=(largest - least) / 2,
            offset=total / self._samples,
            clipped=self._clipping.samples / self._samples,
            silent=self._frames.silent(),
            digest=self._hash.hexdigest() if least or largest else "",
            marks=self._marks.landmarks(),
            notes=notes,
        )


class Clipping:
    """Counts samples in runs of at least `RUN` at full scale, whole runs over the ends of blocks.

    >>> heard = Clipping()
    >>> for block in ([0, 1, 1], [1, 1, 0, 1, 0]):
    ...     heard.add(np.array(block, bool))
    >>> heard.samples
    4
    """

    def __init__(self) -> None:
        self.samples = 0
        self._open = 0  # samples of the run that reaches the end of the last block

    def add(self, full: NDArray[np.bool_]) -> None:
        """Hear a block: which of its samples are at full scale, (samples,)."""
        if full.all():
            before, self._open = self._open, self._open + len(full)
            self.samples += self._counted(self._open) - self._counted(before)
            return
        edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]]).astype(np.int8)))
        runs = edges[1::2] - edges[::2]
        if full[0]:
            self.samples -= self._counted(self._open)
            runs[0] += self._open
        self.samples += int(runs[runs >= RUN].sum())
        self._open = int(runs[-1]) if full[-1] else 0

    @staticmethod
    def _counted(run: int) -> int:
        return run if run >= RUN else 0


class Frames:
    """The power of frames, whole ones over the ends of blocks."""

    def __init__(self, length: int) -> None:
        """Frames of `length` samples."""
        self._length = length
        self._powers: list[NDArray[np.float64]] = []
        self._left = np.empty(0, np.float32)

    def add(self, mono: NDArray[np.float32]) -> None:
        """Hear a block (samples,)."""
        whole = np.concatenate([self._left, mono]) if len(self._left) else mono
        count = len(whole) // self._length * self._length
        if count:
            self._powers.append(self._power(whole[:count].reshape(-1, self._length)))
        self._left = whole[count:].copy()

    def silent(self) -> float:
        """Share of whole frames whose power lies `SILENT` dB or more below the loudest one's."""
        power = np.concatenate(self._powers) if self._powers else self._power(self._left[None])
        return float((power <= power.max() * 10 ** (-SILENT / 10)).mean())

    @staticmethod
    def _power(frames: NDArray[np.float32]) -> NDArray[np.float64]:
        power: NDArray[np.float64] = np.square(frames, dtype=np.float64).mean(axis=1)
        return power
