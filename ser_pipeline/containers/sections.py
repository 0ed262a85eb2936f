"""An audio file as one or several recordings that libsndfile reads whole.

Headers lie: of recordings that were piped, cut off, joined, or written by a careless program. What can be read all the
same is given to the decoder with a header that is true, and a note says so; what breaks off is said to.
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
"""The first four bytes of a file -> what tells its recordings."""


PASSED = 1 << 18
"""Samples a channel that are passed over at a time where a sound cannot be leapt in."""


def sections(content: Content) -> tuple[list[Section], list[str]]:
    """The recordings of a file, one after the other, and notes on what was odd about it.

    Raises:
        BrokenOffError: it is truncated.
    """
    start = _after_id3(content)
    magic = content[start : start + 4]
    if magic in READERS:
        found = list(READERS[magic](content, start))
    elif (start or magic[:1] == b"\xff") and first_frame(content, start) < min(len(content), start + FOREWORD):
        found = list(mp3(content, start))
        if not found:
            raise BrokenOffError("not one of its frames is whole")
    else:
        found = [(((0, len(content)),), "")]
    several = [f"holds {len(found)} recordings one after the other, which are read as one"] if len(found) > 1 else []
    return found, list(dict.fromkeys([*several, *(note for _, note in found if note)]))


def _after_id3(content: Content) -> int:
    """Where the ID3v2 tags at the beginning end."""
    start = 0
    while content[start : start + 3] == b"ID3" and len(content) >= start + 10:
        high, middle, low, least = content[start + 6 : start + 10]
        start += 10 + (high << 21 | middle << 14 | low << 7 | least)
    return min(start, len(content))


def leapt(sound: Any, first: int, kind: str) -> Any:
    """A sound of libsndfile, about to give its sample `first`; one that cannot be leapt in is opened anew and read.

    Args:
        sound: the sound.
        first: sample of each channel.
        kind: of the samples, "int16" or "float32".
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
