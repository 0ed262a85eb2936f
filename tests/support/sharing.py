"""Functions for processes that share parts of work: in a module of their own, as other processes import them."""

import os
import time
from pathlib import Path

from ser_pipeline.claims import Claims
from ser_pipeline.parts import Parts
from ser_pipeline.processes import handed_here


class Clock:
    """Seconds that a test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def hold(folder: Path, mark: Path) -> None:
    """Claim the part "a" and renew it until killed."""
    claims = Claims(folder, lease=0.5)
    assert claims.take("a")
    with claims.renewing():
        mark.touch()
        time.sleep(600)


def share(folder: Path, count: int, seconds: float = 0.0) -> None:
    """Create `count` files in `folder` together with other processes; a file that already exists is an error."""

    def make(name: str) -> None:
        time.sleep(seconds)
        whole = folder / f"{name}.{os.getpid()}.tmp"
        whole.touch()
        (folder / name).hardlink_to(whole)

    claims = Claims(folder / ".claims")
    parts = Parts(claims, [f"{number:05}" for number in range(count)], str, lambda name: (folder / name).exists())
    with parts.sharing():
        for name, _ in handed_here(make, parts):
            parts.end(name)
