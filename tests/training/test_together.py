"""Training all folds of a small head at once gives the results of training them one by one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors.numpy import load_file

from ser_pipeline.config import load
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.stage import extract
from ser_pipeline.training import checkpoint, together
from ser_pipeline.training.stack import Stack
from ser_pipeline.training.stage import prepare
from support.killed import begun, run_command
from support.sounds import write_emodb
from support.speech_models import write_encoder

EPOCHS = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an encoder and a cache of four speakers, one of whom has much less speech."""
    place = tmp_path_factory.mktemp("together")
    encoder = write_encoder(place / "encoder")
    corpus = write_emodb(place / "corpus", speakers=4, takes=3)
    for file in sorted((corpus / "wav").glob("06*"))[1:]:
        file.unlink()
    both = ["statistics", "embedding"]
    extract("emodb", corpus, preset="frozen", overrides=of(encoder), features=both, device="cpu", cache=place / "cache")
    return place


def of(encoder: Path, *more: str) -> list[str]:
    """Return settings of a head that is trained by gradient descent on statistics of the encoder's frames."""
    head = ["train.solver=adamw", f"train.epochs={EPOCHS}", "train.patience=100", "train.batch=8", "train.lr=2e-3"]
    frames = ["layers=[]", "context=utterance", f"encoder={encoder}"]
    stored = [f"features.statistics.encoder={encoder}", "features.statistics.layers=[1]"]
    return [*stored, *(f"features.embedding.{pair}" for pair in frames), *head, *more]


