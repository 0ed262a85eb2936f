"""Rate of shuffled batches from a warm page cache, in segments per second: this package and others in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.corpus import Corpus
from benchmarks.peers import BATCH, PEERS, Epoch, drain
from benchmarks.table import Row, compared, rounds
from ser_pipeline.cache import manifest
from ser_pipeline.config import Config
from ser_pipeline.data.stream import Data, Resident, Streamed, open_data, order
from ser_pipeline.features import extract
from ser_pipeline.features.stores import store_entry

CPU = torch.device("cpu")
EPOCHS = 5
OURS = "ser-pipeline, streamed"


def measure(corpus: Corpus, place: Path, count: int = 3) -> list[Row]:
    """Rows of the table on reading an epoch."""
    torch.set_num_threads(1)
    folder = extract.extract(corpus.manifest(), corpus.root, Config(), place / "features")
    data = _open(folder)
    streamed = Streamed(data, CPU)
    ways: dict[str, Callable[[], float]] = {OURS: _epochs(streamed, data)}
    missing = []
    for name, peer in PEERS.items():
        for workers in (0, 2):
            try:
                epoch = peer(data, place / "peers", workers)
            except ImportError:
                missing.append(Row("", name, "is not installed"))
                break
            ways[f"{name}, {workers} workers"] = partial(_drained, epoch)
    ways["ser-pipeline, resident"] = _epochs(Resident(data, CPU), data)
    rates = rounds(ways, count)
    rows = compared("streaming", rates, OURS, "segments/s") + missing
    best = max(rate for name, rate in rates.items() if not name.startswith("ser-pipeline"))
    rows.append(Row("", "fastest other library", f"{best:,.0f} segments/s", rates[OURS] / best))
    return rows + _first(folder, count)


def _drained(epoch: Epoch) -> float:
    return drain(epoch())


def _open(folder: Path) -> Data:
    stores = {name: [store_entry(folder, name, Config()).path] for name in extract.DEFAULT_FEATURES}
    return open_data(manifest.read(folder), stores)


def _epochs(source: Streamed | Resident, data: Data) -> Callable[[], float]:
    """Several epochs, each in its own order, since a single one would take only milliseconds."""
    turns = iter(range(1 << 30))
    rows = np.arange(len(data.manifest.segments))

    def several() -> float:
        orders = [order(rows, 0, next(turns)) for _ in range(EPOCHS)]
        return float(sum(len(batch.label) for one in orders for batch in source.batches(one, BATCH)))

    return several


def _first(folder: Path, count: int) -> list[Row]:
    """Seconds to the first batch, and the rate of the first epoch, in which every row is verified; medians."""
    opening, first, rate = (median(found) for found in zip(*(_opened(folder) for _ in range(count)), strict=True))
    return [
        Row("", "first batch", f"{first:.3f} s, and {opening:.3f} s to open the stores"),
        Row("", "first epoch, with every checksum verified", f"{rate:,.0f} segments/s"),
    ]


def _opened(folder: Path) -> tuple[float, float, float]:
    """Seconds to open the stores and from there to the first batch, and segments per second of the first epoch."""
    began = time.perf_counter()
    data = _open(folder)
    opened = time.perf_counter()
    batches = Streamed(data, CPU).batches(order(np.arange(len(data.manifest.segments)), 0, 0), BATCH)
    next(batches)
    first = time.perf_counter()
    rows = BATCH + sum(len(batch.label) for batch in batches)
    return opened - began, first - opened, rows / (time.perf_counter() - opened)
