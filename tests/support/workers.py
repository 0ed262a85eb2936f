"""Work for worker processes: in a module of its own, as they import it."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from ser_pipeline.processes import worker


def until(happened: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition is true; the limit of a minute is only there to end tests of broken code."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing happened within {seconds} seconds")
        time.sleep(0.01)


def number(mark: Path) -> int:
    """Return the worker's number once two of them are working."""
    mark.touch()
    until(lambda: len(list(mark.parent.iterdir())) > 1)
    return worker()


def die(signal_number: int) -> None:
    os.kill(os.getpid(), signal_number)


def wait(mark: Path) -> None:
    mark.write_text(str(os.getpid()))
    time.sleep(600)


def first_or_wait(mark: Path) -> None:
    if mark.name != "first":
        wait(mark)
