"""Progress bars and log lines, both on stderr."""

from __future__ import annotations

import logging
import shutil
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock, Timer
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tqdm import tqdm

DELAY = 0.5
"""Seconds until a progress bar is shown."""


class _Lines(logging.Handler):
    """Print log records as lines that do not break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        say(prefix + record.getMessage())


def say(text: str) -> None:
    """Print a line on stderr without breaking a progress bar; on a terminal it is wrapped between words."""
    _write(folded(text))


def folded(text: str, before: str = "") -> str:
    """Return `text`, to be printed after `before` on stderr; on a terminal it is wrapped between words."""
    if not sys.stderr.isatty():
        return text
    width = shutil.get_terminal_size().columns - 1
    return textwrap.fill(before + text, width, break_long_words=False, break_on_hyphens=False)[len(before) :]


def _write(text: str) -> None:
    """Print a line on stderr, above a progress bar if there is one."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)
    else:
        click.echo(text, err=True)


def start_log(quiet: bool) -> None:
    """Send the package's log lines to stderr: all of them, or only errors with `quiet`."""
    log = logging.getLogger("ser_pipeline")
    log.handlers = [_Lines()]
    log.propagate = False
    log.setLevel(logging.ERROR if quiet else logging.INFO)
    warnings.simplefilter("ignore")  # libraries' deprecation warnings; this package logs its own


@contextmanager
def bar(title: str, unit: str, quiet: bool) -> Iterator[Callable[[float, int], None]]:
    """Yield a function of (done, total) that updates a progress bar; only on a terminal, and not with `quiet`.

    Work that ends within `DELAY` seconds shows no bar.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    shown = _Bar(title, unit)
    timer = Timer(DELAY, shown.show)
    timer.daemon = True
    timer.start()
    try:
        yield shown.update
    finally:
        timer.cancel()
        shown.close()


class _Bar:
    """A progress bar that is drawn once it is due and there is something to count."""

    def __init__(self, title: str, unit: str) -> None:
        from tqdm import tqdm

        self._make = partial(tqdm, desc=title, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True, leave=False)
        self._lock = Lock()
        self._drawn: tqdm[Any] | None = None
        self._began, self._first = time.time(), 0.0
        self._done, self._total = 0.0, 0
        self._due = self._over = False

    def show(self) -> None:
        """Draw the bar from now on."""
        with self._lock:
            self._due = True
            self._draw()

    def update(self, done: float, total: int) -> None:
        """Set the amount of finished work, and of all work."""
        with self._lock:
            if not self._total:
                self._first = done  # work of an earlier command does not count towards the rate
            self._done, self._total = done, total
            self._draw()

    def close(self) -> None:
        """Remove the bar."""
        with self._lock:
            self._over = True
            if self._drawn is not None:
                self._drawn.close()

    def _draw(self) -> None:
        if self._over or not self._due or not self._total:
            return
        if self._drawn is None:
            self._drawn = self._make(total=self._total, initial=self._first, delay=DELAY)
            self._drawn.start_t = self._began
        self._drawn.total = self._total
        self._drawn.n = int(self._done) if self._done == int(self._done) else round(self._done, 2)
        self._drawn.refresh()


@contextmanager
def printing() -> Iterator[None]:
    """What is printed to stdout meanwhile does not run into a progress bar on the same terminal."""
    if "tqdm" not in sys.modules or not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stdout):
        yield
        sys.stdout.flush()
