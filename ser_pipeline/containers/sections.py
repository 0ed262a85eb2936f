"""Split an audio file into one or several recordings that libsndfile reads completely.

Headers may be wrong: in recordings that were piped, truncated, joined, or written by a careless program. If the audio
can be read nevertheless, the decoder gets a corrected header, and a note says so. Truncated files are reported.
"""

from __future__ import annotations

from typing import Any

import soundfile

from ser_pipeline.containers.flac import flac
from ser_pipeline.containers.mpeg import FOREWORD, first_frame, mp3
from ser_pipeline.containers.ogg import ogg
from ser_pipeline.containers.pieces import BrokenOffError, Content, Section
from ser_pipeline.containers.wav import wav

READERS = {b"RIFF": wav, b"OggS": ogg, b"fLaC": flac}
"""First four bytes of a file -> the function that finds its recordings."""


PASSED = 1 << 18
"""Samples per channel that are read and discarded at once in a sound that cannot seek."""


def sections(content: Content) -> tuple[list[Section], list[str]]:
    """The recordings of a file in order, and notes on its irregularities.

    Raises:
        BrokenOffError: the file is truncated.
    """
    start = _after_id3(content)
    magic = content[start : start + 4]
    if magic in READERS:
        found = list(READERS[magic](content, start))
    elif (start or magic[:1] == b"\xff") and first_frame(content, start) < min(len(content), start + FOREWORD):
        found = list(mp3(content, start))
        if not found:
            raise BrokenOffError("none of its frames is complete")
    else:
        found = [(((0, len(content)),), "")]
    several = [f"contains {len(found)} recordings in a row, which are read as one"] if len(found) > 1 else []
    return found, list(dict.fromkeys([*several, *(note for _, note in found if note)]))


def _after_id3(content: Content) -> int:
    """Offset of the end of the ID3v2 tags at the beginning."""
    start = 0
    while content[start : start + 3] == b"ID3" and len(content) >= start + 10:
        high, middle, low, least = content[start + 6 : start + 10]
        start += 10 + (high << 21 | middle << 14 | low << 7 | least)
    return min(start, len(content))


def leapt(sound: Any, first: int, kind: str) -> Any:
    """A libsndfile sound positioned at sample `first`; if it cannot seek, it is reopened and read up to there.

    Args:
        sound: the sound.
        first: sample of each channel.
        kind: type of the samples, "int16" or "float32".
    """
    if sound.seekable():
        sound.seek(first)
        return sound
    sound.name.seek(0)
    fresh = soundfile.SoundFile(sound.name)
    while first > 0:
        read = len(fresh.read(min(PASSED, first), dtype=kind))
        first = first - read if read else 0
    return fresh
