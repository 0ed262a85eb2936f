"""What work costs: processor seconds, and seconds for which it held a GPU."""

from __future__ import annotations

import os
import time


class Meter:
    """Counts from when it is made: seconds of all cores in this process and those that it waited for, and on a GPU."""

    def __init__(self, gpu: bool = False) -> None:
        """Begin to count.

        Args:
            gpu: whether the work holds a GPU, alone or beside others; its time is then that of the clock on the wall.
        """
        self._gpu = gpu
        self._processor, self._wall = _processor(), time.monotonic()

    def read(self, parts: int = 1) -> dict[str, float]:
        """`cpu_seconds` and `gpu_seconds` until now, shared out among so many parts."""
        held = time.monotonic() - self._wall if self._gpu else 0.0
        spent = {"cpu_seconds": _processor() - self._processor, "gpu_seconds": held}
        return {name: round(value / parts, 3) for name, value in spent.items()}


def _processor() -> float:
    """User and system seconds of this process and of its ended children."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system
