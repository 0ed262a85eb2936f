"""Runs with a valid form and unusual content (half-copied, edited, flipped bits) lose only their own row."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser_pipeline.entry import file_digest
from ser_pipeline.errors import PipelineError
from ser_pipeline.report import build
from ser_pipeline.report.contents import Choice, Report, make_report
from ser_pipeline.runs.reading import read_fold, scan
from ser_pipeline.runs.records import UtteranceTable
from support.run_folders import Planted, people, write_examples, write_run
from support.strange import SHAPES, changed

WHO = people(each=4, speakers=("1F", "1M", "2F", "2M"))
PLAN = Planted(probes={"mfcc": 0.5}, embeddings=True)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Write an intact run and one to be changed."""
    write_run(tmp_path / "runs", WHO, Planted(seed=1))
    return tmp_path / "runs", write_run(tmp_path / "runs", WHO, PLAN)


def hashed(folder: Path) -> None:
    """Write the digests of a folder's files into its index, as `train` does."""
    files = {file.name: file_digest(file) for file in folder.iterdir() if file.is_file() and file.name != "index.json"}
    changed(folder / "index.json", files=files)


def made(root: Path) -> Report:
    return make_report(root, Choice())


JSON_FILES = ("run.json", "index.json", "folds.json", "1F/result.json", "1F/index.json")


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("case", [*SHAPES, "true", '{"folds": 3}', '{"versions": [], "files": 1, "labels": {}}'])
def test_a_file_of_another_shape_leaves_its_run_out_in_one_line(two: tuple[Path, Path], name: str, case: str) -> None:
    root, strange = two
    (strange / name).write_text(SHAPES.get(case, case))
    report = made(root)
    assert [run.seed for run in report.headers if run.path != strange] == [1]
    for one in report.left_out:
        assert one.name == strange.name
        assert one.reason.isprintable()
    index_without_demands = name.endswith("index.json") and SHAPES.get(case, case) in ("{}", '{"folds": 3}')
    if case != "half of a character" and not index_without_demands:
        assert len(report.left_out) == 1


VALUES: dict[str, dict[str, Any]] = {
    "a label twice": {"labels": ["angry", "angry", "neutral", "sad"]},
    "no labels": {"labels": []},
    "labels that are a text": {"labels": "angry"},
    "a label that is a number": {"labels": [1, 2, 3, 4]},
    "a fold that leads out": {"folds": ["../1F"]},
    "an absolute fold": {"folds": ["/etc"]},
    "a fold twice": {"folds": ["1F", "1F"]},
    "a seed that is a text": {"seed": "0"},
    "a seed beyond 64 bits": {"seed": 10**30},
    "a corpus that is a list": {"corpus": ["iemocap"]},
    "a truth that is a text": {"synthetic": "no"},
    "a NUL in the path": {"audio_root": "a\x00b"},
}


@pytest.mark.parametrize("case", VALUES)
def test_a_strange_value_of_run_json_leaves_the_run_out(two: tuple[Path, Path], case: str) -> None:
    root, strange = two
    changed(strange / "run.json", **VALUES[case])
    (one,) = made(root).left_out
    assert one.name == strange.name
    assert "run.json" in one.reason


SETTINGS = {
    "no table": "model = 3\n",
    "inputs that are a number": "[model]\ninputs = 3\n",
    "an unknown input": '[model]\ninputs = ["smell"]\n',
    "a date for a rate": "[train]\nlr = 1979-05-27\n",
    "a negative width": "[model]\nsmall_width = -1\n",
    "tables in tables": "a = " + "[" * 5_000 + "]" * 5_000,
}


@pytest.mark.parametrize("case", SETTINGS)
def test_strange_settings_leave_the_run_out(two: tuple[Path, Path], case: str) -> None:
    root, strange = two
    (strange / "config.toml").write_text(SETTINGS[case])
    (one,) = made(root).left_out
    assert one.name == strange.name


CELLS: dict[str, Callable[[str], str]] = {
    "a NUL": lambda line: line.replace("Session", "Ses\x00sion", 1),
    "a length that is a word": lambda line: ",".join("long" if n == 6 else c for n, c in enumerate(line.split(","))),
    "a length without end": lambda line: ",".join("inf" if n == 6 else c for n, c in enumerate(line.split(","))),
    "no segments": lambda line: ",".join("0" if n == 7 else c for n, c in enumerate(line.split(","))),
    "a score beyond numbers": lambda line: line.rpartition(",")[0] + ",1e999",
    "a cell as long as a book": lambda line: line.replace("Session", "S" * 5_000, 1),
    "an unknown class": lambda line: ",".join("bored" if n == 8 else c for n, c in enumerate(line.split(","))),
}


@pytest.mark.parametrize("case", CELLS)
def test_a_strange_cell_of_predictions_leaves_the_run_out(two: tuple[Path, Path], case: str) -> None:
    root, strange = two
    file = strange / "1F" / "predictions.csv"
    head, first, *others = file.read_text().split("\n")
    file.write_text("\n".join([head, CELLS[case](first), *others]))
    (one,) = made(root).left_out
    assert one.name == strange.name
    assert "1F" in one.reason


def test_names_with_line_separators_of_unicode_are_one_line(two: tuple[Path, Path]) -> None:
    _, strange = two
    file = strange / "1F" / "predictions.csv"
    text = file.read_text(encoding="utf-8")
    name = text.split("\n")[1].partition(",")[0]
    file.write_text(text.replace(name, f"{name}\u2028\x85"), encoding="utf-8")
    roll = UtteranceTable()
    read_fold(strange / "1F", WHO.labels, roll)
    assert f"{name}\u2028\x85" in roll.ids


