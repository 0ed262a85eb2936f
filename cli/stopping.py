"""How a command is stopped from outside: Ctrl-C, SIGTERM of a cluster or a service, a terminal that is closed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOPPED = "what is finished is kept. The same command goes on from there."
"""What is said of work that was stopped."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which end a command as Ctrl-C does."""


def status(signal_number: int) -> int:
    """The exit status of a command that a signal stopped, as shells have it.

    >>> status(signal.SIGINT)
    130
    """
    return 128 + signal_number


@contextmanager
def stoppable() -> Iterator[None]:
    """Have signals end the block as Ctrl-C does; where they come in the middle of an import, at once.

    An exception that is raised while libraries are imported may be lost in them, or end in a traceback of theirs.
    """
    signals = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {}
    with suppress(ValueError):  # not in the main thread, which alone hears signals
        for number in signals:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
                before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    if _importing(frame):
        with suppress(OSError):
            sys.stderr.write(f"\n{told(number)}\n")
            sys.stderr.flush()
        os._exit(status(number))
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


def told(number: int) -> str:
    """What is said of the signal `number`."""
    return f"{'Stopped' if number == signal.SIGINT else signal.Signals(number).name}; {STOPPED}"


def _importing(frame: FrameType | None) -> bool:
    """Whether a frame is called by an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
