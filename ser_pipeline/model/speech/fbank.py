"""Kaldi's log-mel filterbanks in torch, equal to those of transformers' SeamlessM4T feature extractor for w2v-BERT 2.0.

Shapes: B batch, N samples, F frames of 10 ms, K bands, T stacked frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.arrays import FULL_SCALE
from ser_pipeline.model.inputs import EPSILON
from ser_pipeline.model.speech.frames import within

WINDOW, HOP, POINTS = 400, 160, 512
"""Samples of a frame (25 ms at 16 kHz), between frames (10 ms), and points of the Fourier transform."""
PRE_EMPHASIS = 0.97
LEAST = 1.192092955078125e-07
"""Smallest power before the logarithm: float32's epsilon (Kaldi)."""
LOWEST = 20.0
"""Lower edge of the first band in Hz (Kaldi)."""
STRIDE = 2
"""Frames that are stacked into one (w2v-BERT 2.0)."""


class Filterbank(nn.Module):
    """Waveforms to stacked log-mel filterbanks; each band has zero mean and unit variance over the utterance."""

    window: Tensor
    filters: Tensor

    def __init__(self, bands: int = 80, stride: int = STRIDE, rate: int = 16_000) -> None:
        super().__init__()
        self.stride = stride
        povey = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64).pow(0.85)
        self.register_buffer("window", povey, persistent=False)
        self.register_buffer("filters", kaldi_filters(bands, rate), persistent=False)

    def frames(self, samples: Tensor) -> Tensor:
        """Number F of frames of `samples` samples; at least one."""
        return (torch.div(samples - WINDOW, HOP, rounding_mode="floor") + 1).clamp(min=1)

    def stacked(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Number T of stacked frames of `frames`: complete ones, and all including a partial one; at least one each."""
        whole = torch.div(frames, self.stride, rounding_mode="floor")
        every = torch.div(frames + frames % 2, self.stride, rounding_mode="floor")  # padded to a multiple of two
        return whole.clamp(min=1), every.clamp(min=1)

    @torch.no_grad()
    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 (B, T, stride x K) of waveforms (B, N) with `lengths` (B,) real samples, and their F (B,).

        The computation is in float64, as in transformers' numpy code.
        """
        samples = samples.double() * FULL_SCALE
        samples = F.pad(samples, (0, max(0, WINDOW - samples.shape[1])))
        frames = samples.unfold(1, WINDOW, HOP)
        frames = frames - frames.mean(2, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], 2)  # Kaldi repeats the first sample as its predecessor
        frames = (frames - PRE_EMPHASIS * before) * self.window
        power = torch.view_as_real(torch.fft.rfft(frames, POINTS)).square().sum(-1)
        bank = (power @ self.filters).clamp(min=LEAST).log().float()
        count = self.frames(lengths)
        return self._stacked(_standard(bank, count)), count

    def _stacked(self, bank: Tensor) -> Tensor:
        batch, frames, bands = bank.shape
        bank = F.pad(bank, (0, 0, 0, frames % 2))
        return bank[:, : bank.shape[1] // self.stride * self.stride].reshape(batch, -1, bands * self.stride)


def _standard(bank: Tensor, count: Tensor) -> Tensor:
    """Bands of (B, F, K) with zero mean and unit variance over the first `count` (B,) frames; zeros after them."""
    real = within(bank.shape[1], count)[..., None]
    share = count[:, None, None]
    centred = (bank - bank.masked_fill(~real, 0.0).sum(1, keepdim=True) / share).masked_fill(~real, 0.0)
    variance = centred.square().sum(1, keepdim=True) / (share - 1).clamp(min=1)
    return centred / torch.sqrt(variance + EPSILON)


def kaldi_filters(bands: int, rate: int) -> Tensor:
    """Triangular filters float64 (257, K), even on Kaldi's mel scale 1127 ln(1 + f / 700), from 20 Hz to half the rate.

    >>> kaldi_filters(4, 16_000).amax(0).gt(0.9).tolist()
    [True, True, True, True]
    """
    low, high = (1127.0 * torch.log(torch.tensor(1 + f / 700, dtype=torch.float64)) for f in (LOWEST, rate // 2))
    edges = torch.linspace(float(low), float(high), bands + 2, dtype=torch.float64)
    bins = torch.arange(POINTS // 2 + 1, dtype=torch.float64) * rate / POINTS
    mel = 1127.0 * torch.log(1 + bins / 700)[:, None]
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0.0)
