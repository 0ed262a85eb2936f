"""Docstrings of the library: arguments are explained where there are three or more, and every one is a sentence."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from support.places import ROOT

FILES = sorted((ROOT / "ser_pipeline").rglob("*.py"))
SECTION = re.compile(r"^ *(Returns|Raises|Yields|Example|Examples|Attributes|Note):$", flags=re.MULTILINE)
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """The public functions of a module, and the public methods of its public classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{node.name}.")
            else:
                yield f"{prefix}{node.name}", node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of what a caller passes."""
    asked = function.args
    names = [one.arg for one in (*asked.posonlyargs, *asked.args, *asked.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def explained(text: str) -> list[str]:
    """Names in the section `Args` of a docstring."""
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
