"""Rows in row-wise training: their numbers, their random draws in an epoch, and their statistics.

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
"""Bytes of statistics that a process caches; those of the oldest epochs are dropped first."""

BLOCK = 16
"""Size of the blocks in which torch draws normal numbers; a row that draws whole blocks does not affect other rows."""


@dataclass(frozen=True)
class Numbered(Batch):
    """A batch with the numbers of its rows."""

    rows: Rows  # int64 (B,), rows of segments in the manifest

    def first(self, count: int) -> Numbered:
        """Return the first `count` segments."""
        part = self.part(slice(count))
        return Numbered(part.inputs, part.samples, part.label, part.utterance, self.rows[:count])


class NumberedSource:
    """A source that adds the numbers of their rows to another source's batches."""

    def __init__(self, source: BatchSource) -> None:
        self.source = source

    def batches(self, rows: Rows, size: int) -> Iterator[Batch]:
        """Yield batches of `size` segments for the segment rows `rows`, in their order."""
        for number, batch in enumerate(self.source.batches(rows, size)):
            part = rows[number * size : (number + 1) * size]
            yield Numbered(batch.inputs, batch.samples, batch.label, batch.utterance, part)


@dataclass
class StatisticsMemory:
    """Cache of the statistics of rows: float32 (rows of the manifest, S) by key, NaN where not computed yet."""

    kept: OrderedDict[Hashable, NDArray[np.float32]] = field(default_factory=OrderedDict)

    def table(self, key: Hashable, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return the table of a key, which is created if it is missing.

        Args:
            key: everything that the statistics depend on in addition to their row.
            shape: number of rows of the manifest, and S.
        """
        if key not in self.kept:
            self.kept[key] = np.full(shape, np.nan, np.float32)
            while len(self.kept) > 1 and sum(table.nbytes for table in self.kept.values()) > MEMORY:
                self.kept.popitem(last=False)
        return self.kept[key]


@dataclass(frozen=True)
class RowDraws:
    """Random draws for every row of a manifest in an epoch, which depend only on the run's seed and the epoch."""

    numbers: Mapping[str, NDArray[np.float32]]  # by name, 0 to 1, (rows, …)
    chosen: NDArray[np.bool_]  # (rows,) whether noise is added
    seeds: NDArray[np.int64]  # (rows,) seeds of the noise


@lru_cache(maxsize=4)
def draws(config: Config, epoch: int, count: int) -> RowDraws:
    """Return the random draws for `count` rows in an epoch, which are the same in every fold and on every machine.

    Args:
        config: the seed and the settings of augmentation are used.
        epoch: number of the epoch, counted from 0.
        count: number of rows of the manifest.
    """
    settings, generator = config.augment, np.random.Generator(np.random.PCG64([config.seed, epoch, count]))
    images = [f"bins {name}" for name in config.model.inputs if INPUTS[name].form == IMAGE]
    sizes: dict[str, tuple[int, ...]] = {"speed": (), "gain": (), "chosen": (), "ratio": ()}
    sizes |= {"frames": (2, settings.frame_masks), **dict.fromkeys(images, (2, settings.bin_masks))}
    numbers = {name: generator.random((count, *size), np.float32) for name, size in sizes.items()}
    return RowDraws(numbers, numbers["chosen"] < settings.noise, generator.integers(2**62, size=count))


def pair(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Split draws (R, 2, count) into two tensors (count, R, 1)."""
    width, first = drawn.permute(1, 2, 0)[..., None]
    return width, first


def masked(batch: Batch, own: Mapping[str, Tensor], config: Config) -> Batch:
    """Mask stretches of frames and bands in a batch.

    Args:
        batch: a batch with one input.
        own: draws for its rows, (R, 2, count).
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
    return batch.changed({name: rows * ~silent[:, None] * ~bands[:, :, None]})  # faster than masked_fill


def white(like: Tensor, seeds: list[int], counts: list[int]) -> Tensor:
    """Return white noise (R, N) for the real samples of every row, and 0 in the padding.

    Args:
        like: float32 (R, N).
        seeds: seed of every row.
        counts: number of samples of every row without padding.
    """
    found, generator = torch.zeros_like(like), torch.Generator()
    for row, seed, count in zip(found, seeds, counts, strict=True):
        generator.manual_seed(seed)
        drawn = torch.randn(-(-max(count, 1) // BLOCK) * BLOCK, generator=generator)
        row[:count] = drawn[:count]
    return found
