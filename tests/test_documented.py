"""Every block of code in the documentation is run as printed, or parsed if it cannot run here."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from ser_pipeline.cli import main

from ser_pipeline import config
from support.places import ROOT
from support.served import serving
from support.sounds import tone, write_emodb, write_wav
from support.speech_models import write_whisper

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "cache/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
FENCE = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
LANGUAGES = {"sh", "console", "python", "toml", "json", "dockerfile", "text", "{eval-rst}", "{include}", "{toctree}"}
RUN = "runs/emodb-speaker-full-s0-0a1b2c3d4e5f"
"""A run named in the documentation; the newest run replaces it."""


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    text: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.page}:{self.number}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            number = text[: found.start()].count("\n") + 1
            yield Block(page.relative_to(ROOT).as_posix(), found[2], textwrap.dedent(found[3]), number)


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


BLOCKS = list(blocks())

ELSEWHERE = {
    "docs/python.md": "tests/test_python.py",
    "docs/runs.md": "tests/training/test_train.py",
    "docs/extend.md": "tests/test_extend.py",
    "docs/corpora.md": "tests/corpora/test_corpora.py",
    "docs/service.md": "tests/export/test_service.py",
    "docs/export.md": "tests/export/test_onnx.py",
    "cache/README.md": "tests/cache/test_housekeeping.py",
}
"""Page -> the test that runs its Python."""

NOT_RUN = {
    "make": "installs the whole project, as CI does",
    "--preset paper": "hours on a GPU, wav2vec 2.0 and a licensed corpus",
    "--ablation all": "hours on a GPU",
    "git clone": "needs the network",
    "pip install": "needs the network",
    "functionals": "needs the extra opensmile",
    "ravdess": "needs a second published corpus",
    "--config frozen.toml": "needs WavLM; the TOML next to it is parsed",
    "talk.mkv": "needs a video",
    "--onnx": "tests/export/test_onnx.py does it; takes minutes",
    "--final": "tests/export/test_final.py does it",
    "docker": "needs an engine; tests/export/test_service.py reads the Dockerfile",
    "uvicorn": "a server: tests/export/test_service.py asks it",
    "localhost:8000": "asks that server: tests/export/test_service.py does",
    "sbatch": "needs Slurm: tests of the command start one",
    "--slurm": "needs Slurm: tests of the command start one",
    "--dask": "needs a cluster: tests/elsewhere/test_dask.py starts one",
    "s3://": "needs an object store: tests/cache/test_transfer.py starts one",
    "/data/": "needs a licensed corpus on a shared folder",
    "harbour": "tests/corpora/test_corpora.py does it",
    "bash-completion": "tests/cli/test_terminal.py completes words",
}
"""Text of a block that cannot be run here -> the reason; its commands are still parsed."""


def why_not(text: str) -> str:
    return next((why for mark, why in NOT_RUN.items() if mark in text), "")


SHELL = [block for block in BLOCKS if block.language == "sh"]
SESSIONS = [block for block in BLOCKS if block.language == "console"]
RUNNABLE = [block for block in (*SHELL, *SESSIONS) if not why_not(block.text)]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the `ser-pipeline` commands of a block, without comments, redirections and surrounding shell code."""
    for line in text.replace("\\\n", " ").split("\n"):
        for part in re.split(r"\||&&|;", re.sub(r"\s#.*|\s[<>]\s*\S+", "", f" {line}").strip()):
            words = shlex.split(part)
            while words and re.fullmatch(r"\w+=\S*", words[0]):
                words.pop(0)
            if words[:1] == ["ser-pipeline"]:
                yield words[1:]


def parse(words: list[str]) -> None:
    """Parse a command and all its options with Click without running it."""
    group: click.Command = main
    context = click.Context(main, info_name="ser-pipeline")
    while isinstance(group, click.Group) and words:
        name, found, words = group.resolve_command(context, words)
        assert found is not None, name
        group = found
        context = click.Context(group, info_name=name, parent=context)
    if not isinstance(group, click.Group):
        group.parse_args(context, list(words))


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_every_command_is_one_that_there_is(block: Block) -> None:
    for words in commands(block.text):
        parse(words)


