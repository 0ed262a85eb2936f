"""Faults and qualities of utterances, as rows of tables: how each is recognised, and its consequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ser_pipeline.audio import LOUDEST, QUIET, SHORT
from ser_pipeline.audit.sound import Sound
from ser_pipeline.text import percent

CLIPPED = 0.001  # share of an utterance's samples
MOSTLY_SILENT = 0.8  # share of frames
OFFSET = 0.05  # of full scale
LONG = 35.0  # seconds; longer utterances were probably not cut

FAULTS: Mapping[str, tuple[str, str]] = {
    "missing": ("cannot be found", "`features` stops here; --skip-bad leaves it out"),
    "truncated": ("cannot be read to the end", "speech is cut off, and the file's length is wrong"),
    "unreadable": ("cannot be read", "`features` stops here; --skip-bad leaves it out"),
    "not-finite": ("cannot be used", "one such sample makes every feature NaN"),
}
"""Fault of a file -> what is true of every file with it, and its consequence."""

Quality = tuple[str, str, str, str, Callable[[Sound], bool]]

QUALITIES: tuple[Quality, ...] = (
    (
        "silent",
        "error",
        "utterances are constant or below -60 dB",
        "a label without speech teaches nothing",
        lambda sound: sound.loudest < QUIET,
    ),
    (
        "cancelled",
        "error",
        "utterances have channels that cancel each other out",
        "features are computed from their mean, which is silence",
        lambda sound: sound.mixed < QUIET <= sound.loudest,
    ),
    (
        "beyond-scale",
        "error",
        "utterances have samples far beyond full scale",
        "they are clipped to it; divide them, by 32768 where they were integers",
        lambda sound: sound.peak > LOUDEST,
    ),
    (
        "dead-channel",
        "warning",
        "utterances have a silent channel next to one that is not",
        "the mean of the channels has a fraction of the level",
        lambda sound: sound.quietest < QUIET <= sound.loudest,
    ),
    (
        "offset",
        "warning",
        f"utterances have an offset of over {percent(OFFSET)} of full scale",
        "a constant offset affects level and spectrum",
        lambda sound: abs(sound.offset) > OFFSET,
    ),
    (
        "odd-file",
        "warning",
        "utterances could be read, but their files are irregular",
        "what was read may not be all that was recorded",
        lambda sound: bool(sound.notes),
    ),
    (
        "clipped",
        "warning",
        f"utterances have over {percent(CLIPPED, 1)} of their samples clipped",
        "loudness is lost and the spectrum distorted, most in loud emotions",
        lambda sound: sound.clipped > CLIPPED,
    ),
    (
        "mostly-silent",
        "warning",
        f"utterances are silent for over {percent(MOSTLY_SILENT)} of their length",
        "segments without speech carry the utterance's label",
        lambda sound: sound.silent > MOSTLY_SILENT and sound.mixed >= QUIET,
    ),
    (
        "odd-length",
        "warning",
        f"utterances are shorter than {SHORT} s or longer than {LONG:.0f} s",
        "a cut may have failed",
        lambda sound: not SHORT <= sound.seconds <= LONG,
    ),
)
"""Name, severity, description, consequence and test of each quality of an utterance."""


SINGULAR = {"utterances are": "utterance is", "utterances have": "utterance has", "utterances": "utterance"} | {
    "their files are": "its file is",
    "their": "its",
}
"""Words of `QUALITIES` -> those for a single utterance."""


def told(count: int, what: str) -> str:
    """Say how many utterances have a quality.

    >>> told(1, "utterances are silent for over 80 % of their length"), told(2, "utterances are silent")
    ('1 utterance is silent for over 80 % of its length', '2 utterances are silent')
    """
    for several, one in SINGULAR.items() if count == 1 else ():
        what = what.replace(several, one)
    return f"{count:,} {what}"
