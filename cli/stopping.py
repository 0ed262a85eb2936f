"""Signals that stop a command: Ctrl-C, SIGTERM from a cluster or a service, SIGHUP from a closed terminal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

RESUMED = (("features",), ("train",), ("cache", "push"), ("cache", "pull"))
"""Commands that keep finished work and resume there; others start from the beginning."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which stop a command as Ctrl-C does."""


def status(signal_number: int) -> int:
    """Return the exit status of a command that a signal stopped, by the convention of shells.

    >>> status(signal.SIGINT)
    130
    """
    return 128 + signal_number


@contextmanager
def stoppable(words: Sequence[str]) -> Iterator[None]:
    """Let signals end the block as Ctrl-C does; a signal during an import ends the process at once.

    A library may swallow an exception that is raised while it is imported, or print a traceback of its own.

    Args:
        words: the command line, from the name of the command on.
    """
    signals = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {}
    with suppress(ValueError):  # only the main thread can set signal handlers
        for number in signals:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                before[number] = signal.signal(number, partial(_stop, words))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(words: Sequence[str], number: int, frame: FrameType | None) -> None:
    if _importing(frame):
        with suppress(OSError):
            sys.stderr.write(f"\n{told(number, words)}\n")
            sys.stderr.flush()
        os._exit(status(number))
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


def told(number: int, words: Sequence[str]) -> str:
    """Return the message about a command that a signal stopped.

    Args:
        number: the signal.
        words: the command line, from the name of the command on.

    >>> told(signal.SIGINT, ["cache", "pull", "s3://bucket/cache"])
    'Stopped; finished work is kept. Run the same command again to resume.'
    >>> told(signal.SIGTERM, ["profile", "runs/demo"])
    'SIGTERM; the same command starts from the beginning.'
    """
    cause = "Stopped" if number == signal.SIGINT else signal.Signals(number).name
    if any(tuple(words[: len(names)]) == names for names in RESUMED):
        return f"{cause}; finished work is kept. Run the same command again to resume."
    return f"{cause}; the same command starts from the beginning."


def _importing(frame: FrameType | None) -> bool:
    """Whether a frame was called by an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
