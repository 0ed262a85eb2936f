"""Convert stored rows on the device to what the encoders read.

Shapes: B batch, N samples of a segment, T frames, F frequency bins, K coefficients. Everything here is float32
and has no gradient; nothing waits for the device, so that a step can be captured as a CUDA graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.arrays import FULL_SCALE
from ser_pipeline.config import Audio

EPSILON = 1e-7
"""Added to the variance of a waveform, as transformers' feature extractors do."""

HAIR = 1 / 1024
"""Less than any fraction n / 255, and more than a quotient's rounding error: integer quotients stay integers."""


class FinishWaveform(nn.Module):
    """Converts raw samples to zero mean and unit variance over the padded segment, or to [-1, 1] unchanged."""

    def __init__(self, pre_emphasis: float = 0.0, pad_front: bool = False, unit: bool = True) -> None:
        super().__init__()
        self.pre_emphasis = pre_emphasis
        self.pad_front = pad_front
        self.unit = unit

    @torch.no_grad()
    def forward(self, waveform: Tensor, samples: Tensor, whole: int | None = None) -> Tensor:
        """Float32 (B, N) from int16 samples.

        Args:
            waveform: int16 (B, 1 + N).
            samples: number of real samples (B,).
            whole: samples of a whole segment, if the silence at its end was cut off; None if nothing was cut.
        """
        signal = waveform[:, 1:].float() / FULL_SCALE
        if self.pre_emphasis:
            signal = signal - self.pre_emphasis * (waveform[:, :-1].float() / FULL_SCALE)
            signal = signal.masked_fill(_after(signal.shape[1], samples), 0.0)
        if self.pad_front:
            signal = shift_to_end(signal, samples)
        if not self.unit:
            return signal
        if whole is not None:
            mean = signal.sum(1, keepdim=True) / whole
            signal = signal - mean
            power = signal.square().sum(1, keepdim=True) + (whole - signal.shape[1]) * mean.square()
            return signal / torch.sqrt(power / whole + EPSILON)
        signal = signal - signal.mean(1, keepdim=True)
        return signal / torch.sqrt(signal.square().mean(1, keepdim=True) + EPSILON)


def shift_to_end(signal: Tensor, samples: Tensor) -> Tensor:
    """Move the padding of rows (B, N) from after their real samples to before them.

    >>> shift_to_end(torch.tensor([[1.0, 2.0, 0.0, 0.0]]), torch.tensor([2])).tolist()
    [[0.0, 0.0, 1.0, 2.0]]
    """
    size = signal.shape[1]
    source = torch.arange(size, device=signal.device) - (size - samples.long())[:, None]
    return signal.gather(1, source.clamp(min=0)).masked_fill(source < 0, 0.0)


def _after(size: int, count: Tensor) -> Tensor:
    """True (B, size) at positions >= `count` (B,)."""
    return torch.arange(size, device=count.device) >= count[:, None]


class FinishSpectrogram(nn.Module):
    """Converts stored grey levels; optionally rescales each bin to the training rows' extremes and quantises again."""

    minimum: Tensor
    maximum: Tensor

    def __init__(self, audio: Audio, bins: int, pad_loud: bool = False, rescale: bool = True) -> None:
        super().__init__()
        self.hop = audio.hop
        self.pad_loud, self.rescale = pad_loud, rescale
        self.register_buffer("minimum", torch.zeros(bins, dtype=torch.uint8))
        self.register_buffer("maximum", torch.full((bins,), 255, dtype=torch.uint8))

    def fit(self, minimum: Tensor, maximum: Tensor) -> None:
        """Keep the extremes uint8 (F,) of the training rows, if grey levels are rescaled to them."""
        if self.rescale:
            self.minimum.copy_(minimum)
            self.maximum.copy_(maximum)

    @torch.no_grad()
    def forward(self, spectrogram: Tensor, samples: Tensor) -> Tensor:
        """Integer grey levels float32 (B, F, T), 0 to 255, from uint8 (B, F, T).

        Rescaling equals quantising the min-max scaled decibels, up to one grey level: a stored level stands for the
        middle of the values that were rounded down to it, except for the ends of the scale, which are exact. It is the
        identity where a bin's extremes are 0 and 255. Values beyond the training rows' extremes are clipped.
        """
        level = self._rescaled(spectrogram.float()) if self.rescale else spectrogram.float()
        if self.pad_loud:
            present = 1 + torch.div(samples, self.hop, rounding_mode="floor")
            level = level.masked_fill(_after(level.shape[2], present)[:, None], 255)
        return level

    def _rescaled(self, level: Tensor) -> Tensor:
        """Integer grey levels (B, F, T) from stored ones, both float32."""
        minimum, maximum = self.minimum.float()[:, None], self.maximum.float()[:, None]
        low = minimum + 0.5 * ((minimum > 0) | (minimum == maximum))
        scale = (maximum + 0.5 * (maximum < 255) - low).clamp(min=1)
        level = (level + 0.5 - low) * 255 / scale
        return (level + HAIR).floor().clamp(0, 255)