def trained(made: Path, runs: Path, *more: str, seeds: int = 1, **options: Any) -> list[Path]:
    """Train runs with these settings; returns their folders."""
    return prepare(
        preset="frozen",
        overrides=of(made / "encoder", *more),
        seeds=seeds,
        device="cpu",
        jobs=1,
        cache=made / "cache",
        runs=runs,
        accept=["counts"],
        **options,
    ).train()


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of folds of each stack."""
    found = list[int]()
    make = Stack.__init__

    def spy(self: Stack, steps: Sequence[Any], source: Any) -> None:
        found.append(len(steps))
        make(self, steps, source)

    monkeypatch.setattr(Stack, "__init__", spy)
    return found


def assert_alike(ours: Sequence[Path], theirs: Sequence[Path]) -> None:
    """Check that two lists of runs have the same epochs, weights and predictions in every fold."""
    assert [folder.name for folder in ours] == [folder.name for folder in theirs]
    for folder, other in zip(ours, theirs, strict=True):
        names = json.loads((folder / "run.json").read_text())["folds"]
        assert len(names) == 4
        for name in names:
            assert_same_fold(folder / name, other / name)


def assert_same_fold(fold: Path, other: Path) -> None:
    assert sorted(file.name for file in fold.iterdir()) == sorted(file.name for file in other.iterdir())
    results = [json.loads((place / "result.json").read_text()) for place in (fold, other)]
    assert [results[0][key] for key in ("best_epoch", "epochs", "counts", "train")] == [
        results[1][key] for key in ("best_epoch", "epochs", "counts", "train")
    ]
    weights, expected = load_file(fold / "model.safetensors"), load_file(other / "model.safetensors")
    assert weights.keys() == expected.keys()
    for name, values in weights.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5, err_msg=name)
    with np.load(fold / "segments.npz") as ours, np.load(other / "segments.npz") as theirs:
        assert ours.files == theirs.files
        for name in ("log_prob", next(name for name in ours.files if name.startswith("shuffled:"))):
            np.testing.assert_allclose(np.exp(ours[name]), np.exp(theirs[name]), atol=1e-5, err_msg=name)
    lines, others = ((place / "history.jsonl").read_text().splitlines() for place in (fold, other))
    for line, before in zip(map(json.loads, lines), map(json.loads, others), strict=True):
        assert line.keys() == before.keys()
        for key in ("epoch", "loss", "lr", "validation_loss", "ua", "wa"):
            assert line[key] == pytest.approx(before[key], abs=1e-5), key


FRAMES = ['model.inputs=["embedding"]', "model.layer_mix=true", "model.normalise_frames=true", "model.width=12"]
TRAIN = ("train", "--accept", "counts", "--preset", "frozen", "--device", "cpu", "--jobs", "1")

SETTINGS = {
    "frames": [*FRAMES, "model.pooling=attention", "model.head=mlp", "train.mix_lr=4e-3"],
    "moments": [*FRAMES, "model.pooling=mean+deviation", "model.head=linear", "augment.mixup=0.5"],
    "linear": [],
    "fusion": ["model.head=fusion", "model.width=24", "model.dropout=0.3"],
    "mixup": ["augment.mixup=0.7", "model.head=fusion", "model.width=24", "train.label_smoothing=0.1"],
    "schedule": ["train.schedule=cosine", "train.warmup=0.2", "train.clip=0.5", "train.weight_decay=0.1"],
    "mean": ["train.ema=0.8", "train.monitor=loss", "train.decay_norms=false"],
    "balanced": ["train.balanced=true", "train.class_weights=true", "train.monitor=wa"],
    "patience": ["train.patience=1", "train.monitor=ua", "train.epochs=30"],
}


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_folds_together_are_the_folds_one_by_one(made: Path, tmp_path: Path, stacks: list[int], name: str) -> None:
    at_once = trained(made, tmp_path / "stack", *SETTINGS[name], seeds=2)
    assert stacks[0] == 8, "four folds of two seeds"
    assert (len(stacks) > 1) == (name == "patience"), "stacked again after folds have ended"
    begun = len(stacks)
    one_by_one = trained(made, tmp_path / "queue", *SETTINGS[name], seeds=2, stack=False)
    assert len(stacks) == begun
    assert_alike(at_once, one_by_one)


@pytest.mark.parametrize("first", [True, False])
def test_what_was_stopped_goes_on_the_other_way(
    made: Path, tmp_path: Path, stacks: list[int], monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    monkeypatch.setattr(checkpoint, "WRITE_SECONDS", 0.0)
    more = [*SETTINGS["fusion"], "train.ema=0.5", "augment.mixup=0.5"]
    calm = trained(made, tmp_path / "calm", *more, stack=not first)
    save = checkpoint.Checkpoints.save

    def dies(self: Any, progress: Any, *args: Any, **more: Any) -> None:
        save(self, progress, *args, **more)
        if progress.epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.Checkpoints, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(made, tmp_path / "stopped", *more, stack=first)
    assert list((tmp_path / "stopped").glob("*/*/last.pt"))
    stacks.clear()
    assert_alike(trained(made, tmp_path / "stopped", *more, stack=not first), calm)
    assert bool(stacks) != first


def epochs(place: Path) -> list[int]:
    """Return the number of epochs of every unfinished fold below a folder."""
    return [len(file.read_text().splitlines()) for file in place.glob("runs/*/*.partial/history.jsonl")]


def test_folds_together_that_are_killed_go_on(
    made: Path, run: Callable[..., Result], tmp_path: Path, stacks: list[int]
) -> None:
    calm = trained(made, tmp_path / "calm", *SETTINGS["mixup"], "train.epochs=60")
    overrides = of(made / "encoder", *SETTINGS["mixup"], "train.epochs=60")
    words = [*TRAIN, "--quiet", "--cache", str(made / "cache")]
    words += [word for pair in overrides for word in ("--set", pair)]
    process = begun(run_command, tmp_path, words)
    while max(epochs(tmp_path), default=0) < 5:
        assert process.is_alive()
        time.sleep(0.002)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert len(epochs(tmp_path)) == 4 and max(epochs(tmp_path)) < 60, "killed in the middle"
    stacks.clear()
    (line,) = run(*words).stdout.split()
    assert stacks
    assert_alike([tmp_path / line], calm)
    assert not list(tmp_path.glob("runs/**/*.partial"))


def test_a_fold_that_cannot_go_on_leaves_the_others_to_themselves(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stacks: list[int]
) -> None:
    finite = together.require_finite

    def check(losses: torch.Tensor, context: Any, epoch: int) -> None:
        bad = context.fold.name == "04" and epoch == 3
        finite(losses * float("nan") if bad else losses, context, epoch)

    with monkeypatch.context() as patched:
        patched.setattr(together, "require_finite", check)
        with pytest.raises(PipelineError, match=r"^fold 04, epoch 3, batch 1: the loss is nan; a smaller train.lr"):
            trained(made, tmp_path / "runs")
    assert len(list((tmp_path / "runs").glob("*.partial/0[356]/index.json"))) == 3
    assert stacks == [4, 3]
    assert_alike(trained(made, tmp_path / "runs"), trained(made, tmp_path / "queue", stack=False))


def test_folds_that_do_not_fit_into_the_memory_go_on_one_by_one(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "WRITE_SECONDS", 0.0)
    step, taken = Stack.__call__, list[int]()

    def full(self: Stack, *args: Any) -> torch.Tensor:
        taken.append(1)
        if len(taken) > 4:
            raise torch.OutOfMemoryError
        return step(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Stack, "__call__", full)
        found = trained(made, tmp_path / "runs")
    assert len(taken) == 5
    assert_alike(found, trained(made, tmp_path / "queue", stack=False))


@pytest.mark.parametrize(
    ("pairs", "options"),
    [
        (["train.precision=bf16"], {}),
        (["train.solver=ridge"], {}),
        ([], {"micro_batch": 4}),
        ([], {"data": "stream"}),
    ],
)
def test_what_cannot_be_stacked_is_trained_one_by_one(
    made: Path, tmp_path: Path, stacks: list[int], pairs: list[str], options: dict[str, Any]
) -> None:
    (folder,) = trained(made, tmp_path, *pairs, **options)
    assert (folder / "index.json").exists() and not stacks


@pytest.mark.parametrize(
    ("pairs", "stacked"),
    [
        ([], True),
        (["model.head=mlp"], False),
        (["model.head=mlp", "model.dropout=0"], True),
        (["augment.mixup=0.5"], False),
    ],
)
def test_on_a_gpu_dropout_and_mixup_are_drawn_fold_by_fold(pairs: list[str], stacked: bool) -> None:
    config = load("frozen", None, ["train.solver=adamw", *pairs])
    assert together.stackable(config, "cuda:0") == stacked
    assert together.stackable(config, "cpu") and not together.stackable(config, "mps")


def test_as_many_folds_are_stacked_as_fit(
    made: Path, tmp_path: Path, stacks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    each = together.COPIES * 2 * 8 * 3 * 4 * 16 * 2  # batch, draws, statistics, width, bytes
    monkeypatch.setitem(together.MEMORY, "cpu", 3 * each)
    found = trained(made, tmp_path / "some", seeds=2)
    assert stacks == [3, 3, 2]
    monkeypatch.setitem(together.MEMORY, "cpu", each)
    assert_alike(found, trained(made, tmp_path / "alone", seeds=2))
    assert stacks == [3, 3, 2], "one by one"


def test_the_command_trains_one_by_one_where_it_is_told_to(
    made: Path, run: Callable[..., Result], stacks: list[int]
) -> None:
    words = [*TRAIN, "--cache", str(made / "cache")]
    words += [word for pair in of(made / "encoder") for word in ("--set", pair)]
    said = run(*words, "--one-by-one").stderr
    assert not stacks and "03: loss" in said
    shutil.rmtree("runs")
    said = run(*words).stderr
    assert stacks == [4] and "03: loss" in said
