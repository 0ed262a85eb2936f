"""Limits for each input of the fuzzers: 5 seconds of processor time, 1 GB of additional memory."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 5
BYTES = 1 << 30


class TooLongError(BaseException):
    """An input took more than `SECONDS`; not an Exception, so that no handler in the tested code catches it."""


def limit_memory() -> int:
    """Limit this process to `BYTES` of additional memory; returns the previous limit."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))
    return before


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Limit memory within the block."""
    before = limit_memory()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, resource.getrlimit(resource.RLIMIT_AS)[1]))


@contextmanager
def bounded_time() -> Iterator[None]:
    """Limit processor time within the block; other work on the machine does not count."""
    before = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _too_long(number: int, frame: object) -> None:
    raise TooLongError(f"an input took more than {SECONDS} seconds of the processor")
