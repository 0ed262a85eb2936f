"""Claims on the parts of a job: the cost of a claim, and how busy processes are that share parts by claims.

    python -m benchmarks.claims [--parts 10000] [--processes 8] [--seconds 0.05]

Each part only sleeps. The processes share nothing but a folder. "Busy" is the share of their time that they slept, from
the start of the first part to the end of the last.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

from ser_pipeline.claims import Claims
from ser_pipeline.parts import Parts
from ser_pipeline.processes import handed_here


def cost(folder: Path, count: int) -> tuple[float, float]:
    """Seconds to take and release a claim: elapsed time and CPU time."""
    claims = Claims(folder / ".claims")
    began, used = time.perf_counter(), time.process_time()
    for number in range(count):
        claim = claims.take(f"cost/{number}")
        assert claim
        claims.let_go(claim)
    return (time.perf_counter() - began) / count, (time.process_time() - used) / count


def share(folder: Path, count: int, seconds: float) -> None:
    """Process unclaimed parts together with others; writes start, end and the number of own parts to a file."""
    made = 0

    def make(name: str) -> None:
        nonlocal made
        time.sleep(seconds)
        (folder / name).touch()
        made += 1

    names = [f"{number:06}" for number in range(count)]
    parts = Parts(Claims(folder / ".claims"), names, lambda name: f"work/{name}", lambda name: (folder / name).exists())
    began = time.monotonic()
    with parts.sharing():
        for name, _ in handed_here(make, parts):
            parts.end(name)
    (folder / f"times-{multiprocessing.current_process().pid}").write_text(f"{began} {time.monotonic()} {made}")


def busy(folder: Path, count: int, processes: int, seconds: float) -> tuple[float, int]:
    """The share of all processes' time that they slept, and how many parts were processed."""
    work = [multiprocessing.Process(target=share, args=(folder, count, seconds)) for _ in range(processes)]
    for process in work:
        process.start()
    for process in work:
        process.join()
    rows = [tuple(map(float, file.read_text().split())) for file in folder.glob("times-*")]
    made = int(sum(row[2] for row in rows))
    took = max(row[1] for row in rows) - min(row[0] for row in rows)
    return made * seconds / (took * processes), made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.05)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clock, core = cost(Path(folder), 2000)
        print(f"a claim, taken and released: {1000 * clock:.2f} ms, of which {1000 * core:.2f} ms CPU time")
        share_busy, made = busy(Path(folder), options.parts, options.processes, options.seconds)
        print(
            f"{options.parts:,} parts of {1000 * options.seconds:.0f} ms over {options.processes} processes: "
            f"{share_busy:.1%} busy, {made:,} processed"
        )


if __name__ == "__main__":
    main()
