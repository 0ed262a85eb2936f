"""Shared parts of the container readers: a file as pieces that libsndfile reads completely."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from mmap import mmap
from typing import Any, BinaryIO, cast

MOST = 8_192
"""Maximum samples per byte: silence in FLAC, 65,535 samples in eight bytes."""

LIE = "has a header that declares {}, more than its bytes can contain, and is read to its end"

Content = bytes | mmap
Piece = bytes | tuple[int, int]  # inserted bytes, or start and end of a stretch of the file
Section = tuple[tuple[Piece, ...], str]  # one recording as a file that libsndfile reads completely, and a note or ""


class BrokenOffError(ValueError):
    """Less audio exists than its container declares; the message says how much."""


class Memory(io.BytesIO):
    """Bytes as a file that accepts seeks before its beginning, which libsndfile makes in damaged files."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position: see `io.IOBase.seek`."""
        return super().seek(max(0, offset) if whence == io.SEEK_SET else offset, whence)


class Joined(io.RawIOBase):
    """Pieces of a file, and inserted bytes, as one file."""

    def __init__(self, content: Content, file: BinaryIO | None, pieces: Sequence[Piece]) -> None:
        """Join pieces.

        Args:
            content: all bytes of the file.
            file: the file itself, if `content` is a map of it that should not be read in full.
            pieces: inserted bytes, or first and last plus one byte of stretches of the file.
        """
        self._content, self._file, self._pieces = content, file, pieces
        sizes = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces]
        self._starts = list(accumulate(sizes, initial=0))
        self._place = 0

    def opened(self) -> BinaryIO:
        """The pieces in memory if the file is in memory, otherwise this object."""
        if self._file is not None:
            return cast(BinaryIO, self)
        parts = [piece if isinstance(piece, bytes) else self._content[slice(*piece)] for piece in self._pieces]
        return Memory(parts[0] if len(parts) == 1 else b"".join(parts))

    def readable(self) -> bool:
        """Return True: the file can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: any position can be read."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position: see `io.IOBase.seek`."""
        self._place = max(0, offset + (0, self._place, self._starts[-1])[whence])
        return self._place

    def tell(self) -> int:
        """The current position."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with as many bytes as are left; return their number."""
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view) and self._place < self._starts[-1]:
            number = bisect_right(self._starts, self._place) - 1
            count = min(len(view) - done, self._starts[number + 1] - self._place)
            part = self._bytes(self._pieces[number], self._place - self._starts[number], count)
            if not part:
                break
            view[done : done + len(part)] = part
            done, self._place = done + len(part), self._place + len(part)
        return done

    def _bytes(self, piece: Piece, offset: int, count: int) -> bytes:
        if isinstance(piece, bytes):
            return piece[offset : offset + count]
        assert self._file is not None
        self._file.seek(piece[0] + offset)
        return self._file.read(count)
