"""Find a corpus's files, and read its label tables: shared by the readers."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ser_pipeline.corpora.corpus import Utterance, age_of
from ser_pipeline.corpora.ratings import DIMENSIONS, Ratings
from ser_pipeline.corpora.sheets import broken, inside, lines, table
from ser_pipeline.text import parse_float

__all__ = ["age_in", "below", "broken", "inside", "lines", "listed", "missing_audio", "named", "ratings_in", "table"]

AUDIO = (".wav", ".flac", ".ogg", ".opus", ".aiff", ".aif", ".mp3", ".m4a")
"""Suffixes of audio files in lower case; if a recording exists in several formats, the first in this order is read."""

DEPTH = 4
"""Levels of subfolders that are searched, so that a parent or a subfolder of the corpus can be given."""


def named(root: Path, pattern: str, endings: tuple[str, ...] = AUDIO) -> Iterator[tuple[str, re.Match[str]]]:
    """Audio files below `root` whose stem fully matches `pattern`: (path below `root`, match), sorted by path.

    Args:
        root: the folder.
        pattern: a regular expression.
        endings: suffixes of the files' names, in lower case.
    """
    expression = re.compile(pattern)
    for file in sorted(_audio(root, endings)):
        match = expression.fullmatch(file.rpartition("/")[2].rpartition(".")[0])
        if match:
            yield file, match


def audio_below(root: Path) -> list[str]:
    """Paths below `root` of all audio files, sorted."""
    return sorted(_audio(root, AUDIO))


def _audio(root: Path, endings: tuple[str, ...]) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()  # folders, so that each is entered once despite links
    for folder, folders, files in os.walk(root, followlinks=True):
        below, status = Path(folder).relative_to(root), Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = [name for name in folders if name[0] != "."] if len(below.parts) < DEPTH else []
        prefix = "" if below == Path() else below.as_posix() + "/"
        yield from (prefix + name for name in files if name[0] != "." and name.lower().endswith(endings))


def listed(root: Path, *patterns: str) -> list[Path]:
    """Files that match one of the glob `patterns` below `root` or up to two folders further down, sorted.

    The shallowest depth and the first pattern with a match win, so that a copy further down is not read too.
    """
    for prefix in ("", "*/", "*/*/"):
        for pattern in patterns:
            found = sorted(file for file in root.glob(prefix + pattern) if not file.name.startswith("."))
            if found:
                return found
    return []


def below(file: Path, root: Path) -> str:
    """The path of `file` below `root`, with forward slashes.

    >>> below(Path("a/b/c.wav"), Path("a"))
    'b/c.wav'
    """
    return file.relative_to(root).as_posix()


def age_in(file: Path, line: int, text: str) -> int | None:
    """The age in a label file's line, in whole years; None if it is empty.

    Args:
        file: the label file.
        line: line number, from 1 on.
        text: text of the column.

    Raises:
        PipelineError: not a number of years.
    """
    try:
        return age_of(text)
    except ValueError:
        raise broken(file, line, f"age '{text}' is not a number of years") from None


def ratings_in(file: Path, line: int, texts: Sequence[str], order: Sequence[str] = DIMENSIONS) -> Ratings:
    """Arousal, valence and dominance in a label file's line.

    Args:
        file: the label file.
        line: line number, from 1 on.
        texts: texts of the three values.
        order: which of `DIMENSIONS` each of them is.

    Raises:
        PipelineError: not three finite numbers.
    """
    try:
        found = dict(zip(order, map(parse_float, texts), strict=True))
    except ValueError:
        found = {}
    if not found or not all(map(math.isfinite, found.values())):
        raise broken(file, line, f"not numbers for {', '.join(order)}: {', '.join(texts)[:60]}")
    arousal, valence, dominance = (found[name] for name in DIMENSIONS)
    return arousal, valence, dominance


def missing_audio(utterances: Iterable[Utterance], folder: Path) -> list[Utterance]:
    """Utterances whose audio file is missing below `folder`; lists each folder once and opens no file."""
    names: dict[str, set[str]] = {}
    missing = []
    for utterance in utterances:
        parent, _, name = utterance.file.rpartition("/")
        if parent not in names:
            names[parent] = _names(folder / parent)
        if name not in names[parent]:
            missing.append(utterance)
    return missing


def _names(folder: Path) -> set[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        return {entry.name for entry in entries}
    return set()
