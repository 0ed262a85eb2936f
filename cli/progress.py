"""Progress of training: a line that fits the terminal, with the fold, its latest epoch and the remaining time."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tqdm import tqdm

from ser_pipeline.text import duration, percent, plural

from .terminal import say

if TYPE_CHECKING:
    from ser_pipeline.training.statuses import Status

LINE_SECONDS = 30.0  # minimum seconds between two lines of progress without a terminal

BAR = (4, 40)
"""Minimum and maximum width of the bar in characters."""

NAME = 16
"""Maximum length of a fold's name in the bar, in characters."""

Progress = Callable[[Sequence["Status"]], None]


class Left:
    """The remaining time, estimated from the speed of the folds since the start."""

    def __init__(self, folds: float, estimate: float | None, now: Callable[[], float] = time.monotonic) -> None:
        """Start the clock.

        Args:
            folds: finished folds, where an unfinished one counts as a fraction.
            estimate: estimated seconds for the remaining folds; None if unknown.
            now: the clock, in seconds.
        """
        self._first = self._last = folds
        self._now = now
        self.began = self._since = now()
        self._left = estimate

    def seconds(self, folds: float, total: int) -> float | None:
        """Return the remaining seconds; None if unknown, as if training takes longer than estimated.

        Args:
            folds: finished folds, where an unfinished one counts as a fraction.
            total: number of all folds.
        """
        now = self._now()
        if folds > self._last:
            self._last, self._since = folds, now
            self._left = (now - self.began) * (total - folds) / (folds - self._first)
        left = None if self._left is None else self._left - (now - self._since)
        return left if left is None or left > 0 or folds >= total else None


def bar_line(statuses: Sequence[Status], epochs: int, spent: float, left: float | None, width: int) -> str:
    """Return the state of training in fewer than `width` characters.

    Args:
        statuses: the states of all folds.
        epochs: maximum number of epochs of a fold.
        spent: seconds since the start.
        left: remaining seconds; None if unknown.
        width: of the terminal in characters.
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
    """Return the number of finished folds, where an unfinished one counts as the fraction of its epochs done."""
    return sum(1.0 if status.done else min(status.epoch / epochs, 1.0) for status in statuses)


@contextmanager
def shown(before: Sequence[Status], epochs: int, quiet: bool, estimate: float | None) -> Iterator[Progress]:
    """Show one bar over all folds with the latest epoch, and a line for every fold that ends.

    Without a terminal, a line every 30 seconds or more replaces the bar.

    Args:
        before: the current states of the folds.
        epochs: maximum number of epochs of a fold.
        quiet: whether to show nothing.
        estimate: estimated seconds of training; None if unknown.
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
            say(f"{folds:.1f} of {len(statuses)} folds{rest}; {latest}")
            said = time.monotonic()

    with bar:
        update(before)
        yield update


def _line(status: Status, statuses: Sequence[Status]) -> str:
    """Return the state of a fold: its name among `statuses`, and the latest epoch; short enough for 80 columns."""
    last = status.last
    scores = f"loss {last['loss']:.3f}, validation {_scores(last)}"
    return f"{_name(status, statuses)}: {scores}, {last['segments_per_second']:.0f} segments/s"


def _scores(last: Mapping[str, float]) -> str:
    """Return the UA, CCC or both of an epoch, depending on its target."""
    found = [f"UA {percent(last['ua'], 1)}"] if "ua" in last else []
    return ", ".join([*found, *([f"CCC {last['ccc']:.3f}"] if "ccc" in last else [])])


def _name(status: Status, statuses: Sequence[Status]) -> str:
    """Return the fold's name, after its ablation and seed if there are several runs."""
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
