"""Batches whose features are computed on the device from the waveforms, which are all that is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from ser_pipeline.arrays import Array, Rows
from ser_pipeline.data.batch import Batch
from ser_pipeline.data.neighbours import BatchSource
from ser_pipeline.data.stream import Data
from ser_pipeline.data.surroundings import AROUND, PLACE, Around, Places


@dataclass(frozen=True)
class RenderedData(Data):
    """Stores of waveforms and levels, from which some inputs are computed."""

    names: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Inputs of the final batches."""
        return self.names

    def extremes(self, name: str, utterances: Rows) -> tuple[Array, Array]:
        """Minimum and maximum of each bin over the utterance rows `utterances`."""
        level = f"{name}_level"
        if level not in self.stores:
            return super().extremes(name, utterances)
        store = self.stores[level]
        found = store.read(store.firsts[utterances])[:, 1:].astype(np.uint8)
        low, high = np.split(found, 2, axis=1)
        return low.min(axis=0), high.max(axis=0)


def with_surroundings(data: Data, names: tuple[str, ...], before: int, after: int) -> RenderedData:
    """Add to `data` what the features `names` need besides the waveforms.

    Args:
        data: stores of waveforms and levels.
        names: the inputs of the final batches.
        before: number of samples needed before a segment.
        after: number of samples needed after it.
    """
    around = Around(data.stores["waveform"], data.manifest, before, after)
    return RenderedData(data.manifest, {**data.stores, AROUND: around, PLACE: Places(data.manifest)}, names)


@dataclass(frozen=True)
class Rendered:
    """A source of batches whose features are computed on the fly."""

    source: BatchSource
    render: Callable[[Batch], Batch]

    def batches(self, rows: Rows, size: int) -> Iterator[Batch]:
        """Yield batches of `size` of the stored segments `rows`, in their order."""
        return ahead(self.render, self.source.batches(rows, size))


def ahead(render: Callable[[Batch], Batch], batches: Iterable[Batch]) -> Iterator[Batch]:
    """Apply `render` to every batch; on a CUDA device, the next batch is rendered while the current one is used.

    Args:
        render: computes a batch from another one.
        batches: batches on one device.
    """
    waiting: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        if not batch.samples.is_cuda:
            yield render(batch)
            continue
        following = _begun(render, batch)
        if waiting:
            yield _ended(*waiting)
        waiting = following
    if waiting:
        yield _ended(*waiting)


def _begun(render: Callable[[Batch], Batch], batch: Batch) -> tuple[Batch, torch.cuda.Event]:
    """Render a batch on a stream of its own, which starts after the work already queued on the device."""
    stream = _stream(batch.samples.device)
    stream.wait_stream(torch.cuda.current_stream(batch.samples.device))
    for part in batch.tensors():
        part.record_stream(stream)
    with torch.cuda.stream(stream):
        return render(batch), stream.record_event()


def _ended(made: Batch, event: torch.cuda.Event) -> Batch:
    """A rendered batch, for which later work on the device waits."""
    current = torch.cuda.current_stream(made.samples.device)
    current.wait_event(event)
    for part in made.tensors():
        part.record_stream(current)
    return made


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """The CUDA stream on which features are computed; it stays the same for the lifetime of the process."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
