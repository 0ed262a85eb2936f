"""Decoding of audio files: read in blocks, mix to mono, resample, and refuse damaged files.

`Recording` is the decoder for audits, features and predictions. It keeps only one block of a file in memory.
"""

from __future__ import annotations

import hashlib
import logging
import math
import mmap
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from ser_pipeline.arrays import FULL_SCALE
from ser_pipeline.containers import ffmpeg
from ser_pipeline.containers.pieces import MOST, BrokenOffError, Content, Joined
from ser_pipeline.containers.sections import leapt, sections
from ser_pipeline.containers.wav import STREAMED, Pcm, plain
from ser_pipeline.errors import PipelineError

log = logging.getLogger(__name__)

Samples = NDArray[np.float32]

ADVICE = "; restore it, or leave it out with --skip-bad"
"""Advice at the end of an error about an audio file of a corpus."""

BLOCK = 1 << 18
"""Samples per channel that are decoded at once: 16 s at 16 kHz; fewer if there are more than 8 channels."""

WHOLE = 1 << 26
"""Largest size in bytes of a file that is read into memory at once; longer files are read while they are decoded."""

LOUDEST = 1.5
"""Samples above this multiple of full scale are reported as out of range."""

QUIET = 0.001
"""A recording with a smaller peak is silent; -60 dB of full scale."""

SHORT = 0.3
"""A shorter recording, in seconds, was probably cut by mistake."""

RATES = (1_000, 768_000)
"""Smallest and largest sampling rate of a recording in Hz."""


class TruncatedError(PipelineError):
    """An audio file that is shorter than its header says."""


class NotFiniteError(PipelineError):
    """An audio file with NaN or infinite samples."""


@dataclass(frozen=True)
class AudioHeader:
    """The length and sampling rate of an audio file."""

    frames: int  # samples per channel
    rate: int  # Hz


