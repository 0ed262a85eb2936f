"""`ser-pipeline status`: what is complete, claimed or failed; and parts of a run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from ser_pipeline.claims import Claims
from support.killed import TINY
from support.stores import registered

TRAIN = ["train", "--accept", "counts", "--preset", "demo", "--jobs", "1", "--device", "cpu"]
TRAIN += [word for setting in TINY for word in ("--set", setting)]


@pytest.fixture
def features(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, run: object) -> Path:
    """A cache with the features of a small corpus."""
    cache = registered(tmp_path_factory.mktemp("status"), speakers=3, takes=1)
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(cache))
    return cache


def rows(run: Callable[..., Result]) -> list[list[str]]:
    return [line.split("\t") for line in run("status").stdout.splitlines()]


def test_nothing_is_said_to_be_there(run: Callable[..., Result]) -> None:
    said = run("status")
    assert (said.stdout, said.stderr) == ("", "nothing in cache and runs; start with: ser-pipeline features\n")


def test_what_is_whole_held_and_failed_is_listed(
    run: Callable[..., Result], features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the device has had enough")

    with monkeypatch.context() as changed:
        changed.setattr("ser_pipeline.training.workers.fit", broken)
        run(*TRAIN, status=1)
    (name,) = (path.name.removesuffix(".partial") for path in Path("runs").glob("*.partial"))
    claims = Claims(Path("runs/.claims"))
    assert claims.take(f"{name}/04")
    stores, of_run = [row for row in rows(run) if row[0] != name], [row for row in rows(run) if row[0] == name]
    assert stores and all(row[2] == "whole" and row[1].endswith(" shard") for row in stores)
    assert of_run[0] == [name, "0 of 3 folds", "unfinished"]
    states = {row[1]: row[2] for row in of_run[1:]}
    assert (states["03"], states["04"], states["05"]) == ("failed", "held", "failed")
    why = {row[1]: row[5] for row in of_run[1:] if row[2] == "failed"}
    assert why["03"].startswith("fold 03: RuntimeError: the device has had enough (see ")
    claims.let_go(claims._held[f"{name}/04"][0])
    run(*TRAIN)
    assert [row for row in rows(run) if row[0] == name] == [[name, "3 of 3 folds", "whole"]]


def test_a_share_alone_leaves_the_others(run: Callable[..., Result], features: Path) -> None:
    said = run(*TRAIN, "--part", "2/3", "--share-only")
    assert said.stdout == ""
    assert "2 folds left for other processes" in said.stderr
    assert rows(run)[-1][1:] == ["1 of 3 folds", "unfinished"]
    assert run(*TRAIN, "--dry-run").stdout.count("\tdone") == 1
    run(*TRAIN, "--part", "1/3", "--share-only")
    assert run(*TRAIN, "--part", "3/3", "--share-only").stdout.startswith("runs/")
    assert rows(run)[-1][1:] == ["3 of 3 folds", "whole"]


def test_without_waiting_a_command_ends_where_others_hold_the_rest(run: Callable[..., Result], features: Path) -> None:
    run(*TRAIN, "--part", "2/3", "--share-only")
    (name,) = (path.name.removesuffix(".partial") for path in Path("runs").glob("*.partial"))
    claims = Claims(Path("runs/.claims"))
    held = claims.take(f"{name}/03")
    assert held
    said = run(*TRAIN, "--part", "3/3", "--no-wait")
    assert "1 fold left for other processes" in said.stderr
    claims.let_go(held)
    assert run(*TRAIN).stdout == f"runs/{name}\n"
