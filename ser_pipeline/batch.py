"""A batch as it reaches the model: compact rows, which the model finishes on the device."""

from __future__ import annotations

from typing import NamedTuple

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
