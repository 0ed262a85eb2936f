"""How far training is: a line that fits the terminal, with the fold, its latest epoch and the time that is left."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from ser_pipeline.text import duration, plural

from .terminal import say

if TYPE_CHECKING:
    from ser_pipeline.training.statuses import Status

LINE_SECONDS = 30.0  # seconds between two lines of progress without a terminal

BAR = (4, 40)
"""Characters of the bar, at least and at most."""

NAME = 16
"""Characters of a fold's name in the bar at most."""

Progress = Callable[[Sequence["Status"]], None]


class Left:
    """The time that is left, from how fast the folds went since the start."""

    def __init__(self, folds: float, estimate: float | None, now: Callable[[], float] = time.monotonic) -> None:
        """Begin to count.

        Args:
            folds: that are done, in parts of folds.
            estimate: seconds that all others were thought to take; None where nothing is known.
            now: the clock.
        """
        self._first = self._last = folds
        self._now = now
        self.began = self._since = now()
        self._left = estimate

    def seconds(self, folds: float, total: int) -> float | None:
        """Seconds that are left; None where nothing is known, as before the first epoch has ended.

        Args:
            folds: that are done by now, in parts of folds.
            total: all of them.
        """
        now = self._now()
        if folds > self._last:
            self._last, self._since = folds, now
            self._left = (now - self.began) * (total - folds) / (folds - self._first)
        return None if self._left is None else max(self._left - (now - self._since), 0.0)


def bar_line(statuses: Sequence[Status], epochs: int, spent: float, left: float | None, width: int) -> str:
    """Where training stands, in `width` characters.

    Args:
        statuses: of all folds.
        epochs: of a fold at most.
        spent: seconds since the start.
        left: seconds that are left, where that is known.
        width: of the terminal.
    """
    folds = done_of(statuses, epochs)
    done = sum(status.done for status in statuses)
    running = [status for status in statuses if status.epoch and not status.done]
    time_left = f"{duration(spent)} so far" if left is None else f"{duration(left)} left"
    parts = [f"{done}/{plural(len(statuses), 'fold')}"]
    if running:
        latest = max(running, key=lambda status: status.epoch)
        more = f" +{len(running) - 1}" if len(running) > 1 else ""
        parts.append(f"{_short(_name(latest, statuses))}{more}")
        parts.append(f"epoch {latest.epoch}/{epochs}")
        parts.append(f"loss {latest.last['loss']:.3f}")
        parts.append(_scores(latest.last))
    elif done < len(statuses):
        parts.append("next folds" if done else "first epoch")
    parts.append(time_left)
    room = width - len("  ".join(parts)) - 4
    if room >= BAR[0]:
        size = min(room, BAR[1])
        full = int(size * folds / max(len(statuses), 1))
        there, gap = "█░" if _shows_blocks() else "#-"
        parts.insert(1, there * full + gap * (size - full))
    while len("  ".join(parts)) >= width and len(parts) > 2:
        del parts[1]
    return "  ".join(parts)[: max(width - 1, 1)]


def done_of(statuses: Sequence[Status], epochs: int) -> float:
    """Folds that are done, with the epochs of the others as parts of one."""
    return sum(1.0 if status.done else min(status.epoch / epochs, 1.0) for status in statuses)


@contextmanager
def shown(before: Sequence[Status], epochs: int, quiet: bool, estimate: float | None) -> Iterator[Progress]:
    """One bar over all folds, with the latest epoch beside it, and a line for every fold that ends.

    Without a terminal a line now and then takes the place of the bar.

    Args:
        before: where the folds stand now.
        epochs: of a fold at most.
        quiet: whether to show nothing.
        estimate: seconds that training was thought to take.
    """
    ended = {(status.run, status.fold) for status in before if status.done}
    off = quiet or not sys.stderr.isatty()
    bar = tqdm(bar_format="{desc}", file=sys.stderr, disable=off, leave=False, dynamic_ncols=True)
    clock = Left(done_of(before, epochs), estimate)
    said = time.monotonic()

    def update(statuses: Sequence[Status]) -> None:
        nonlocal said
        folds = done_of(statuses, epochs)
        left, spent = clock.seconds(folds, len(statuses)), time.monotonic() - clock.began
        running = [status for status in statuses if status.epoch and not status.done]
        if not off:
            width = shutil.get_terminal_size().columns
            bar.set_description_str(bar_line(statuses, epochs, spent, left, width))
        if quiet:
            return
        for status in statuses:
            name = (status.run, status.fold)
            if status.done and status.last and name not in ended:
                ended.add(name)
                say(f"{_line(status, statuses)}, {plural(status.epoch, 'epoch')}")
                said = time.monotonic()
        if off and running and time.monotonic() - said > LINE_SECONDS:
            latest = f"{_line(running[0], statuses)}, {plural(running[0].epoch, 'epoch')} of {epochs}"
            rest = f", {duration(left)} left" if left is not None else ""
            click.echo(f"{folds:.1f} of {len(statuses)} folds{rest}; {latest}", err=True)
            said = time.monotonic()

    with bar:
        update(before)
        yield update


def _line(status: Status, statuses: Sequence[Status]) -> str:
    """Where a fold stands: its name among `statuses`, and the latest epoch. It fits 80 columns with what ends it."""
    last = status.last
    scores = f"loss {last['loss']:.3f}, validation {_scores(last)}"
    return f"{_name(status, statuses)}: {scores}, {last['segments_per_second']:.0f} segments/s"


def _scores(last: Mapping[str, float]) -> str:
    """UA, CCC or both of an epoch, as far as its target has them."""
    found = [f"UA {last['ua']:.1%}"] if "ua" in last else []
    return ", ".join([*found, *([f"CCC {last['ccc']:.3f}"] if "ccc" in last else [])])


def _name(status: Status, statuses: Sequence[Status]) -> str:
    """The fold, behind what tells its run from the others where there are several."""
    if len({one.run for one in statuses}) == 1:
        return status.fold
    ablation, seed = status.run.rsplit("-", 3)[-3:-1] if status.run.count("-") >= 3 else (status.run, "")
    return f"{ablation} {seed} {status.fold}"


def _shows_blocks() -> bool:
    """Whether stderr can show the characters of the bar."""
    try:
        "█░…".encode(sys.stderr.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"
