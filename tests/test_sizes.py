"""Limits on the length of functions and files; `python tests/test_sizes.py` prints a table."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from support.places import ROOT

FOLDERS = ("ser_pipeline", "cli", "benchmarks")
FILE = 350
"""Maximum lines of a file."""

FUNCTION = 60
"""Maximum lines of a function, without its docstring and nested definitions."""

MOST_FUNCTIONS = 17
"""Maximum lines of nine in ten functions."""


@dataclass(frozen=True)
class Function:
    """A function, and its number of lines without its docstring."""

    file: Path
    name: str
    lines: int


def files() -> dict[Path, int]:
    """Return every file of the code, and its number of lines."""
    found = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
    return {file.relative_to(ROOT): len(file.read_text(encoding="utf-8").splitlines()) for file in found}


def functions() -> Iterator[Function]:
    """Yield every function of the code, including methods and nested functions."""
    for file in files():
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Function(file, node.name, _lines(node))


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        first = node.body[0]
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_nine_of_ten_functions_are_short_and_none_is_long() -> None:
    found = list(functions())
    assert len(found) > 1_000
    assert quantiles([one.lines for one in found], n=10)[-1] <= MOST_FUNCTIONS
    assert [one for one in found if one.lines > FUNCTION] == []


def test_no_file_is_long() -> None:
    assert {file: lines for file, lines in files().items() if lines > FILE} == {}


def table() -> str:
    """Return the sizes of each folder as Markdown."""
    rows = [
        "| | files | longest file | functions | median | 90th percentile | longest |",
        "|---|---|---|---|---|---|---|",
    ]
    everything = list(functions())
    for name in (*FOLDERS, "all"):
        lines = {file: count for file, count in files().items() if name in ("all", file.parts[0])}
        sizes = {one: one.lines for one in everything if name in ("all", one.file.parts[0])}
        longest, largest = max(sizes, key=lambda one: one.lines), max(lines, key=lambda file: lines[file])
        counts = list(sizes.values())
        rows.append(
            f"| {name} | {len(lines)} | {lines[largest]} ({largest}) | {len(sizes)} | {median(counts):.0f} | "
            f"{quantiles(counts, n=10)[-1]:.0f} | {longest.lines} ({longest.name}) |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
