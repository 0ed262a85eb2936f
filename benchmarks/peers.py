"""The same segments in the formats of other data loaders, and an epoch of shuffled batches from each."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ser_pipeline.cache.store import Store
from ser_pipeline.data.stream import Data

BATCH = 64

Epoch = Callable[[], Iterator[Any]]


class Rows(Dataset[Any]):
    """The usual first version: a data set over h5py rows, with each file opened once per process."""

    def __init__(self, data: Data) -> None:
        stores = {name: store for name, store in data.stores.items() if isinstance(store, Store)}
        self.files = {name: [str(shard.file) for shard in store.shards] for name, store in stores.items()}
        self.starts = next(iter(stores.values())).starts
        self.labels = data.columns()[1]
        self.opened: dict[str, h5py.Dataset] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        found: dict[str, Any] = {"label": int(self.labels[row])}
        for name, files in self.files.items():
            file = files[number]
            if file not in self.opened:
                self.opened[file] = h5py.File(file, "r")["rows"]
            found[name] = self.opened[file][row - self.starts[number]]
        return found


def h5py_rows(data: Data, place: Path, workers: int) -> Epoch:
    """A PyTorch DataLoader over h5py."""
    rows = Rows(data)
    return lambda: iter(DataLoader(rows, BATCH, shuffle=True, num_workers=workers))


def webdataset(data: Data, place: Path, workers: int) -> Epoch:
    """WebDataset: tar files of raw bytes, shuffled in a window."""
    wds = importlib.import_module("webdataset")
    folder = place / "webdataset"
    if not folder.exists():
        folder.mkdir(parents=True)
        with wds.ShardWriter(str(folder / "%03d.tar"), maxcount=256, verbose=0) as writer:
            for row, sample in enumerate(_samples(data)):
                parts = {f"{name}.bin": value.tobytes() for name, value in sample.items() if name != "label"}
                writer.write({"__key__": f"{row:06d}", "label.json": json.dumps(sample["label"]).encode(), **parts})
    shapes = {name: (store.shape, store.dtype) for name, store in data.stores.items()}

    def decoded(sample: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {
            name: np.frombuffer(bytearray(sample[f"{name}.bin"]), dtype).reshape(shape)
            for name, (shape, dtype) in shapes.items()
        }
        return {**found, "label": json.loads(sample["label.json"])}

    urls = [str(file) for file in sorted(folder.glob("*.tar"))]

    def epoch() -> Iterator[Any]:
        stream = wds.WebDataset(urls, shardshuffle=len(urls), seed=0, empty_check=False).shuffle(1000).map(decoded)
        return iter(DataLoader(stream, BATCH, num_workers=workers))

    return epoch


def mosaicml(data: Data, place: Path, workers: int) -> Epoch:
    """MosaicML streaming: MDS shards, with its default shuffling."""
    streaming = importlib.import_module("streaming")
    folder = place / "mosaicml"
    if not folder.exists():
        kinds = {
            name: f"ndarray:{store.dtype}:{','.join(map(str, store.shape))}" for name, store in data.stores.items()
        }
        with streaming.MDSWriter(out=str(folder), columns={**kinds, "label": "int"}) as writer:
            for sample in _samples(data):
                writer.write(sample)
    streaming.base.util.clean_stale_shared_memory()
    stream = streaming.StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
    return lambda: iter(DataLoader(stream, BATCH, num_workers=workers))


def litdata(data: Data, place: Path, workers: int) -> Epoch:
    """Use litdata's chunks and loader."""
    lit = importlib.import_module("litdata")
    writers = importlib.import_module("litdata.streaming.writer")
    folder = place / "litdata"
    if not folder.exists():
        folder.mkdir(parents=True)
        writer = writers.BinaryWriter(str(folder), chunk_bytes="64MB")
        for row, sample in enumerate(_samples(data)):
            writer.add_item(row, {**sample, "mfcc": sample["mfcc"].view(np.int16)})
        writer.done()
        writer.merge()
    stream = lit.StreamingDataset(str(folder), shuffle=True)
    return lambda: iter(lit.StreamingDataLoader(stream, batch_size=BATCH, num_workers=workers))


def _samples(data: Data) -> Iterator[dict[str, Any]]:
    labels = data.columns()[1]
    for row in range(len(labels)):
        sample = {name: store.read(np.array([row]))[0] for name, store in data.stores.items()}
        yield {**sample, "label": int(labels[row])}


def drain(batches: Iterator[Any]) -> int:
    """Number of rows of an epoch; every batch is accessed."""
    rows = 0
    for batch in batches:
        rows += len(batch["label"])
        assert isinstance(batch["waveform"], torch.Tensor)
    return rows


PEERS: dict[str, Callable[[Data, Path, int], Epoch]] = {
    "DataLoader over h5py": h5py_rows,
    "WebDataset": webdataset,
    "MosaicML streaming": mosaicml,
    "litdata": litdata,
}
