"""What workers are given to do: importable, as they are other processes."""

import os
import time
from pathlib import Path

from ser_pipeline.processes import worker


def number(seconds: float) -> int:
    time.sleep(seconds)
    return worker()


def die(signal_number: int) -> None:
    os.kill(os.getpid(), signal_number)


def wait(mark: Path) -> None:
    mark.write_text(str(os.getpid()))
    time.sleep(60)


def first_or_wait(mark: Path) -> None:
    if mark.name != "first":
        wait(mark)
