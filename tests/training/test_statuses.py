"""States of folds: how often they are read, and of which runs; the time that is estimated from them."""

import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from ser_pipeline.training import estimate, statuses
from ser_pipeline.training.stage import prepare, train
from ser_pipeline.training.statuses import Status
from support.reducing import TINY
from support.sharing import Clock
from support.stores import registered


def test_folds_are_looked_at_in_a_twentieth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looks, waits = Clock(0.0), iter((0.001, 3.0, 0.0, 0.0)), list[float]()
    over = SimpleNamespace(wait=lambda seconds: waits.append(seconds) or len(waits) == 4, set=lambda: None)

    def progress(_: object) -> None:
        clock.now += next(looks)

    monkeypatch.setattr(statuses, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(statuses, "threading", SimpleNamespace(Event=lambda: over, Thread=threading.Thread))
    with statuses.watching([], progress):
        pass
    assert waits == [statuses.POLL, statuses.POLL, pytest.approx(60), statuses.POLL]
    assert next(looks, None) is None, "once at the end"


def test_folds_of_finished_runs_count_from_the_start_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"preset": "demo", "overrides": TINY, "jobs": 1, "device": "cpu", "runs": tmp_path / "runs"}
    settings["cache"] = registered(tmp_path, speakers=3, takes=1)
    train(**settings)  # type: ignore[arg-type]
    prepared, seen = prepare(seeds=2, **settings), list[Sequence[Status]]()  # type: ignore[arg-type]
    before = prepared.statuses()
    assert [sum(status.done for status in before), len(before)] == [3, 6]
    assert {status.title for status in before} == {("speaker", "full", "s0"), ("speaker", "full", "s1")}
    apart = estimate.estimated(prepared.planned, before, prepared.device, prepared.options)
    monkeypatch.setattr(estimate, "stackable", lambda config, device: True)
    monkeypatch.setattr(estimate, "_at_once", lambda folds, device, options: 2)
    together = estimate.estimated(prepared.planned, before, prepared.device, prepared.options)
    assert apart is not None and together is not None
    assert together == apart, "folds that are trained together take as long as one after the other"
    assert set(apart.folds) == {(status.run, status.fold) for status in before if not status.done}
    prepared.train(seen.append)
    assert all(len(some) == 6 and sum(status.done for status in some) >= 3 for some in seen)
    assert all(status.done for status in seen[-1])
