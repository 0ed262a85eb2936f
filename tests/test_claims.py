"""Claims: each part has one owner, even if processes die, freeze or have a wrong clock."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from ser_pipeline import claims as claims_module
from ser_pipeline.claims import BEATS, FAILED, HELD, LEFT, Claims, Holder, at_work, read_record
from ser_pipeline.entry import Entry, read_json
from ser_pipeline.errors import PipelineError
from support.sharing import Clock, hold
from support.workers import until

CONTEXT = multiprocessing.get_context("spawn")
ELSEWHERE = Holder("another", "another machine", 1, "0", "e15e")


def holder(tmp_path: Path) -> multiprocessing.process.BaseProcess:
    """Start another process that has claimed the part "a" and renews the claim."""
    process = CONTEXT.Process(target=hold, args=(tmp_path / "claims", tmp_path / "mark"))
    process.start()
    until((tmp_path / "mark").exists)
    return process


def test_a_part_is_one_holders(tmp_path: Path) -> None:
    first, second = Claims(tmp_path), Claims(tmp_path)
    claim = first.take("run/fold")
    assert claim
    assert claim.number == 1
    assert second.take("run/fold") is None
    assert first.take("run/fold") is None
    assert second.take("run/other")
    assert claim.held


@pytest.mark.parametrize(("state", "why"), [(LEFT, ""), (FAILED, "no such file")])
def test_what_is_let_go_is_anyones_at_once(tmp_path: Path, state: str, why: str) -> None:
    first, second = Claims(tmp_path), Claims(tmp_path)
    claim = first.take("run/fold")
    assert claim
    first.let_go(claim, state, why)
    record = first.records("run")["fold"]
    assert (record.state, record.why) == (state, why)
    after = second.take("run/fold")
    assert after
    assert after.number == 2
    assert not claim.held


def test_a_dead_holders_part_is_taken_over_at_once(tmp_path: Path) -> None:
    process, watcher = holder(tmp_path), Claims(tmp_path / "claims", clock=Clock(0.0))
    assert watcher.take("a") is None
    process.kill()
    process.join()
    claim = watcher.take("a")
    assert claim
    assert claim.number == 2


def test_another_process_of_the_dead_ones_number_is_not_it(tmp_path: Path) -> None:
    me = Claims(tmp_path).holder
    before = Holder(me.host, me.machine, me.process, f"before {me.started}", "f00d")
    assert Claims(tmp_path, holder=before).take("a")
    assert Claims(tmp_path).take("a")


def test_a_frozen_holders_part_is_taken_over_after_a_lease(tmp_path: Path) -> None:
    process, clock = holder(tmp_path), Clock(0.0)
    watcher = Claims(tmp_path / "claims", lease=BEATS, clock=clock)
    os.kill(process.pid or 0, signal.SIGSTOP)
    try:
        looks = 0
        while (claim := watcher.take("a")) is None:
            clock.now, looks = clock.now + 1, looks + 1
        assert looks == BEATS
        assert claim.number == 2
    finally:
        os.kill(process.pid or 0, signal.SIGCONT)
    before = read_record(tmp_path / "claims" / "a" / "1")
    assert before
    until(lambda: read_record(tmp_path / "claims" / "a" / "1") != before)  # it woke and has not noticed yet
    assert claim.held
    process.kill()
    process.join()


@pytest.mark.parametrize("hours", [-5, 0, 1000])
def test_a_holder_that_renews_keeps_its_part_whatever_the_clocks_show(tmp_path: Path, hours: float) -> None:
    clock = Clock(3600 * hours)
    far, watcher = Claims(tmp_path, holder=ELSEWHERE), Claims(tmp_path, lease=BEATS, clock=clock)
    assert far.take("a")
    for _ in range(5 * BEATS):
        clock.now += BEATS - 1.5
        assert watcher.take("a") is None
        far.renew()
    while watcher.take("a") is None:
        clock.now += 1


def test_a_watcher_that_slept_does_not_take_that_for_the_holders_silence(tmp_path: Path) -> None:
    clock = Clock(0.0)
    far, watcher = Claims(tmp_path, holder=ELSEWHERE), Claims(tmp_path, lease=BEATS, clock=clock)
    assert far.take("a")
    assert watcher.take("a") is None
    clock.now += 1e6  # this machine was asleep, as may have been the owner's
    assert watcher.take("a") is None
    far.renew()
    clock.now += 1
    assert watcher.take("a") is None


def test_a_claim_that_cannot_be_read_holds_for_a_lease(tmp_path: Path) -> None:
    clock = Clock(0.0)
    watcher = Claims(tmp_path, lease=BEATS, clock=clock)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1").write_text('{"holder": ')
    for _ in range(BEATS):
        assert watcher.take("a") is None
        clock.now += 1
    claim = watcher.take("a")
    assert claim
    assert claim.number == 2


def test_a_renewal_brings_no_claim_back(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claim = claims.take("run/fold")
    assert claim
    claims.remove("run")
    claims.renew()
    assert not claim.held
    claims.let_go(claim)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_without_links_a_part_is_one_holders_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(claims_module.os, "link", refuse)
    claim = Claims(tmp_path).take("a")
    assert claim
    assert Claims(tmp_path).take("a") is None
    record = read_record(claim.file)
    assert record
    assert record.state == HELD


def test_a_listing_that_is_out_of_date_gives_no_part_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system may return a listing that is up to a minute old."""
    first, second, last = Claims(tmp_path), Claims(tmp_path), claims_module._last
    claim = first.take("a")
    assert claim
    with monkeypatch.context() as patch:
        patch.setattr(claims_module, "_last", lambda place: 0)
        assert second.take("a") is None
    first.let_go(claim)
    assert second.take("a")
    with monkeypatch.context() as patch:
        patch.setattr(claims_module, "_last", lambda place: max(0, last(place) - 1))
        assert first.take("a") is None
    assert {file.name for file in (tmp_path / "a").iterdir()} == {"1", "2"}


