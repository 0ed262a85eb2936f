"""Turn segments into batches on the device: resident there, or streamed from the shards.

The order of an epoch depends only on (seed, epoch). Both ways, and a run that was stopped and resumed, therefore give
the same batches.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ser_pipeline.arrays import Array, Rows
from ser_pipeline.cache.joined import JoinedStore
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.cache.store import Store
from ser_pipeline.data.batch import Batch
from ser_pipeline.data.gathering import gatherer

MEMORY = 64 << 20
"""Bytes of the batches that are read ahead when streaming: five batches of 64 segments."""

WARM = 1e9
"""Bytes per second below which rows came from a disk; the next rows are then prefetched."""


@dataclass(frozen=True)
class Data:
    """Stores of features and the manifest of their rows."""

    manifest: Manifest
    stores: Mapping[str, Any]  # a `Store`, or an object that reads like one

    @property
    def inputs(self) -> tuple[str, ...]:
        """Inputs of the batches."""
        return tuple(self.stores)

    def extremes(self, name: str, utterances: Rows) -> tuple[Array, Array]:
        """Minimum and maximum of each bin of an input over the utterance rows `utterances`."""
        found: tuple[Array, Array] = self.stores[name].extremes(utterances)
        return found

    @property
    def bytes(self) -> int:
        """The size of all rows, in bytes."""
        return self.row_bytes * len(self.manifest.segments)

    @property
    def row_bytes(self) -> int:
        """Size of one row of every feature."""
        return sum(int(np.prod(s.shape)) * s.dtype.itemsize for s in self.stores.values())

    def columns(self) -> tuple[Rows, Rows, Rows]:
        """Real samples, class and utterance row of every segment; (S,) each."""
        utterance, _, samples = self.manifest.segments.T
        return samples, self.manifest.target[utterance], utterance


def open_data(manifest: Manifest, folders: Mapping[str, Sequence[Path]]) -> Data:
    """Open the rows of `manifest` in `folders`, which has for each feature the stores of all joined corpora.

    Raises:
        PipelineError: a store is damaged, belongs to another feature, or lacks the manifest's utterances.
    """
    stores = {name: [Store(folder, name) for folder in several] for name, several in folders.items()}
    return Data(manifest, {name: _of(several, manifest) for name, several in stores.items()})


def _of(stores: Sequence[Store], manifest: Manifest) -> Store | JoinedStore:
    """The rows of `manifest`: all rows of one store, some of its rows, or rows of several stores."""
    if len(stores) > 1 or len(manifest.keys) < len(stores[0].keys):
        return JoinedStore(stores, manifest.keys)
    (store,) = stores
    store.require(manifest.keys, manifest.counts)
    return store


def order(rows: Rows, seed: int, epoch: int) -> Rows:
    """`rows` in the order of an epoch, identical on every machine.

    Args:
        rows: segments (S,).
        seed: seed of the run.
        epoch: number of the epoch, from 0 on.

    >>> order(np.arange(5), 0, 1).tolist() == order(np.arange(5), 0, 1).tolist()
    True
    """
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(rows)


def open_source(data: Data, device: torch.device, way: str = "auto", sharers: int = 1) -> Resident | Streamed:
    """Open a source of batches: "resident", "stream", or "auto", which is resident if the rows fit.

    They fit if `sharers` copies take at most half of the free memory of the device, or of the machine for a CPU.

    Args:
        data: the rows on disk.
        device: device of the batches.
        way: "resident", "stream" or "auto".
        sharers: number of processes that would each hold the rows on the device.
    """
    if way == "auto":
        way = "resident" if sharers * data.bytes <= _free(device) / 2 else "stream"
    return Resident(data, device) if way == "resident" else Streamed(data, device)


def _free(device: torch.device) -> int:
    """Bytes of free memory on a CUDA device, otherwise on the machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Resident:
    """All rows on the device; a batch is a selection of them."""

    def __init__(self, data: Data, device: torch.device) -> None:
        everything = np.arange(len(data.manifest.segments))
        self.device = device
        self.features = {name: torch.from_numpy(s.read(everything)).to(device) for name, s in data.stores.items()}
        self.columns = [torch.from_numpy(np.ascontiguousarray(column)).to(device) for column in data.columns()]

    def batches(self, rows: Rows, size: int, start: int = 0) -> Iterator[Batch]:
        """Yield batches of `size` of `rows` in their order, starting with batch `start`; the last may be smaller.

        On the CPU, a batch is a buffer that is overwritten once the next batch is requested: allocating fresh memory
        would cost more than the copy.

        Args:
            rows: stored segments (S,), in the requested order.
            size: segments of a batch.
            start: number of the first batch, from 0 on.
        """
        chosen = torch.from_numpy(np.ascontiguousarray(rows[start * size :])).to(self.device)
        buffers: dict[str, Tensor | None] = dict.fromkeys(self.features)
        if self.device.type == "cpu":
            buffers = {name: x.new_empty(min(size, len(chosen)), *x.shape[1:]) for name, x in self.features.items()}
        for part in torch.split(chosen, size) if len(chosen) else ():
            features = {name: _choose(x, part, buffers[name]) for name, x in self.features.items()}
            yield _batch(features, [x[part] for x in self.columns])


