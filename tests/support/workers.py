"""What workers are given to do: importable, as they are other processes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from ser_pipeline.processes import worker


def until(happened: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what a broken program would never do: a minute is no bar for speed, but an end to waiting."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing happened within {seconds} seconds")
        time.sleep(0.01)


def number(mark: Path) -> int:
    """The number of the worker, once two of them are at work."""
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
