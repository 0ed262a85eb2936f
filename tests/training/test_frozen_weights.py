"""Frozen weights are stored once per run, complete or absent, and every reader finds them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file

from ser_pipeline.model import kept
from ser_pipeline.model.kept import read_weights
from ser_pipeline.predict.models import open_models
from ser_pipeline.predict.opening import load
from ser_pipeline.predict.runs import run_members
from ser_pipeline.runs import layout
from ser_pipeline.training import fold as fold_module
from support.reducing import TINY
from support.sounds import tone
from support.speech_models import write_encoder
from support.stores import registered

Run = Callable[..., Result]
NOISE = tone(1, 1.0, 180).astype(np.float32)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the arguments of `train` on a small frozen pre-trained encoder."""
    place = tmp_path_factory.mktemp("frozen")
    encoder = write_encoder(place / "encoder")
    settings = [*TINY, f"model.speech_encoder={encoder}", "model.speech_weights=true", "model.freeze=all"]
    cache = ["--cache", str(registered(place / "stores", speakers=3, takes=2))]
    how = ["--accept", "counts", "--preset", "demo", "--jobs", "1", "--protocol", "group-2", "--device", "cpu"]
    return ["train", *cache, *how, *(word for setting in settings for word in ("--set", setting))]


@pytest.fixture(scope="module")
def trained(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run of two folds."""
    from click.testing import CliRunner
    from ser_pipeline.cli import main

    result = CliRunner().invoke(main, [*words, "--runs-root", str(tmp_path_factory.mktemp("runs"))])
    assert result.exit_code == 0, result.stderr
    return Path(result.stdout.strip().splitlines()[-1])


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copied" / trained.name))


def shared(run: Path) -> Path:
    (file,) = run.glob("frozen-*.safetensors")
    return file


def content(run: Path) -> dict[str, bytes]:
    """Return the weights of a run, by file."""
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in run.rglob("*.safetensors")}


def test_an_encoder_that_stays_as_it_is_stands_once(trained: Path, run: Run) -> None:
    encoder = load_file(shared(trained))
    assert {name.split(".")[:2][-1] for name in encoder} == {"waveform"}
    for file in trained.glob("*/model.safetensors"):
        own, whole = load_file(file), read_weights(file.parent)
        assert not own.keys() & encoder.keys()
        assert own and whole.keys() == own.keys() | encoder.keys()
    assert shared(trained).name in json.loads((trained / "index.json").read_text())["files"]
    run("verify", trained)


def test_the_folds_models_hear_it_once_and_answer_as_the_run_did(trained: Path, words: list[str], run: Run) -> None:
    members = run_members(trained, torch.device("cpu"))
    models = open_models([trained / name for name in members.folds], members.config, 4, torch.device("cpu"))
    assert models._ensemble.hears_once
    run("verify", trained, "--predictions", "--cache", words[2], "--device", "cpu")


def test_a_run_of_an_earlier_version_is_read(trained: Path, copied: Path) -> None:
    wanted = load(trained, "cpu")(NOISE, 16_000).probabilities
    for file in copied.glob("*/model.safetensors"):
        save_file({name: one.clone() for name, one in read_weights(file.parent).items()}, file)
        index = json.loads((file.parent / "index.json").read_text())
        (file.parent / "index.json").write_text(json.dumps(index | {"files": {}}))
    shared(copied).unlink()
    assert load(copied, "cpu")(NOISE, 16_000).probabilities == pytest.approx(wanted, abs=1e-6)


def flip(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9] + b"\x55" + file.read_bytes()[-8:])


@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda file: file.write_bytes(b"")])
def test_damage_is_one_line(
    trained: Path, copied: Path, run: Run, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    damage(shared(copied))
    name = shared(trained).name
    assert name in run("verify", copied, status=1).stdout
    (tmp_path / "a.wav").write_bytes(b"")
    for command in (["predict", copied, tmp_path / "a.wav"], ["export", copied, tmp_path / "model"]):
        said = run(*command, status=1).stderr
        assert "cannot be loaded" in said and name in said and said.count("\n") == 1


def test_a_name_that_leads_out_is_refused(copied: Path) -> None:
    file = min(copied.glob("*/model.safetensors"))
    save_file(load_file(file), file, metadata={kept.FROZEN: "../../a.safetensors"})
    with pytest.raises(Exception, match="is damaged"):
        read_weights(file.parent)


class StoppedError(Exception):
    pass


def stop(*args: object, **options: object) -> None:
    raise StoppedError


def after(call: Callable[..., object]) -> Callable[..., object]:
    return lambda *args, **options: (call(*args, **options), stop())


@pytest.mark.slow(reason="starts training four times")
def test_a_kill_leaves_it_whole_or_absent_and_the_end_is_the_same(
    words: list[str], trained: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ["--runs-root", str(tmp_path / "runs")]
    for place, name, change in (
        (kept, "_kept_once", after(kept._kept_once)),  # once the shared file exists
        (fold_module, "keep_weights", after(fold_module.keep_weights)),  # once the fold's own file exists
        (Path, "rename", stop),  # once the fold's index exists
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, change)
            run(*words, *root, status=1)
        (partial,) = (tmp_path / "runs").glob("*.partial")
        assert shared(partial).read_bytes() == shared(trained).read_bytes()
    result = run(*words, *root)
    whole = Path(result.stdout.strip().splitlines()[-1])
    assert "anew" not in result.stderr
    assert content(whole) == content(trained)
    left = {file.name for file in whole.rglob("*") if file.suffix in (".tmp", ".pt") or file.name.startswith("epoch-")}
    assert left == set()
    run("verify", whole)


def test_any_number_may_write_it_at_once(tmp_path: Path) -> None:
    weights = {"x": torch.arange(100_000.0)}
    with ThreadPoolExecutor(8) as threads:
        names = set(threads.map(lambda _: kept._kept_once(tmp_path, weights), range(32)))
    (name,) = names
    assert [file.name for file in tmp_path.iterdir()] == [name]
    (tmp_path / name).write_bytes(b"damaged")
    assert kept._kept_once(tmp_path, weights) == name
    assert torch.equal(load_file(tmp_path / name)["x"], weights["x"])
    assert name == layout.FROZEN.format(name.removeprefix("frozen-").removesuffix(".safetensors"))
