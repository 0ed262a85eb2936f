"""Parts of work that processes share."""

import multiprocessing
import random
import signal
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from ser_pipeline.claims import BEATS, FAILED, Claims, Holder
from ser_pipeline.errors import PipelineError
from ser_pipeline.parts import LOOKS, Parts, alone, array_part, own_first
from support.sharing import Clock, share
from support.workers import until

CONTEXT = multiprocessing.get_context("forkserver" if hasattr(signal, "SIGKILL") else "spawn")


def parts(folder: Path, names: str, whole: set[str]) -> Parts[str]:
    return Parts(Claims(folder), names, str, whole.__contains__)


def test_what_another_holds_comes_when_it_is_left(tmp_path: Path) -> None:
    whole = {"b"}
    mine, others = parts(tmp_path, "abc", whole), parts(tmp_path, "abc", whole)
    assert others.take("a")
    turns = iter(mine)
    assert [next(turns), next(turns)] == ["c", None]
    others.end("a")
    assert next(turns) == "a"
    assert mine.claim("a").number == 2
    whole |= {"a", "c"}
    mine.end("a")
    mine.end("c")
    assert list(turns) == []


FAR = Holder("another", "another machine", 1, "0", "e15e")


class Counted(Claims):
    """Claims that record the parts they look at."""

    def is_left(self, file: Path) -> bool:
        self.looked = [*getattr(self, "looked", []), file.parent.name]
        return super().is_left(file)


def test_a_process_without_work_looks_at_a_few_claims_and_ever_more_rarely(tmp_path: Path) -> None:
    clock, names = Clock(0.0), [f"{number:02}" for number in range(3 * LOOKS)]
    others, mine = Claims(tmp_path, holder=FAR), Counted(tmp_path, lease=60.0, clock=clock)
    assert all(others.take(name) for name in names)
    turns, times = iter(Parts(mine, names, str, lambda _: False)), list[float]()
    assert next(turns) is None
    assert len(mine.looked) == 2 * LOOKS, "a few of the new parts and of all parts"
    while clock.now < 150:
        before, clock.now = len(mine.looked), clock.now + 0.5
        if clock.now % 5 == 0:
            others.renew()
        assert next(turns) is None
        if looks := len(mine.looked) - before:
            assert looks == LOOKS
            times.append(clock.now)
    waits = [later - before for before, later in pairwise(times)]
    assert waits[:5] == [0.5] * 5
    assert max(waits) == 60 / BEATS
    assert set(mine.looked[-3 * LOOKS :]) == set(names), "parts with a working owner come after unchecked ones"


def test_a_part_that_nobody_has_is_found_behind_many_that_others_hold(tmp_path: Path) -> None:
    names = [f"{number:02}" for number in range(5 * LOOKS)]
    others, mine = Claims(tmp_path, holder=FAR), Counted(tmp_path)
    free = names[3 * LOOKS], names[-1]
    assert all(others.take(name) for name in names if name not in free)
    turns = iter(Parts(mine, names, str, lambda _: False))
    assert (next(turns), next(turns)) == free
    assert len(mine.looked) == 2 * LOOKS


def test_those_without_work_watch_whoever_is_not_seen_at_work(tmp_path: Path) -> None:
    clock, names = Clock(0.0), [f"{number:02}" for number in range(3 * LOOKS)]
    others, dead = Claims(tmp_path, holder=FAR), Claims(tmp_path, holder=replace(FAR, token="dead"))
    assert all((dead if name == "20" else others).take(name) for name in names)
    turns = iter(Parts(Claims(tmp_path, lease=60.0, clock=clock), names, str, lambda _: False))
    while (found := next(turns)) is None:
        clock.now += 5
        others.renew()
    assert found == "20"
    assert clock.now < 120, "one lease after its first check"


def test_what_fails_does_not_come_back_and_says_why(tmp_path: Path) -> None:
    mine = parts(tmp_path, "a", set())
    turns = iter(mine)
    assert next(turns) == "a"
    mine.end("a", "the loss is nan")
    assert list(turns) == []
    record = Claims(tmp_path.parent).records(tmp_path.name)["a"]
    assert (record.state, record.why) == (FAILED, "the loss is nan")


def test_what_ends_neither_whole_nor_failed_comes_back(tmp_path: Path) -> None:
    mine = parts(tmp_path, "a", set())
    turns = iter(mine)
    assert next(turns) == "a"
    mine.end("a")
    assert next(turns) == "a"
    assert mine.claim("a").number == 2


def test_what_stops_the_block_leaves_all_to_others(tmp_path: Path) -> None:
    mine, others = parts(tmp_path, "ab", set()), parts(tmp_path, "ab", set())
    with pytest.raises(KeyboardInterrupt), mine.sharing():
        assert mine.take("a")
        assert mine.take("b")
        raise KeyboardInterrupt
    assert others.take("a")
    assert others.take("b")


def test_a_place_where_nothing_can_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match=r"cannot write to .*choose another folder"):
        parts(tmp_path / "file" / ".claims", "a", set()).take("a")


@pytest.mark.slow(reason="kills processes")
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_killed_processes_leave_their_parts_to_the_others(tmp_path: Path) -> None:
    rng, count = random.Random(0), 300
    work = [CONTEXT.Process(target=share, args=(tmp_path, count, 0.01)) for _ in range(6)]
    for process in work:
        process.start()
    for process in work[:5]:
        time.sleep(rng.uniform(0.02, 0.2))
        process.kill()
    work[5].join()
    assert work[5].exitcode == 0
    assert len(list(tmp_path.glob("0????"))) == count


def test_eight_processes_make_each_part_once(tmp_path: Path) -> None:
    work = [CONTEXT.Process(target=share, args=(tmp_path, 200)) for _ in range(8)]
    for process in work:
        process.start()
    for process in work:
        process.join()
    assert {process.exitcode for process in work} == {0}
    assert len(list(tmp_path.glob("0????"))) == 200


def test_a_part_is_tried_first_and_every_other_after_it() -> None:
    assert own_first(range(7), None) == list(range(7))
    assert own_first(range(7), (3, 3)) == [2, 5, 0, 3, 6, 1, 4]
    assert own_first(range(2), (5, 8)) == [0, 1]


def test_a_task_of_an_array_knows_its_part() -> None:
    task = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "5"}
    assert array_part(task) == (3, 4)
    assert array_part({}) is None


def test_who_holds_all_parts_waits_for_the_others_and_they_for_it(tmp_path: Path) -> None:
    folder, whole, events = tmp_path / "features", set[str](), list[str]()
    others = Parts(Claims.beside(folder), ["features/a", "features/b"], str, whole.__contains__)
    assert others.take("features/a")

    def hold() -> None:
        with alone(folder):
            events.append("alone")
            assert not others.take("features/b")
            events.append("over")

    thread = threading.Thread(target=hold)
    thread.start()
    until(lambda: (tmp_path / ".claims/features/alone/1").exists())
    assert events == []
    whole.add("features/a")
    others.end("features/a")
    thread.join()
    assert events == ["alone", "over"]
    assert others.take("features/b")
    assert not (tmp_path / ".claims/features/alone").exists()


def test_who_was_killed_holding_all_parts_keeps_nobody_out(tmp_path: Path) -> None:
    claims = Claims.beside(tmp_path / "features")
    dead = Claims(claims.folder, holder=replace(claims.holder, started="before"))
    assert dead.take("features/alone")
    assert Parts(claims, ["features/a"], str, lambda _: False).take("features/a")
