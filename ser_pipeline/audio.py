"""Audio files to samples: decode in blocks, mix to mono, resample, and refuse what is broken.

`Recording` is the one decoder, of audits, features and predictions alike. However long a file is, one block of it is
in memory at a time.
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

from ser_pipeline.containers import ffmpeg
from ser_pipeline.containers.pieces import MOST, BrokenOffError, Content, Joined
from ser_pipeline.containers.sections import leapt, sections
from ser_pipeline.containers.wav import STREAMED, Pcm, plain
from ser_pipeline.errors import PipelineError

log = logging.getLogger(__name__)

Samples = NDArray[np.float32]

ADVICE = "; restore it, or leave it out with --skip-bad"
"""How an error ends that is about an audio file of a corpus."""

BLOCK = 1 << 18
"""Samples a channel that are decoded at a time: 16 s at 16 kHz; fewer where there are more than 8 channels."""

WHOLE = 1 << 26
"""Bytes up to which a file is read into memory at once; a longer one is read as it is decoded."""

LOUDEST = 1.5
"""How many times full scale samples are at least that were not meant to be in -1 to 1."""

QUIET = 0.001
"""Peak under which a recording is silent: -60 dB of full scale."""

SHORT = 0.3
"""Seconds under which a cut has probably failed."""

RATES = (1_000, 768_000)
"""Hz, least and most, that are taken for the rate of a recording."""


class TruncatedError(PipelineError):
    """An audio file of which less is there than it announces."""


class NotFiniteError(PipelineError):
    """An audio file with NaN or infinite samples."""


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
            PipelineError: not a file, not audio that libsndfile or ffmpeg read, a rate outside of `RATES`, no samples,
                or fewer than its container announces.
            OSError: it cannot be opened.
        """
        self.name = name
        self.peak = 0.0  # the largest magnitude so far, of samples that are not 16-bit
        self._closing = ExitStack()
        try:
            self._sounds, self.notes = self._open(source)
            self.header, self.channels = self._checked()
        except BaseException:
            self._closing.close()
            raise

    def __enter__(self) -> Recording:
        """The recording itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._closing.close()

    @property
    def sure(self) -> bool:
        """Whether its samples are known to be there without being decoded: those of an ordinary 16-bit WAV file."""
        return isinstance(self._sounds[0], Pcm)

    def digest(self) -> str:
        """64 hex digits: SHA-256 of the bytes of the file."""
        if isinstance(self._content, bytes):
            return hashlib.sha256(self._content).hexdigest()
        assert self._file is not None
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]  # it is a plain file

    def _open(self, source: bytes | Path) -> tuple[list[Any], list[str]]:
        """What libsndfile reads of the file, one after the other, and notes on what was odd about it."""
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
        """What ffmpeg makes of a file that libsndfile does not read."""
        if not ffmpeg.there():
            raise PipelineError(f"{self.name} is no readable audio without ffmpeg, which is not installed{ADVICE}")
        wave, said = ffmpeg.decoded(source, self._closing)
        if wave is None:
            raise PipelineError(f"{self.name} is no readable audio{ADVICE}") from error
        return [self._closing.enter_context(soundfile.SoundFile(wave))], [f"made ffmpeg say: {said}"] if said else []

    def _checked(self) -> tuple[AudioHeader, int]:
        """The header and the number of channels, if they can be believed."""
        one = self._sounds[0]
        for sound in self._sounds:
            announced = re.search(r"^data : (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
            if announced and int(announced[2]) < int(announced[1]) < STREAMED:
                raise _truncated(self.name, f"{announced[2]} of {announced[1]} bytes of audio are there")
            if (sound.samplerate, sound.channels) != (one.samplerate, one.channels):
                forms = " and ".join(f"{each.samplerate} Hz, {each.channels} channels" for each in (one, sound))
                raise PipelineError(f"{self.name} holds recordings of {forms}, joined; split it, or convert it{ADVICE}")
        if not RATES[0] <= one.samplerate <= RATES[1]:
            limits = f"{RATES[0]:,} to {RATES[1]:,} Hz are read"
            raise PipelineError(f"{self.name} says that it has {one.samplerate} samples a second; {limits}{ADVICE}")
        frames = sum(sound.frames for sound in self._sounds)
        if frames == 0:
            raise PipelineError(f"{self.name} holds no samples{ADVICE}")
        if frames > MOST * len(self._content):
            raise _truncated(
                self.name, f"its {len(self._content):,} bytes cannot hold the {frames:,} samples of its header"
            )
        return AudioHeader(frames, one.samplerate), one.channels

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[Samples]:
        """Samples of every channel from `first` to `last` (its end where None), (up to `BLOCK`, channels), -1 to 1.

        Raises:
            PipelineError: the audio breaks off, or holds NaN or infinity.
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
        # libsndfile scales 16-bit samples one buffer at a time: reading them as they are and scaling here is quicker.
        kind = "int16" if sound.subtype == "PCM_16" else "float32"
        done, wanted, most = 0, last - first, max(1, 8 * BLOCK // max(8, sound.channels))
        try:
            sound = leapt(sound, first, kind)
            while done < wanted:
                part = sound.read(min(most, wanted - done), dtype=kind, always_2d=True)
                if not len(part):
                    raise _truncated(self.name, f"{done} of {wanted} samples are there")
                done += len(part)
                yield part * np.float32(1 / 32768) if kind == "int16" else self._finite(part)
        except soundfile.LibsndfileError as error:
            raise _truncated(self.name, str(error.error_string)) from None

    def _finite(self, block: Samples) -> Samples:
        peak = float(np.abs(block).max())
        if not math.isfinite(peak):
            raise NotFiniteError(f"{self.name} holds NaN or infinite samples{ADVICE}")
        self.peak = max(self.peak, peak)
        return block

    def mono(
        self, rate: int, start: float | None = None, end: float | None = None, channel: int | None = None
    ) -> Iterator[Samples]:
        """The mean of the channels, or one of them, at `rate` Hz from `start` to `end` seconds; (N,) each, -1 to 1.

        Another rate is resampled as librosa does ("soxr_hq"). Joined, the pieces are as long as `span` says, and the
        same however the file is cut into blocks.

        Args:
            rate: Hz of the samples that are wanted.
            start: seconds into the file; None: its beginning.
            end: seconds into the file; None, or beyond its end: its end.
            channel: one of them, from 0 on; None: their mean.

        Raises:
            PipelineError: as `blocks`.
        """
        first, last, expected = span(self.header, rate, start, end)
        alone = 0 if self.channels == 1 else channel
        mixed = (
            block.mean(axis=1, dtype=np.float32) if alone is None else block[:, alone]
            for block in self.blocks(first, last)
        )
        yield from mixed if rate == self.header.rate else _resampled(mixed, self.header.rate, rate, expected)

    def samples(self, rate: int, start: float | None = None, end: float | None = None) -> Samples:
        """All of `mono` at once, (N,).

        Args:
            rate: Hz of the samples that are wanted.
            start: seconds into the file; None: its beginning.
            end: seconds into the file; None, or beyond its end: its end.
        """
        return _whole(self.mono(rate, start, end))


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
    """What `decode` gives, in pieces (N,): one block of the file is in memory at a time. What is odd is logged.

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
        for note in recording.notes:
            log.warning("%s %s", name, note)


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
    return _whole(blocks(source, name, rate, start, end))


def _whole(parts: Iterable[Samples]) -> Samples:
    several = list(parts)
    return several[0] if len(several) == 1 else np.concatenate([np.empty(0, np.float32), *several])


def _opened(source: bytes | Path, name: str, closing: ExitStack) -> tuple[BinaryIO | None, Content]:
    """The bytes of a file, and the file itself where it is too long for memory; never one that has no end."""
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


def _truncated(name: str, detail: str) -> TruncatedError:
    return TruncatedError(f"{name} is truncated ({detail}){ADVICE}")
