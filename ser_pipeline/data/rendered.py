"""Batches whose features are made on the device, of the waveforms that alone are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ser_pipeline.arrays import Array, Rows
from ser_pipeline.data.batch import Batch
from ser_pipeline.data.neighbours import BatchSource
from ser_pipeline.data.stream import Data
from ser_pipeline.data.surroundings import AROUND, PLACE, Around, Places


@dataclass(frozen=True)
class RenderedData(Data):
    """Stores of waveforms and levels, of which some inputs are made."""

    names: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """What batches hold in the end."""
        return self.names

    def extremes(self, name: str, utterances: Rows) -> tuple[Array, Array]:
        """Minimum and maximum a bin over the utterance rows `utterances`."""
        level = f"{name}_level"
        if level not in self.stores:
            return super().extremes(name, utterances)
        store = self.stores[level]
        found = store.read(store.firsts[utterances])[:, 1:].astype(np.uint8)
        low, high = np.split(found, 2, axis=1)
        return low.min(axis=0), high.max(axis=0)


def with_surroundings(data: Data, names: tuple[str, ...], before: int, after: int) -> RenderedData:
    """`data` with what the features `names` want besides the waveforms.

    Args:
        data: stores of waveforms and levels.
        names: the inputs of a batch in the end.
        before: samples before a segment that are wanted.
        after: samples after it.
    """
    around = Around(data.stores["waveform"], data.manifest, before, after)
    return RenderedData(data.manifest, {**data.stores, AROUND: around, PLACE: Places(data.manifest)}, names)


@dataclass(frozen=True)
class Rendered:
    """A source of batches whose features are made as they come."""

    source: BatchSource
    render: Callable[[Batch], Batch]

    def batches(self, rows: Rows, size: int) -> Iterator[Batch]:
        """Batches of `size` of the stored segments `rows`, in their order."""
        return map(self.render, self.source.batches(rows, size))
