"""Rows of many recordings at once, computed on the models' device.

Shapes: S segments, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_pipeline.config import Audio
from ser_pipeline.features.rendering import Rendering
from ser_pipeline.predict.excerpts import Excerpt
from ser_pipeline.predict.front import Piece, StoredRows, peak_of

SEGMENTS = 128
"""Number of segments computed at once; it is constant because each other number needs a new plan of the transforms."""

Heard = tuple[Excerpt, NDArray[np.float32]]


@dataclass(frozen=True)
class DeviceRows:
    """The front end of models on a GPU, which computes the rows of several recordings at once."""

    alone: StoredRows  # for a recording with more than `size` segments
    rendering: Rendering
    size: int = SEGMENTS

    def __call__(self, excerpts: Iterable[Excerpt]) -> Iterator[tuple[Excerpt, Piece]]:
        """Yield the pieces of every excerpt in order; their rows are tensors on the device."""
        waiting: list[Heard] = []
        left = self.size
        for excerpt in excerpts:
            count = self._audio.segments(len(excerpt))
            if count > left:
                yield from self._made(waiting)
                waiting, left = [], self.size
            if count > self.size:
                yield from self._of_long(excerpt)
                continue
            waiting.append((excerpt, excerpt.read(0, len(excerpt))))
            left -= count
        yield from self._made(waiting)

    @property
    def _audio(self) -> Audio:
        return self.alone.config.model_audio

    def _of_long(self, excerpt: Excerpt) -> Iterator[tuple[Excerpt, Piece]]:
        for _, piece in self.alone([excerpt]):
            rows = {name: on_device(x, self.rendering.device) for name, x in piece.rows.items()}
            yield excerpt, Piece(rows, piece.samples, piece.peak, piece.last)

    def _made(self, heard: list[Heard]) -> Iterator[tuple[Excerpt, Piece]]:
        if not heard:
            return
        lengths = np.array([len(samples) for _, samples in heard], np.int64)
        counts = self._audio.segments(lengths)
        spans, utterance = self._places(lengths, counts)
        made = self.rendering.several(
            self._together([samples for _, samples in heard]),
            on_device(spans, self.rendering.device),
            on_device(utterance, self.rendering.device),
        )
        real = np.clip(spans[:, 2] - spans[:, 1], 0, self._audio.segment)
        last = 0
        for (excerpt, samples), count in zip(heard, counts.tolist(), strict=True):
            part = slice(last, last + count)
            last += count
            rows = {name: made[name][part] for name in self.alone.config.model.reads}
            yield excerpt, Piece(rows, real[part], peak_of(samples), last=True)

    def _places(
        self, lengths: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return spans and utterances for `Rendering.several`; padding segments have an utterance without samples."""
        spans, utterance = np.zeros((self.size, 3), np.int64), np.full(self.size, len(lengths), np.int64)
        total = int(counts.sum())
        utterance[:total] = np.repeat(np.arange(len(lengths)), counts)
        inside = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
        first = np.cumsum(lengths) - lengths
        spans[:total] = np.stack(
            [np.repeat(first, counts), inside * self._audio.segment, np.repeat(lengths, counts)], 1
        )
        return spans, utterance

    def _together(self, signals: list[NDArray[np.float32]]) -> Tensor:
        """Concatenate all signals on the device."""
        device = self.rendering.device
        kept = torch.empty(max(1, sum(map(len, signals))), pin_memory=device.type == "cuda")
        np.concatenate(signals, out=kept.numpy()[: sum(map(len, signals))])
        return kept.to(device, non_blocking=True)


def on_device(numbers: NDArray[np.generic], device: torch.device) -> Tensor:
    """Copy an array to a device asynchronously."""
    given = torch.from_numpy(numbers)
    return given.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else given.to(device)


def fetched(numbers: Tensor) -> Callable[[], NDArray[np.float32]]:
    """Start copying a tensor to the CPU, and return a function that waits for it."""
    if numbers.device.type != "cuda":
        return lambda: np.asarray(numbers.cpu().numpy())
    kept = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    kept.copy_(numbers, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(numbers.device))

    def wait() -> NDArray[np.float32]:
        done.synchronize()
        return np.asarray(kept.numpy())

    return wait
