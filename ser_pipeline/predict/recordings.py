"""Decoding of recordings to predict: files, standard input, bytes and samples."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile, SpooledTemporaryFile
from typing import IO, Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from ser_pipeline.audio import ADVICE, Recording, Samples
from ser_pipeline.errors import PipelineError

Source = str | Path | bytes | tuple[NDArray[Any], int]
"""A file, "-" for standard input, the bytes of a file, or samples (N,) or (N, channels) with their rate in Hz."""

Channels = Literal["mix", "split"] | int
"""The mean of the channels, each channel separately, or the number of one, counted from 1."""

STDIN = "-"

_OfChannel = Callable[[int | None], Iterator[Samples]]

MEMORY = 1 << 24
"""Largest size of a decoded channel in memory, in bytes: 4 minutes at 16 kHz; a temporary file has longer ones."""


AUDIO = tuple(
    f".{name}"
    for name in (
        *("wav", "flac", "mp3", "ogg", "opus", "oga", "wave", "w64", "rf64", "aif", "aiff", "aifc", "au", "snd", "caf"),
        *("m4a", "mp4", "aac", "wma", "amr", "webm", "mka", "mkv", "mov", "avi", "3gp"),
    )
)
"""Suffixes, in lower case, of the files in a folder that are recordings; the most common ones first."""


def listed(names: Iterable[str]) -> list[str]:
    """Return the paths of recordings: files as given, and all recordings in a folder and its subfolders, by name.

    Raises:
        PipelineError: a folder contains no recordings.
    """
    found: list[str] = []
    for name in names:
        if name == STDIN or not Path(name).is_dir():
            found.append(name)
            continue
        inside = [
            str(file) for file in sorted(Path(name).rglob("*")) if file.suffix.lower() in AUDIO and file.is_file()
        ]
        if not inside:
            raise PipelineError(
                f"no recordings in the folder {name}; their names must end in {', '.join(AUDIO[:5])}, …"
            )
        found += inside
    return found


class Decoded:
    """Samples of one channel at the model's rate, float32 (N,), with random access."""

    def __init__(self, parts: Iterable[Samples]) -> None:
        """Store all samples of `parts`, one after the other."""
        self._file: IO[bytes] = SpooledTemporaryFile(MEMORY)  # noqa: SIM115
        self.count = 0
        for part in parts:
            self._file.write(np.ascontiguousarray(part, np.float32).data)
            self.count += len(part)

    def read(self, first: int, last: int) -> Samples:
        """Read samples `first` to `last` (exclusive), which must exist."""
        self._file.seek(4 * first)
        return np.frombuffer(self._file.read(4 * (last - first)), np.float32)

    def close(self) -> None:
        """Release the samples."""
        self._file.close()


class InMemory:
    """The same interface for samples in memory, which must stay there."""

    def __init__(self, samples: Samples) -> None:
        """Use the samples (N,) without a copy."""
        self._samples, self.count = samples, len(samples)

    def read(self, first: int, last: int) -> Samples:
        """Copy samples `first` to `last` (exclusive), which must exist."""
        return self._samples[first:last].copy()


@dataclass(frozen=True)
class Track:
    """A decoded channel."""

    samples: Decoded | InMemory
    channel: int | None  # counted from 1; None for the mean of all channels


@dataclass(frozen=True)
class Opened:
    """A decoded recording."""

    name: str  # as given by the caller
    digest: str  # SHA-256 of the file's bytes, 64 hex digits; "" for samples
    tracks: tuple[Track, ...]
    notes: tuple[str, ...] = ()  # unusual properties


def name_of(source: Source) -> str:
    """Return the name of a source in answers: its path, or "" for bytes and samples."""
    return str(source) if isinstance(source, str | Path) else ""


@contextmanager
def opened(source: Source, rate: int, channels: Channels = "mix") -> Iterator[Opened]:
    """Decode a recording, and release its samples at the end of the block.

    Args:
        source: the recording.
        rate: sampling rate of the result in Hz.
        channels: the channels to decode.

    Raises:
        PipelineError: the recording cannot be read, is damaged, or has no such channel.
    """
    name = name_of(source)
    called = "standard input" if name == STDIN else name or "the recording"
    with ExitStack() as held:
        try:
            with ExitStack() as reading:  # the file is closed after decoding
                digest, count, parts, notes = _parts(source, called, rate, reading)
                tracks = []
                for channel in _chosen(channels, count, called):
                    samples = Decoded(parts(channel))
                    held.callback(samples.close)
                    tracks.append(Track(samples, None if channel is None else channel + 1))
        except OSError as error:
            raise PipelineError(f"cannot read {called}: {error.strerror or error}") from None
        except PipelineError as error:
            raise PipelineError(str(error).removesuffix(ADVICE)) from None
        yield Opened(name, digest, tuple(tracks), tuple(dict.fromkeys(notes)))


def _parts(source: Source, name: str, rate: int, held: ExitStack) -> tuple[str, int, _OfChannel, list[str]]:
    """Return the digest, the number of channels, a function that decodes a channel (None: their mean), and notes."""
    given = _encoded(*source, name) if isinstance(source, tuple) else source
    if isinstance(given, str | Path):
        given = _standard_input(held) if str(given) == STDIN else Path(given)
    recording = held.enter_context(Recording(given, name))
    digest = "" if isinstance(source, tuple) else recording.digest()
    return digest, recording.channels, lambda channel: recording.mono(rate, channel=channel), recording.notes


def _standard_input(held: ExitStack) -> Path:
    """Copy standard input to a temporary file, since decoding audio needs random access."""
    kept = held.enter_context(NamedTemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(sys.stdin.buffer, kept)
    kept.flush()
    return Path(kept.name)


def _encoded(samples: NDArray[Any], rate: int, name: str) -> bytes:
    """Encode samples as a float32 WAV file; integers are scaled by the range of their type."""
    found = np.asarray(samples)
    if found.ndim not in (1, 2) or not found.size:
        raise PipelineError(f"{name} has no samples: their shape must be (N,) or (N, channels), not {found.shape}")
    if np.issubdtype(found.dtype, np.signedinteger):
        found = found / -float(np.iinfo(found.dtype).min)
    if not np.issubdtype(found.dtype, np.floating):
        raise PipelineError(f"{name} has samples of {found.dtype}; they must be floats in -1 to 1, or signed integers")
    out = io.BytesIO()
    soundfile.write(out, found.astype(np.float32), rate, format="WAV", subtype="FLOAT")
    return out.getvalue()


def _chosen(channels: Channels, count: int, name: str) -> list[int | None]:
    """Return the indices of the channels to decode, counted from 0; None for their mean."""
    if channels == "mix":
        return [None]
    if channels == "split":
        return list(range(count))
    if not isinstance(channels, int) or not 1 <= channels <= count:
        there = "its only channel is 1" if count == 1 else f"its channels are 1 to {count}"
        raise PipelineError(f"{name} has no channel {channels}: {there}")
    return [channels - 1]