@pytest.mark.parametrize("block", SESSIONS, ids=lambda block: block.name)
def test_every_command_of_a_session_is_one_that_there_is(block: Block) -> None:
    typed = [words for line in re.findall(r"^\$ (.*)", block.text, re.MULTILINE) for words in commands(line)]
    assert typed
    for words in typed:
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_code_is_fenced_and_says_its_language(page: Path) -> None:
    name = page.relative_to(ROOT).as_posix()
    assert {block.language for block in BLOCKS if block.page == name and block.text.strip()} <= {*LANGUAGES, ""}
    bare = [block for block in BLOCKS if block.page == name and not block.language]
    assert [block.name for block in bare if "ser-pipeline " in block.text] == []
    assert re.findall(r"\n\n    (?:ser-pipeline|pip|python) .*", prose(page)) == []


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language == "json"], ids=lambda block: block.name)
def test_json_can_be_read(block: Block) -> None:
    assert [json.loads(line) for line in block.text.split("\n") if line]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as on GitHub and on the site."""
    headings = re.findall(r"^#+ (.*)", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_there_are(page: Path) -> None:
    text = prose(page)
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in found:
        name, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / name) if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_of_the_code_that_are_named_are_there(page: Path) -> None:
    named = re.findall(r"`((?:ser_pipeline|tests|benchmarks|docs|[a-z]+)/[\w/]+\.(?:py|md|toml))`", prose(page))
    example = "ser_pipeline/corpora/harbour.py"  # in docs/corpora.md
    for name in set(named) - {example}:
        recipe = page.name == "extend.md" and f"new: {name}" in page.read_text(encoding="utf-8")
        assert recipe or any((ROOT / folder / name).exists() for folder in ("", "ser_pipeline")), name


def test_every_page_is_in_the_list_of_the_site() -> None:
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"}
    listed = re.findall(r"^[a-z]+$", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(pages)


def test_every_command_that_is_named_in_a_line_is_one_that_there_is() -> None:
    names = {one for page in PAGES for one in re.findall(r"`ser-pipeline ([a-z]+)", page.read_text(encoding="utf-8"))}
    assert names
    assert names <= set(main.list_commands(click.Context(main)))


def test_a_command_that_there_is_not_is_found() -> None:
    with pytest.raises(click.UsageError):
        parse(["train", "--no-such-option"])
    with pytest.raises(click.UsageError):
        parse(["tain"])
    assert [*commands("A=1 ser-pipeline train --seeds 5   # five\nx | ser-pipeline predict - > a.csv")] == [
        ["train", "--seeds", "5"],
        ["predict", "-"],
    ]


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language == "python"], ids=lambda block: block.name)
def test_python_is_run_by_a_test_of_its_page_or_can_be_read(block: Block) -> None:
    if block.page in ELSEWHERE:
        assert Path(block.page).name in (ROOT / ELSEWHERE[block.page]).read_text(encoding="utf-8")
        return
    assert ast.parse(block.text).body


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language == "toml"], ids=lambda block: block.name)
def test_settings_are_valid(block: Block) -> None:
    found = tomllib.loads(block.text)
    for changes in found.pop("ablations", {}).values():
        config.merge(config.Config(), changes)
    config.require_valid(config.merge(config.Config(), found))


def test_the_jobs_of_make_are_there() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    lines = [line for block in SHELL for line in re.findall(r"^make ([a-z ]+)", block.text, re.MULTILINE)]
    named = {word for line in lines for word in line.split()}
    assert named
    assert all(re.search(rf"^{name}:", text, re.MULTILINE) for name in named)


SMALLER = """#!/bin/sh
case "$1 $*" in
train*demo*) set -- "$@" --protocol group-2 --set train.epochs=1 --set model.small_width=8;;
train*) set -- "$@" --accept counts;;
audit*) COMMAND "$@" || test $? = 1; exit;;
esac
exec COMMAND "$@"
"""
"""A small version of the command: two folds of one epoch on the demo, and parts of the published corpora."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Set up a folder with the files that the documentation assumes, and the environment of its commands."""
    room = tmp_path_factory.mktemp("documented")
    corpus = write_emodb(room / "home/corpora/emodb", speakers=4, takes=3)
    sounds = sorted(corpus.rglob("*.wav"))
    for number, (name, emotion) in enumerate(
        (name, emotion) for name in ("ada", "bob", "cem") for emotion in ("angry", "calm")
    ):
        folder = room / "recordings" / emotion
        folder.mkdir(parents=True, exist_ok=True)
        for take in range(4):
            write_wav(
                folder / f"{name}_{take}.wav", tone(number * 4 + take, 1.0 + 0.1 * take, 100.0 + 37 * number + 5 * take)
            )
    for target in ("call.wav", "speech.wav", "call.mp3"):
        shutil.copy(sounds[0], room / target)
    snapshot = room / "hub/models--openai--whisper-tiny.en/snapshots/0123456789abcdef0123456789abcdef01234567"
    write_whisper(snapshot)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(snapshot.name)
    programs = room / "bin"
    programs.mkdir()
    script = programs / "ser-pipeline"
    (room / "labels.csv").write_text("file,emotion\nrecordings/angry/ada_0.wav,angry\nrecordings/calm/bob_0.wav,calm\n")
    (room / "own.toml").write_text(next(one.text for one in BLOCKS if "ablations.narrow" in one.text))
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(room / "home"), "PATH": path, "HF_HUB_CACHE": str(room / "hub")}
    with serving(environment, room) as words:
        script.write_text(SMALLER.replace("COMMAND", shlex.join(words)))
        script.chmod(0o755)
        yield room, environment


def shell(text: str, folder: Path, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a block in a shell that stops at the first failure; the documentation's run is replaced by the newest."""
    runs: Any = sorted((folder / "runs").glob("*/index.json"), key=lambda file: file.stat().st_mtime)
    newest = f"runs/{runs[-1].parent.name}" if runs else RUN
    text = re.sub(r"runs/\S+-0a1b2c3d4e5f|\bRUN\b", newest, text)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow(reason="runs every block of commands that can be run", first=True)
def test_the_commands_run_as_they_are_printed(room: tuple[Path, Mapping[str, str]]) -> None:
    folder, environment = room
    assert len(RUNNABLE) >= 20
    seen = set[str]()
    shell("ser-pipeline features", folder, environment)  # as `make report` does at the beginning of the README
    for block in sorted(RUNNABLE, key=lambda block: block.page != "README.md"):  # it trains the runs of the others
        typed = re.findall(r"^\$ (.*)" if block.language == "console" else r"^(.+)", block.text, re.MULTILINE)
        done = shell("\n".join(line for line in typed if line not in seen), folder, environment)
        assert done.returncode == 0, f"{block.name}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        seen.update(typed)  # lines that occur on several pages are run once
        if block.language == "console" and typed[0].startswith("ser-pipeline folds"):
            assert block.text == f"$ {typed[0]}\n{done.stdout}"
        shutil.rmtree(folder / "emotions", ignore_errors=True)
    assert (folder / "mine.csv").read_text(encoding="utf-8").startswith("file,")
