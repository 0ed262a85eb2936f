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
from ser_pipeline.training.remaining import Remaining

from .terminal import say

if TYPE_CHECKING:
    from ser_pipeline.training.estimate import Estimate
    from ser_pipeline.training.statuses import Status

LINE_SECONDS = 30.0  # minimum seconds between two lines of progress without a terminal

BAR = (4, 40)
"""Minimum and maximum width of the bar in characters."""

NAME = 24
"""Maximum length of a fold's name in the bar, in characters."""

SPARED = ("loss", "scores", "bar", "epoch", "name")
"""Parts of the line that a narrow terminal does without, in this order."""

Progress = Callable[[Sequence["Status"]], None]


def bar_line(statuses: Sequence[Status], epochs: int, spent: float, left: float | None, width: int) -> str:
    """Return the state of training in fewer than `width` characters.

    Args:
        statuses: the states of all folds.
        epochs: maximum number of epochs of a fold.
        spent: seconds since the start.
        left: remaining seconds; None if unknown.
        width: of the terminal in characters.
    """
    done = sum(status.done for status in statuses)
    running = [status for status in statuses if status.epoch and not status.done]
    time_left = f"{duration(spent)} so far" if left is None else f"{duration(left)} left"
    parts = {"count": f"{done}/{plural(len(statuses), 'fold')}", "bar": " " * BAR[0]}
    if running:
        latest = max(running, key=lambda status: status.epoch)
        more = f" +{len(running) - 1}" if len(running) > 1 else ""
        parts |= {"name": f"{_short(_name(latest, statuses))}{more}", "epoch": f"epoch {latest.epoch}/{epochs}"}
        parts |= {"loss": f"loss {latest.last['loss']:.3f}", "scores": _scores(latest.last)}
    elif done < len(statuses):
        parts["name"] = "next folds" if done else "first epoch"
    parts["left"] = time_left
    for name in SPARED:
        if len("  ".join(parts.values())) >= width:
            parts.pop(name, None)
    if "bar" in parts:
        room = width - 1 - len("  ".join(parts.values())) + BAR[0]
        parts["bar"] = _drawn(done_of(statuses, epochs) / max(len(statuses), 1), min(room, BAR[1]))
    return "  ".join(parts.values())[: max(width - 1, 1)]


def _drawn(share: float, size: int) -> str:
    """Return a bar of `size` characters of which `share` is full."""
    full = int(size * share)
    there, gap = "█░" if _shows_blocks() else "#-"
    return there * full + gap * (size - full)


def done_of(statuses: Sequence[Status], epochs: int) -> float:
    """Return the number of finished folds, where an unfinished one counts as the fraction of its epochs done."""
    return sum(1.0 if status.done else min(status.epoch / epochs, 1.0) for status in statuses)


@contextmanager
def shown(before: Sequence[Status], epochs: int, quiet: bool, estimate: Estimate | None) -> Iterator[Progress]:
    """Show one bar over all folds with the latest epoch, and a line for every fold that ends.

    Without a terminal, a line every 30 seconds or more replaces the bar.

    Args:
        before: the current states of the folds.
        epochs: maximum number of epochs of a fold.
        quiet: whether to show nothing.
        estimate: estimated time of training; None if unknown.
    """
    ended = {(status.run, status.fold) for status in before if status.done}
    off = quiet or not sys.stderr.isatty()
    bar = tqdm(bar_format="{desc}", file=sys.stderr, disable=off, leave=False, dynamic_ncols=True)
    clock = Remaining(before, epochs, estimate)
    said = time.monotonic()

    def update(statuses: Sequence[Status]) -> None:
        nonlocal said
        left, spent = clock.seconds(statuses), time.monotonic() - clock.began
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
            say(f"{done_of(statuses, epochs):.1f} of {len(statuses)} folds{rest}; {latest}")
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
    """Return the fold's name, after what distinguishes its run from others: protocol, ablation, seed."""
    titles = {one.title for one in statuses}
    own = [part for place, part in enumerate(status.title) if len({title[place] for title in titles}) > 1]
    return " ".join([*own, status.fold])


def _shows_blocks() -> bool:
    """Whether stderr can show the characters of the bar."""
    try:
        "█░…".encode(sys.stderr.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"
