"""Features of an utterance of hours, a stretch of it in memory at a time.

Dynamic range is relative to the utterance's loudest frame, so that it is heard twice: for its maximum, then for its
rows. Stretches begin at a multiple of the frames that `fourier` transforms together, and overlap by what a frame and a
delta reach over, so that the rows are those of the whole utterance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Array, Floats32
from ser_pipeline.config import Audio
from ser_pipeline.features import acoustic

Heard = Callable[[], Iterator[Floats32]]
"""Opens an utterance anew: its samples from the beginning, in blocks."""

TOGETHER = 16  # frames that are transformed together
SEGMENTS = 16  # of a stretch


def rows(name: str, heard: Heard, samples: int, audio: Audio, settings: Any) -> Array:
    """The rows (S, *shape) of a feature, as its function in `acoustic` makes them of all samples at once.

    Args:
        name: of the feature.
        heard: opens the utterance.
        samples: how many it has.
        audio: their rate, hop and segment.
        settings: of the feature.
    """
    if name == "waveform":
        return _waveform(heard(), samples, audio)
    stretches = _Stretches(heard, samples, audio, settings.n_fft)
    if name == "mfcc":
        return _mfcc(stretches, audio, settings)
    return _spectrogram(stretches, audio, settings) if name == "spectrogram" else _logmel(stretches, audio, settings)


class _Stretches:
    """An utterance in stretches of whole segments, each with the frames around it."""

    def __init__(self, heard: Heard, samples: int, audio: Audio, n_fft: int) -> None:
        self._heard, self._samples, self._hop = heard, samples, audio.hop
        self.frames = 1 + samples // audio.hop
        self.segments = audio.segments(samples)
        self._step = SEGMENTS * audio.frames
        self._guard = TOGETHER * -(-(n_fft // 2 // audio.hop + acoustic.CHANGE) // TOGETHER)

    def __iter__(self) -> Iterator[tuple[slice, slice, Floats32]]:
        """Frames in the utterance, the same in what is made of the samples, and these."""
        buffer, begin, blocks = np.empty(0, np.float32), 0, self._heard()
        for first in range(0, self.frames, self._step):
            last, before = min(first + self._step, self.frames), max(0, first - self._guard)
            start, end = before * self._hop, min(self._samples, (last + self._guard) * self._hop)
            parts, length = [buffer[start - begin :]], len(buffer) - (start - begin)
            while length < end - start:
                parts.append(next(blocks))
                length += len(parts[-1])
            buffer, begin = np.concatenate(parts), start
            yield slice(first, last), slice(first - before, last - before), buffer[: end - start]


def _mfcc(stretches: _Stretches, audio: Audio, settings: Any) -> NDArray[np.float16]:
    loudest = max(acoustic.mel_logarithms(part, audio, settings)[:, inner].max() for _, inner, part in stretches)
    made = np.zeros((stretches.segments * audio.frames, settings.size), np.float16)
    for frames, inner, part in stretches:
        logs = acoustic.mel_logarithms(part, audio, settings)
        made[frames] = acoustic.cepstra(logs, loudest, settings)[inner]
    return made.reshape(-1, audio.frames, settings.size)


def _logmel(stretches: _Stretches, audio: Audio, settings: Any) -> NDArray[np.uint8]:
    def logs(part: Floats32) -> Floats32:
        return acoustic.mel_logarithms(part, audio, settings)

    loudest = max(logs(part)[:, inner].max() for _, inner, part in stretches)
    return _images(stretches, logs, loudest, audio, settings.top_db)


def _spectrogram(stretches: _Stretches, audio: Audio, settings: Any) -> NDArray[np.uint8]:
    def logs(part: Floats32) -> Floats32:
        return acoustic.bins(part, audio, settings)[0]

    loudest = np.log(max(acoustic.bins(part, audio, settings)[1][inner].max() for _, inner, part in stretches))
    return _images(stretches, logs, loudest, audio, settings.top_db)


def _images(
    stretches: _Stretches, logs: Callable[[Floats32], Floats32], loudest: np.float32, audio: Audio, top_db: float
) -> NDArray[np.uint8]:
    made, place = np.zeros((stretches.segments, 0, audio.frames), np.uint8), 0
    for _, inner, part in stretches:
        several = acoustic.images(logs(part)[:, inner], loudest, audio.frames, top_db)
        if not place:
            made = np.zeros((stretches.segments, *several.shape[1:]), np.uint8)
        made[place : place + len(several)] = several
        place += len(several)
    return made


def _waveform(blocks: Iterator[Floats32], samples: int, audio: Audio) -> NDArray[np.int16]:
    made = np.zeros((audio.segments(samples), audio.segment + 1), np.int16)
    place = 1  # before the first sample of the utterance is silence
    for block in blocks:
        levels = np.clip(np.rint(block * np.float32(32768)), -32768, 32767).astype(np.int16)
        for number in range((place - 1) // audio.segment, (place + len(levels) - 1) // audio.segment + 1):
            start = number * audio.segment
            first, last = max(place, start), min(place + len(levels), start + audio.segment + 1)
            if number < len(made) and first < last:
                made[number, first - start : last - start] = levels[first - place : last - place]
        place += len(levels)
    return made
