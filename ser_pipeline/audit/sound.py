"""Decode a corpus in parallel and describe the audio of each utterance."""

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
RUN = 3  # successive samples at the limit from which they count as clipping and not as a peak
FRAME = 0.02  # seconds
PAST = 0.05  # seconds; utterances that end this little after their file are accepted silently, since tables round
SILENT = 40.0  # dB below the utterance's loudest frame


@dataclass(frozen=True)
class Sound:
    """Description of an utterance's audio."""

    seconds: float = 0.0
    rate: int = 0  # Hz
    channels: int = 0
    peak: float = 0.0  # largest magnitude, 1 is full scale
    loudest: float = 0.0  # half the range of the channel with the largest range, so that an offset does not count
    quietest: float = 0.0  # half the range of the channel with the smallest range
    mixed: float = 0.0  # half the range of the mean of the channels, from which features are computed
    offset: float = 0.0  # mean of the mix
    clipped: float = 0.0  # share of samples in runs at full scale
    silent: float = 0.0  # share of frames that are silent relative to the loudest
    digest: str = ""  # hash of sample rate and decoded samples; "" if they are all zero, or broken
    marks: Landmarks = field(default=UNMARKED, compare=False, repr=False)  # none if the audio is broken
    notes: tuple[str, ...] = ()  # oddities of a file that could be read nevertheless
    fault: str = ""  # "missing", "truncated", "unreadable", "not-finite", or ""
    detail: str = ""  # description of the fault


def listen(
    utterances: Sequence[Utterance],
    folder: Path,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Sound]:
    """Describe the audio of every utterance, in order.

    Args:
        utterances: their files are below `folder`.
        folder: the corpus folder.
        jobs: threads; all cores if None.
        progress: called with the number of utterances that are done, and the total.
    """
    work = Parallel(n_jobs=jobs or -1, prefer="threads", batch_size=8, return_as="generator")
    sounds = []
    for sound in work(delayed(listen_to)(folder, utterance) for utterance in utterances):
        sounds.append(sound)
        if progress:
            progress(len(sounds), len(utterances))
    return sounds


def listen_to(folder: Path, utterance: Utterance) -> Sound:
    """Describe the audio of one utterance; faults are reported in the result, never raised."""
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
    """Samples (samples,), the mean of the channels, and their rate in Hz, of an utterance without faults.

    Args:
        folder: the corpus folder.
        utterance: the utterance.
        stretch: first and last second within it; None reads all of it.
    """
    start, end = utterance.start, utterance.end
    if stretch:
        start, end = (start or 0.0) + stretch[0], (start or 0.0) + stretch[1]
    return audio.decode(folder / utterance.file, utterance.file, COMPARED, start, end), COMPARED


def _describe(recording: audio.Recording, utterance: Utterance) -> Sound:
    """Describe the recording from the utterance's start to its end, a block at a time."""
    rate = recording.header.rate
    first, last, samples = audio.span(recording.header, rate, utterance.start, utterance.end)
    if not samples:
        seconds = recording.header.frames / rate
        raise PipelineError(
            f"{utterance.file} is {seconds:.2f} s long and has no samples from {utterance.start} to {utterance.end} s"
        )
    heard = _Heard(rate, recording.channels)
    for block in recording.blocks(first, last):
        heard.add(block)
    notes = [*recording.notes]
    if utterance.end is not None and utterance.end > recording.header.frames / rate + PAST:
        notes.append(f"ends at {recording.header.frames / rate:.2f} s, before the utterance's end, {utterance.end:g} s")
    return heard.sound(tuple(notes))


class _Heard:
    """Running description of a recording that arrives in blocks."""

    def __init__(self, rate: int, channels: int) -> None:
        self._rate = rate
        self._low, self._high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._mix = [np.inf, -np.inf, 0.0]  # smallest, largest, sum
        self._clipping = Clipping()
        self._samples = 0
        self._hash = hashlib.sha256(rate.to_bytes(4, "little"))
        self._frames = Frames(max(1, round(FRAME * rate)))
        self._marks = Marks(rate)

    def add(self, block: NDArray[np.float32]) -> None:
        """Add a block (samples, channels)."""
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
        """The description of all blocks."""
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
    """Counts samples in runs of at least `RUN` at full scale, including runs across blocks.

    >>> heard = Clipping()
    >>> for block in ([0, 1, 1], [1, 1, 0, 1, 0]):
    ...     heard.add(np.array(block, bool))
    >>> heard.samples
    4
    """

    def __init__(self) -> None:
        self.samples = 0
        self._open = 0  # samples of a run that reaches the end of the last block

    def add(self, full: NDArray[np.bool_]) -> None:
        """Add a block: a mask (samples,) of the samples at full scale."""
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
    """The power of complete frames, including frames across blocks."""

    def __init__(self, length: int) -> None:
        """Use frames of `length` samples."""
        self._length = length
        self._powers: list[NDArray[np.float64]] = []
        self._left = np.empty(0, np.float32)

    def add(self, mono: NDArray[np.float32]) -> None:
        """Add a block (samples,)."""
        whole = np.concatenate([self._left, mono]) if len(self._left) else mono
        count = len(whole) // self._length * self._length
        if count:
            self._powers.append(self._power(whole[:count].reshape(-1, self._length)))
        self._left = whole[count:].copy()

    def silent(self) -> float:
        """Share of complete frames whose power is at least `SILENT` dB below that of the loudest."""
        power = np.concatenate(self._powers) if self._powers else self._power(self._left[None])
        return float((power <= power.max() * 10 ** (-SILENT / 10)).mean())

    @staticmethod
    def _power(frames: NDArray[np.float32]) -> NDArray[np.float64]:
        power: NDArray[np.float64] = np.square(frames, dtype=np.float64).mean(axis=1)
        return power
