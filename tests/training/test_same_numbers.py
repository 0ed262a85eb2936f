"""Float32 on the CPU gives the same weights for any number of parallel folds, cores and threads."""

import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from threadpoolctl import threadpool_info

from ser_pipeline.config import load
from ser_pipeline.device import fixed_threads
from ser_pipeline.entry import Entry
from ser_pipeline.splits.folds import Fold
from ser_pipeline.training import fold as training
from ser_pipeline.training import queue
from ser_pipeline.training.stage import Prepared, prepare
from ser_pipeline.training.workers import QueueOptions
from support.reducing import TINY
from support.stores import registered

SHAPES: dict[str, tuple[int, int | None, str | None]] = {
    "one fold at a time": (1, None, None),
    "two folds at a time": (2, None, None),
    "one core": (1, 1, None),
    "two threads by the environment": (1, None, "2"),
}
"""Name -> parallel folds, cores (None: all) and $OMP_NUM_THREADS."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the features of a small corpus."""
    return registered(tmp_path_factory.mktemp("same"), speakers=3, takes=2)


def weights(cache: Path, runs: Path, jobs: int, cores: int | None, threads: str | None) -> dict[str, str]:
    """Return digests of the weights of every fold that `train` trains on this number of cores."""
    left = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment = left | ({"OMP_NUM_THREADS": threads} if threads else {})
    chosen = [word for setting in (*TINY, "train.precision=fp32") for word in ("--set", setting)]
    where = ["--cache", str(cache), "--runs-root", str(runs), "--device", "cpu", "--jobs", str(jobs)]
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    done = subprocess.run(
        [sys.executable, "-m", "ser_pipeline", "train", "--preset", "demo", *chosen, *where],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )
    assert done.returncode == 0, done.stderr
    return {file.parent.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in runs.glob("*/*/*.safetensors")}


@pytest.mark.slow(reason="four commands load torch and train three folds each")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind processes to cores")
def test_folds_at_a_time_cores_and_environment_change_no_weight(cache: Path, tmp_path: Path) -> None:
    found = {name: weights(cache, tmp_path / name, *shape) for name, shape in SHAPES.items()}
    first = found["one fold at a time"]
    assert len(first) == 3
    assert all(digests == first for digests in found.values()), found


def planned(cache: Path, tmp_path: Path, *overrides: str) -> Prepared:
    return prepare("emodb", preset="demo", overrides=overrides, device="cpu", cache=cache, runs=tmp_path / "runs")


@pytest.mark.parametrize("threads", [1, 3])
def test_a_fold_is_computed_on_the_threads_of_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    seen: list[tuple[int, set[int]]] = []

    def spy(entry: Entry, context: Any) -> Path:
        libraries = {row["num_threads"] for row in threadpool_info() if row["user_api"] == "blas"}
        seen.append((torch.get_num_threads(), libraries))
        return entry.path

    monkeypatch.setattr(training, "_fit", spy)
    settings = load("demo", None, [f"train.threads={threads}"])
    nothing: Any = None
    with fixed_threads(2):
        fold = Fold("03", nothing, nothing, nothing)
        training.fit(Entry(tmp_path / "fold", {}), fold, nothing, nothing, settings, torch.device("cpu"))
        assert torch.get_num_threads() == 2, "the program's own number is restored"
    assert seen == [(threads, {1})]


def test_another_number_of_threads_is_another_run(cache: Path, tmp_path: Path) -> None:
    default, same, other = (
        planned(cache, tmp_path, *overrides).planned[0].entry.path.name
        for overrides in ((), ("train.threads=1",), ("train.threads=2",))
    )
    assert default == same != other


@pytest.mark.parametrize(("cores", "said"), [(64, True), (4, False)])
def test_idle_cores_are_told_of(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cores: int,
    said: bool,
) -> None:
    monkeypatch.setattr(queue, "cores", lambda: cores)
    monkeypatch.setattr(logging.getLogger("ser_pipeline"), "propagate", True)
    prepared = planned(cache, tmp_path)
    with caplog.at_level(logging.INFO, "ser_pipeline"):
        jobs = queue.queue_jobs(prepared.planned, prepared.sources, prepared.device, QueueOptions())
    assert jobs[0].options.jobs == 3
    assert ("train.threads" in caplog.text) == said
