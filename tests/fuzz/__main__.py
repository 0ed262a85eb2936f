"""Manual fuzzing: `python -m tests.fuzz --inputs 10000 labels caches`; the default is all targets.

Every input must be accepted or refused with a one-line error, within 5 seconds and 1 GB of additional memory, and must
not end the process. Each target runs in its own process; if it dies or hangs, this is a fault, and the next input
follows. Prints the counts. `--first SEED` resumes at that seed.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import MutableSequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.fuzz_all import ALL
from support.fuzz_limits import SECONDS, limit_memory
from support.fuzz_targets import one_line

FORK = multiprocessing.get_context("fork")
SEED, TAKEN, REFUSED, FAULTS = range(4)
"""Indices of what a process reports to its watcher: the current seed and the counts."""


def main() -> None:
    """Feed the named targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one or more of {', '.join(ALL)}")
    parser.add_argument("--inputs", type=int, default=1_000, help="number of inputs for each target")
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    options = parser.parse_args()
    logging.disable()
    faults = [feed(name, options.first, options.first + options.inputs) for name in options.targets or ALL]
    sys.exit(1 if sum(faults) else 0)


def feed(name: str, first: int, last: int) -> int:
    """Feed one target the seeds from `first` to `last` - 1; prints the faults and returns their number."""
    told = FORK.Array("q", [first, 0, 0, 0], lock=False)
    began = time.monotonic()
    while told[SEED] < last:
        process = FORK.Process(target=_work, args=(name, told, last))
        process.start()
        end = _watched(process, told)
        if end:
            print(f"{name}, seed {told[SEED]}: {end}", flush=True)
            told[FAULTS] += 1
            told[SEED] += 1
    counts = f"{told[TAKEN]:,} taken, {told[REFUSED]:,} refused, {told[FAULTS]:,} faults"
    print(
        f"{name}: {last - first:,} inputs from seed {first} on: {counts}; {time.monotonic() - began:.0f} s", flush=True
    )
    return told[FAULTS]


def _watched(process: multiprocessing.process.BaseProcess, told: MutableSequence[int]) -> str:
    """Wait for a process, and kill it if an input takes too long; returns how it failed, "" if it did not."""
    seed, since = told[SEED], time.monotonic() + 60  # allows a minute for the start
    while process.exitcode is None:
        process.join(0.25)
        if told[SEED] != seed:
            seed, since = told[SEED], time.monotonic()
        elif time.monotonic() > since + SECONDS:
            process.kill()
            process.join()
            return f"more than {SECONDS} seconds"
    return "" if process.exitcode == 0 else f"the process ended with {process.exitcode}"


def _work(name: str, told: MutableSequence[int], last: int) -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    for place in (1, 2):  # decoders write their own notes there
        os.dup2(os.open(os.devnull, os.O_WRONLY), place)
    with tempfile.TemporaryDirectory() as folder:
        try:
            one = ALL[name](Path(folder))
        except pytest.skip.Exception as error:
            print(f"{name}: left out: {error}", file=out, flush=True)
            told[SEED] = last
            return
        one_line(one, random.Random(0))  # loads what the others use
        limit_memory()
        while told[SEED] < last:
            try:
                told[REFUSED if one_line(one, random.Random(told[SEED])) else TAKEN] += 1
            except Exception as error:
                told[FAULTS] += 1
                said = f"{type(error).__name__}: {str(error)[:200]}"
                print(f"{name}, seed {told[SEED]}: {said}", file=out, flush=True)
            told[SEED] += 1


if __name__ == "__main__":
    main()
