"""Docstrings of the library: three or more arguments are explained, and every docstring is a sentence."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator

import pytest

from support.places import ROOT

FILES = sorted((ROOT / "ser_pipeline").rglob("*.py"))
SECTION = re.compile(r"^ *(Returns|Raises|Yields|Example|Examples|Attributes|Note):$", flags=re.MULTILINE)
CLIPPED = re.compile(r"(Of|None of|No|Not|As|By|For|From|In|With|Without)\b|\S+( \S+){0,1}$")
"""A docstring that depends on the name above it, or has only one or two words."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield the public functions of a module, and the public methods of its public classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{node.name}.")
            else:
                yield f"{prefix}{node.name}", node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names of a function's parameters."""
    asked = function.args
    names = [one.arg for one in (*asked.posonlyargs, *asked.args, *asked.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def explained(text: str) -> list[str]:
    """Return the names in a docstring's section `Args`."""
    section = SECTION.split(text.partition("Args:\n")[2])[0]
    return [
        name
        for names in re.findall(r"^ {4,}([\w, *]+):", section, flags=re.MULTILINE)
        for name in re.split(r", ", names)
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_three_parameters_or_more_are_explained(file) -> None:
    lacking = {}
    for name, function in public(ast.parse(file.read_text(encoding="utf-8"))):
        asked = parameters(function)
        missing = [one for one in asked if one not in explained(ast.get_docstring(function) or "")]
        if len(asked) >= 3 and missing:
            lacking[name] = missing
    assert lacking == {}


def texts(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield every docstring of a module: its own, those of classes and functions, and those below constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | Definition):
            if text := ast.get_docstring(node):
                yield getattr(node, "name", "the module"), text
            for before, after in itertools.pairwise(node.body):
                value = after.value if isinstance(after, ast.Expr) else None
                if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(value, ast.Constant):
                    yield ast.unparse(before).partition(" ")[0], str(value.value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_docstring_stands_alone(file) -> None:
    clipped = {name: text for name, text in texts(ast.parse(file.read_text(encoding="utf-8"))) if CLIPPED.match(text)}
    assert clipped == {}


def test_what_is_clipped_is_known_as_such() -> None:
    for text in ("Of float16.", "None of them.", "No most.", "As torch's.", "From one to the next.", "Utterances."):
        assert CLIPPED.match(text)
    for text in ("The largest number of float16.", "Ofcom's rules for radio.", "What a check found."):
        assert not CLIPPED.match(text)
