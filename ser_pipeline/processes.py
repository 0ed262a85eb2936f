"""Worker processes: how many, and that none outlives the command that started it."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from functools import lru_cache

WATCH = 0.5  # seconds between two looks at the parent


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache
def die_with_parent() -> None:
    """End a worker process soon after its parent is gone; nothing in a main process, which may outlive its shell.

    A worker whose parent was killed would otherwise go on with its job beside the one that takes it over.
    """
    if multiprocessing.current_process().name == "MainProcess":
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
