"""Finding a corpus's files, and reading its label tables: what the readers share."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.errors import PipelineError

AUDIO = (".wav", ".flac", ".ogg", ".mp3")
"""Suffixes of audio files that soundfile reads, in lower case."""

DEPTH = 4
"""How many folders below the given one are searched: a parent of the corpus, or a child, will do."""


def named(root: Path, pattern: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Audio files below `root` whose stem fully matches `pattern`: (path below `root`, match), sorted by path."""
    expression = re.compile(pattern)
    for file in sorted(_audio(root)):
        match = expression.fullmatch(file.rpartition("/")[2].rpartition(".")[0])
        if match:
            yield file, match


def _audio(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        below = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if name[0] != "."] if len(below.parts) < DEPTH else []
        prefix = "" if below == Path() else below.as_posix() + "/"
        yield from (prefix + name for name in files if name[0] != "." and name.lower().endswith(AUDIO))


def listed(root: Path, *patterns: str) -> list[Path]:
    """Files that match one of the glob `patterns` below `root` or up to two folders further down, sorted.

    The shallowest depth and the first pattern with a match win, so that a copy further down is not read as well.
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


def lines(file: Path) -> list[str]:
    """The lines of a text file in UTF-8, or in Latin-1 where it is not; without their ends.

    Raises:
        PipelineError: it cannot be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise PipelineError(f"cannot read {file}: {error.strerror}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def table(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Rows of a CSV file with a header, or of a tab-separated `.tsv`: (line number, column -> text without blanks).

    Raises:
        PipelineError: a column of `columns` is missing, or a row is broken; names the file and the line.
    """
    text = (line + "\n" for line in lines(file))
    if file.suffix.lower() == ".tsv":
        reader = csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.DictReader(text, strict=True)
    try:
        names = list(reader.fieldnames or ())
        missing = [name for name in columns if name not in names]
        if missing:
            there = ", ".join(names) or "none"
            raise PipelineError(f"{file}, line 1: no column {', '.join(missing)}; the columns are {there}")
        for row in reader:
            if None in row or None in row.values():
                raise broken(file, reader.line_num, f"not {len(names)} columns")
            yield reader.line_num, {name: text.strip() for name, text in row.items()}
    except csv.Error as error:
        raise broken(file, reader.reader.line_num, str(error)) from None


def broken(file: Path, line: int, what: str) -> PipelineError:
    """The error of a label file's broken line.

    Args:
        file: the label file.
        line: its number, from 1 on.
        what: is wrong with it.
    """
    return PipelineError(f"{file}, line {line}: {what}; mend or delete the line")


def missing_audio(utterances: Iterable[Utterance], folder: Path) -> list[Utterance]:
    """Utterances whose audio file is not below `folder`; lists each folder once and opens no file."""
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
