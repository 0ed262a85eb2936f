"""Layout of text in aligned columns, wrapped between words at the terminal's width."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

WIDEST = 100

GAP = 2
"""Spaces between two columns."""


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = (), room: int | None = None) -> Iterator[str]:
    """Yield the lines of a table; cells that are too wide for the terminal are wrapped, and no word is cut.

    If not even the longest words fit next to each other, each row becomes a block with one line per column.

    Args:
        rows: the cells; the first row names the columns.
        right: numbers of the right-aligned columns.
        room: width of a line in characters; by default that of the terminal, and unlimited without a terminal.

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
    """Wrap `text` at the terminal's width, with every line but the first indented by `indent` spaces."""
    width = max(40, min(shutil.get_terminal_size((WIDEST, 0)).columns, WIDEST))
    return ("\n" + " " * indent).join(_folded(text, width - indent))


def reflowed(text: str) -> str:
    """Wrap paragraphs at the terminal's width; unchanged if stdout is not a terminal, or is wide enough."""
    room = _room()
    if max(map(len, text.split("\n"))) <= room:
        return text
    return "\n\n".join("\n".join(_folded(paragraph, room)) for paragraph in text.split("\n\n"))


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
    words = text.split()
    return max((len(word) for word in words), default=0) + (len(text) - len(text.lstrip()) if words else 0)
