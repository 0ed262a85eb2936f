"""In every terminal encoding, output is readable or escaped, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import trees


def run(encoding: str, *args: str | Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ser_pipeline", *map(str, args)]
    return subprocess.run(command, env={**os.environ, **env(encoding)}, capture_output=True, check=False)


def env(encoding: str) -> dict[str, str]:
    return (
        {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"} if encoding else {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    trees.write_wav(tmp_path / "freude/ž\U0001f600é_1.wav", trees.noise(0))
    trees.write_wav(tmp_path / "trauer/ž\U0001f600é_2.wav", trees.noise(1))
    return tmp_path


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "ž\U0001f600é"), ("cp1252", "ž\\ud83d\\ude00é"), ("latin-1", "\\u017e\\ud83d\\ude00é")],
)
def test_a_terminal_of_any_encoding_shows_text_or_escapes(corpus: Path, encoding: str, shown: str) -> None:
    made = run(encoding, "corpora", "--init", "folder", corpus, "--speaker", "/(.*)_")
    assert made.returncode == 0, made.stderr
    assert f"freude,{shown}" in made.stdout.decode(encoding)


def test_json_that_is_escaped_is_still_json(corpus: Path) -> None:
    (corpus / "my.csv").write_text("file,emotion,speaker\ntrauer/ž\U0001f600é_2.wav,é,ž\n", encoding="utf-8")
    made = run("latin-1", "audit", "table", corpus / "my.csv", "--json")
    assert "Traceback" not in made.stderr.decode()
    assert json.loads(made.stdout.decode("latin-1"))["speakers"] == {"ž": {"é": 1}}


def test_a_pipe_gets_utf_8_where_no_encoding_is_named(corpus: Path) -> None:
    made = run("", "corpora", "--init", "folder", corpus, "--speaker", "/(.*)_")
    assert "freude,ž\U0001f600é" in made.stdout.decode("utf-8")


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_an_error_about_a_strange_name_is_one_line(tmp_path: Path, encoding: str) -> None:
    failed = run(encoding, "audit", "emodb", tmp_path / os.fsdecode(b"\xe4\xff"))
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1
    assert b"does not exist" in failed.stderr
