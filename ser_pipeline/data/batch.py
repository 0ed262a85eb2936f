"""A batch as it reaches the model: compact rows, which the model finishes on the device; and mixtures of segments."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Rows of the feature stores and what is known of them; an input that no part of the model reads may be None."""

    waveform: Tensor | None  # int16 (B, 1 + samples of a segment): the sample before the segment, then the segment
    spectrogram: Tensor | None  # uint8 (B, bins, frames): 0 to 255 for -80 to 0 dB
    mfcc: Tensor | None  # float16 (B, frames, coefficients)
    samples: Tensor  # int32 (B,): real samples in the segment, the rest is padding at its end
    label: Tensor  # int64 (B,): class index
    utterance: Tensor  # int64 (B,): row of the manifest
    logmel: Tensor | None = None  # uint8 (B, bands, frames): 0 to 255 for -80 to 0 dB
    embedding: Tensor | None = None  # float16 (B, frames of the speech encoder, width)

    def part(self, rows: slice) -> Batch:
        """Some of the segments."""
        return Batch._make(None if column is None else column[rows] for column in self)


class Mix(NamedTuple):
    """Which segments are mixed with which others of their batch, and how much of them is kept."""

    other: Tensor  # int64 (B,): row of the other segment
    weight: Tensor  # float32 (B, 1): 1 where a segment stays as it is

    @classmethod
    def draw(cls, size: int, share: float, device: torch.device) -> Mix:
        """A share of the segments mixed with another, half and half on average.

        Source: Zhang et al., mixup, ICLR 2018, with a Beta(1, 1) weight.
        """
        chosen = torch.rand(size, 1, device=device) < share
        weight = torch.where(chosen, torch.rand(size, 1, device=device), 1.0)
        return cls(torch.randperm(size, device=device), weight)

    def __call__(self, rows: Tensor) -> Tensor:
        """Vectors (B, D) of the segments, mixed."""
        return torch.lerp(rows[self.other], rows, self.weight.to(rows.dtype))
