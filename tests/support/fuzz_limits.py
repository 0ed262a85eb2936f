"""What no input of the fuzzers may take: 5 seconds of the processor, 1 GB beyond what was there before."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 5
BYTES = 1 << 30


class TooLongError(BaseException):
    """An input took more than `SECONDS`; nothing that guards against faults of its own takes it for one."""


def limit_memory() -> int:
    """Let this process map `BYTES` more than it does now, and no more; returns the limit of before."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))
    return before


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Memory is limited meanwhile."""
    before = limit_memory()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, resource.getrlimit(resource.RLIMIT_AS)[1]))


@contextmanager
def bounded_time() -> Iterator[None]:
    """Time of the processor is limited meanwhile, which no other work of the machine counts for."""
    before = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _too_long(number: int, frame: object) -> None:
    raise TooLongError(f"an input took more than {SECONDS} seconds of the processor")
