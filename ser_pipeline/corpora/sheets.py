"""Read text files and tables as programs write them: with any encoding, separator and line ending."""

from __future__ import annotations

import codecs
import csv
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ser_pipeline.errors import PipelineError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""Separators of cells -> name; if a header has several equally often, the first is used."""

MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
"""Byte-order marks -> encoding."""

log = logging.getLogger(__name__)

Rename = Callable[[Sequence[str]], Sequence[str]]


def decoded(content: bytes) -> tuple[str, str]:
    r"""Decode a text file; returns the text and the name of the encoding.

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
    """The lines of a text file without their ends; other characters that end lines for Python are part of the text.

    Raises:
        PipelineError: the file cannot be read.
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
    """Rows of a table with a header: (line number, column -> text without surrounding blanks); empty rows are skipped.

    Args:
        file: a `.csv`, or a `.tsv`, whose cells are not quoted.
        columns: required columns.
        rename: maps the header's names to ours.

    Raises:
        PipelineError: a column is missing or repeated, or a row is broken; names the file and the line.
    """
    text = lines(file)
    if not any(line.strip() for line in text):
        raise PipelineError(f"{file} is empty; its first line must name the columns {', '.join(columns)}")
    skipped = 1 if text[0].lower().startswith("sep=") else 0  # how spreadsheets declare the separator
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
    """The names of the columns; columns without a name at the end are ignored."""
    there = [cell.strip() for cell in cells]
    while there and not there[-1]:
        there.pop()
    names = rename(there)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PipelineError(f"{file}, line 1: the column '{twice[0]}' occurs twice; rename or delete one")
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
    return "; add it, or read it from paths: ser-pipeline corpora --init table FILE --speaker PATTERN"


def _separator(file: Path, header: str) -> str:
    """The separator of the cells: the one that occurs most often in the header."""
    usual = "\t" if file.suffix.lower() == ".tsv" else ","
    found = max(SEPARATORS, key=lambda mark: (header.count(mark), mark == usual))
    if not header.count(found) or found == usual:
        return usual
    log.info("%s: its cells are separated by %s", file, SEPARATORS[found])
    return found


def require_text(file: Path, line: int, row: Mapping[str, str], columns: Iterable[str]) -> None:
    """Refuse cells with NUL, which no file name may contain, or with lone surrogates.

    Args:
        file: the label file.
        line: line number, from 1 on.
        row: column -> text.
        columns: columns to check.

    Raises:
        PipelineError: a cell contains such a character.
    """
    for name in columns:
        text = row.get(name, "")
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
            raise broken(file, line, f"{name} contains a character that is not text: {text[:60]!a}")


def inside(file: Path, line: int, path: str) -> str:
    """Return `path` after checking that it stays inside the folder that it is relative to.

    Args:
        file: the label file.
        line: line number, from 1 on.
        path: path of an audio file or its folder.

    Raises:
        PipelineError: it is an absolute path, or leads out of the folder.
    """
    parts = path.replace("\\", "/").split("/")
    if ".." in parts or (len(parts) > 1 and (not parts[0] or parts[0].endswith(":"))):
        raise broken(file, line, f"{path!r} leads out of the corpus")
    return path


def broken(file: Path, line: int, what: str) -> PipelineError:
    """The error for a broken line of a label file.

    Args:
        file: the label file.
        line: line number, from 1 on.
        what: description of the fault.
    """
    return PipelineError(f"{file}, line {line}: {what}; correct or delete the line")