@pytest.mark.parametrize("name", ["1F/predictions.csv", "1F/result.json"])
def test_a_change_of_a_file_whose_digest_is_known_is_found(two: tuple[Path, Path], name: str) -> None:
    root, strange = two
    for folder in strange.glob("*/"):
        hashed(folder)
    assert made(root).left_out == ()
    file = strange / name
    file.write_bytes(file.read_bytes() + b"\n")
    (one,) = made(root).left_out
    assert one.name == strange.name
    assert one.reason.endswith(f"{file.name} is damaged: its checksum differs")


ARRAYS: dict[str, dict[str, Any]] = {
    "numbers for a table": {"log_prob": np.zeros(7, np.float32)},
    "another number of classes": {"log_prob": np.zeros((7, 9), np.float32)},
    "text": {"log_prob": np.full((7, 4), "x")},
    "lines that are not there": {"utterance": np.full(7, 99, np.int32)},
    "lines before the first": {"utterance": np.full(7, -1, np.int32)},
    "nothing": {"utterance": np.empty(0, np.int32), "log_prob": np.empty((0, 4), np.float32)},
    "a probe of fewer segments": {"shuffled:mfcc": np.zeros((1, 4), np.float32)},
}


@pytest.mark.parametrize("case", ARRAYS)
def test_strange_segments_cost_only_what_needs_them(two: tuple[Path, Path], tmp_path: Path, case: str) -> None:
    root, strange = two
    file = strange / "1F" / "segments.npz"
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(file, **(arrays | ARRAYS[case]))
    page = build(root, out=tmp_path / "reports")
    assert page.is_file()


def test_arrays_packed_to_fill_the_memory_are_refused(two: tuple[Path, Path]) -> None:
    root, strange = two
    file = strange / "1F" / "segments.npz"
    np.savez_compressed(file, utterance=np.zeros(10_000_000, np.int32))
    assert sum(part.file_size for part in zipfile.ZipFile(file).infolist()) > 1_000 * file.stat().st_size / 50
    (header,) = (header for header in scan(root)[0] if header.path == strange)
    fold = read_fold(strange / "1F", header.labels, UtteranceTable())
    with pytest.raises(PipelineError, match=r"segments\.npz cannot be read \(it is compressed"):
        fold.segments()


EXAMPLES: dict[str, dict[str, Any]] = {
    "no pictures": {"spectrogram": np.zeros((0, 200, 300), np.uint8), "attention": np.zeros((0, 149), np.float16)},
    "flat pictures": {"spectrogram": np.zeros((2, 0, 300), np.uint8)},
    "an utterance before the first": {"utterance": np.array([-1, 0], np.int32)},
    "attention that is text": {"attention": np.full((2, 149), "x")},
}


@pytest.mark.parametrize("case", EXAMPLES)
def test_strange_examples_cost_their_picture_alone(two: tuple[Path, Path], tmp_path: Path, case: str) -> None:
    root, strange = two
    write_examples(strange / "1F", [0, 1], np.random.default_rng(0))
    file = strange / "1F" / "examples.npz"
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(file, **(arrays | EXAMPLES[case]))
    assert build(root, out=tmp_path / "reports").is_file()


HISTORIES = {
    "shapes": "".join(f"{text}\n" for text in SHAPES.values()),
    "an epoch that is a text": '{"epoch": "1", "loss": 1.0}\n',
    "no loss": '{"epoch": 1}\n' * 3,
    "losses that are no numbers": '{"epoch": 1, "loss": NaN, "validation_loss": Infinity}\n',
    "nothing": "",
}


@pytest.mark.parametrize("case", HISTORIES)
def test_a_strange_history_costs_its_curve_alone(two: tuple[Path, Path], tmp_path: Path, case: str) -> None:
    root, strange = two
    for fold in strange.glob("*/"):
        (fold / "history.jsonl").write_text(HISTORIES[case])
    assert build(root, out=tmp_path / "reports").is_file()


@pytest.mark.parametrize(
    "text", [*SHAPES.values(), '{"findings": [3]}', '{"findings": [{"name": [], "severity": {}}]}']
)
def test_a_strange_audit_leaves_the_run_out_or_costs_nothing(two: tuple[Path, Path], text: str) -> None:
    root, strange = two
    (strange / "audit.json").write_text(text)
    report = made(root)
    assert len(report.headers) + len(report.left_out) == 2
    assert {one.name for one in report.left_out} <= {strange.name}


def test_class_names_that_look_like_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    labels = ("$a$", "b_{", "\\frac", "100 % $x^")
    who = people(each=4, speakers=("1F", "1M", "2F", "2M"), labels=labels)
    folder = write_run(tmp_path / "runs", who, Planted(corpus="$corpus$", embeddings=True))
    write_examples(folder / "1F", [0, 1], np.random.default_rng(0))
    page = build(tmp_path / "runs", out=tmp_path / "reports")
    (figure,) = page.parent.glob("figures/confusion-*.svg")
    assert "$a$" in page.read_text(encoding="utf-8")
    assert figure.stat().st_size > 1_000


def test_a_preset_that_this_version_does_not_know_is_no_reason_to_stop(two: tuple[Path, Path]) -> None:
    root, strange = two
    changed(strange / "run.json", preset="of-a-later-version")
    assert len(made(root).headers) == 2


def test_one_pipe_in_a_run_is_not_waited_for(two: tuple[Path, Path]) -> None:
    import os

    root, strange = two
    for name in ("config.toml", "1F/predictions.csv"):
        (strange / name).unlink()
        os.mkfifo(strange / name)
    assert [one.name for one in made(root).left_out] == [strange.name]
    assert json.loads((strange / "run.json").read_text())["corpus"] == "iemocap"
