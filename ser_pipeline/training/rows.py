"""What training row by row knows of rows: their numbers, what is drawn for them in an epoch, and their statistics.

Shapes: B batch, R rows, N samples, S statistics.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_pipeline.arrays import Rows
from ser_pipeline.config import Config
from ser_pipeline.data.augment import stretches
from ser_pipeline.data.batch import Batch
from ser_pipeline.data.neighbours import BatchSource
from ser_pipeline.inputs import CEPSTRA, IMAGE, INPUTS, SAMPLES

MEMORY = 256 << 20
"""Bytes of statistics that a process keeps of what its folds read; the oldest epochs go first."""

BLOCK = 16
"""torch draws normal numbers in blocks of so many; a row's do not depend on the others' if it takes whole ones."""


@dataclass(frozen=True)
class Numbered(Batch):
    """A batch that knows the rows it holds."""

    rows: Rows  # int64 (B,), of the segments of the manifest

    def first(self, count: int) -> Numbered:
        """The first `count` segments."""
        part = self.part(slice(count))
        return Numbered(part.inputs, part.samples, part.label, part.utterance, self.rows[:count])


class NumberedSource:
    """Batches of another source, each with its rows."""

    def __init__(self, source: BatchSource) -> None:
        self.source = source

    def batches(self, rows: Rows, size: int) -> Iterator[Batch]:
        """Batches of `size` of the segment rows `rows`, in their order."""
        for number, batch in enumerate(self.source.batches(rows, size)):
            part = rows[number * size : (number + 1) * size]
            yield Numbered(batch.inputs, batch.samples, batch.label, batch.utterance, part)


@dataclass
class StatisticsMemory:
    """Statistics of rows that were computed before: key -> float32 (rows of the manifest, S), NaN where not yet."""

    kept: OrderedDict[Hashable, NDArray[np.float32]] = field(default_factory=OrderedDict)

    def table(self, key: Hashable, shape: tuple[int, int]) -> NDArray[np.float32]:
        """The table of a key, new where it is not kept.

        Args:
            key: what the statistics depend on beside their row.
            shape: rows of the manifest and S.
        """
        if key not in self.kept:
            self.kept[key] = np.full(shape, np.nan, np.float32)
            while len(self.kept) > 1 and sum(table.nbytes for table in self.kept.values()) > MEMORY:
                self.kept.popitem(last=False)
        return self.kept[key]


@dataclass(frozen=True)
class RowDraws:
    """What was drawn for every row of a manifest in an epoch, by the run's seed and the epoch alone."""

    numbers: Mapping[str, NDArray[np.float32]]  # name -> from 0 to 1, (rows, …)
    chosen: NDArray[np.bool_]  # (rows,): those with noise
    seeds: NDArray[np.int64]  # (rows,): of the noise itself


@lru_cache(maxsize=4)
def draws(config: Config, epoch: int, count: int) -> RowDraws:
    """What is drawn for `count` rows in an epoch, the same in every fold and on every machine.

    Args:
        config: the settings, of which the seed and those of the changes count.
        epoch: from 0 on.
        count: rows of the manifest.
    """
    settings, generator = config.augment, np.random.Generator(np.random.PCG64([config.seed, epoch, count]))
    images = [f"bins {name}" for name in config.model.inputs if INPUTS[name].form == IMAGE]
    sizes: dict[str, tuple[int, ...]] = {"speed": (), "gain": (), "chosen": (), "ratio": ()}
    sizes |= {"frames": (2, settings.frame_masks), **dict.fromkeys(images, (2, settings.bin_masks))}
    numbers = {name: generator.random((count, *size), np.float32) for name, size in sizes.items()}
    return RowDraws(numbers, numbers["chosen"] < settings.noise, generator.integers(2**62, size=count))


def pair(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """(R, 2, count) as two of (count, R, 1)."""
    width, first = drawn.permute(1, 2, 0)[..., None]
    return width, first


def masked(batch: Batch, own: Mapping[str, Tensor], config: Config) -> Batch:
    """A batch of one input with stretches of its frames and bands silenced.

    Args:
        batch: of one input.
        own: what was drawn for its rows, (R, 2, count).
        config: the settings.
    """
    settings, frames = config.augment, config.model_audio.frames
    ((name, rows),) = batch.inputs.items()
    form = INPUTS[name].form
    if form == SAMPLES or not settings.frame_masks + settings.bin_masks:
        return batch
    read = rows.shape[1 if form == CEPSTRA else 2]
    silent = stretches(pair(own["frames"]), frames, settings.frame_mask, read)
    if form == CEPSTRA:
        return batch.changed({name: rows * ~silent[..., None]})
    bands = stretches(pair(own[f"bins {name}"]), rows.shape[1], settings.bin_mask)
    return batch.changed({name: rows * ~silent[:, None] * ~bands[:, :, None]})  # faster than to fill


def white(like: Tensor, seeds: list[int], counts: list[int]) -> Tensor:
    """White noise (R, N) under the real samples of every row, from its own seed; 0 after them.

    Args:
        like: float32 (R, N).
        seeds: of every row.
        counts: real samples of every row.
    """
    found, generator = torch.zeros_like(like), torch.Generator()
    for row, seed, count in zip(found, seeds, counts, strict=True):
        generator.manual_seed(seed)
        drawn = torch.randn(-(-max(count, 1) // BLOCK) * BLOCK, generator=generator)
        row[:count] = drawn[:count]
    return found
