"""`--dask`: a command as tasks of a cluster whose workers join and leave."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from ser_pipeline.claims import at_work
from ser_pipeline.elsewhere.dask import Cluster
from ser_pipeline.elsewhere.tasks import Task
from ser_pipeline.errors import PipelineError
from support.killed import TINY
from support.results import predictions, shards
from support.sounds import write_emodb
from support.workers import until

distributed = pytest.importorskip("distributed")

TRAIN = ["train", "--accept", "counts", "--preset", "demo", "--jobs", "1", "--quiet"]
TRAIN += [word for setting in TINY for word in ("--set", setting)]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Yield a scheduler and two workers on the loopback interface."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
    ) as made:
        yield made


def begun() -> bool:
    """Return whether a fold is being trained."""
    return any(Path("runs").glob("*.partial/*.partial/history.jsonl"))


@pytest.mark.slow(reason="starts two workers, and the command for every fold")
def test_workers_make_features_and_folds_though_one_is_killed(
    run: Callable[..., Result], cluster: Any, tmp_path: Path
) -> None:
    words = ["features", "emodb", str(write_emodb(tmp_path / "corpus", speakers=3, takes=1)), "--jobs", "1", "--quiet"]
    folder = Path(run(*words, "--dask", cluster.scheduler_address).stdout.strip())
    made = shards(tmp_path)
    assert made and folder.is_dir()
    victim = cluster.workers[0].pid

    def kill() -> None:
        until(begun)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    (line,) = run(*TRAIN, "--dask", cluster.scheduler_address).stdout.split()
    killer.join()
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.glob("runs/.claims/*"))
    shared = predictions(tmp_path)
    assert len(shared) == 3
    assert run(*TRAIN, "--runs-root", "alone/runs").stdout.split() == [f"alone/{line}"]
    assert predictions(tmp_path / "alone") == shared
    run(*words, "--cache", "other/cache")
    assert shards(tmp_path / "other") == made


@pytest.mark.slow(reason="starts two workers and the command")
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_stopped_leaves_the_cluster_idle(
    run: Callable[..., Result], cluster: Any, tmp_path: Path, number: int
) -> None:
    run("features", "emodb", write_emodb(tmp_path / "corpus", speakers=3, takes=1), "--jobs", "1")
    words = [*TRAIN, "--set", "train.epochs=100000", "--set", "train.patience=100000"]
    command = [sys.executable, "-m", "ser_pipeline", *words, "--dask", cluster.scheduler_address]
    environment = {**os.environ, "SER_PIPELINE_LEASE": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        until(begun)
        process.send_signal(number)
        said = process.communicate()[1]
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "Stopped; finished work is kept" in said
    (run_folder,) = Path("runs").glob("*.partial")
    until(lambda: not at_work(run_folder.with_name(run_folder.name.removesuffix(".partial"))))
    with distributed.Client(cluster) as client:
        until(lambda: not any(client.processing().values()))


def test_a_task_takes_a_gpu_where_workers_have_some(tmp_path: Path) -> None:
    with distributed.LocalCluster(
        n_workers=2, processes=False, dashboard_address=None, silence_logs=50, resources={"GPU": 1}
    ) as made:
        found, asked = Cluster(made.scheduler_address), list[object]()
        assert (found.gpus, found.places) == (2, 2)
        map_tasks = found._client.map
        found._client.map = lambda *given, **named: asked.append(named["resources"]) or map_tasks(*given, **named)
        told = found.run([Task(("--version",), str(tmp_path))], tmp_path, lambda done, total: None)
    assert asked == [{"GPU": 1}]
    assert told[0].startswith("ser-pipeline")


def test_a_scheduler_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ser_pipeline.elsewhere.dask.CONNECT", 0.2)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(PipelineError, match=f"^cannot reach a Dask scheduler at {address}: .*$"):
            Cluster(address)


def test_without_distributed_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(PipelineError, match=r"pip install 'ser-pipeline\[dask\]'"):
        Cluster("tcp://127.0.0.1:8786")


def test_one_way_at_a_time(run: Callable[..., Result]) -> None:
    assert "exclude each other" in run("train", "--slurm", "--dask", "tcp://127.0.0.1:9", status=2).stderr
