"""Worker processes: how many, and that none outlives the command that started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache

WATCH = 0.1  # seconds between two looks at the parent


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pool(processes: int) -> ProcessPoolExecutor:
    """Worker processes for arithmetic that needs neither torch nor a device.

    On Linux they are forked, which takes milliseconds where a fresh interpreter needs most of a second for its imports.
    """
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    return ProcessPoolExecutor(processes, context, _begin, (os.getpid(),))


def _begin(parent: int) -> None:
    """How a worker of `pool` begins: Ctrl-C is its parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)


@lru_cache
def die_with_parent(parent: int = 0) -> None:
    """End a worker process soon after its parent is gone; nothing in a main process, which may outlive its shell.

    A worker whose parent was killed would otherwise go on with its job beside the one that takes it over, and a
    forked one would hold its locks. `parent` is its process id, or 0 for whoever is the parent now.
    """
    if multiprocessing.current_process().name == "MainProcess":
        return
    parent = parent or os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
