"""Audio files to samples: decode, mix to mono, resample, and refuse what is broken."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from ser_pipeline.errors import PipelineError

Samples = NDArray[np.float32]

ADVICE = "; restore it, or leave it out with --skip-bad"
"""How an error ends that is about an audio file of a corpus."""

STREAMED = 0x7FFFFFFF
"""Data sizes from here on are what writers put into the header of a stream whose length they do not know."""


@dataclass(frozen=True)
class AudioHeader:
    """What the first bytes of an audio file say."""

    frames: int  # samples a channel
    rate: int  # Hz


def header(data: bytes, name: str) -> AudioHeader:
    """The header of the audio file `data`; errors call it `name`.

    Raises:
        PipelineError: not audio that libsndfile reads, no samples, or fewer than a WAV header announces.
    """
    with _open(data, name) as sound:
        return AudioHeader(sound.frames, sound.samplerate)


def _open(data: bytes, name: str) -> Any:
    """The audio file `data` as a `soundfile.SoundFile`, if its header can be believed."""
    if not data:
        raise PipelineError(f"{name} is an empty file{ADVICE}")
    try:
        sound = soundfile.SoundFile(io.BytesIO(data))
    except soundfile.LibsndfileError:
        raise PipelineError(f"{name} is no readable audio{ADVICE}") from None
    announced = re.search(r"^data : (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    if announced and int(announced[2]) < int(announced[1]) < STREAMED:
        raise _truncated(name, f"{announced[2]} of {announced[1]} bytes of audio are there")
    if sound.frames == 0:
        raise PipelineError(f"{name} holds no samples{ADVICE}")
    return sound


def span(head: AudioHeader, rate: int, start: float | None, end: float | None) -> tuple[int, int, int]:
    """First and last+1 sample of a stretch in the file, and its samples after resampling to `rate` Hz.

    Args:
        head: of the file.
        rate: Hz.
        start: seconds into the file; None: its beginning.
        end: seconds into the file; None, or beyond its end: its end.
    """
    first = 0 if start is None else round(start * head.rate)
    last = head.frames if end is None else min(round(end * head.rate), head.frames)
    return first, last, math.ceil(max(last - first, 0) * rate / head.rate)


def decode(data: bytes, name: str, rate: int, start: float | None = None, end: float | None = None) -> Samples:
    """Mono float32 samples (N,) in -1..1 at `rate` Hz of the stretch from `start` to `end` seconds.

    Channels are averaged; another rate is resampled by librosa ("soxr_hq").

    Args:
        data: the bytes of a WAV, FLAC, Ogg or MP3 file.
        name: of the file, for messages.
        rate: Hz of the samples that are wanted.
        start: seconds into the file; None: its beginning.
        end: seconds into the file; None: its end.

    Raises:
        PipelineError: as `header`; or the audio breaks off, or holds NaN or infinity.
    """
    with _open(data, name) as sound:
        head = AudioHeader(sound.frames, sound.samplerate)
        first, last, expected = span(head, rate, start, end)
        samples = _read(sound, first, last, name)
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise PipelineError(f"{name} holds NaN or infinite samples{ADVICE}")
    return mono if head.rate == rate else _resample(mono, head.rate, rate, expected)


def _read(sound: Any, first: int, last: int, name: str) -> Samples:
    """Samples `first` to `last` of every channel, (N, channels)."""
    try:
        sound.seek(first)
        # libsndfile scales 16-bit samples one buffer at a time: reading them as they are and scaling here is quicker.
        kind = "int16" if sound.subtype == "PCM_16" else "float32"
        samples = sound.read(last - first, dtype=kind, always_2d=True)
    except soundfile.LibsndfileError as error:
        raise _truncated(name, str(error.error_string)) from None
    if len(samples) != last - first:
        raise _truncated(name, f"{len(samples)} of {last - first} samples are there")
    scaled: Samples = samples if kind == "float32" else samples * np.float32(1 / 32768)
    return scaled


def _resample(samples: Samples, rate: int, wanted: int, length: int) -> Samples:
    import librosa  # slow to import, and needed for corpora at another rate alone

    return np.asarray(librosa.util.fix_length(librosa.resample(samples, orig_sr=rate, target_sr=wanted), size=length))


def _truncated(name: str, detail: str) -> PipelineError:
    return PipelineError(f"{name} is truncated ({detail}){ADVICE}")
