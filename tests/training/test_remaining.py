"""The remaining time that is shown while folds are trained, by a simulated clock."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from ser_pipeline.training.estimate import Estimate
from ser_pipeline.training.remaining import Remaining
from ser_pipeline.training.statuses import Status
from support.sharing import Clock

EPOCHS = 20
COSTS = {"full": 1.0, "full-mean": 3.0}
"""Seconds of an epoch, by ablation."""

START = 15.0
"""Seconds before the first epoch of an ablation begins."""


def planned(seeds: int = 2, folds: int = 10) -> list[Status]:
    titles = [("speaker", row, f"s{seed}") for row in COSTS for seed in range(seeds)]
    return [Status("-".join(title), f"{number}M", 0, False, {}, title) for title in titles for number in range(folds)]


def trained(before: Sequence[Status], jobs: int, whole: int = EPOCHS) -> Iterator[tuple[float, list[Status]]]:
    """Yield the time and the states after each epoch, with `jobs` folds at once; folds stop after `whole` epochs."""
    now, states = START, list(before)
    for row, cost in COSTS.items():
        left = [place for place, one in enumerate(states) if one.title[1] == row and not one.done]
        now += START
        while left:
            now += cost
            for place in left[:jobs]:
                one = states[place]
                last = {"seconds": cost}
                states[place] = replace(one, epoch=one.epoch + 1, done=one.epoch + 1 == whole, last=last)
            yield now, list(states)
            left = [place for place in left if not states[place].done]


def told(
    before: Sequence[Status], estimate: Estimate | None, jobs: int, whole: int = EPOCHS
) -> list[tuple[str, float]]:
    """Return the ablation in training, and the told remaining time as a multiple of the true one, at each epoch."""
    clock = Clock(0.0)
    left, steps, found = Remaining(before, EPOCHS, estimate, clock), list(trained(before, jobs, whole)), []
    for (now, states), (then, _) in pairwise(steps):
        for clock.now in (now, (now + then) / 2):
            seconds = left.seconds(states)
            row = "full" if any(one.title[1] == "full" and not one.done for one in states) else "full-mean"
            found.append((row, (seconds or 0.0) / (steps[-1][0] - clock.now)))
    return found


def estimated(before: Sequence[Status], factor: float, at_once: float) -> Estimate:
    """Return an estimate of `factor` times the true time of each fold."""
    folds = {(one.run, one.fold): factor * EPOCHS * COSTS[one.title[1]] for one in before if not one.done}
    return Estimate(sum(folds.values()) / at_once, "", folds, at_once)


def resumed(before: Sequence[Status], done: int, epoch: int) -> list[Status]:
    """Return the states after a stop: `done` folds are finished, and the next two have `epoch` epochs."""
    last = {"seconds": COSTS["full"]}
    finished = [replace(one, epoch=EPOCHS, done=True, last=last) for one in before[:done]]
    return [*finished, *(replace(one, epoch=epoch, last=last) for one in before[done : done + 2]), *before[done + 2 :]]


@pytest.mark.parametrize("factor", [0.02, 1.0, 50.0])
@pytest.mark.parametrize(("jobs", "at_once"), [(1, 1.0), (2, 2.0), (2, 4.0), (10, 10.0)])
@pytest.mark.parametrize("before", [planned(), resumed(planned(), 10, 7)], ids=["new", "resumed"])
def test_the_time_left_is_right_from_the_first_epochs_on_whatever_was_estimated(
    before: list[Status], factor: float, jobs: int, at_once: float
) -> None:
    found = told(before, estimated(before, factor, at_once), jobs)
    assert {row for row, _ in found} == {*COSTS}
    assert all(0.4 < share < 1.8 for _, share in found)


def test_an_ablation_whose_time_is_unknown_is_assumed_to_be_as_fast_as_the_others() -> None:
    found = told(planned(), None, jobs=2)
    assert all(0.2 < share < 1.8 for _, share in found)  # at first, half of the folds are three times as slow
    assert all(0.5 < share < 1.5 for _, share in [one for one in found if one[0] == "full-mean"][2:])


def test_folds_are_expected_to_stop_as_early_as_those_that_have_finished() -> None:
    before = planned()[:20]
    found = told(before, estimated(before, 1.0, 2.0), jobs=2, whole=5)
    assert all(2 < share < 6 for _, share in found[:8])
    assert all(0.5 < share < 1.5 for _, share in found[12:])


def test_the_last_fold_takes_as_long_as_one_does_alone() -> None:
    before = resumed(planned()[:10], 9, 2)
    assert all(0.9 < share < 1.3 for _, share in told(before, estimated(before, 1.0, 8.0), jobs=8))


def test_a_fold_that_resumes_from_an_earlier_epoch_than_was_shown_does_not_count_as_progress() -> None:
    clock, before = Clock(0.0), resumed(planned()[:10], 8, 9)
    left = Remaining(before, EPOCHS, Estimate(60.0, "", estimated(before, 1.0, 2.0).folds, 2.0), clock)
    clock.now = 5.0
    assert left.seconds([*before[:8], *(replace(one, epoch=4) for one in before[8:])]) == 55
    for epoch in (5, 6, 7):
        clock.now += 1.0
        seconds = left.seconds([*before[:8], *(replace(one, epoch=epoch) for one in before[8:])])
    assert seconds == pytest.approx(13, rel=0.2)


def test_until_an_epoch_has_ended_the_estimate_counts_down() -> None:
    clock, before = Clock(0.0), planned()
    left, unknown = (Remaining(before, EPOCHS, prior, clock) for prior in (Estimate(50.0, ""), None))
    assert (left.seconds(before), unknown.seconds(before)) == (50, None)
    clock.now = 10.0
    assert (left.seconds(before), unknown.seconds(before)) == (40, None)
    clock.now = 51.0
    assert left.seconds(before) is None  # longer than was estimated
    assert left.seconds(resumed(before, len(before), 0)) == 0
