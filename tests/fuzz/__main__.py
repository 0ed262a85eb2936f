"""Fuzzing by hand: `python -m tests.fuzz --inputs 10000 labels caches`; all targets where none is named.

No input may end in anything but the one line, take more than 5 seconds, need more than 1 GB beyond what was there
before it, or end the process. Each target is fed in a process of its own; one that dies or hangs is a fault, after
which the next input is fed. Prints the counts; goes on where it stopped with `--first SEED`.
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
"""Places of what a process tells the one that watches it: the seed that it feeds, and its counts."""


def main() -> None:
    """Feed the targets that were named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(ALL)}")
    parser.add_argument("--inputs", type=int, default=1_000, help="for each target")
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    options = parser.parse_args()
    logging.disable()
    faults = [feed(name, options.first, options.first + options.inputs) for name in options.targets or ALL]
    sys.exit(1 if sum(faults) else 0)


def feed(name: str, first: int, last: int) -> int:
    """Feed one target the seeds from `first` to before `last`; returns how many were faults, which are told."""
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
    """Wait for a process, and kill it where an input takes too long; how it ended, "" for well."""
    seed, since = told[SEED], time.monotonic() + 60  # which it may take to begin
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
    for place in (1, 2):  # where decoders write notes of their own
        os.dup2(os.open(os.devnull, os.O_WRONLY), place)
    with tempfile.TemporaryDirectory() as folder:
        try:
            one = ALL[name](Path(folder))
        except pytest.skip.Exception as error:
            print(f"{name}: left out: {error}", file=out, flush=True)
            told[SEED] = last
            return
        one_line(one, random.Random(0))  # which loads what the others use
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
