"""How often the folder of a run is checked."""

import threading
from types import SimpleNamespace

import pytest

from ser_pipeline.training import statuses
from support.sharing import Clock


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
