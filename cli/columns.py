"""Layout of text in aligned columns, wrapped between words at the terminal's width."""

from __future__ import annotations

import itertools
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence

WIDEST = 100
"""Largest width of running text on a terminal, in characters."""

NO_BREAK = "\N{NO-BREAK SPACE}"

GAP = 2
"""Spaces between two columns."""


def aligned(
    rows: Sequence[Sequence[str]],
    right: Sequence[int] = (),
    room: int | None = None,
    spared: Sequence[int] = (),
) -> Iterator[str]:
    """Yield the lines of a table; cells that are too wide for the terminal are wrapped, and no word is cut.

    Numbers are not wrapped. If not even the longest words fit next to each other, columns are left out; if that is not
    enough, each row becomes a block with one line per column.

    Args:
        rows: the cells; the first row names the columns.
        right: numbers of the right-aligned columns.
        room: width of a line in characters; by default that of the terminal, and unlimited without a terminal.
        spared: numbers of the columns that are left out on a narrow terminal, in this order.

    >>> list(aligned([("fold", "test"), ("1F", "528")], right=[1]))
    ['fold  test', '1F     528']
    >>> print("\\n".join(aligned([("fold", "who"), ("1F", "03a 08b 09c")], room=13)))
    fold  who
    1F    03a 08b
          09c
    >>> list(aligned([("fold", "UA", "WA"), ("1F", "85.9 to 93.9", "90.7")], [1, 2], room=18, spared=[2]))
    ['fold            UA', '1F    85.9 to 93.9']
    """
    room = _room() if room is None else room
    head, *others = rows
    kept = [
        [cell.replace(" ", NO_BREAK) if place in right else cell for place, cell in enumerate(row)] for row in others
    ]
    rows = [head, *kept]
    while spared and _least(rows) > room:
        place, *later = spared
        rows = [[*row[:place], *row[place + 1 :]] for row in rows]
        right, spared = ([other - (other > place) for other in each if other != place] for each in (right, later))
    wanted = [max(map(len, column)) for column in zip(*rows, strict=True)]
    least = [max(map(_longest, column)) for column in zip(*rows, strict=True)]
    between = GAP * (len(wanted) - 1)
    if sum(least) + between > room:
        yield from (line.replace(NO_BREAK, " ") for line in _blocks(rows, room))
        return
    widths = _narrowed(wanted, least, room - between)
    for row in rows:
        cells = [_folded(cell, width) for cell, width in zip(row, widths, strict=True)]
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            laid = [
                part.rjust(width) if place in right else part.ljust(width)
                for place, (part, width) in enumerate(zip(parts, widths, strict=True))
            ]
            yield (" " * GAP).join(laid).rstrip().replace(NO_BREAK, " ")


def listed(lines: Iterable[str]) -> Iterator[str]:
    """Lines with tabs between their cells: as they are for another program, in aligned columns on a terminal.

    Lines with as many cells as the one before stand in one table with it.
    """
    if not sys.stdout.isatty():
        yield from lines
        return
    for _, table in itertools.groupby((line.split("\t") for line in lines), len):
        rows = list(table)
        numbers = [place for place in range(len(rows[0])) if all(_is_number(row[place]) for row in rows[1:] or rows)]
        yield from aligned(rows, numbers)


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "", 1).isdecimal()


def _least(rows: Sequence[Sequence[str]]) -> int:
    """Characters that a table of `rows` takes at least."""
    return sum(max(map(_longest, column)) for column in zip(*rows, strict=True)) + GAP * (len(rows[0]) - 1)


def wrapped(text: str, indent: int) -> str:
    """Wrap `text` at the terminal's width, with every line but the first indented by `indent` spaces."""
    return ("\n" + " " * indent).join(_folded(text, min(_room(), WIDEST) - indent)) if sys.stdout.isatty() else text


def reflowed(text: str) -> str:
    """Wrap paragraphs at the terminal's width; without a terminal, each becomes one line."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return "\n\n".join(wrapped(paragraph, 0) for paragraph in paragraphs)


def _room() -> int:
    """Return the width of a line of stdout in characters."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def _narrowed(wanted: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return widths that fit into `room`: the widest column shrinks first, down to its longest word."""
    widths = list(wanted)
    while sum(widths) > room:
        place = max((place for place in range(len(widths)) if widths[place] > least[place]), key=widths.__getitem__)
        widths[place] -= 1
    return widths


def _blocks(rows: Sequence[Sequence[str]], room: int) -> Iterator[str]:
    """Yield the rows as blocks, with the column's name before each cell and an empty line between two rows."""
    names, *others = rows
    indent = max(map(len, names)) + GAP
    for number, row in enumerate(others):
        if number:
            yield ""
        for name, cell in zip(names, row, strict=True):
            first, *more = _folded(cell.strip(), max(room - indent, 1))
            yield f"{name:{indent}}{first}".rstrip()
            yield from (" " * indent + line for line in more)


def _folded(text: str, width: int) -> list[str]:
    """Wrap `text` into lines of `width` characters; a longer word is not cut."""
    return textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False) or [""]


def _longest(text: str) -> int:
    """Return the length of the longest word plus the indentation."""
    words = text.split(" ")
    return max((len(word) for word in words), default=0) + (len(text) - len(text.lstrip()) if words else 0)
