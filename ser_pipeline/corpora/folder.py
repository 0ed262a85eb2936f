"""A folder of recordings whose paths contain emotion and speaker: in folder names or in file names.

Layout: `angry/ada_1.wav`, `ada/angry/1.wav` or `angry/ada/1.wav`. The emotion is the nearest folder above a recording
that is named after an emotion, in English or German, or else its own folder. Another folder above it is the speaker.
If paths contain the speaker in another form, `ser-pipeline corpora --init folder DIR --speaker PATTERN` writes a table.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from ser_pipeline.corpora.classes import is_emotion
from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.corpora.layout import audio_below
from ser_pipeline.corpora.matching import tell_near
from ser_pipeline.errors import PipelineError

UNKNOWN = "unknown"
"""Speaker of recordings whose speaker is unknown."""

PATTERNS = "parent, grandparent, or a regular expression with one group that is searched in the path"

log = logging.getLogger(__name__)

Part = Callable[[str], str]
"""Maps the path of a recording to a part of it; "" if the part is missing."""


def read(root: Path) -> Iterator[Utterance]:
    """Every recording of a folder with subfolders by emotion."""
    yield from sorted_by_paths(root) if root.is_dir() else ()


def sorted_by_paths(root: Path, emotion: str = "", speaker: str = "") -> list[Utterance]:
    """Every recording below `root`, with emotion and speaker from its path.

    Args:
        root: the folder.
        emotion: which part of the path is the emotion, see `PATTERNS`; "" detects it.
        speaker: which part is the speaker; "" detects it.

    Raises:
        PipelineError: an invalid pattern, or a path without an emotion or a speaker.
    """
    files = [file for file in audio_below(root) if emotion or "/" in file]
    labelled = _parts(root, files, "emotion", part(emotion) if emotion else _nearest_emotion)
    spoken = _parts(root, files, "speaker", part(speaker) if speaker else _speaker)
    utterances = [
        Utterance(file.rpartition(".")[0], file, label, who)
        for file, label, who in zip(files, labelled, spoken, strict=True)
    ]
    if files and UNKNOWN in spoken and not speaker:
        how = f"ser-pipeline corpora --init folder {shlex.quote(str(root))} --speaker PATTERN > mine.csv"
        what = "no folder names the speakers, so folds cannot leave speakers out; write a table that names them with"
        log.warning("%s: %s `%s`", root, what, how)
    tell_near(root, utterances)
    return utterances


def part(pattern: str) -> Part:
    r"""A function that finds the part of a path that `pattern` describes: see `PATTERNS`.

    >>> part("parent")("a/b/1.wav"), part(r"_(.)\.")("a/b/1_x.wav")
    ('b', 'x')

    Raises:
        PipelineError: it is not a regular expression with one group.
    """
    if pattern in ("parent", "grandparent"):
        place = 2 if pattern == "parent" else 3
        return lambda file: (["", "", "", *file.split("/")])[-place]
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise PipelineError(f"'{pattern}' is not a pattern ({error}); write {PATTERNS}") from None
    if expression.groups != 1:
        raise PipelineError(f"'{pattern}' has {expression.groups} groups; write {PATTERNS}")

    def found(file: str) -> str:
        match = expression.search(file)
        return (match[1] or "") if match else ""

    return found


def _parts(root: Path, files: list[str], name: str, find: Part) -> list[str]:
    found = [find(file) for file in files]
    without = [file for file, text in zip(files, found, strict=True) if not text]
    if without:
        count = f"{len(without)} of {len(files)} recordings"
        raise PipelineError(f"{root}: no {name} in the paths of {count}, such as {without[0]}; change --{name}")
    return found


def _nearest_emotion(file: str) -> str:
    folders = file.split("/")[:-1]
    return next((folder for folder in reversed(folders) if is_emotion(folder)), folders[-1])


def _speaker(file: str) -> str:
    """The nearest folder that is not named after an emotion."""
    folders = file.split("/")[:-1]
    folders.reverse()
    folders.remove(_nearest_emotion(file))
    return next((folder for folder in folders if not is_emotion(folder)), UNKNOWN)


FOLDER = Corpus(
    name="folder",
    title="your own folder",
    read=read,
    classes={},
    layout="recordings in folders by emotion: angry/ada_1.wav, ada/angry/1.wav or angry/ada/1.wav",
    source="you; `ser-pipeline corpora --init folder DIR > my.csv` writes a table of it",
    licence="yours",
)
