"""Audio files to samples: decode in blocks, mix to mono, resample, and refuse what is broken.

`Recording` is the one decoder, of audits, features and predictions alike. However long a file is, one block of it is
in memory at a time.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from ser_pipeline.errors import PipelineError

Samples = NDArray[np.float32]

ADVICE = "; restore it, or leave it out with --skip-bad"
"""How an error ends that is about an audio file of a corpus."""

STREAMED = 0x7FFFFFFF
"""Data sizes from here on are what writers put into the header of a stream whose length they do not know."""

BLOCK = 1 << 18
"""Samples a channel that are decoded at a time: 16 s at 16 kHz."""

WHOLE = 1 << 26
"""Bytes up to which a file is read into memory at once; a longer one is read as it is decoded."""

RATES = (1_000, 768_000)
"""Hz, least and most, that are taken for the rate of a recording."""


@dataclass(frozen=True)
class AudioHeader:
    """What the first bytes of an audio file say."""

    frames: int  # samples a channel
    rate: int  # Hz


class Recording:
    """An audio file opened for reading: its header, and its samples block by block."""

    def __init__(self, source: bytes | Path, name: str) -> None:
        """Opens an audio file.

        Args:
            source: its bytes, or its path.
            name: what errors call it.

        Raises:
            PipelineError: not a file, not audio that libsndfile reads, a rate outside of `RATES`, no samples, or
                fewer than a WAV header announces.
            OSError: it cannot be opened.
        """
        self.name = name
        self._file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else _opened(source, name)
        try:
            self._sound = _sound(self._file, name)
        except PipelineError:
            self._file.close()
            raise
        self.header = AudioHeader(self._sound.frames, self._sound.samplerate)
        self.channels: int = self._sound.channels
        self.notes: tuple[str, ...] = ()  # what was odd about the file and could be read all the same

    def __enter__(self) -> Recording:
        """The recording itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        self._sound.close()
        self._file.close()

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[Samples]:
        """Samples of every channel from `first` to `last` (its end where None), (up to `BLOCK`, channels), -1 to 1.

        Raises:
            PipelineError: the audio breaks off, or holds NaN or infinity.
        """
        wanted = (self.header.frames if last is None else last) - first
        # libsndfile scales 16-bit samples one buffer at a time: reading them as they are and scaling here is quicker.
        kind = "int16" if self._sound.subtype == "PCM_16" else "float32"
        done = 0
        try:
            self._go_to(first, kind)
            while done < wanted:
                part = self._sound.read(min(BLOCK, wanted - done), dtype=kind, always_2d=True)
                if not len(part):
                    raise _truncated(self.name, f"{done} of {wanted} samples are there")
                done += len(part)
                block: Samples = part if kind == "float32" else part * np.float32(1 / 32768)
                if kind == "float32" and not np.isfinite(block).all():
                    raise PipelineError(f"{self.name} holds NaN or infinite samples{ADVICE}")
                yield block
        except soundfile.LibsndfileError as error:
            raise _truncated(self.name, str(error.error_string)) from None

    def mono(self, rate: int, start: float | None = None, end: float | None = None) -> Iterator[Samples]:
        """The mean of the channels at `rate` Hz from `start` to `end` seconds, in pieces (N,), -1 to 1.

        Another rate is resampled as librosa does ("soxr_hq"). Joined, the pieces are as long as `span` says, and the
        same however the file is cut into blocks.

        Args:
            rate: Hz of the samples that are wanted.
            start: seconds into the file; None: its beginning.
            end: seconds into the file; None, or beyond its end: its end.

        Raises:
            PipelineError: as `blocks`.
        """
        first, last, expected = span(self.header, rate, start, end)
        mixed = (
            block[:, 0] if self.channels == 1 else block.mean(axis=1, dtype=np.float32)
            for block in self.blocks(first, last)
        )
        yield from mixed if rate == self.header.rate else _resampled(mixed, self.header.rate, rate, expected)

    def _go_to(self, first: int, kind: str) -> None:
        """To sample `first`; what cannot be leapt over is read."""
        if self._sound.seekable():
            self._sound.seek(first)
            return
        while self._sound.tell() < first:
            if not len(self._sound.read(min(BLOCK, first - self._sound.tell()), dtype=kind)):
                return


