"""Commands in messages can be pasted into a shell for all paths and names."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from ser_pipeline.corpora.matching import tell_near
from ser_pipeline.errors import PipelineError
from ser_pipeline.model.speech.hub import identity
from support import trees
from support.places import ROOT

SAFE = {
    "MATRIX",
    "ONLY",
    "SHARED",
    "column",
    "' or '.join(other)",  # targets of the package
    "target",  # a target of the package, checked by Click
    "encoder",  # of a preset of the package
    "corpus",  # a name accepted by `path_name`, in a sentence
    "max(1, size // 2)",
    "min(GROUPS, len(speakers))",
    "name",  # of the package's own settings, findings and protocols
    "other.name",  # of a corpus that the package knows
    "repository",  # of the hub
    "self.corpus if self.corpus in CORPORA else 'table'",
    "twice[0]",
    "empty[0]",
    "setting",
    "last.corpus",
    "row.name",
    "run.name",
}
"""Expressions that need no quoting in a command: they are not files' or users' names."""

COMMAND = re.compile(r"(?:ser-pipeline [a-z]+ |hf download |--[a-z-]+[ =])(?:[^;,`(]*?)\{(\d+)\}")


def printed(file: Path) -> list[str]:
    """Return the expressions that the f-strings of a file insert unquoted into a command."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = node.values
            text = "".join(
                str(one.value) if isinstance(one, ast.Constant) else f"{{{place}}}" for place, one in enumerate(parts)
            )
            for match in COMMAND.finditer(text):
                value = parts[int(match[1])]
                assert isinstance(value, ast.FormattedValue)
                found.append(ast.unparse(value.value))
    return found


def test_every_path_and_name_in_a_command_is_quoted() -> None:
    files = [*(ROOT / "ser_pipeline").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]
    every = {(file, words) for file in files for words in printed(file)}
    assert len(every) > 10
    bare = {(file, words) for file, words in every if "shlex." not in words and words not in SAFE}
    made = {(file, words) for file, words in bare if re.search(rf"\b{words} = [^=]*?shlex\.", file.read_text())}
    assert bare == made


def test_an_encoders_folder_with_spaces_is_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "my encoders" / "one"
    with pytest.raises(PipelineError) as raised:
        identity(str(folder), weights=True)
    assert shlex.split(str(raised.value).split("`")[1])[-1] == str(folder)


def test_classes_with_spaces_and_quotes_are_quoted(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    utterances = [trees.utterance(row, emotion=name) for row, name in enumerate(("it's fine", "It's fine"))]
    tell_near(tmp_path, utterances)
    words = shlex.split(caplog.text.partition("--classes ")[2].partition(" merges")[0])
    assert words in (["it's fine=it's fine+It's fine,..."], ["It's fine=It's fine+it's fine,..."])
