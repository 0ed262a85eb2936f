"""All folds of a small head trained at once, compared with the queue that trains one fold after the other.

    python -m benchmarks.stack CORPUS [--seeds 3] [--epochs 30] [--device cpu] [--set KEY=VALUE]

CORPUS has statistics (`features CORPUS ROOT --preset frozen`) in the cache. Both ways train the same folds in this
process, with the preset's settings except for a head trained by AdamW; the trained runs are discarded. Seconds are CPU
time of all threads on a CPU, and elapsed time on other devices. The audit of the corpus, which runs in parallel, and
the start of the command are excluded.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from ser_pipeline.training import queue
from ser_pipeline.training.stage import prepare

CACHE = Path(os.environ.get("SER_PIPELINE_CACHE", "cache"))

HEADS = {"linear": ["model.head=linear"], "two hidden layers of 128": ["model.head=fusion"]}
"""Description of a head -> its settings."""


def seconds(options: argparse.Namespace, pairs: list[str], *, stack: bool) -> float:
    """Seconds to train all folds."""
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    audit: Any = mock.patch.object(queue, "findings_of", lambda *_: {"findings": []})
    with tempfile.TemporaryDirectory() as runs, audit:
        prepared = prepare(
            options.corpus,
            preset="frozen",
            overrides=["train.solver=adamw", "train.lr=1e-3", f"train.epochs={options.epochs}", *pairs, *options.set],
            seeds=options.seeds,
            device=options.device,
            jobs=1,
            cache=CACHE,
            runs=runs,
            stack=stack,
        )
        began = clock()
        prepared.train()
        return clock() - began


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings over the preset")
    options = parser.parse_args()
    options.set.append(f"train.patience={options.epochs}")
    epochs = options.epochs
    options.epochs = 1  # warm-up for what is loaded and compiled once
    for stack in (True, False):
        seconds(options, HEADS["linear"], stack=stack)
    options.epochs = epochs
    unit = "CPU-seconds" if options.device == "cpu" else "seconds"
    for name, pairs in HEADS.items():
        together, alone = (seconds(options, pairs, stack=stack) for stack in (True, False))
        told = f"together {together:.1f} {unit}, one by one {alone:.1f}, ratio {alone / together:.1f}"
        print(f"{name}, {options.seeds} seeds, {options.epochs} epochs, {options.device}: {told}")


if __name__ == "__main__":
    main()
