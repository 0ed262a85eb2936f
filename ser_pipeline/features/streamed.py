"""Features of an utterance of hours, with one stretch of it in memory at a time.

Dynamic range is relative to the utterance's loudest frame, so the utterance is read twice: for its maximum, then for
its rows. Each stretch begins at a multiple of the frames that `fourier` transforms together. Stretches overlap by the
reach of a frame and of a delta, so that the rows equal those of the whole utterance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Array, Floats32
from ser_pipeline.config import Audio
from ser_pipeline.features import acoustic

Heard = Callable[[], Iterator[Floats32]]
"""Opens an utterance from its beginning: its samples, in blocks."""

TOGETHER = 16  # frames that are transformed together
SEGMENTS = 16  # segments of a stretch


def rows(name: str, heard: Heard, samples: int, audio: Audio, settings: Any) -> Array:
    """The rows (S, *shape) of a feature, equal to those that `acoustic` computes from all samples at once.

    Args:
        name: one of STREAMS.
        heard: opens the utterance.
        samples: number of samples.
        audio: sample rate, hop and segment length.
        settings: settings of the feature.
    """
    made: Array | None = None
    place = 0
    for part in parts(name, heard, samples, audio, settings):
        if made is None:
            made = np.zeros((audio.segments(samples), *part.shape[1:]), part.dtype)
        made[place : place + len(part)] = part
        place += len(part)
    assert made is not None
    return made


def parts(name: str, heard: Heard, samples: int, audio: Audio, settings: Any) -> Iterator[Array]:
    """The rows of a feature, `SEGMENTS` segments at a time.

    A feature that is not among `STREAMS` is computed from all samples at once.

    Args:
        name: name of the feature.
        heard: opens the utterance.
        samples: number of samples.
        audio: sample rate, hop and segment length.
        settings: settings of the feature.
    """
    if name in STREAMS:
        yield from STREAMS[name](_Stretches(heard, samples, audio, getattr(settings, "n_fft", 0)), audio, settings)
        return
    whole = acoustic.FEATURES[name].rows(np.concatenate(list(heard())), audio, settings)
    for first in range(0, len(whole), SEGMENTS):
        yield whole[first : first + SEGMENTS]


class _Stretches:
    """An utterance in stretches of whole segments, each with the frames around it."""

    def __init__(self, heard: Heard, samples: int, audio: Audio, n_fft: int) -> None:
        self._heard, self._samples, self._hop = heard, samples, audio.hop
        self.frames = 1 + samples // audio.hop
        self.segments = audio.segments(samples)
        self._step = SEGMENTS * audio.frames
        self._guard = TOGETHER * -(-(n_fft // 2 // audio.hop + acoustic.CHANGE) // TOGETHER)

    def __iter__(self) -> Iterator[tuple[slice, slice, Floats32]]:
        """Yield a stretch's frames as a slice of the utterance, as a slice of the buffer's frames, and the buffer."""
        buffer, begin, blocks = np.empty(0, np.float32), 0, self._heard()
        for first in range(0, self.frames, self._step):
            last, before = min(first + self._step, self.frames), max(0, first - self._guard)
            start, end = before * self._hop, min(self._samples, (last + self._guard) * self._hop)
            pieces, length = [buffer[start - begin :]], len(buffer) - (start - begin)
            while length < end - start:
                pieces.append(next(blocks))
                length += len(pieces[-1])
            buffer, begin = np.concatenate(pieces), start
            yield slice(first, last), slice(first - before, last - before), buffer[: end - start]


def _mfcc(stretches: _Stretches, audio: Audio, settings: Any) -> Iterator[NDArray[np.float16]]:
    loudest = max(acoustic.mel_logarithms(part, audio, settings)[:, inner].max() for _, inner, part in stretches)
    for frames, inner, part in stretches:
        logs = acoustic.mel_logarithms(part, audio, settings)
        count = -(-(frames.stop - frames.start) // audio.frames)
        made = np.zeros((count * audio.frames, settings.size), np.float16)
        made[: frames.stop - frames.start] = acoustic.cepstra(logs, loudest, settings)[inner]
        yield made.reshape(-1, audio.frames, settings.size)


def _logmel(stretches: _Stretches, audio: Audio, settings: Any) -> Iterator[NDArray[np.uint8]]:
    def logs(part: Floats32) -> Floats32:
        return acoustic.mel_logarithms(part, audio, settings)

    loudest = max(logs(part)[:, inner].max() for _, inner, part in stretches)
    for _, inner, part in stretches:
        yield acoustic.images(logs(part)[:, inner], loudest, audio.frames, settings.top_db)


def _spectrogram(stretches: _Stretches, audio: Audio, settings: Any) -> Iterator[NDArray[np.uint8]]:
    loudest = np.log(max(acoustic.bins(part, audio, settings)[1][inner].max() for _, inner, part in stretches))
    for _, inner, part in stretches:
        logs = acoustic.bins(part, audio, settings)[0]
        yield acoustic.images(logs[:, inner], loudest, audio.frames, settings.top_db)


def _waveform(stretches: _Stretches, audio: Audio, settings: None = None) -> Iterator[NDArray[np.int16]]:
    for frames, inner, part in stretches:
        start, count = inner.start * audio.hop, -(-(frames.stop - frames.start) // audio.frames)
        made = acoustic.waveform_rows(part[start : start + count * audio.segment], audio)[:count]
        if start:
            made[0, 0] = acoustic.waveform_rows(part[start - 1 : start], audio)[0, 1]
        yield made


def _mel_level(stretches: _Stretches, audio: Audio, settings: Any) -> Iterator[Floats32]:
    logs = (acoustic.mel_logarithms(acoustic.rounded(part), audio, settings)[:, inner] for _, inner, part in stretches)
    yield np.full((stretches.segments, 1), max(one.max() for one in logs), np.float32)


def _spectrogram_level(stretches: _Stretches, audio: Audio, settings: Any) -> Iterator[Floats32]:
    def heard() -> Iterator[tuple[Floats32, Floats32]]:
        for _, inner, part in stretches:
            logs, power = acoustic.bins(acoustic.rounded(part), audio, settings)
            yield logs[:, inner], power[inner]

    loudest = np.log(max(power.max() for _, power in heard()))
    made = (acoustic.images(logs, loudest, audio.frames, settings.top_db) for logs, _ in heard())
    low, high = zip(*((rows.min(axis=(0, 2)), rows.max(axis=(0, 2))) for rows in made), strict=True)
    level = acoustic.level_of(loudest, np.min(low, axis=0), np.max(high, axis=0))
    yield np.tile(level, (stretches.segments, 1))


STREAMS: Mapping[str, Callable[[_Stretches, Audio, Any], Iterator[Array]]] = {
    "mfcc": _mfcc,
    "spectrogram": _spectrogram,
    "logmel": _logmel,
    "waveform": _waveform,
    "mfcc_level": _mel_level,
    "spectrogram_level": _spectrogram_level,
    "logmel_level": _mel_level,
}
"""Feature -> the function that yields its rows, a stretch at a time."""
