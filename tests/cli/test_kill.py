"""Stages are killed at random moments, as by power cuts and impatient users, and must lose nothing."""

import multiprocessing.process
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ser_pipeline.export.writing import new_folder
from ser_pipeline.locks import hold
from support.killed import TINY, begun, run_command
from support.results import predictions, shards
from support.sounds import write_emodb


def start(folder: Path, args: list[str]) -> multiprocessing.process.BaseProcess:
    return begun(run_command, folder, args)


def finish(folder: Path, args: list[str]) -> float:
    """Run a command to its end; returns the seconds that it took."""
    began = time.monotonic()
    process = start(folder, args)
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


def kill_at_random(folder: Path, args: list[str], times: int, seconds: float, reset: Callable[[], None]) -> None:
    """Kill the running command `times` times; `reset` undoes a run that finished before it was killed."""
    rng = random.Random(0)
    killed = 0
    while killed < times:
        process = start(folder, args)
        process.join(rng.uniform(0, seconds))
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
            killed += 1
        process.join()
        if process.exitcode == 0:
            reset()


def together(folder: Path, args: list[str], seconds: float) -> None:
    """Run the command eight times at once, in one folder, and kill five of them at random moments."""
    rng = random.Random(0)
    processes = [start(folder, args) for _ in range(8)]
    for process in processes[:5]:
        process.join(rng.uniform(0, seconds))
        process.kill()
    for process in processes[5:]:
        process.join()
        assert process.exitcode == 0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    begun(os.getpid).join()  # the server's own imports do not count as a command's time
    return write_emodb(tmp_path_factory.mktemp("kill") / "corpus", speakers=3, takes=5)


@pytest.mark.slow(reason="kills the command ten and twenty times")
@pytest.mark.parametrize(("jobs", "times"), [(1, 10), (2, 20)])
def test_features_killed_at_random_moments_end_in_the_same_bytes(
    corpus: Path, tmp_path: Path, jobs: int, times: int
) -> None:
    args = ["features", "emodb", str(corpus), "--jobs", str(jobs), "--quiet"]
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
    seconds = finish(tmp_path / "calm", args)
    killed = tmp_path / "killed"
    kill_at_random(killed, args, times, seconds, lambda: shutil.rmtree(killed / "cache"))
    finish(killed, args)
    assert shards(killed) == shards(tmp_path / "calm")
    assert not list(killed.rglob("*.partial"))


@pytest.mark.slow(reason="runs the command many times at once")
def test_eight_features_at_once_some_killed_end_in_the_bytes_of_one(corpus: Path, tmp_path: Path) -> None:
    args = ["features", "emodb", str(corpus), "--jobs", "1", "--quiet"]
    for name in ("calm", "shared"):
        (tmp_path / name).mkdir()
    seconds = finish(tmp_path / "calm", args)
    together(tmp_path / "shared", args, seconds)
    assert shards(tmp_path / "shared") == shards(tmp_path / "calm")
    assert not list((tmp_path / "shared").rglob("*.partial"))
    assert not list((tmp_path / "shared").glob("*/features/.claims/*"))


@pytest.mark.slow(reason="starts the command three times")
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals")
def test_features_that_were_frozen_and_wake_change_nothing(corpus: Path, tmp_path: Path) -> None:
    args = ["features", "emodb", str(corpus), "--feature", "mfcc", "--jobs", "1", "--quiet"]
    command, environment = [sys.executable, "-m", "ser_pipeline.cli", *args], {**os.environ, "SER_PIPELINE_LEASE": "1"}
    for name in ("calm", "shared"):
        (tmp_path / name).mkdir()
    subprocess.run(command, cwd=tmp_path / "calm", check=True)
    shared = tmp_path / "shared"
    with subprocess.Popen(command, cwd=shared, env=environment) as frozen:
        while not list(shared.glob("cache/features/.claims/*/*-000/1")):
            assert frozen.poll() is None
            time.sleep(0.001)
        frozen.send_signal(signal.SIGSTOP)
        try:
            subprocess.run(command, cwd=shared, env=environment, check=True)
            made = shards(shared)
        finally:
            frozen.send_signal(signal.SIGCONT)
        assert frozen.wait() == 0
    assert len(made) == 1
    assert made == shards(shared) == shards(tmp_path / "calm")
    assert not list(shared.rglob("*.partial"))


def trained_by(corpus: Path, tmp_path: Path, *names: str) -> list[str]:
    """Set up folders `names` that share the features of the corpus; returns the arguments that train its folds."""
    finish(tmp_path, ["features", "emodb", str(corpus), "--jobs", "1", "--quiet"])
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "cache").symlink_to(tmp_path / "cache")
    args = ["train", "--accept", "counts", "--preset", "demo", "--protocol", "speaker", "--jobs", "1", "--quiet"]
    return args + [word for setting in TINY for word in ("--set", setting)]


@pytest.mark.slow(reason="runs the command many times at once")
def test_eight_trains_at_once_some_killed_end_in_the_predictions_of_one(corpus: Path, tmp_path: Path) -> None:
    args = [*trained_by(corpus, tmp_path, "calm", "shared"), "--seeds", "2"]
    seconds = finish(tmp_path / "calm", args)
    together(tmp_path / "shared", args, seconds)
    assert folds(tmp_path / "shared") == folds(tmp_path / "calm")
    assert len(folds(tmp_path / "calm")) == 6
    assert not list((tmp_path / "shared").rglob("*.partial"))
    assert not list((tmp_path / "shared").glob("runs/.claims/*"))


