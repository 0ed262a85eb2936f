"""Progress bars and log lines, both on stderr."""

from __future__ import annotations

import logging
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


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
    """Yield a function of (done, total) that updates a progress bar; only on a terminal, and not with `quiet`."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from tqdm import tqdm

    shown = tqdm(desc=title, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True, leave=False)

    def update(done: float, total: int) -> None:
        if shown.total is None:
            shown.initial = done  # work of an earlier command does not count towards the rate
        shown.total = total
        shown.n = int(done) if done == int(done) else round(done, 2)
        shown.refresh()

    with shown:
        yield update


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