def test_a_record_that_is_out_of_date_for_less_than_a_lease_takes_nothing_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, shown, read = Clock(0.0), dict[str, object](), claims_module.read_record

    def stale(file: Path) -> object:
        age = f"{file} {clock.now // (BEATS - 1)}"  # an answer is cached for almost one lease
        return shown.setdefault(age, read(file))

    monkeypatch.setattr(claims_module, "read_record", stale)
    far, watcher = Claims(tmp_path, holder=ELSEWHERE), Claims(tmp_path, lease=BEATS, clock=clock)
    assert far.take("a")
    for _ in range(8 * BEATS):
        assert watcher.take("a") is None
        far.renew()
        clock.now += 1


def test_a_record_that_is_out_of_date_for_longer_than_a_lease_costs_its_holder_the_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(0.0)
    far, watcher = Claims(tmp_path, holder=ELSEWHERE), Claims(tmp_path, lease=BEATS, clock=clock)
    held = far.take("a")
    assert held
    shown = read_record(held.file)
    first = Entry(tmp_path / "result", {}, held.file)
    first.begin()
    monkeypatch.setattr(claims_module, "read_record", lambda file: shown)
    while (claim := watcher.take("a")) is None:
        clock.now += 1
        far.renew()
    second = Entry(tmp_path / "result", {}, claim.file)
    second.begin()
    assert (clock.now, first.lost, second.lost) == (BEATS, True, False)
    with pytest.raises(FileNotFoundError):
        first.publish(by="first")
    second.publish(by="second")
    first.publish(by="first")
    assert read_json(tmp_path / "result" / "index.json")["by"] == "second"


def test_who_seems_to_be_at_work(tmp_path: Path) -> None:
    assert not at_work(tmp_path / "run")
    claims = Claims.beside(tmp_path / "run")
    claim = claims.take("run/fold")
    assert claim
    assert at_work(tmp_path / "run")
    assert not at_work(tmp_path / "other")
    claims.let_go(claim)
    assert not at_work(tmp_path / "run")
    far = Claims(claims.folder, holder=ELSEWHERE)
    claim = far.take("run/fold")
    assert claim
    assert at_work(tmp_path / "run")
    os.utime(claim.file, (0, 0))
    assert not at_work(tmp_path / "run")


@pytest.mark.parametrize("text", ["soon", "0", "nan", "1e9", "1_0"])
def test_a_lease_that_is_no_time_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SER_PIPELINE_LEASE", text)
    with pytest.raises(PipelineError, match=f"SER_PIPELINE_LEASE is '{text}'; it must be seconds, from 1 to 86400"):
        Claims(tmp_path)


def test_a_lease_is_as_asked_or_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SER_PIPELINE_LEASE", raising=False)
    assert Claims(tmp_path).lease == 60
    monkeypatch.setenv("SER_PIPELINE_LEASE", "90")
    assert Claims(tmp_path).lease == 90