def folds(folder: Path) -> dict[str, bytes]:
    """Return path -> predictions, for every fold of the runs below `folder`."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.glob("runs/*/*/predictions.csv")}


@pytest.mark.slow(reason="starts the command three times")
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals")
def test_a_train_that_was_frozen_and_wakes_changes_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = trained_by(corpus, tmp_path, "calm", "shared")
    finish(tmp_path / "calm", args)
    shared, command = tmp_path / "shared", [sys.executable, "-m", "ser_pipeline.cli", *args]
    monkeypatch.setenv("SER_PIPELINE_LEASE", "1")
    with subprocess.Popen(command, cwd=shared, stderr=subprocess.PIPE, text=True) as frozen:
        while not list(shared.glob("runs/*.partial/0*.partial/history.jsonl")):
            assert frozen.poll() is None
            time.sleep(0.001)
        frozen.send_signal(signal.SIGSTOP)
        try:
            finish(shared, args)
            assert predictions(shared) == predictions(tmp_path / "calm")
        finally:
            frozen.send_signal(signal.SIGCONT)
        said = frozen.communicate()[1]
    assert (frozen.returncode, said) == (0, "")
    assert predictions(shared) == predictions(tmp_path / "calm")
    assert not list(shared.rglob("*.partial"))


@pytest.mark.slow(reason="kills the command ten times")
def test_train_killed_at_random_moments_ends_in_the_same_predictions(corpus: Path, tmp_path: Path) -> None:
    args = trained_by(corpus, tmp_path, "calm", "killed")
    seconds = finish(tmp_path / "calm", args)
    killed = tmp_path / "killed"
    kill_at_random(killed, args, 10, seconds, lambda: shutil.rmtree(killed / "runs"))
    finish(killed, args)
    assert len(predictions(killed)) == 3
    assert predictions(killed) == predictions(tmp_path / "calm")
    assert not list(killed.rglob("*.partial"))


@pytest.mark.slow(reason="trains nine folds")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_a_queue_goes_on_when_one_of_its_processes_is_killed(corpus: Path, tmp_path: Path) -> None:
    finish(tmp_path, ["features", "emodb", str(corpus), "--jobs", "1", "--quiet"])
    args = ["train", "--accept", "counts", "--preset", "demo", "--protocol", "speaker", "--jobs", "2", "--seeds", "3"]
    args += [word for setting in TINY for word in ("--set", setting)]
    command = [sys.executable, "-m", "ser_pipeline.cli", *args]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("runs/*/0[389]/index.json")) or not (working := workers(process.pid)):
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(working[0], signal.SIGKILL)
        said = process.communicate()[1]
    assert process.returncode == 0
    assert "a training process was killed; the other folds continue" in said
    assert len(list(tmp_path.glob("runs/*/*/predictions.csv"))) == 9
    assert not list(tmp_path.rglob("*.partial"))


def made_anew(folder: Path) -> None:
    """Delete what `report` and `export` wrote."""
    for made in ("reports", "model"):
        shutil.rmtree(folder / made, ignore_errors=True)


def workers(parent: int) -> list[int]:
    """Return the worker processes of `parent`: they are forked from a process that has loaded the packages."""
    servers = [child for child in children(parent) if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return [worker for server in servers for worker in children(server)]


def children(parent: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def test_what_a_killed_export_left_goes_with_the_next_and_what_another_is_writing_stays(tmp_path: Path) -> None:
    killed, writing = (tmp_path / f"a[b].{name}.partial" / "a[b]" for name in ("killed", "writing"))
    for folder in (killed, writing):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"0" * 100)
    with hold(writing), new_folder(tmp_path / "a[b]") as partial:
        (partial / "model.safetensors").write_bytes(b"1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a[b]", "a[b].writing.partial"]
    assert [path.name for path in (tmp_path / "a[b]").iterdir()] == ["model.safetensors"]


@pytest.mark.slow(reason="kills five commands five times each")
def test_report_verify_prune_predict_and_export_killed_at_random_moments_lose_nothing(
    corpus: Path, tmp_path: Path
) -> None:
    finish(tmp_path, ["features", "emodb", str(corpus), "--jobs", "1", "--quiet"])
    args = ["train", "--accept", "counts", "--preset", "demo", "--protocol", "group-2", "--jobs", "1", "--quiet"]
    finish(tmp_path, [*args, *(word for setting in TINY for word in ("--set", setting))])
    (run,) = tmp_path.glob("runs/*-*")
    before = shards(tmp_path), predictions(tmp_path)
    commands = (
        ["report", "--quiet"],
        ["cache", "verify", "--quiet"],
        ["cache", "prune", "--yes"],
        ["predict", str(run), str(min(corpus.rglob("*.wav"))), "--device", "cpu", "--quiet"],
        ["export", str(run), "model", "--quiet"],
    )
    for command in commands:
        kill_at_random(tmp_path, command, 5, finish(tmp_path, command), lambda: made_anew(tmp_path))
        made_anew(tmp_path)
        finish(tmp_path, command)
        assert (shards(tmp_path), predictions(tmp_path)) == before
    finish(tmp_path, ["report", "--quiet"])
    assert len(list(tmp_path.glob("reports/*/index.html"))) == 1
    assert [path.name for path in tmp_path.glob("model*")] == ["model"]
