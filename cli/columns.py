"""Text laid out in aligned columns, folded at the terminal's width between words."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

WIDEST = 100

GAP = 2
"""Blanks between two columns."""


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = (), room: int | None = None) -> Iterator[str]:
    """Lines of a table; cells that are too wide for the terminal go on in the next line, and no word is cut.

    Where not even the longest words fit side by side, each row is a block of its own, a line a column.

    Args:
        rows: the cells; the first row names the columns.
        right: numbers of the columns that end flush.
        room: width of a line; by default that of the terminal, and without a terminal as much as it takes.

    >>> list(aligned([("fold", "test"), ("1F", "528")], right=[1]))
    ['fold  test', '1F     528']
    >>> print("\\n".join(aligned([("fold", "who"), ("1F", "03a 08b 09c")], room=13)))
    fold  who
    1F    03a 08b
          09c
    """
    room = _room() if room is None else room
    wanted = [max(map(len, column)) for column in zip(*rows, strict=True)]
    least = [max(map(_longest, column)) for column in zip(*rows, strict=True)]
    between = GAP * (len(wanted) - 1)
    if sum(least) + between > room:
        yield from _blocks(rows, room)
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
            yield (" " * GAP).join(laid).rstrip()


def wrapped(text: str, indent: int) -> str:
    """`text` broken to the terminal's width, every line but the first behind `indent` blanks."""
    width = max(40, min(shutil.get_terminal_size((WIDEST, 0)).columns, WIDEST))
    return ("\n" + " " * indent).join(_folded(text, width - indent))


def reflowed(text: str) -> str:
    """Paragraphs broken anew at the terminal's width; as they are where stdout is no terminal, or wide enough."""
    room = _room()
    if max(map(len, text.split("\n"))) <= room:
        return text
    return "\n\n".join("\n".join(_folded(paragraph, room)) for paragraph in text.split("\n\n"))


def _room() -> int:
    """Characters of a line of stdout."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def _narrowed(wanted: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths that fit into `room`: the widest column gives way first, down to its longest word."""
    widths = list(wanted)
    while sum(widths) > room:
        place = max((place for place in range(len(widths)) if widths[place] > least[place]), key=widths.__getitem__)
        widths[place] -= 1
    return widths


def _blocks(rows: Sequence[Sequence[str]], room: int) -> Iterator[str]:
    """The rows below one another, the name of the column before each cell, an empty line between two rows."""
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
    """The lines of `text` in `width` characters; a word that is longer stays whole."""
    return textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False) or [""]


def _longest(text: str) -> int:
    """Length of the longest word, with what it is indented by."""
    words = text.split()
    return max((len(word) for word in words), default=0) + (len(text) - len(text.lstrip()) if words else 0)