class FinishMfcc(nn.Module):
    """Scales MFCC frames to unit length (reference code), or leaves them unchanged."""

    def __init__(self, unit: bool = True) -> None:
        super().__init__()
        self.unit = unit

    @torch.no_grad()
    def forward(self, mfcc: Tensor, samples: Tensor | None = None) -> Tensor:
        """Float16 (B, T, K) to float32 (B, T, K), optionally with frames of unit norm; silent padding stays zero."""
        return F.normalize(mfcc.float(), dim=2) if self.unit else mfcc.float()


class FinishEmbedding(nn.Module):
    """Converts stored frames of a speech encoder, optionally normalising each over its width."""

    def __init__(self, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = normalise

    @torch.no_grad()
    def forward(self, frames: Tensor, samples: Tensor | None = None) -> Tensor:
        """Float16 (B, L, T, D) to float32 (B, L, T, D)."""
        frames = frames.float()
        return F.layer_norm(frames, frames.shape[-1:]) if self.normalise else frames


class FinishVector(nn.Module):
    """Selects the statistics of a whole utterance, or of the augmented version that was chosen before."""

    @torch.no_grad()
    def forward(self, vectors: Tensor, samples: Tensor | None = None) -> Tensor:
        """Float16 (B, V, S) to float32 (B, S): the first of the V."""
        return vectors[:, 0].float()


class Resize(nn.Module):
    """Resizes one axis of 8-bit images bilinearly, bit for bit as PIL's `Image.resize`.

    PIL weights integers with 22-bit fixed-point coefficients and rounds to 8 bits after each axis. This class does the
    same in int32, tap by tap.
    """

    index: Tensor
    weight: Tensor
    BITS = 22  # fixed-point precision of PIL's 8-bit resampling

    def __init__(self, old: int, new: int, flip: bool = False) -> None:
        super().__init__()
        index, weight = bilinear_taps(old, new)
        self.register_buffer("index", old - 1 - index if flip else index, persistent=False)
        self.register_buffer("weight", torch.round(weight * 2**self.BITS).int(), persistent=False)

    def forward(self, image: Tensor, dim: int) -> Tensor:
        """Resize axis `dim` (1 or 2 of three) of int32 grey levels."""
        shape = (-1, 1) if dim == 1 else (-1,)
        total = torch.full((), 2 ** (self.BITS - 1), dtype=torch.int32, device=image.device)
        for index, weight in zip(self.index, self.weight, strict=True):
            total = total + image.index_select(dim, index) * weight.view(shape)
        return total >> self.BITS


def bilinear_taps(old: int, new: int) -> tuple[Tensor, Tensor]:
    """Source indices int64 (taps, new) and weights float64 (taps, new) of PIL's bilinear filter.

    Unused taps have weight 0. Source: Pillow, `precompute_coeffs` in src/libImaging/Resample.c.

    >>> index, weight = bilinear_taps(2, 4)
    >>> index.T.tolist(), weight.T.tolist()
    ([[0, 0], [0, 1], [0, 1], [1, 1]], [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [1.0, 0.0]])
    """
    scale = old / new
    support = max(scale, 1.0)
    columns: list[list[tuple[int, float]]] = []
    for position in range(new):
        centre = (position + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), old)
        weights = [max(0.0, 1.0 - abs((tap - centre + 0.5) / support)) for tap in range(first, last)]
        columns.append([(tap, w / sum(weights)) for tap, w in zip(range(first, last), weights, strict=True) if w])
    taps = max(map(len, columns))
    filled = [column + [(column[-1][0], 0.0)] * (taps - len(column)) for column in columns]
    table = torch.tensor(filled, dtype=torch.float64)  # (new, taps, 2)
    return table[..., 0].long().T.contiguous(), table[..., 1].T.contiguous()