class Streamed:
    """Rows read from the shards by one thread, a few batches ahead, into reused buffers."""

    def __init__(self, data: Data, device: torch.device, memory: int = MEMORY) -> None:
        """Read ahead as many batches as fit into `memory` bytes, and at least two."""
        self.data, self.device, self.memory = data, device, memory
        self._columns = data.columns()
        self._gather = {name: gatherer(store) for name, store in data.stores.items()}
        self._idle: list[list[dict[str, Tensor]]] = []  # buffer rings that no iterator uses

    def batches(self, rows: Rows, size: int, start: int = 0) -> Iterator[Batch]:
        """Yield batches of `size` of `rows` in their order, starting with batch `start`; the last may be smaller.

        On the CPU, a batch is a buffer that is overwritten once the next batch is requested.

        Args:
            rows: stored segments (S,), in the requested order.
            size: segments of a batch.
            start: number of the first batch, from 0 on.
        """
        free: queue.LifoQueue[int] = queue.LifoQueue()  # the most recent buffer is still in the processor's cache
        full: queue.SimpleQueue[tuple[int, Rows] | BaseException | None] = queue.SimpleQueue()
        buffers = self._ring(size)
        for number in reversed(range(len(buffers))):
            free.put(number)
        stop = threading.Event()
        parts = [rows[first : first + size] for first in range(start * size, len(rows), size)]
        reader = threading.Thread(target=self._read, args=(parts, buffers, free, full, stop), daemon=True)
        reader.start()
        try:
            while (item := full.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                number, part = item
                batch, copied = self._send(buffers[number], part)
                yield batch
                if copied is not None:
                    copied.synchronize()
                free.put(number)
        finally:
            stop.set()
            free.put(-1)
            reader.join()
            self._idle.append(buffers)

    def _ring(self, size: int) -> list[dict[str, Tensor]]:
        """A ring of buffers for batches of `size`: an unused one of an earlier epoch, or a new one."""
        wanted = {name: (size, *store.shape) for name, store in self.data.stores.items()}
        for number, ring in enumerate(self._idle):
            if {name: tuple(buffer.shape) for name, buffer in ring[0].items()} == wanted:
                return self._idle.pop(number)
        pin = self.device.type == "cuda"
        return [
            {
                name: torch.empty(shape, dtype=_torch_type(self.data.stores[name].dtype), pin_memory=pin)
                for name, shape in wanted.items()
            }
            for _ in range(max(2, self.memory // (size * self.data.row_bytes)))
        ]

    def _read(self, parts: list[Rows], buffers: list[dict[str, Tensor]], free: Any, full: Any, stop: Any) -> None:
        try:
            cold = False
            for turn, part in enumerate(parts):
                number = free.get()
                if stop.is_set():
                    return
                if cold:
                    self._prefetch(parts[turn + 1 : turn + 1 + len(buffers)])
                began = time.perf_counter()
                for name, gather in self._gather.items():
                    gather(part, buffers[number][name][: len(part)])
                cold = len(part) * self.data.row_bytes < WARM * (time.perf_counter() - began)
                full.put((number, part))
            full.put(None)
        except BaseException as error:  # passed to the waiting thread, whatever it is
            full.put(error)

    def _prefetch(self, parts: list[Rows]) -> None:
        """Have the disk read the rows of the batches `parts` in advance."""
        for store in self.data.stores.values():
            for part in parts:
                store.prefetch(part)

    def _send(self, buffer: dict[str, Tensor], part: Rows) -> tuple[Batch, torch.cuda.Event | None]:
        """The batch on the device, and the event after which its buffer may be overwritten."""
        columns = [torch.from_numpy(column[part]).to(self.device, non_blocking=True) for column in self._columns]
        rows = {name: x[: len(part)].to(self.device, non_blocking=True) for name, x in buffer.items()}
        copied = None
        if self.device.type == "cuda":
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        return _batch(rows, columns), copied


def _batch(features: Mapping[str, Tensor], columns: list[Tensor]) -> Batch:
    return Batch(features, *columns)


def _choose(rows: Tensor, chosen: Tensor, buffer: Tensor | None) -> Tensor:
    """Select the rows `chosen`, into `buffer` if there is one."""
    if buffer is None:
        return rows[chosen]
    return torch.index_select(rows, 0, chosen, out=buffer[: len(chosen)])


def _torch_type(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
