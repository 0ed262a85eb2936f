"""`--slurm`: a command as an array of tasks that share its work."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from ser_pipeline.elsewhere.slurm import TaskArray, sbatch_settings
from ser_pipeline.elsewhere.tasks import Task
from ser_pipeline.errors import PipelineError
from support.killed import TINY
from support.results import predictions
from support.slurm import Cluster, missing
from support.sounds import write_emodb

TRAIN = ["train", "--accept", "counts", "--preset", "demo", "--jobs", "1", "--quiet"]
TRAIN += [word for setting in TINY for word in ("--set", setting)]
GRID = [*TRAIN, "--protocol", "group-3", "--ablation", "mfcc,spectrogram"]


@pytest.fixture
def features(run: Callable[..., Result], tmp_path: Path) -> list[str]:
    """Compute the features of a small corpus; returns the arguments that did so."""
    words = ["features", "emodb", str(write_emodb(tmp_path / "corpus", speakers=3, takes=1)), "--jobs", "1"]
    run(*words)
    return words


def test_a_machine_that_lacks_the_folder_of_the_command_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        PipelineError, match=r"there is no folder .*/gone on .+; run the command in a folder that all machines"
    ):
        Task(("--version",), str(tmp_path / "gone"))()
    assert Task(("--version",), str(tmp_path))().startswith("ser-pipeline")


def test_the_script_is_the_command_in_shares(run: Callable[..., Result], features: list[str], tmp_path: Path) -> None:
    said = run(*TRAIN, "--slurm", "--array", "2", "--slurm-set", "gpus=1 time=2:00:00", "--slurm-set=mem_per_cpu=4G")
    script = Path(said.stdout.strip())
    assert said.stderr == f"3 folds in 2 tasks; submit with: sbatch {script}\n"
    first, *lines = script.read_text().splitlines()
    assert first == "#!/usr/bin/env bash"
    assert [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")] == [
        "--job-name=ser-pipeline-train",
        "--array=1-2",
        "--requeue",
        f"--chdir={tmp_path}",
        f"--output={script.parent}/%A_%a.log",
        "--open-mode=append",
        "--gpus=1",
        "--time=2:00:00",
        "--mem-per-cpu=4G",
    ]
    command = f"exec {sys.executable} -m ser_pipeline {' '.join(TRAIN[:3])} "
    assert lines[-1].startswith(command)
    assert lines[-1].endswith(" --no-wait")
    assert "--slurm" not in lines[-1] and "--array" not in lines[-1]
    assert run(*TRAIN, "--slurm", "--array", "2").stdout == said.stdout
    subprocess.run(["bash", "-n", script], check=True)


def test_the_tasks_of_a_script_make_the_whole(run: Callable[..., Result], features: list[str]) -> None:
    script = run(*TRAIN, "--slurm", "--array", "2").stdout.strip()
    for task in ("1", "2"):
        array = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "1"}
        subprocess.run(["bash", script], env={**os.environ, **array}, check=True)
    assert len(predictions(Path())) == 3
    assert run(*TRAIN, "--slurm").stderr == "nothing to do: everything is finished\n"


def test_features_have_a_task_a_shard(run: Callable[..., Result], features: list[str]) -> None:
    said = run(*features, "--slurm", "--cache", "other")
    assert "1 shard in 1 task; submit with: sbatch " in said.stderr
    assert "--no-wait" not in Path(said.stdout.strip()).read_text()


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ("GPUS=1", r"GPUS=1 is not NAME=VALUE"),
        ("array=1-9", r"cannot change array; --array N can"),
        ("output=x", r"cannot change output"),
    ],
)
def test_settings_that_sbatch_cannot_have_are_said(pair: str, told: str) -> None:
    with pytest.raises(PipelineError, match=told):
        sbatch_settings([pair])


def test_what_is_for_slurm_goes_with_it(run: Callable[..., Result]) -> None:
    assert "need --slurm" in run("train", "--submit", status=2).stderr


def test_without_slurm_submitting_says_what_to_do(
    run: Callable[..., Result], features: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert (
        "there is no sbatch here; on a machine of the cluster, run: sbatch /"
        in run(*TRAIN, "--slurm", "--submit", status=1).stderr
    )


def test_without_submitit_submitting_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(PipelineError, match=r"pip install 'ser-pipeline\[slurm\]'"):
        TaskArray.of(Task.here(["train"]), 1, 1, {}, tmp_path).submit()


@pytest.mark.slow(reason="starts the command twice, through submitit")
@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="needs submitit")
def test_processes_of_this_machine_run_the_same(features: list[str], tmp_path: Path) -> None:
    array = TaskArray.of(Task.here([*TRAIN, "--no-wait"]), 3, 2, {}, tmp_path / "runs")
    for job in array.submit("local"):
        job.result()
    assert len(predictions(tmp_path)) == 3
    assert not list(tmp_path.glob("runs/*.partial"))


@pytest.mark.slow(reason="starts a Slurm of two nodes")
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_an_array_goes_on_when_a_node_is_drained(run: Callable[..., Result], tmp_path: Path) -> None:
    with Cluster(tmp_path / "slurm") as cluster:
        pytest.importorskip("submitit")
        cluster.wait(run("features", "demo", "--jobs", "1", "--slurm", "--submit").stdout.strip())
        words = [*GRID, "--slurm", "--array", "4"]
        script = run(*words).stdout.strip()
        job = cluster.submit(script)
        cluster.drain_in_the_middle(job, lambda: any(Path("runs").glob("*.partial/*.partial/history.jsonl")))
        cluster.wait(job)
    assert not cluster._steps()
    shared = predictions(tmp_path)
    runs = sorted(path.name for path in Path("runs").glob("*-*") if path.is_dir())
    assert len(runs) == 2
    for name in runs:
        assert (Path("runs") / name / "index.json").exists()
    Path("runs").rename("shared")
    run(*GRID)
    assert sorted(path.name for path in Path("runs").glob("*-*")) == runs
    assert predictions(tmp_path) == shared
    assert json.loads((Path("runs") / runs[0] / "index.json").read_text())["folds"]