class Recording:
    """An open audio file: its header, and its samples in blocks."""

    def __init__(self, source: bytes | Path, name: str) -> None:
        """Open an audio file.

        Args:
            source: its bytes, or its path.
            name: name of the file in errors.

        Raises:
            PipelineError: it is not a file, libsndfile and ffmpeg cannot read it, its rate is outside `RATES`, or it
                has no samples, or fewer than its container says.
            OSError: it cannot be opened.
        """
        self.name = name
        self.peak = 0.0  # largest magnitude so far, of samples that are not 16-bit
        self._closing = ExitStack()
        try:
            self._sounds, self.notes = self._open(source)
            self.header, self.channels = self._checked()
        except BaseException:
            self._closing.close()
            raise

    def __enter__(self) -> Recording:
        """Return the recording."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._closing.close()

    @property
    def sure(self) -> bool:
        """Whether its samples are known to exist without decoding, as in an ordinary 16-bit WAV file."""
        return isinstance(self._sounds[0], Pcm)

    def digest(self) -> str:
        """Return the SHA-256 of the file's bytes, 64 hex digits."""
        if isinstance(self._content, bytes):
            return hashlib.sha256(self._content).hexdigest()
        assert self._file is not None
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]  # it is a plain file

    def _open(self, source: bytes | Path) -> tuple[list[Any], list[str]]:
        """Open the sections of the file with libsndfile; return them with notes on unusual properties."""
        self._file, self._content = file, content = _opened(source, self.name, self._closing)
        pcm = plain(content) if isinstance(content, bytes) else None
        if pcm:
            return [pcm], []
        try:
            found, notes = sections(content)
        except BrokenOffError as error:
            raise _truncated(self.name, str(error)) from None
        try:
            parts = [Joined(content, file, pieces).opened() for pieces, _ in found]
            return [self._closing.enter_context(soundfile.SoundFile(part)) for part in parts], notes
        except soundfile.LibsndfileError as error:
            return self._by_ffmpeg(source, error)

    def _by_ffmpeg(self, source: bytes | Path, error: Exception) -> tuple[list[Any], list[str]]:
        """Decode a file that libsndfile cannot read with ffmpeg."""
        if not ffmpeg.there():
            raise PipelineError(f"{self.name} is not readable audio without ffmpeg, which is not installed{ADVICE}")
        wave, said = ffmpeg.decoded(source, self._closing)
        if wave is None:
            raise PipelineError(f"{self.name} is not readable audio{ADVICE}") from error
        return [self._closing.enter_context(soundfile.SoundFile(wave))], [f"made ffmpeg say: {said}"] if said else []

    def _checked(self) -> tuple[AudioHeader, int]:
        """Check the header, and return it with the number of channels."""
        one = self._sounds[0]
        for sound in self._sounds:
            announced = re.search(r"^data : (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
            if announced and int(announced[2]) < int(announced[1]) < STREAMED:
                raise _truncated(self.name, f"it has {announced[2]} of {announced[1]} bytes of audio")
            if (sound.samplerate, sound.channels) != (one.samplerate, one.channels):
                forms = " and ".join(f"{each.samplerate} Hz, {each.channels} channels" for each in (one, sound))
                raise PipelineError(f"{self.name} joins recordings of {forms}; split it, or convert it{ADVICE}")
        if not RATES[0] <= one.samplerate <= RATES[1]:
            limits = f"it must be {RATES[0]:,} to {RATES[1]:,} Hz"
            raise PipelineError(f"{self.name} has a sampling rate of {one.samplerate} Hz; {limits}{ADVICE}")
        frames = sum(sound.frames for sound in self._sounds)
        if frames == 0:
            raise PipelineError(f"{self.name} has no samples{ADVICE}")
        if frames > MOST * len(self._content):
            raise _truncated(
                self.name, f"its {len(self._content):,} bytes cannot contain the {frames:,} samples of its header"
            )
        return AudioHeader(frames, one.samplerate), one.channels

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[Samples]:
        """Yield the samples of all channels from `first` to `last` (None: the end), (up to `BLOCK`, channels), -1 to 1.

        Raises:
            PipelineError: the audio is truncated, or contains NaN or infinity.
        """
        last = self.header.frames if last is None else last
        start = 0
        for sound in self._sounds:
            here, there = max(first - start, 0), min(last - start, sound.frames)
            if here < there:
                yield from self._of_one(sound, here, there)
            start += sound.frames
        loud = f"has samples up to {self.peak:.6g} times full scale, which are clipped"
        if self.peak > LOUDEST and loud not in self.notes:
            self.notes.append(loud)

    def _of_one(self, sound: Any, first: int, last: int) -> Iterator[Samples]:
        # Reading 16-bit samples unscaled and scaling them here is faster than libsndfile, which scales them in buffers.
        kind = "int16" if sound.subtype == "PCM_16" else "float32"
        done, wanted, most = 0, last - first, max(1, 8 * BLOCK // max(8, sound.channels))
        try:
            sound = leapt(sound, first, kind)
            while done < wanted:
                part = sound.read(min(most, wanted - done), dtype=kind, always_2d=True)
                if not len(part):
                    raise _truncated(self.name, f"it has {done} of {wanted} samples")
                done += len(part)
                yield part * np.float32(1 / FULL_SCALE) if kind == "int16" else self._finite(part)
        except soundfile.LibsndfileError as error:
            raise _truncated(self.name, str(error.error_string)) from None

    def _finite(self, block: Samples) -> Samples:
        peak = float(np.abs(block).max())
        if not math.isfinite(peak):
            raise NotFiniteError(f"{self.name} contains NaN or infinite samples{ADVICE}")
        self.peak = max(self.peak, peak)
        return block

    def mono(
        self, rate: int, start: float | None = None, end: float | None = None, channel: int | None = None
    ) -> Iterator[Samples]:
        """Yield the mean of the channels, or one channel, in pieces (N,), -1 to 1.

        Other sampling rates are resampled as in librosa ("soxr_hq"). The total length is that of `span`, and the
        samples do not depend on how the file is divided into blocks.

        Args:
            rate: sampling rate of the result in Hz.
            start: seconds into the file; None for its start.
            end: seconds into the file; None, or beyond its end, for its end.
            channel: index of a channel, counted from 0; None for the mean.

        Raises:
            PipelineError: as in `blocks`.
        """
        first, last, expected = span(self.header, rate, start, end)
        alone = 0 if self.channels == 1 else channel
        mixed = (
            block.mean(axis=1, dtype=np.float32) if alone is None else block[:, alone]
            for block in self.blocks(first, last)
        )
        yield from mixed if rate == self.header.rate else _resampled(mixed, self.header.rate, rate, expected)

    def samples(self, rate: int, start: float | None = None, end: float | None = None) -> Samples:
        """Return the result of `mono` at once, (N,).

        Args:
            rate: sampling rate of the result in Hz.
            start: seconds into the file; None for its start.
            end: seconds into the file; None, or beyond its end, for its end.
        """
        return _whole(self.mono(rate, start, end))


def header(source: bytes | Path, name: str) -> AudioHeader:
    """Read the header of an audio file, given as bytes or a path; `name` is its name in errors.

    Raises:
        PipelineError: as in `Recording`.
    """
    with Recording(source, name) as recording:
        return recording.header


def span(head: AudioHeader, rate: int, start: float | None, end: float | None) -> tuple[int, int, int]:
    """Return the first and last (exclusive) sample of a part of a file, and its length after resampling.

    Args:
        head: header of the file.
        rate: sampling rate after resampling in Hz.
        start: seconds into the file; None for its start.
        end: seconds into the file; None, or beyond its end, for its end.
    """
    first = 0 if start is None else round(min(start * head.rate, head.frames))
    last = head.frames if end is None else round(min(end * head.rate, head.frames))
    return first, last, math.ceil(max(last - first, 0) * rate / head.rate)


def blocks(
    source: bytes | Path, name: str, rate: int, start: float | None = None, end: float | None = None
) -> Iterator[Samples]:
    """Yield the result of `decode` in pieces (N,), with one block of the file in memory; log unusual properties.

    Args:
        source: the bytes or the path of an audio file.
        name: name of the file in messages.
        rate: sampling rate of the result in Hz.
        start: seconds into the file; None for its start.
        end: seconds into the file; None for its end.

    Raises:
        PipelineError: as in `Recording` and `Recording.blocks`.
    """
    with Recording(source, name) as recording:
        yield from recording.mono(rate, start, end)
        for note in recording.notes:
            log.warning("%s %s", name, note)


def decode(source: bytes | Path, name: str, rate: int, start: float | None = None, end: float | None = None) -> Samples:
    """Decode a part of an audio file to mono float32 samples (N,), -1 to 1.

    Channels are averaged, and other sampling rates are resampled as in librosa ("soxr_hq").

    Args:
        source: the bytes or the path of an audio file.
        name: name of the file in messages.
        rate: sampling rate of the result in Hz.
        start: seconds into the file; None for its start.
        end: seconds into the file; None for its end.

    Raises:
        PipelineError: as in `Recording` and `Recording.blocks`.
    """
    return _whole(blocks(source, name, rate, start, end))


def _whole(parts: Iterable[Samples]) -> Samples:
    several = list(parts)
    return several[0] if len(several) == 1 else np.concatenate([np.empty(0, np.float32), *several])


def _opened(source: bytes | Path, name: str, closing: ExitStack) -> tuple[BinaryIO | None, Content]:
    """Return the file if it is too long for memory, or None, and its bytes; refuse pipes and devices."""
    if isinstance(source, bytes):
        content = source
    else:
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):
            raise PipelineError(f"{name} is not a file but a folder, a pipe or a device{ADVICE}")
        if status.st_size > WHOLE:
            file = closing.enter_context(source.open("rb"))
            return file, closing.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        content = source.read_bytes()
    if not content:
        raise PipelineError(f"{name} is an empty file{ADVICE}")
    return None, content


def _resampled(parts: Iterator[Samples], rate: int, wanted: int, length: int) -> Iterator[Samples]:
    """Resample pieces from `rate` to `wanted` Hz, to a total of `length` samples."""
    import soxr  # only needed for corpora with another sampling rate

    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
    left = length
    for part in parts:
        piece = stream.resample_chunk(np.ascontiguousarray(part))[:left]
        left -= len(piece)
        yield piece
    end = stream.resample_chunk(np.empty(0, np.float32), last=True)[:left]
    yield np.pad(end, (0, left - len(end)))


def _truncated(name: str, detail: str) -> TruncatedError:
    return TruncatedError(f"{name} is truncated ({detail}){ADVICE}")
