"""The remaining time of training, from the epochs that were measured since the command started."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ser_pipeline.training.estimate import Estimate
    from ser_pipeline.training.statuses import Status

Place = tuple[str, str]
"""Names of a run and of one of its folds."""


class Remaining:
    """The remaining time of training.

    Before an epoch has ended, it is the estimate from before the start. Afterwards it is the sum over the folds of the
    epochs that are left times the seconds of an epoch, divided by the number of epochs that are trained at once. Both
    are measured: the seconds of an epoch for each ablation, as the median of its folds. For an ablation that was not
    trained yet they are estimated from the other ablations.
    """

    def __init__(
        self,
        before: Sequence[Status],
        epochs: int,
        estimate: Estimate | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock.

        Args:
            before: the states of all folds at the start.
            epochs: maximum number of epochs of a fold.
            estimate: the estimate from before the start; None if unknown.
            now: the clock, in seconds.
        """
        self._epochs, self._estimate, self._now = epochs, estimate, now
        self.began = self._since = now()
        self._left = estimate.seconds if estimate else None
        self._seen = _states(before)
        self._first = {_place(status): status.epoch for status in before}  # epochs at the start
        self._marked: tuple[float, dict[Place, int]] | None = None  # the time when an epoch ended first, and the epochs

    def seconds(self, statuses: Sequence[Status]) -> float | None:
        """Return the remaining seconds; None if unknown, as if training takes longer than estimated.

        Args:
            statuses: the current states of all folds.
        """
        if all(status.done for status in statuses):
            return 0.0
        now = self._now()
        if (seen := _states(statuses)) != self._seen:
            self._seen = seen
            self._measure(statuses, now)
        left = None if self._left is None else self._left - (now - self._since)
        return left if left is None or left > 0 else None

    def _measure(self, statuses: Sequence[Status], now: float) -> None:
        """Estimate the remaining time at the end of an epoch."""
        for status in statuses:
            if status.last and not status.done:  # a fold resumes from its last checkpoint, which is older
                place = _place(status)
                for epochs in (self._first, *([self._marked[1]] if self._marked else [])):
                    epochs[place] = min(epochs.get(place, 0), status.epoch)
        new = [status for status in statuses if status.last and status.epoch > self._first.get(_place(status), 0)]
        if not new:
            return
        ended = {_place(status): status.epoch for status in statuses}
        since, marked = self._marked = self._marked or (now, ended)
        costs = self._costs(statuses, new)
        work = sum(costs[place] * max(ended[place] - marked.get(place, 0), 0) for place in costs)
        at_once = self._estimate.at_once if self._estimate else 1.0
        one = max(costs[_place(status)] for status in new)
        speed = (work + one * at_once) / (now - since + one) if one else 1.0  # one epoch more, with the expected speed
        left = {place: costs[place] * epochs for place, epochs in self._epochs_left(statuses).items()}
        self._left, self._since = max(sum(left.values()) / speed, *left.values()), now

    def _costs(self, statuses: Sequence[Status], new: Sequence[Status]) -> dict[Place, float]:
        """Return the seconds of an epoch of every fold.

        Args:
            statuses: the states of all folds.
            new: those that ended an epoch since the start.
        """
        rows = _by_row(new)
        measured = {row: median(float(one.last.get("seconds", 0.0)) for one in some) for row, some in rows.items()}
        expected = {row: self._expected(some) for row, some in _by_row(statuses).items()}
        both = [row for row in measured if expected[row] > 0]
        slower = sum(measured[row] for row in both) / sum(expected[row] for row in both) if both else 0.0
        usual = median(measured.values())
        found = {row: measured.get(row, slower * expected[row] or usual) for row in expected}
        return {_place(status): found[_row(status)] for status in statuses}

    def _expected(self, statuses: Sequence[Status]) -> float:
        """Return the seconds of an epoch by the estimate from before the start; 0 if unknown."""
        folds: Mapping[Place, float] = self._estimate.folds if self._estimate else {}
        known = [folds[_place(status)] for status in statuses if _place(status) in folds]
        return sum(known) / len(known) / self._epochs if known else 0.0

    def _epochs_left(self, statuses: Sequence[Status]) -> dict[Place, int]:
        """Return the number of epochs that each unfinished fold lacks, if it takes as many as the finished ones."""
        found = dict[Place, int]()
        for some in _by_row(statuses).values():
            whole = [status.epoch for status in some if status.done and status.last]
            usual = round(median(whole)) if whole else self._epochs
            found |= {_place(one): max(usual - one.epoch, 1) for one in some if not one.done}
        return found


def _place(status: Status) -> Place:
    return status.run, status.fold


def _states(statuses: Sequence[Status]) -> list[tuple[int, bool]]:
    return [(status.epoch, status.done) for status in statuses]


def _row(status: Status) -> tuple[str, ...]:
    """Return what folds have in common that take equally long: the protocol and the ablation."""
    return status.title[:-1]


def _by_row(statuses: Sequence[Status]) -> Mapping[tuple[str, ...], list[Status]]:
    found = defaultdict[tuple[str, ...], list["Status"]](list)
    for status in statuses:
        found[_row(status)].append(status)
    return found