def header(source: bytes | Path, name: str) -> AudioHeader:
    """The header of an audio file, its bytes or its path; errors call it `name`.

    Raises:
        PipelineError: as `Recording`.
    """
    with Recording(source, name) as recording:
        return recording.header


def span(head: AudioHeader, rate: int, start: float | None, end: float | None) -> tuple[int, int, int]:
    """First and last+1 sample of a stretch in the file, and its samples after resampling to `rate` Hz.

    Args:
        head: of the file.
        rate: Hz.
        start: seconds into the file; None: its beginning.
        end: seconds into the file; None, or beyond its end: its end.
    """
    first = 0 if start is None else round(min(start * head.rate, head.frames))
    last = head.frames if end is None else round(min(end * head.rate, head.frames))
    return first, last, math.ceil(max(last - first, 0) * rate / head.rate)


def blocks(
    source: bytes | Path, name: str, rate: int, start: float | None = None, end: float | None = None
) -> Iterator[Samples]:
    """What `decode` gives, in pieces (N,): one block of the file is in memory at a time.

    Args:
        source: the bytes or the path of an audio file.
        name: of the file, for messages.
        rate: Hz of the samples that are wanted.
        start: seconds into the file; None: its beginning.
        end: seconds into the file; None: its end.

    Raises:
        PipelineError: as `Recording` and `Recording.blocks`.
    """
    with Recording(source, name) as recording:
        yield from recording.mono(rate, start, end)


def decode(source: bytes | Path, name: str, rate: int, start: float | None = None, end: float | None = None) -> Samples:
    """Mono float32 samples (N,) in -1..1 at `rate` Hz of the stretch from `start` to `end` seconds.

    Channels are averaged; another rate is resampled as librosa does ("soxr_hq").

    Args:
        source: the bytes or the path of an audio file.
        name: of the file, for messages.
        rate: Hz of the samples that are wanted.
        start: seconds into the file; None: its beginning.
        end: seconds into the file; None: its end.

    Raises:
        PipelineError: as `Recording` and `Recording.blocks`.
    """
    parts = list(blocks(source, name, rate, start, end))
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])


def _opened(file: Path, name: str) -> BinaryIO:
    """The file, in memory where it is short; never one that has no end."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise PipelineError(f"{name} is not a file but a folder, a pipe or a device{ADVICE}")
    if file.stat().st_size <= WHOLE:
        return io.BytesIO(file.read_bytes())
    return file.open("rb")


def _sound(file: BinaryIO, name: str) -> Any:
    """The audio as a `soundfile.SoundFile`, if its header can be believed."""
    if not file.seek(0, os.SEEK_END):
        raise PipelineError(f"{name} is an empty file{ADVICE}")
    file.seek(0)
    try:
        sound = soundfile.SoundFile(file)
    except soundfile.LibsndfileError:
        raise PipelineError(f"{name} is no readable audio{ADVICE}") from None
    announced = re.search(r"^data : (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    if announced and int(announced[2]) < int(announced[1]) < STREAMED:
        raise _truncated(name, f"{announced[2]} of {announced[1]} bytes of audio are there")
    if sound.frames == 0:
        raise PipelineError(f"{name} holds no samples{ADVICE}")
    if not RATES[0] <= sound.samplerate <= RATES[1]:
        limits = f"{RATES[0]:,} to {RATES[1]:,} Hz are read"
        raise PipelineError(f"{name} says that it has {sound.samplerate} samples a second; {limits}{ADVICE}")
    return sound


def _resampled(parts: Iterator[Samples], rate: int, wanted: int, length: int) -> Iterator[Samples]:
    """Pieces at `rate` as pieces at `wanted`, `length` samples in all."""
    import soxr  # needed for corpora at another rate alone

    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
    left = length
    for part in parts:
        piece = stream.resample_chunk(np.ascontiguousarray(part))[:left]
        left -= len(piece)
        yield piece
    end = stream.resample_chunk(np.empty(0, np.float32), last=True)[:left]
    yield np.pad(end, (0, left - len(end)))


def _truncated(name: str, detail: str) -> PipelineError:
    return PipelineError(f"{name} is truncated ({detail}){ADVICE}")
