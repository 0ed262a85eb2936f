"""Remember measured audio files, so that an unchanged corpus is not read again.

A file counts as unchanged while its size, times and inode stay the same. A file that changed moments before it was read
is not remembered: a second change within the resolution of the clock would go unnoticed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ser_pipeline import entry
from ser_pipeline.audio import AudioHeader
from ser_pipeline.text import lines

FOLDER = ".files"
SETTLED = 2.0  # seconds since its last change after which a file is remembered


@dataclass(frozen=True)
class File:
    """What reading a file revealed."""

    digest: str  # 64 hex digits: SHA-256 of its bytes
    header: AudioHeader
    decoded: bool  # whether all of its audio was decoded, not only its header


Stamp = tuple[int, int, int, int]


def stamp(file: Path) -> Stamp:
    """Size, times and inode of a file, which change with its content."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


class FileIndex:
    """The measured files of one corpus folder, by their relative path."""

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        """Read the index of `root` in `folder`; without a folder, nothing is remembered."""
        self._file = folder / FOLDER / f"{entry.key({'root': str(root.resolve())})}.jsonl" if folder else None
        self._files: dict[str, tuple[Stamp, File]] = dict(_read(self._file)) if self._file else {}
        self._changed = False

    def find(self, name: str, now: Stamp) -> File | None:
        """What is known of the file `name`, if it has not changed."""
        before, file = self._files.get(name, (None, None))
        return file if before == now else None

    def add(self, name: str, now: Stamp, file: File) -> None:
        """Remember what reading `name` revealed.

        Args:
            name: path of the file below the root.
            now: its stamp from before it was read.
            file: what reading it revealed.
        """
        if time.time() - max(now[1], now[2]) / 1e9 > SETTLED:
            self._files[name] = now, file
            self._changed = True

    def save(self) -> None:
        """Write the index if entries were added; if it cannot be written, files are measured again next time."""
        if self._changed and self._file:
            lines = (
                json.dumps([name, now, file.digest, file.header.frames, file.header.rate, file.decoded])
                for name, (now, file) in sorted(self._files.items())
            )
            with suppress(OSError):
                entry.write_text(self._file, "".join(f"{line}\n" for line in lines))


def _read(file: Path) -> Iterator[tuple[str, tuple[Stamp, File]]]:
    """The lines of `file` up to the first invalid one; a lost line only costs time."""
    with suppress(OSError, ValueError, TypeError):
        for line in lines(file.read_text(encoding="utf-8")):
            name, (size, modified, changed, inode), digest, frames, rate, decoded = json.loads(line)
            yield name, ((size, modified, changed, inode), File(digest, AudioHeader(frames, rate), decoded))
