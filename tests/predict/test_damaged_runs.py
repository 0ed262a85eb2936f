"""`predict` on half-copied or malformed runs: one line that names the file, never a traceback."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from safetensors.numpy import load_file, save_file

from ser_pipeline.export.writing import export
from support.strange import SHAPES, changed

Run = Callable[..., Result]


@pytest.fixture
def copied(segments_run: Path, tmp_path: Path) -> Path:
    """Copy a run so that it can be damaged."""
    return Path(shutil.copytree(segments_run, tmp_path / segments_run.name))


def refused(run: Run, folder: Path, corpus: Path) -> str:
    """Return the one-line error of `predict` for a run that it refuses."""
    audio = min(corpus.rglob("*.wav"))
    said = run("predict", folder, audio, "--device", "cpu", "--quiet", status=1).stderr
    assert re.fullmatch(r"Error: .*\n", said)
    return said


WEIGHTS: dict[str, Callable[[Path], object]] = {
    "half of it": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "nothing": lambda file: file.write_bytes(b""),
    "a flipped bit": lambda file: file.write_bytes(file.read_bytes()[:-9] + b"\x01" + file.read_bytes()[-8:]),
    "no file": lambda file: file.unlink(),
    "another model's": lambda file: save_file({"x": np.zeros(3, np.float32)}, file),
    "other shapes": lambda file: save_file({name: x.reshape(-1)[:1] for name, x in load_file(file).items()}, file),
}


@pytest.mark.parametrize(
    ("case", "digests"),
    [(case, digests) for case in WEIGHTS for digests in (True, False) if digests or "bit" not in case],
)
def test_damaged_weights_are_one_line_that_names_the_fold(
    run: Run, copied: Path, corpus: Path, case: str, digests: bool
) -> None:
    file = min(copied.glob("*/model.safetensors"))
    if not digests:
        changed(file.parent / "index.json", files={})
    WEIGHTS[case](file)
    said = refused(run, copied, corpus)
    assert f"fold {file.parent.name} of" in said
    others = [path.parent.name for path in copied.glob("*/model.safetensors") if path.parent != file.parent]
    run("predict", copied, min(corpus.rglob("*.wav")), "--fold", others[0], "--device", "cpu", "--quiet")


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("name", ["run.json", "index.json", "folds.json", "config.toml"])
def test_a_file_of_another_shape_is_one_line_that_names_it(
    run: Run, copied: Path, corpus: Path, name: str, case: str
) -> None:
    changed(copied / "index.json", files={})
    (copied / name).write_text(SHAPES[case])
    if (name, case) in {("index.json", "an empty object"), ("config.toml", "an empty file")} or (
        name == "index.json" and case == "half of a character"
    ):
        return  # they have everything that prediction needs, or are read as all defaults
    said = refused(run, copied, corpus)
    assert name in said or (name == "folds.json" and "its settings and folds have the key" in said)


@pytest.mark.parametrize("name", ["run.json", "config.toml"])
def test_a_changed_file_is_found_by_its_digest(run: Run, copied: Path, corpus: Path, name: str) -> None:
    file = copied / name
    file.write_text(file.read_text() + "\n")
    assert f"{name} is not as train wrote it" in refused(run, copied, corpus)


VALUES = {
    "one label more": lambda said: {"labels": [*said["labels"], "bored"]},
    "one label less": lambda said: {"labels": said["labels"][:-1]},
    "labels that are numbers": lambda said: {"labels": [1, 2, 3, 4]},
    "no folds": lambda said: {"folds": []},
    "a fold that leads out": lambda said: {"folds": ["../03"]},
}


@pytest.mark.parametrize("case", VALUES)
def test_strange_values_of_run_json_are_one_line(run: Run, copied: Path, corpus: Path, case: str) -> None:
    changed(copied / "index.json", files={})
    said = json.loads((copied / "run.json").read_text())
    changed(copied / "run.json", **VALUES[case](said))
    refused(run, copied, corpus)


@pytest.mark.parametrize("case", SHAPES)
def test_a_strange_speech_json_is_one_line(run: Run, copied: Path, corpus: Path, case: str) -> None:
    for fold in copied.glob("*/model.safetensors"):
        (fold.parent / "speech.json").write_text(SHAPES[case])
    if case not in ("an empty object", "half of a character"):  # a model without a speech encoder ignores them
        assert "speech.json is damaged" in refused(run, copied, corpus)


@pytest.mark.parametrize("text", ["id,key,start,end\na\n", "id,key\na,b\n"])
def test_a_strange_list_of_utterances_is_one_line(run: Run, copied: Path, corpus: Path, text: str) -> None:
    from ser_pipeline.runs import layout

    (copied / layout.CONTENTS).write_text(text)
    assert f"{layout.CONTENTS} is damaged" in refused(run, copied, corpus)


@pytest.fixture
def model(segments_run: Path, tmp_path: Path) -> Path:
    """Export a run to a folder that can be damaged."""
    return export(segments_run, tmp_path / "model")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_model_folder_of_another_shape_is_one_line_that_names_it(
    run: Run, model: Path, corpus: Path, shape: str
) -> None:
    (model / "config.json").write_text(SHAPES[shape], encoding="utf-8")
    assert str(model) in refused(run, model, corpus)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("settings", []),
        ("settings", {"model": {"width": "x"}}),
        ("id2label", ["a", "b"]),
        ("id2label", {"0": "a", "7": "b"}),
        ("id2label", {}),
        ("id2label", {"0": 3}),
        ("folds", []),
        ("folds", "abc"),
        ("folds", ["a", "b", "c", "d", "e"]),
        ("encoders", None),
        ("encoders", {"model": []}),
        ("encoders", {"statistics": {}}),
    ],
)
def test_a_strange_value_in_a_model_folder_is_one_line(
    run: Run, model: Path, corpus: Path, name: str, value: object
) -> None:
    changed(model / "config.json", **{name: value})
    assert str(model) in refused(run, model, corpus)


def test_a_model_folder_without_one_of_its_keys_is_one_line(run: Run, model: Path, corpus: Path) -> None:
    about = json.loads((model / "config.json").read_text())
    for name in ("settings", "id2label", "folds", "encoders"):
        (model / "config.json").write_text(json.dumps({key: one for key, one in about.items() if key != name}))
        assert f"config.json is damaged (it has no {name}); export it again" in refused(run, model, corpus)
