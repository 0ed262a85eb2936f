"""Join neighbouring segments of an utterance into longer segments, from the same stores.

Statistics of an utterance need all of it, while the paper's model reads three seconds. With this module, both can be
trained from one extraction. Shapes: B batch, J segments joined, the rest as in `Batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_pipeline.arrays import Rows
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.data.batch import Batch
from ser_pipeline.inputs import CEPSTRA, FRAMES, IMAGE, INPUTS, SAMPLES


class BatchSource(Protocol):
    """Source of batches of stored segments."""

    def batches(self, rows: Rows, size: int) -> Iterator[Batch]:
        """Yield batches of `size` of the segment rows `rows`, in their order."""


def longer(manifest: Manifest, count: int) -> Manifest:
    """`manifest` with segments that are `count` times as long; the last one of an utterance is shorter."""
    return replace(manifest, audio=manifest.audio.joined(count))


@dataclass(frozen=True)
class Neighbours:
    """Batches of longer segments, each read as its neighbouring short segments."""

    source: BatchSource  # source of the short segments
    short: Manifest
    long: Manifest

    def batches(self, rows: Rows, size: int) -> Iterator[Batch]:
        """Yield batches of `size` of the long segment rows `rows`, in their order."""
        places, there = self.places(rows)
        count = places.shape[1]
        parts = self.source.batches(places.reshape(-1), size * count)
        for first, part in zip(range(0, len(rows), size), parts, strict=True):
            yield join_segments(part, torch.from_numpy(there[first : first + size]).to(part.samples.device))

    def places(self, rows: Rows) -> tuple[Rows, NDArray[np.bool_]]:
        """Short rows (R, J) of every long row, and a mask of existing ones; the first row stands in for the others."""
        count = self.long.audio.segment // self.short.audio.segment
        utterance = self.long.segments[rows, 0]
        first = self.short.firsts[utterance] + (rows - self.long.firsts[utterance]) * count
        places = first[:, None] + np.arange(count)
        there = places < (self.short.firsts + self.short.counts)[utterance, None]
        return np.where(there, places, first[:, None]), there


def join_segments(batch: Batch, there: Tensor) -> Batch:
    """Join short segments, J successive ones for each long one; silence where `there` (B, J) is false."""
    parts = batch.map(lambda rows: torch.unflatten(rows, 0, there.shape))
    joined = {}
    for name, rows in parts.inputs.items():
        joined[name] = JOIN[INPUTS[name].form](_silenced(rows, there))
    samples = (parts.samples * there).sum(1).to(batch.samples.dtype)
    return Batch(joined, samples, parts.label[:, 0], parts.utterance[:, 0])


def _silenced(rows: Tensor, there: Tensor) -> Tensor:
    """Set rows (B, J, …) to 0 where `there` (B, J) is false; in place on a CPU, where a batch is a reused buffer."""
    if rows.device.type != "cpu":
        return rows.masked_fill(~there.view(*there.shape, *[1] * (rows.dim() - 2)), 0)
    rows.flatten(0, 1).index_fill_(0, (~there).flatten().nonzero()[:, 0], 0)
    return rows


JOIN: Mapping[str, Callable[[Tensor], Tensor]] = {
    SAMPLES: lambda rows: torch.cat([rows[:, 0, :1], rows[:, :, 1:].flatten(1)], 1),
    IMAGE: lambda rows: rows.transpose(1, 2).flatten(2),
    CEPSTRA: lambda rows: rows.flatten(1, 2),
    FRAMES: lambda rows: rows.transpose(1, 2).flatten(2, 3),
}
"""Form of an input -> function that joins rows (B, J, …) of J neighbouring segments into rows of one long segment."""
