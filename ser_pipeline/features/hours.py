"""Statistics of an utterance of hours, computed piece by piece; equal to those of `statistics` up to the last digits.

Shapes: N samples, V one more than the augmented versions, L layers, T frames, D width of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline.arrays import FULL_SCALE
from ser_pipeline.features.statistics import StatisticsMaker, change
from ser_pipeline.features.utterances import Signal, bounds

LONG = 900
"""Utterances longer than this many seconds are summarised piece by piece."""


@dataclass(frozen=True)
class StoredSignal:
    """An utterance in the store of waveforms."""

    read: Callable[[int, int], NDArray[np.int16]]  # segments (S, 1 + segment) from one number to before another
    segment: int  # samples
    samples: int

    def __call__(self, first: int, last: int) -> Signal:
        """Samples from `first` to `last`, float32 in [-1, 1]."""
        begin, end = first // self.segment, -(-last // self.segment)
        flat = self.read(begin, end)[:, 1:].reshape(-1)[first - begin * self.segment : last - begin * self.segment]
        return (flat / np.float32(FULL_SCALE)).astype(np.float32)


@torch.inference_mode()
def summed_up(maker: StatisticsMaker, stored: StoredSignal, key: str) -> NDArray[np.float16]:
    """Statistics (1, V, width) of an utterance.

    Args:
        maker: settings and encoder of the statistics.
        stored: the utterance.
        key: key of the utterance.
    """
    numbers = range(1 + maker.settings.draws)
    rows = [_summary(maker, *_drawn(maker, stored, key, number)) for number in numbers]
    return np.asarray(torch.stack(rows).half().numpy())[None]


def _drawn(maker: StatisticsMaker, stored: StoredSignal, key: str, number: int) -> tuple[Iterator[Signal], int]:
    """Pieces of an augmented version, or of the utterance itself if `number` is 0, and their total of samples."""
    most = maker.through.most
    if not number:
        return (stored(first, last) for first, last in bounds(stored.samples, most)), stored.samples
    drawn = change(key, number, maker.settings)
    count = max(1, round(stored.samples / drawn.factor))

    def faster() -> Iterator[NDArray[np.float64]]:
        for first, last in bounds(count, most):
            places = np.arange(first, last) * drawn.factor
            begin, end = min(int(places[0]), stored.samples - 1), min(int(places[-1]) + 2, stored.samples)
            yield np.interp(places, np.arange(begin, end), stored(begin, end))

    power = sum(float(np.dot(part, part)) for part in faster()) / count if drawn.noisy else 0.0

    def pieces() -> Iterator[Signal]:
        for part in faster():
            yield drawn.finished(part, power)

    return pieces(), count


def _summary(maker: StatisticsMaker, pieces: Iterator[Signal], samples: int) -> Tensor:
    """Statistics (width,) of pieces that have `samples` samples in total."""
    through, kinds = maker.through, maker.settings.kinds
    total = sum(maker.encoder.frames(last - first) for first, last in bounds(samples, through.most))
    third, done, sums = max(1, total // 3), 0, _Sums()
    for piece in pieces:
        layers, real = through.frames([piece])
        normal = F.layer_norm(layers[:, 0][:, real[0]], layers.shape[-1:]).double().cpu()
        count = normal.shape[1]
        sums.add("mean", normal)
        sums.add("square", normal.square())
        sums.add("first", normal[:, : max(0, third - done)])
        sums.add("last", normal[:, max(0, min(count, total - third - done)) :])
        done += count
    mean, first, last = sums.mean("mean"), sums.mean("first"), sums.mean("last")
    found = {"mean": mean, "deviation": (sums.mean("square") - mean.square()).clamp(min=0).sqrt()}
    found |= {"first": first, "last": last}
    return torch.cat([found[kind][layer] for layer in range(len(mean)) for kind in kinds]).float()


class _Sums:
    """Sums of frames (L, T, D) over time, and the number of frames, by name."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, frames: Tensor) -> None:
        """Add frames to the sum called `name`."""
        self._sums[name] = self._sums.get(name, 0) + frames.sum(1)
        self._counts[name] = self._counts.get(name, 0) + frames.shape[1]

    def mean(self, name: str) -> Tensor:
        """Means (L, D) of the frames added under `name`."""
        mean: Tensor = self._sums[name] / self._counts[name]
        return mean
