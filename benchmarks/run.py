"""Run every benchmark, and write a Markdown table: `make bench`."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks import batches, extraction, storage
from benchmarks import corpus as corpora
from benchmarks.table import Row, markdown
from ser_pipeline.processes import cores

RESULTS = Path(__file__).parents[1] / "docs" / "peers.md"

HEAD = """# Comparison with other libraries

This page compares extraction, storage and streaming with other libraries and with the published code of the paper ("the
reference"). `make bench` measures everything in one run and writes this page. The last column says how many times
better ser-pipeline is.
"""


def main() -> None:
    """Read the options, measure, and write the page of results if everything was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=500, help="audio files of the synthetic corpus")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds of every alternative")
    parser.add_argument("--only", choices=("extraction", "storage", "streaming"), help="measure only this part")
    options = parser.parse_args()
    parts = {"extraction": extraction.measure, "storage": storage.measure, "streaming": batches.measure}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="ser-pipeline-bench-") as folder, threadpool_limits(1):
        made = corpora.make(Path(folder) / "corpus", options.files)
        for name, measure in parts.items():
            if options.only in (None, name):
                found = measure(made, Path(folder) / name, options.rounds)
                print(markdown(found))
                rows += found
    if options.only is None:
        RESULTS.write_text(f"{HEAD}\n{_about(options.files)}\n\n{markdown(rows)}", encoding="utf-8")


def _about(files: int) -> str:
    busy = os.getloadavg()[0]
    return (
        f"{files} synthetic files, {cores()} cores ({platform.machine()}, load {busy:.1f}), "
        f"Python {platform.python_version()}; medians over rounds in which all alternatives take turns."
    )


if __name__ == "__main__":
    main()
