"""WAV files whose header does not declare the correct number of samples.

Source: Microsoft, Multimedia Programming Interface and Data Specifications 1.0, 1991.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.containers.pieces import BrokenOffError, Content, Section

STREAMED = 0x7F000000
"""Data sizes from here on are placeholders of writers that stream and do not know the length."""

SLACK = 64
"""Tolerated excess of the declared size in bytes: the size of a header that was counted by mistake."""


def wav(content: Content, start: int) -> Iterator[Section]:
    """The RIFF files from `start` on, each with its actual size of data."""
    while start < len(content):
        place, announced = _data_chunk(content, start)
        there = len(content) - place
        size, note = announced, ""
        if not place:
            size, note = 0, ""
        elif announced == 0 and there and not _are_chunks(content, place):
            size, note = there, "has a header that declares no samples, and is read to its end"
        elif announced > there and announced >= STREAMED:
            size, note = there, "has a header that does not declare its length, and is read to its end"
        elif there < announced <= there + SLACK:
            size, note = there, f"has a header that declares {announced - there} bytes more than are there"
        elif announced > there:
            raise BrokenOffError(f"{there} of {announced} bytes of audio are there")
        end = place + size + size % 2
        following = place and content[end : end + 4] == b"RIFF" and content[end + 8 : end + 12] == b"WAVE"
        stop = end if following else len(content)
        if note:
            head = bytearray(content[start:place])
            head[4:8] = struct.pack("<I", min(place - start - 8 + size, 0xFFFFFFFF))
            head[-4:] = struct.pack("<I", min(size, 0xFFFFFFFF))
            yield (bytes(head), (place, place + size)), note
        else:
            yield ((start, stop),), ""
        start = stop


def _data_chunk(content: Content, start: int) -> tuple[int, int]:
    """Offset of the samples of a RIFF file, and the number of bytes that its header declares; 0 and 0 without any."""
    place = start + 12
    while place + 8 <= len(content):
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        if content[place : place + 4] == b"data":
            return place + 8, size
        place += 8 + size + size % 2
    return 0, 0


def _are_chunks(content: Content, place: int) -> bool:
    """Whether complete RIFF chunks, not samples, follow `place` up to the end."""
    while place + 8 <= len(content) and content[place : place + 4].isalnum():
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return place in (len(content), len(content) + 1)


class Pcm:
    """A 16-bit WAV file in memory that is read like a `soundfile.SoundFile`, in a third of the time."""

    subtype, extra_info = "PCM_16", ""

    def __init__(self, samples: NDArray[np.int16], samplerate: int) -> None:
        """Read from `samples` (N, channels)."""
        self._samples, self.samplerate = samples, samplerate
        self.frames, self.channels = samples.shape
        self._place = 0

    def seekable(self) -> bool:
        """Return True: any position can be read."""
        return True

    def seek(self, frame: int) -> None:
        """Set the position to a sample."""
        self._place = frame

    def read(self, frames: int, **_: object) -> NDArray[np.int16]:
        """The next `frames` samples (N, channels)."""
        first, self._place = self._place, self._place + frames
        return self._samples[first : self._place]


def plain(content: bytes) -> Pcm | None:
    """The samples of a WAV file with an ordinary and correct header; None for any other file."""
    if content[:4] != b"RIFF" or content[8:16] != b"WAVEfmt ":
        return None
    size, code, channels, rate, _, width, bits = struct.unpack_from("<IHHIIHH", content[:36].ljust(36, b"\0"), 16)
    place, announced = _data_chunk(content, 0)
    ordinary = (size, code, bits) in ((16, 1, 16), (18, 1, 16)) and width == 2 * channels > 0
    if not ordinary or not 0 < announced <= len(content) - place or announced % width:
        return None
    if content[place + announced : place + announced + 4] == b"RIFF":
        return None
    samples = np.frombuffer(content, "<i2", announced // 2, place)
    return Pcm(samples.reshape(-1, channels), rate)
