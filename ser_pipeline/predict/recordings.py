"""What is asked about, decoded: files, standard input, bytes and samples, a channel at a time, read anywhere."""

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
"""A file, "-" for standard input, the bytes of a file, or samples (N,) or (N, channels) and their rate in Hz."""

Channels = Literal["mix", "split"] | int
"""The mean of the channels, each of them on its own, or one of them, from 1 on."""

STDIN = "-"

_OfChannel = Callable[[int | None], Iterator[Samples]]

MEMORY = 1 << 24
"""Bytes of a decoded channel that are kept in memory: 4 minutes at 16 kHz. What is longer lies in a temporary file."""


AUDIO = frozenset(
    f".{name}"
    for name in (
        *("wav", "wave", "w64", "rf64", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "snd", "caf"),
        *("m4a", "mp4", "aac", "wma", "amr", "webm", "mka", "mkv", "mov", "avi", "3gp"),
    )
)
"""Endings, in small letters, of the files of a folder that are taken for recordings."""


def listed(names: Iterable[str]) -> list[str]:
    """Paths of recordings: files as they are named, and all that a folder and the folders in it hold, by name.

    Raises:
        PipelineError: a folder has none.
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
                f"no recordings in the folder {name}; their names end in {', '.join(sorted(AUDIO)[:5])}, …"
            )
        found += inside
    return found


class Decoded:
    """Samples of one channel at the model's rate, float32 (N,), of which any part can be read."""

    def __init__(self, parts: Iterable[Samples]) -> None:
        """Keeps all samples of `parts`, one after the other."""
        self._file: IO[bytes] = SpooledTemporaryFile(MEMORY)  # noqa: SIM115
        self.count = 0
        for part in parts:
            self._file.write(np.ascontiguousarray(part, np.float32).data)
            self.count += len(part)

    def read(self, first: int, last: int) -> Samples:
        """Samples `first` to `last`, which lie within it."""
        self._file.seek(4 * first)
        return np.frombuffer(self._file.read(4 * (last - first)), np.float32)

    def close(self) -> None:
        """Let go of the samples."""
        self._file.close()


class InMemory:
    """The same of samples that lie somewhere, for as long as they do."""

    def __init__(self, samples: Samples) -> None:
        """Takes the samples (N,) as they are."""
        self._samples, self.count = samples, len(samples)

    def read(self, first: int, last: int) -> Samples:
        """A copy of samples `first` to `last`, which lie within it."""
        return self._samples[first:last].copy()


@dataclass(frozen=True)
class Track:
    """A decoded channel."""

    samples: Decoded | InMemory
    channel: int | None  # from 1 on; None: the mean of all


@dataclass(frozen=True)
class Opened:
    """A recording that was decoded to its end."""

    name: str  # as it was asked for
    digest: str  # 64 hex digits: SHA-256 of the file's bytes; "" for samples
    tracks: tuple[Track, ...]
    notes: tuple[str, ...] = ()  # what is odd about it


def name_of(source: Source) -> str:
    """What answers call a source: its path, or "" for bytes and samples."""
    return str(source) if isinstance(source, str | Path) else ""


@contextmanager
def opened(source: Source, rate: int, channels: Channels = "mix") -> Iterator[Opened]:
    """A recording at `rate` Hz, decoded while it is open.

    Args:
        source: what is asked about.
        rate: Hz of the samples that are wanted.
        channels: which of them.

    Raises:
        PipelineError: it cannot be read, is broken, or has no such channel.
    """
    name = name_of(source)
    with ExitStack() as held:
        try:
            with ExitStack() as reading:  # the file itself is let go of once it is decoded
                digest, count, parts, notes = _parts(source, name or "what was given", rate, reading)
                tracks = []
                for channel in _chosen(channels, count, name or "what was given"):
                    samples = Decoded(parts(channel))
                    held.callback(samples.close)
                    tracks.append(Track(samples, None if channel is None else channel + 1))
        except OSError as error:
            raise PipelineError(f"cannot read {name}: {error.strerror or error}") from None
        except PipelineError as error:
            raise PipelineError(str(error).removesuffix(ADVICE)) from None
        yield Opened(name, digest, tuple(tracks), tuple(dict.fromkeys(notes)))


def _parts(source: Source, name: str, rate: int, held: ExitStack) -> tuple[str, int, _OfChannel, list[str]]:
    """Digest, number of channels, a function from a channel (None: their mean) to pieces of its samples, and notes."""
    given = _encoded(*source, name) if isinstance(source, tuple) else source
    if isinstance(given, str | Path):
        given = _standard_input(held) if str(given) == STDIN else Path(given)
    recording = held.enter_context(Recording(given, name))
    digest = "" if isinstance(source, tuple) else recording.digest()
    return digest, recording.channels, lambda channel: recording.mono(rate, channel=channel), recording.notes


def _standard_input(held: ExitStack) -> Path:
    """All of it, in a temporary file: audio is not read from front to back alone."""
    kept = held.enter_context(NamedTemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(sys.stdin.buffer, kept)
    kept.flush()
    return Path(kept.name)


def _encoded(samples: NDArray[Any], rate: int, name: str) -> bytes:
    """Samples as a WAV file of float32; whole numbers are scaled by what their type holds."""
    found = np.asarray(samples)
    if found.ndim not in (1, 2) or not found.size:
        raise PipelineError(f"{name} holds no samples: they are (N,) or (N, channels), not {found.shape}")
    if np.issubdtype(found.dtype, np.signedinteger):
        found = found / -float(np.iinfo(found.dtype).min)
    if not np.issubdtype(found.dtype, np.floating):
        raise PipelineError(f"{name} holds samples of {found.dtype}; they are floats in -1 to 1, or signed integers")
    out = io.BytesIO()
    soundfile.write(out, found.astype(np.float32), rate, format="WAV", subtype="FLOAT")
    return out.getvalue()


def _chosen(channels: Channels, count: int, name: str) -> list[int | None]:
    """Which channels are decoded, from 0 on; None: their mean."""
    if channels == "mix":
        return [None]
    if channels == "split":
        return list(range(count))
    if not isinstance(channels, int) or not 1 <= channels <= count:
        there = "its only channel is 1" if count == 1 else f"its channels are 1 to {count}"
        raise PipelineError(f"{name} has no channel {channels}: {there}")
    return [channels - 1]
