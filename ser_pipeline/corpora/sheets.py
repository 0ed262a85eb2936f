"""Text files and tables as programs write them: of any encoding, separator and end of line."""

from __future__ import annotations

import codecs
import csv
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ser_pipeline.errors import PipelineError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What stands between two cells, and its name; the first is taken where a header has as much of several."""

MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
"""Bytes at the beginning that name an encoding."""

log = logging.getLogger(__name__)

Rename = Callable[[Sequence[str]], Sequence[str]]


def decoded(content: bytes) -> tuple[str, str]:
    r"""A text file's text, and the name of its encoding.

    >>> decoded("ä".encode("utf-16")), decoded(b"wait\x85")
    (('ä', 'utf-16-le'), ('wait…', 'Windows-1252'))
    """
    for mark, name in MARKS.items():
        if content.startswith(mark):
            return content[len(mark) :].decode(name, "replace"), name
    head = content[:1000]
    for name, place in (("utf-16-le", 1), ("utf-16-be", 0)):
        if len(head) > 3 and head[place::2].count(0) > 0.8 * (len(head) // 2) and head[1 - place :: 2].count(0) == 0:
            return content.decode(name, "replace"), name
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    try:
        return content.decode("cp1252"), "Windows-1252"
    except UnicodeDecodeError:
        return content.decode("latin-1"), "Latin-1"


def lines(file: Path) -> list[str]:
    """The lines of a text file, without their ends; other characters that end lines for Python are part of the text.

    Raises:
        PipelineError: it cannot be read.
    """
    try:
        text, encoding = decoded(file.read_bytes())
    except OSError as error:
        raise PipelineError(f"cannot read {file}: {error.strerror}") from None
    if encoding != "utf-8":
        log.info("%s: read as %s", file, encoding)
    end = "\n" if "\n" in text or "\r" not in text else "\r"
    return [line.removesuffix("\r") for line in text.removesuffix(end).split(end)]


def table(
    file: Path, columns: Sequence[str], rename: Rename = lambda names: names
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Rows of a table with a header: (line number, column -> text without blanks); rows of empty cells are left out.

    Args:
        file: a `.csv`, or a `.tsv`, whose cells have no quotes.
        columns: that it must have.
        rename: the names of the header's columns, from what stands there.

    Raises:
        PipelineError: a column is missing or repeated, or a row is broken; names the file and the line.
    """
    text = lines(file)
    skipped = 1 if text[0].lower().startswith("sep=") else 0  # a spreadsheet's word for its separator
    separator = _separator(file, text[skipped])
    tabs = separator == "\t" and file.suffix.lower() == ".tsv"
    rest = (line + "\n" for line in text[skipped:])
    if tabs:
        reader = csv.reader(rest, delimiter=separator, quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.reader(rest, delimiter=separator, strict=True)
    try:
        names = _header(file, next(reader, []), columns, rename)
        for cells in reader:
            line = skipped + reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) < len(names) or any(cell.strip() for cell in cells[len(names) :]):
                raise broken(file, line, f"not {len(names)} columns")
            row = {name: cell.strip() for name, cell in zip(names, cells, strict=False)}
            require_text(file, line, row, columns)
            yield line, row
    except csv.Error as error:
        raise broken(file, skipped + reader.line_num, str(error)) from None


def _header(file: Path, cells: Sequence[str], columns: Sequence[str], rename: Rename) -> Sequence[str]:
    """The names of the columns; those at the end that have none are none."""
    there = [cell.strip() for cell in cells]
    while there and not there[-1]:
        there.pop()
    names = rename(there)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PipelineError(f"{file}, line 1: the column '{twice[0]}' is there twice; rename or delete one")
    missing = [name for name in columns if name not in names]
    if missing:
        listed = ", ".join(there) or "none"
        raise PipelineError(
            f"{file}, line 1: no column {', '.join(missing)}; the columns are {listed}{_advice(missing)}"
        )
    return names


def _advice(missing: Sequence[str]) -> str:
    if missing != ["speaker"]:
        return ""
    return "; add it, or let paths tell: ser-pipeline corpora --init table FILE --speaker PATTERN"


def _separator(file: Path, header: str) -> str:
    """What stands between the cells: that which cuts the header into most of them."""
    usual = "\t" if file.suffix.lower() == ".tsv" else ","
    found = max(SEPARATORS, key=lambda mark: (header.count(mark), mark == usual))
    if not header.count(found) or found == usual:
        return usual
    log.info("%s: its cells stand between %s", file, SEPARATORS[found])
    return found


def require_text(file: Path, line: int, row: Mapping[str, str], columns: Iterable[str]) -> None:
    """See to it that cells hold text: no NUL, which no file has in its name, and no half of a character.

    Args:
        file: the label file.
        line: its number, from 1 on.
        row: column -> text.
        columns: whose cells are looked at.

    Raises:
        PipelineError: one of them holds something else.
    """
    for name in columns:
        text = row.get(name, "")
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
            raise broken(file, line, f"{name} holds a character that is no text: {text[:60]!a}")


def inside(file: Path, line: int, path: str) -> str:
    """`path` in a label file's line, once it is shown to stay below the folder that it is relative to.

    Args:
        file: the label file.
        line: its number, from 1 on.
        path: of an audio file or its folder.

    Raises:
        PipelineError: it is an absolute path, or goes up.
    """
    parts = path.replace("\\", "/").split("/")
    if ".." in parts or (len(parts) > 1 and (not parts[0] or parts[0].endswith(":"))):
        raise broken(file, line, f"{path!r} leads out of the corpus")
    return path


def broken(file: Path, line: int, what: str) -> PipelineError:
    """The error of a label file's broken line.

    Args:
        file: the label file.
        line: its number, from 1 on.
        what: is wrong with it.
    """
    return PipelineError(f"{file}, line {line}: {what}; mend or delete the line")
