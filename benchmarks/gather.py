"""Rate of shuffled batches from mapped shards, in segments and GB per second, streamed and resident.

    python -m benchmarks.gather [--segments 8192] [--batch 64]

Random rows of the paper's sizes are written as shards to a temporary folder and read from a warm page cache; every row
was verified beforehand. Figures are medians over alternating rounds. Neither a corpus nor numba is needed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from benchmarks.table import compared, markdown, rounds
from ser_pipeline.arrays import Array
from ser_pipeline.cache.shard_writing import write_shard
from ser_pipeline.cache.shards import name, open_shard
from ser_pipeline.cache.store import Store
from ser_pipeline.data.stream import Data, Resident, Streamed, order
from ser_pipeline.processes import cores
from ser_pipeline.text import plural

CPU = torch.device("cpu")
SHAPES: dict[str, tuple[tuple[int, ...], type]] = {
    "mfcc": ((300, 40), np.float16),
    "spectrogram": ((200, 300), np.uint8),
    "waveform": ((48_001,), np.int16),
}
SHARD = 1024
"""Rows per shard."""


class Written(Store):
    """A store without an index, over shards that this class writes."""

    def __init__(self, folder: Path, feature: str, count: int) -> None:
        shape, dtype = SHAPES[feature]
        generator = np.random.Generator(np.random.PCG64(0))
        self.folder = folder
        folder.mkdir()
        for number, first in enumerate(range(0, count, SHARD)):
            size = (min(SHARD, count - first), *shape)
            rows: Array = generator.integers(0, 200, size).astype(dtype)
            write_shard(folder / name(number), feature, {}, ["0" * 32], [rows], extremes=False)
        self.shards = [open_shard(file) for file in sorted(folder.glob("*.h5"))]
        self.starts = np.cumsum([0] + [len(shard.rows) for shard in self.shards])
        self._maps = [shard.rows for shard in self.shards]
        self._unseen = np.ones(len(self), bool)


def written(folder: Path, count: int) -> Data:
    """Random rows of every feature, all of one class."""
    segments = np.stack([np.arange(count), np.zeros(count, np.int64), np.full(count, 48_000)], 1)
    manifest: Any = SimpleNamespace(segments=segments, target=np.zeros(count, np.int64))
    return Data(manifest, {feature: Written(folder / feature, feature, count) for feature in SHAPES})


def epoch(source: Streamed | Resident, count: int, batch: int, turns: list[int], threads: int) -> float:
    """Number of segments of an epoch in its own order.

    Args:
        source: source of batches.
        count: number of segments.
        batch: segments per batch.
        turns: past epochs; one is appended.
        threads: threads of torch.
    """
    torch.set_num_threads(threads)
    turns.append(len(turns))
    return float(sum(len(part) for part in source.batches(order(np.arange(count), 0, len(turns)), batch)))


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ser-pipeline-gather-") as folder:
        data = written(Path(folder), options.segments)
        sources: dict[str, Streamed | Resident] = {"streamed": Streamed(data, CPU), "resident": Resident(data, CPU)}
        ways: dict[str, Callable[[], float]] = {
            f"{way}, {plural(count, 'thread')}": partial(epoch, source, options.segments, options.batch, [], count)
            for way, source in sources.items()
            for count in (1, 2, 4, 8, 16)
            if count <= cores()
        }
        rates = rounds(ways, options.rounds)
    print(f"{options.segments} segments of {data.row_bytes / 1e3:.0f} kB, {cores()} cores\n")
    first = next(iter(ways))
    print(markdown(compared("gathering", rates, first, "segments/s")))
    for way, rate in rates.items():
        print(f"{way}: {rate * data.row_bytes / 1e9:.1f} GB/s, {rate / rates[first]:.2f} of streamed")


if __name__ == "__main__":
    main()
