"""A small speech encoder trained from nothing: a learned filter bank, two convolutions and a transformer.

In the manner of wav2vec 2.0, with a first layer that starts as band-pass filters on the mel scale and gives
log energies, so that a few hundred utterances are enough to learn from, and two CPU cores to learn on.
Shapes: B batch, N samples, T frames, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 400  # samples: 25 ms at 16 kHz
STEP = 160  # samples: 10 ms
LOWEST, HIGHEST = 60.0, 7_600.0  # Hz: centres of the outer filters


class SmallSpeech(nn.Module):
    """Float32 (B, N) to frames (B, T, D), a frame every 40 ms."""

    def __init__(self, width: int, layers: int, dropout: float, rate: int, *, layer_mix: bool = False) -> None:
        super().__init__()
        self.width = width
        self.bank = nn.Parameter(mel_filters(width, rate))
        self.gain = nn.Parameter(torch.tensor(4.0))
        self.convolutions = nn.ModuleList([Convolution(width), Convolution(width)])
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList([_layer(width, dropout) for _ in range(layers)])
        self.mix = nn.Parameter(torch.zeros(layers + 1)) if layer_mix else None

    def frames(self, samples: int) -> int:
        """Frames T that `samples` give."""
        count = (samples - WINDOW) // STEP + 1
        for _ in self.convolutions:
            count = (count - 1) // 2 + 1
        return count

    def forward(self, waveform: Tensor) -> Tensor:
        """Frames (B, T, D) of the last layer, or the learned mix of all layers."""
        hidden: Tensor = self.energies(waveform)
        for convolution in self.convolutions:
            hidden = convolution(hidden)
        hidden = self.dropout(self.norm(hidden.transpose(1, 2)))
        states = [hidden]
        for layer in self.layers:
            hidden = layer(hidden)
            states.append(hidden)
        if self.mix is None:
            return hidden
        mixed: Tensor = torch.einsum("l,lbtd->btd", self.mix.softmax(0), torch.stack(states))
        return mixed

    def energies(self, waveform: Tensor) -> Tensor:
        """Log energies (B, D, T) of the filter bank, each filter's mean over the segment taken away."""
        pairs = F.conv1d(waveform[:, None], self.bank, stride=STEP)
        real, imaginary = pairs.chunk(2, dim=1)
        level = torch.log(real.square() + imaginary.square() + 1e-4) / self.gain
        return level - level.mean(2, keepdim=True)


class Convolution(nn.Module):
    """A strided convolution over time that halves the frames, normalised a frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(width, width, 3, 2, 1)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, D, T) to (B, D, T / 2)."""
        return F.gelu(self.norm(self.convolution(hidden).transpose(1, 2))).transpose(1, 2)


def _layer(width: int, dropout: float) -> nn.Module:
    heads = max(1, width // 32)
    return nn.TransformerEncoderLayer(
        width, heads, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
    )


def mel_filters(count: int, rate: int) -> Tensor:
    """Band-pass filters float32 (2 * count, 1, WINDOW): cosines, then sines, under Hann windows of unit energy.

    >>> mel_filters(40, 16_000).shape
    torch.Size([80, 1, 400])
    """
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (LOWEST, min(HIGHEST, 0.475 * rate)))
    centres = 700 * (10 ** (torch.linspace(low, high, count) / 2595) - 1)
    time = (torch.arange(WINDOW) - (WINDOW - 1) / 2) / rate
    window = torch.hann_window(WINDOW, periodic=False)
    phase = 2 * math.pi * centres[:, None] * time
    filters = torch.cat([phase.cos(), phase.sin()]) * window / window.square().sum().sqrt()
    return filters[:, None]
