"""The queue of folds on one GPU and on several, compared with the published code's way.

    python -m benchmarks.queue CORPUS [--gpus 2] [--seeds 9] [--jobs-per-gpu 5]

`CORPUS` has features in the cache. The same folds of the preset `scratch` are trained on one GPU and on several; the
start of the command and of all processes counts. The published way is one process that trains one fold after the other,
without a CUDA graph, from a DataLoader that fetches one item at a time; one fold is timed after a warm-up. The trained
runs are discarded.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from ser_pipeline import config
from ser_pipeline.cache import catalogue
from ser_pipeline.data.batch import Batch
from ser_pipeline.data.neighbours import BatchSource
from ser_pipeline.model.fast import graph
from ser_pipeline.training.fold import fit
from ser_pipeline.training.plan import plan_runs
from ser_pipeline.training.queue import queue_jobs
from ser_pipeline.training.workers import QueueOptions, data_of

CACHE = Path(os.environ.get("SER_PIPELINE_CACHE", "cache"))
TO_DO = "\tto do"  # end of a fold's line in the output of `--dry-run`


@dataclass(frozen=True)
class ItemByItem:
    """Batches that a DataLoader in this process assembles from single segments."""

    source: BatchSource  # on the CPU
    device: torch.device

    def batches(self, rows: NDArray[np.int64], size: int) -> Iterator[Batch]:
        """Yield batches of `size` of the segment rows `rows`, in their order."""
        items = _Items(self.source, rows)
        for batch in DataLoader(items, size, collate_fn=_collate):  # type: ignore[arg-type]
            yield batch.map(lambda column: column.to(self.device))


@dataclass(frozen=True)
class _Items:
    source: BatchSource
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Batch:
        return next(self.source.batches(self.rows[place : place + 1], 1))


def _collate(items: list[Batch]) -> Batch:
    columns = zip(*(item.tensors() for item in items), strict=True)
    return Batch.of(tuple(items[0].inputs), [torch.cat(column) for column in columns])


def published(corpus: str, device: str) -> float:
    """Seconds of one fold in the published code's way, after a warm-up fold of a single epoch."""
    graph.WARM_UP = sys.maxsize  # nothing is captured
    sources = catalogue.Sources((catalogue.find(CACHE, corpus),))
    seconds = 0.0
    for overrides in (["train.epochs=1"], []):
        with tempfile.TemporaryDirectory() as runs:
            chosen = config.load("scratch", None, overrides)
            (run,) = plan_runs(sources, Path(runs), chosen, device=torch.device(device), about={})
            job = queue_jobs([run], sources, torch.device(device), QueueOptions())[0]
            data, source = data_of(replace(job, options=QueueOptions(data="resident")), "cpu")
            began = time.perf_counter()
            slow = ItemByItem(source, torch.device(device))
            fit(job.entry, job.fold, data, slow, run.config, torch.device(device))
            seconds = time.perf_counter() - began
    return seconds


def queue(corpus: str, gpus: int, seeds: int, jobs: int) -> tuple[int, float]:
    """The number of folds that were trained on the first `gpus` GPUs, and the seconds that this took."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus)))}
    command = [sys.executable, "-m", "ser_pipeline.cli", "train", "--corpus", corpus, "--preset", "scratch", "--quiet"]
    with tempfile.TemporaryDirectory() as runs:
        command += ["--seeds", str(seeds), "--jobs-per-gpu", str(jobs), "--runs-root", runs]
        listed = subprocess.run([*command, "--dry-run"], env=environment, capture_output=True, text=True, check=True)
        began = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return listed.stdout.count(TO_DO), time.perf_counter() - began


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--jobs-per-gpu", type=int, default=5)
    options = parser.parse_args()
    slow = published(options.corpus, "cuda:0")
    print(f"the published code's way on {torch.cuda.get_device_name()}: {slow:.1f} s per fold", flush=True)
    rates = []
    for gpus in (1, options.gpus):
        folds, seconds = queue(options.corpus, gpus, options.seeds, options.jobs_per_gpu)
        rates.append(folds / seconds)
        faster = f"{slow * rates[-1]:.1f} times the published way"
        print(f"{gpus} GPU{'s' * (gpus > 1)}: {folds} folds in {seconds:.1f} s, {faster}", flush=True)
    print(f"{options.gpus} GPUs are {rates[1] / rates[0]:.2f} times as fast as one")


if __name__ == "__main__":
    main()
