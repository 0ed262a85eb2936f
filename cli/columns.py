"""Text laid out in aligned columns."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence

WIDEST = 100


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Lines of a table; the columns numbered in `right` end flush.

    >>> list(aligned([("fold", "test"), ("1F", "528")], right=[1]))
    ['fold  test', '1F     528']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def wrapped(text: str, indent: int) -> str:
    """`text` broken to the terminal's width, every line but the first behind `indent` blanks."""
    width = max(40, min(shutil.get_terminal_size((WIDEST, 0)).columns, WIDEST))
    lines = textwrap.wrap(text, width - indent, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * indent).join(lines)
