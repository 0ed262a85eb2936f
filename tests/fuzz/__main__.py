"""Fuzzing by hand: `python -m tests.fuzz --seconds 60 labels caches`; all targets where none is named.

No input may end in anything but the one line, take more than 5 seconds, or need more than 1 GB beyond what was there
before it. Prints the counts; goes on where it stopped with `--first SEED`.
"""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.fuzz_all import ALL
from support.fuzz_targets import one_line

SECONDS = 5
BYTES = 1 << 30


class TooSlowError(BaseException):
    """An input took too long; no `except Exception` passes it over."""


def main() -> None:
    """Feed the targets that were named, each for its share of the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(ALL)}")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    options = parser.parse_args()
    logging.disable()
    signal.signal(signal.SIGALRM, _too_slow)
    faults = 0
    for name in options.targets or ALL:
        with tempfile.TemporaryDirectory() as folder:
            faults += feed(name, Path(folder), options.seconds, options.first)
    sys.exit(1 if faults else 0)


def feed(name: str, folder: Path, seconds: float, first: int) -> int:
    """Feed one target; returns how many inputs were faults, of which each is told with its seed."""
    one = ALL[name](folder)
    one_line(one, first)  # which loads what the others use
    limit_memory()
    counts: Counter[str] = Counter()
    over, seed = time.monotonic() + seconds, first
    while time.monotonic() < over:
        signal.alarm(SECONDS)
        try:
            counts["refused" if one_line(one, seed) else "taken"] += 1
        except (Exception, TooSlowError) as error:
            counts["faults"] += 1
            print(f"{name}, seed {seed}: {type(error).__name__}: {str(error)[:200]}", flush=True)
        finally:
            signal.alarm(0)
        seed += 1
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("taken", "refused", "faults"))
    print(f"{name}: {seed - first} inputs from seed {first} on: {told}", flush=True)
    return counts["faults"]


def limit_memory() -> None:
    """Let this process map `BYTES` more than it does now, and no more."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))


def _too_slow(*_: object) -> None:
    raise TooSlowError(f"more than {SECONDS} seconds")


if __name__ == "__main__":
    main()
