"""A small speech encoder trained from nothing: a learned filter bank, two convolutions and a transformer.

In the manner of wav2vec 2.0, with a first layer that starts as band-pass filters on the mel scale and gives
log energies, so that a few hundred utterances are enough to learn from, and two CPU cores to learn on.
Shapes: B batch, N samples, T frames, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.model.prosody import Prosody
from ser_pipeline.model.statistics import Standard, moments

WINDOW = 400  # samples: 25 ms at 16 kHz
STEP = 160  # samples: 10 ms
LOWEST, HIGHEST = 60.0, 7_600.0  # Hz: centres of the outer filters


class Heard(NamedTuple):
    """What a speech encoder makes of a segment."""

    frames: Tensor  # (B, T, D)
    real: Tensor | None = None  # (B, T): 1 for frames of speech, 0 for padding; None: all count
    whole: Tensor | None = None  # (B, S): statistics of the whole segment, where the encoder has them

    def mean(self) -> Tensor:
        """Mean (B, D) of the real frames."""
        if self.real is None:
            return self.frames.mean(1)
        return (self.frames * self.real[..., None]).sum(1) / self.real.sum(1, keepdim=True).clamp(min=1)


class SmallSpeech(nn.Module):
    """Float32 (B, N) to frames (B, T, D), a frame every 40 ms, and the segment's prosody."""

    def __init__(self, width: int, layers: int, dropout: float, rate: int, *, layer_mix: bool = False) -> None:
        super().__init__()
        self.width = width
        self.prosody = Prosody(rate)
        self.standard = Standard(self.prosody.size)
        self.size = width + self.prosody.size
        self.bank = nn.Parameter(mel_filters(width, rate))
        self.gain = nn.Parameter(torch.tensor(4.0))
        self.convolutions = nn.ModuleList([Convolution(width, width), Convolution(width, width)])
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList([Layer(width, dropout) for _ in range(layers)])
        self.mix = nn.Parameter(torch.zeros(layers + 1)) if layer_mix else None

    def frames(self, samples: int) -> int:
        """Frames T that `samples` give."""
        count = (samples - WINDOW) // STEP + 1
        for _ in self.convolutions:
            count = (count - 1) // 2 + 1
        return count

    def forward(self, waveform: Tensor, samples: Tensor) -> Heard:
        """Frames of the last layer, or the learned mix of all layers, for waveforms (B, N) of `samples` (B,)."""
        level, real = self.energies(waveform, samples)
        hidden, real = level.transpose(1, 2), real.transpose(1, 2)
        for convolution in self.convolutions:
            hidden, real = convolution(hidden, real)
        states = [self.dropout(self.norm(hidden))]
        for layer in self.layers:
            states.append(layer(states[-1], real[..., 0] > 0))
        frames = states[-1]
        if self.mix is not None:
            frames = torch.einsum("l,lbtd->btd", self.mix.softmax(0), torch.stack(states))
        return Heard(frames, real[..., 0], self.standard(self.statistics(waveform, samples)))

    @torch.no_grad()
    def statistics(self, waveform: Tensor, samples: Tensor) -> Tensor:
        """Prosody (B, S), not yet standardised."""
        with torch.autocast(waveform.device.type, enabled=False):
            return self.prosody(waveform, samples)  # type: ignore[no-any-return]

    def energies(self, waveform: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Log energies (B, D, T) of the filter bank, each to zero mean over its real frames, and these (B, 1, T)."""
        pairs = F.linear(waveform.unfold(1, WINDOW, STEP), self.bank[:, 0]).transpose(1, 2)
        first = torch.arange(pairs.shape[2], device=samples.device) * STEP
        real = ((first + WINDOW <= samples[:, None]) | (first == 0)).float()[:, None]
        cosine, sine = pairs.chunk(2, dim=1)
        level = torch.log(cosine.square() + sine.square() + 1e-4) / self.gain
        return (level - moments(level, real)[0][..., None]) * real, real


class Convolution(nn.Module):
    """A strided convolution over time that halves the frames, normalised a frame, 0 in frames that do not count.

    A product over windows: for as few channels as here that is faster than a convolution's kernels on a GPU, whose
    choice also takes seconds, and it repeats bit for bit.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(before, width, 3, 2, 1)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, before) and (B, T, 1) to (B, T / 2, D) and (B, T / 2, 1)."""
        windows = F.pad(hidden, (0, 0, 1, 1)).unfold(1, 3, 2).flatten(2)
        hidden = F.gelu(self.norm(F.linear(windows, self.convolution.weight.flatten(1), self.convolution.bias)))
        real = real[:, ::2]
        return hidden * real, real


class Layer(nn.Module):
    """A transformer layer that normalises before each block: torch's TransformerEncoderLayer, its state and results.

    In evaluation and float32 that one takes kernels of its own, which round otherwise than those of training and count
    in 32 bits, and it checks masks by a library that takes seconds to import.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, max(1, width // 32), dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout, self.dropout1, self.dropout2 = (nn.Dropout(dropout) for _ in range(3))
        self.mix: Callable[..., Tensor] = F.scaled_dot_product_attention

    def forward(self, hidden: Tensor, heard: Tensor) -> Tensor:
        """Frames (B, T, D) of the next layer; they attend to the frames that are `heard`, bool (B, T)."""
        hidden = hidden + self.dropout1(self._attend(self.norm1(hidden), heard))
        inner = self.dropout(F.gelu(self.linear1(self.norm2(hidden))))
        return hidden + self.dropout2(self.linear2(inner))  # type: ignore[no-any-return]

    def _attend(self, hidden: Tensor, heard: Tensor) -> Tensor:
        attention, (batch, frames, width) = self.self_attn, hidden.shape
        projected = F.linear(hidden, attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = projected.view(batch, frames, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        dropout = attention.dropout if self.training else 0.0
        mixed = self.mix(query, key, value, heard[:, None, None], dropout)
        return attention.out_proj(mixed.transpose(1, 2).reshape(batch, frames, width))  # type: ignore[no-any-return]


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
