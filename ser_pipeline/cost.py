"""Measurement of resources: CPU seconds, and seconds for which a GPU was in use."""

from __future__ import annotations

import os
import time


class Meter:
    """Measures CPU seconds of this process and its finished children, and GPU seconds, since its creation."""

    def __init__(self, gpu: bool = False) -> None:
        """Start the measurement.

        Args:
            gpu: whether the work uses a GPU, alone or shared; GPU seconds are then the elapsed time.
        """
        self._gpu = gpu
        self._processor, self._wall = _processor(), time.monotonic()

    def read(self, parts: int = 1) -> dict[str, float]:
        """Return `cpu_seconds` and `gpu_seconds` so far, divided by `parts`."""
        held = time.monotonic() - self._wall if self._gpu else 0.0
        spent = {"cpu_seconds": _processor() - self._processor, "gpu_seconds": held}
        return {name: round(value / parts, 3) for name, value in spent.items()}


def _processor() -> float:
    """Return the user and system seconds of this process and of its finished children."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system
