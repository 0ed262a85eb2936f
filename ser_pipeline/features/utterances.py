"""Frames of whole utterances by a frozen speech encoder, with full context, as encoders were trained.

Utterances beyond the encoder's maximum length (30 s) are split into equal pieces. On a GPU, utterances are batched by
length. On a CPU each is encoded alone, so that its frames do not depend on the others, down to the last bit; this costs
no more than about a tenth of the speed.

Shapes: B batch, N samples, L layers, T frames, D width of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_pipeline.arrays import FULL_SCALE
from ser_pipeline.device import batches_beside
from ser_pipeline.model import speech

BATCH_SECONDS = 640.0
"""Seconds of audio, padding included, in one batch on a GPU."""

LONGEST = 30.0
"""Seconds of a piece, for encoders without a maximum length of their own."""

Signal = NDArray[np.float32]


@dataclass(frozen=True)
class UtteranceFrames:
    """A frozen speech encoder on its device, as a function of whole utterances."""

    encoder: speech.FrameEncoder
    layers: tuple[int, ...]  # chosen layers: 0 is the input of the first, -1 the output of the last; empty: all
    device: torch.device

    @property
    def numbers(self) -> list[int]:
        """Numbers of the chosen layers, from 0 on."""
        count = self.encoder.layers + 1
        return [layer % count for layer in self.layers] or list(range(count))

    @property
    def most(self) -> int:
        """Maximum samples of a piece."""
        return self.encoder.longest or round(LONGEST * self.encoder.rate)

    @property
    def stride(self) -> float:
        """Samples from one frame to the next."""
        most = self.most
        more = self.encoder.frames(most) - self.encoder.frames(most // 2)
        return (most - most // 2) / more if more else most / self.encoder.frames(most)

    @torch.inference_mode()
    def __call__(self, signals: Sequence[Signal], finish: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Frames (L, T, D) of each signal, float32 (N,) in [-1, 1].

        Args:
            signals: whole utterances.
            finish: applied to the frames of each piece before they are kept.
        """
        pieces = [piece for signal in signals for piece in self._pieces(signal)]
        owner = [number for number, signal in enumerate(signals) for _ in self._pieces(signal)]

        def frames(layers: Tensor, real: Tensor) -> list[Tensor]:
            return [finish(layers[:, row][:, kept]) for row, kept in enumerate(real)]

        parts: list[list[Tensor]] = [[] for _ in signals]
        for number, found in zip(owner, self._batched(pieces, frames), strict=True):
            parts[number].append(found)
        return [part[0] if len(part) == 1 else torch.cat(part, 1) for part in parts]

    @torch.inference_mode()
    def summed_up(self, signals: Sequence[Signal], summary: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Numbers (U, W) for U signals, float32 (N,) in [-1, 1]; each batch is summarised at once on the device.

        Args:
            signals: whole utterances.
            summary: maps frames (L, B, T, D) and a mask of the real ones (B, T) to numbers (B, W).
        """
        short = [number for number, signal in enumerate(signals) if len(self._pieces(signal)) == 1]
        rows = dict(zip(short, self._batched([signals[number] for number in short], summary), strict=True))
        for number in set(range(len(signals))) - set(short):
            (frames,) = self([signals[number]], lambda frames: frames)
            rows[number] = summary(frames[:, None], frames.new_ones(1, frames.shape[1], dtype=torch.bool))[0]
        return torch.stack([rows[number] for number in range(len(signals))])

    def _batched(self, pieces: Sequence[Signal], work: Callable[[Tensor, Tensor], Iterable[Tensor]]) -> list[Tensor]:
        """Results of `work` for each piece, from batches of frames (L, B, T, D) and masks of the real ones (B, T)."""
        order = sorted(range(len(pieces)), key=lambda place: len(pieces[place]))
        batches = list(self._batches(order, pieces))
        found: dict[int, Tensor] = {}
        with batches_beside(self.device) as threads:
            made = threads.map(lambda batch: list(work(*self.frames([pieces[place] for place in batch]))), batches)
            for batch, results in zip(batches, made, strict=True):
                found |= zip(batch, results, strict=True)
        return [found[place] for place in range(len(pieces))]

    def _pieces(self, signal: Signal) -> list[Signal]:
        """Split a signal into equal pieces that fit the encoder's maximum length."""
        return [signal[first:last] for first, last in bounds(len(signal), self.most)]

    def _batches(self, order: Sequence[int], pieces: Sequence[Signal]) -> Iterator[list[int]]:
        """Batch pieces of similar length up to `BATCH_SECONDS`; on a CPU, one piece at a time."""
        most = BATCH_SECONDS * self.encoder.rate if self.device.type != "cpu" else 0
        batch: list[int] = []
        for place in order:
            if batch and (len(batch) + 1) * len(pieces[place]) > most:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    @torch.inference_mode()
    def frames(self, pieces: Sequence[Signal]) -> tuple[Tensor, Tensor]:
        """Frames (L, B, T, D) of the chosen layers, and a mask (B, T) of the frames that contain audio."""
        lengths = torch.tensor([max(1, len(piece)) for piece in pieces])
        padded = torch.zeros(len(pieces), int(lengths.max()))
        for row, piece in zip(padded.numpy(), pieces, strict=True):
            row[: len(piece)] = piece
        inputs = self.encoder.prepare(padded.to(self.device), lengths.to(self.device))
        states = self.encoder.states(inputs, upto=max(self.numbers))
        return torch.stack([states.layers[number] for number in self.numbers]), states.real


def bounds(samples: int, most: int) -> list[tuple[int, int]]:
    """First sample, and last plus one, of the fewest equal pieces that have at most `most` samples each.

    >>> bounds(7, 3)
    [(0, 3), (3, 5), (5, 7)]
    """
    count = max(1, -(-samples // most))
    size, more = divmod(samples, count)
    starts = [number * size + min(number, more) for number in range(count + 1)]
    return list(pairwise(starts))


def utterance_signals(
    waveforms: NDArray[np.int16], samples: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[Signal]:
    """Each utterance's signal, float32 (N,), from its stored segments.

    Args:
        waveforms: (S, 1 + N) segments of the utterances, one utterance after the other.
        samples: (S,) number of real samples of each segment.
        counts: (U,) segments of each utterance.
    """
    ends = np.cumsum(counts)[:-1]
    for rows, real in zip(np.split(waveforms, ends), np.split(samples, ends), strict=True):
        yield (rows[:, 1:].reshape(-1)[: int(real.sum())] / np.float32(FULL_SCALE)).astype(np.float32)
