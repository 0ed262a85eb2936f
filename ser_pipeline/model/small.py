"""Small encoders that are trained from scratch, of speech, MFCCs and spectrograms.

The speech encoder is a learned filter bank, two convolutions and a transformer, and resembles wav2vec 2.0. Its first
layer starts as band-pass filters on the mel scale and computes log energies, so that a few hundred utterances and two
CPU cores are enough to train it.
Shapes: B batch, N samples, T frames, D width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.config import Audio, Model
from ser_pipeline.model.contours import RHYTHM, PathDropout, Standard, centred, moments, rhythm, summary, trend
from ser_pipeline.model.prosody import Prosody

WINDOW = 0.025  # seconds: length of the learned filters
HEAD_WIDTH = 32  # minimum width of a head of the transformer's attention
LOWEST, HIGHEST = 60.0, 7_600.0  # Hz: centres of the outer filters


class SpeechFrames(NamedTuple):
    """The output of a speech encoder for a batch of segments."""

    frames: Tensor  # (B, T, D)
    real: Tensor | None = None  # (B, T): 1 for frames of speech, 0 for padding; None: all count
    whole: Tensor | None = None  # (B, S): statistics of the whole segment, if the encoder computes them
    rows: Tensor | None = None  # int64 (R,): segments of the batch that have frames, then (R, T, D); None: all

    def mean(self) -> Tensor:
        """Mean (B, D) of the real frames."""
        if self.real is None:
            return self.frames.mean(1)
        return (self.frames * self.real[..., None]).sum(1) / self.real.sum(1, keepdim=True).clamp(min=1)

    def spread(self, summary: Tensor) -> Tensor:
        """Place values (R, D), computed from the frames of `rows`, in (B, D) with 0 for the other segments."""
        assert self.rows is not None and self.whole is not None
        return summary.new_zeros(len(self.whole), summary.shape[1]).index_copy(0, self.rows, summary)


class SmallSpeech(nn.Module):
    """Float32 (B, N) to frames (B, T, D), one every four hops (40 ms), and the segment's prosody."""

    def __init__(self, width: int, layers: int, dropout: float, audio: Audio, *, layer_mix: bool = False) -> None:
        super().__init__()
        self.width = width
        self.window, self.step = filter_length(audio.rate), audio.hop
        self.prosody = Prosody(audio.rate)
        self.standard = Standard(self.prosody.size)
        self.size = width + self.prosody.size
        self.bank = nn.Parameter(mel_band_passes(width, audio.rate))
        self.gain = nn.Parameter(torch.tensor(4.0))
        self.convolutions = nn.ModuleList([Convolution(width, width), Convolution(width, width)])
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList([SmallLayer(width, dropout) for _ in range(layers)])
        self.mix = nn.Parameter(torch.zeros(layers + 1)) if layer_mix else None

    def frames(self, samples: int) -> int:
        """Number T of frames of `samples` samples."""
        count = (samples - self.window) // self.step + 1
        for _ in self.convolutions:
            count = (count - 1) // 2 + 1
        return count

    def forward(self, waveform: Tensor, samples: Tensor, statistics: Tensor | None = None) -> SpeechFrames:
        """Frames of the last layer, or the learned mix of all layers.

        Args:
            waveform: (B, N).
            samples: number of real samples (B,).
            statistics: (B, S), if they are already known.
        """
        frames, real = self.hear(waveform, samples)
        whole = self.statistics(waveform, samples) if statistics is None else statistics
        return SpeechFrames(frames, real, self.standard(whole))

    def hear(self, waveform: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, T, D) of waveforms (B, N) of `samples` (B,), and a mask of the real ones (B, T)."""
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
        return frames, real[..., 0]

    @torch.no_grad()
    def statistics(self, waveform: Tensor, samples: Tensor) -> Tensor:
        """Prosody (B, S), not yet standardised."""
        with torch.autocast(waveform.device.type, enabled=False):
            return self.prosody(waveform, samples)  # type: ignore[no-any-return]

    def energies(self, waveform: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Log energies (B, D, T) of the filter bank with zero mean over real frames, and a mask of these (B, 1, T)."""
        pairs = F.linear(waveform.unfold(1, self.window, self.step), self.bank[:, 0]).transpose(1, 2)
        first = torch.arange(pairs.shape[2], device=samples.device) * self.step
        real = ((first + self.window <= samples[:, None]) | (first == 0)).float()[:, None]
        cosine, sine = pairs.chunk(2, dim=1)
        level = torch.log(cosine.square() + sine.square() + 1e-4) / self.gain
        return (level - moments(level, real)[0][..., None]) * real, real


class Convolution(nn.Module):
    """A strided convolution over time that halves the frames, with layer norm; 0 in frames that do not count.

    It is a product over windows. With so few channels, that is faster than a convolution's kernels on a GPU, whose
    selection also takes seconds, and it is bit-for-bit reproducible.
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


class SmallLayer(nn.Module):
    """A transformer layer that normalises before each block; same state and results as torch's TransformerEncoderLayer.

    In evaluation and float32, torch's layer uses special kernels, which round differently from those of training and
    index with 32 bits. It also checks masks with a library that takes seconds to import.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads(width), dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout, self.dropout1, self.dropout2 = (nn.Dropout(dropout) for _ in range(3))
        self.mix: Callable[..., Tensor] = F.scaled_dot_product_attention

    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        """Frames (B, T, D) of the next layer; they attend to frames that are `real`, bool (B, T)."""
        hidden = hidden + self.dropout1(self._attend(self.norm1(hidden), real))
        inner = self.dropout(F.gelu(self.linear1(self.norm2(hidden))))
        return hidden + self.dropout2(self.linear2(inner))  # type: ignore[no-any-return]

    def _attend(self, hidden: Tensor, real: Tensor) -> Tensor:
        attention, (batch, frames, width) = self.self_attn, hidden.shape
        projected = F.linear(hidden, attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = projected.view(batch, frames, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        dropout = attention.dropout if self.training else 0.0
        mixed = self.mix(query, key, value, real[:, None, None], dropout)
        return attention.out_proj(mixed.transpose(1, 2).reshape(batch, frames, width))  # type: ignore[no-any-return]


def heads(width: int) -> int:
    """Number of attention heads for frames of `width` numbers; a valid width is a multiple of it.

    >>> heads(64), heads(20)
    (2, 1)
    """
    return max(1, width // HEAD_WIDTH)


def filter_length(rate: int) -> int:
    """Samples of a learned filter at a sample rate of `rate` Hz.

    >>> filter_length(16_000)
    400
    """
    return round(WINDOW * rate)


def mel_band_passes(count: int, rate: int) -> Tensor:
    """Cosines, then sines, under Hann windows of unit energy: float32 (2 * count, 1, `filter_length(rate)`).

    >>> mel_band_passes(40, 16_000).shape
    torch.Size([80, 1, 400])
    """
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (LOWEST, min(HIGHEST, 0.475 * rate)))
    centres = 700 * (10 ** (torch.linspace(low, high, count) / 2595) - 1)
    length = filter_length(rate)
    time = (torch.arange(length) - (length - 1) / 2) / rate
    window = torch.hann_window(length, periodic=False)
    phase = 2 * math.pi * centres[:, None] * time
    filters = torch.cat([phase.cos(), phase.sin()]) * window / window.square().sum().sqrt()
    return filters[:, None]


BANDS = 28
"""Bands into which the small encoders pool a spectrogram."""


class Summarised(nn.Module, ABC):
    """Statistics of an input's contours, together with convolutions over them; silent frames do not count."""

    axis: int
    """Axis of the input that the frames lie along."""

    def __init__(self, statistics: int, contours: int, settings: Model) -> None:
        super().__init__()
        self.standard = Standard(statistics)
        self.contours = Contours(contours, settings)
        self.size = self.standard.size + self.contours.size

    def forward(self, rows: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Statistics and learned path (B, size), zero without speech; `statistics` (B, S) if they are already known."""
        read = self._read(rows)
        summed_up = self._summed_up(*read) if statistics is None else statistics
        return torch.cat([self.standard(summed_up), self.contours(*read)], 1)

    def learned(self, rows: Tensor) -> Tensor:
        """The learned path (B, size - S) of rows, without dropping any."""
        return self.contours.whole(*self._read(rows))

    def statistics(self, rows: Tensor, samples: Tensor | None = None, frames: int = 0) -> Tensor:
        """Statistics (B, S) of the rows, not yet standardised; the rows themselves show which frames are real.

        Args:
            rows: the encoder's input.
            samples: number of real samples; ignored.
            frames: frames of a whole row, if the silence at its end was cut off.
        """
        silence = max(0, frames - rows.shape[self.axis])
        return self._summed_up(*(F.pad(part, (0, silence)) for part in self._read(rows)))

    @abstractmethod
    def _read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Contours (B, K, T), and a mask of the frames that count (B, 1, T)."""

    @abstractmethod
    def _summed_up(self, contours: Tensor, real: Tensor) -> Tensor:
        """Statistics (B, S) of contours (B, K, T)."""


class SmallMfcc(Summarised):
    """Encoder of MFCC frames (B, T, K)."""

    axis = 1

    def __init__(self, coefficients: int, settings: Model, rate: float) -> None:
        """Read frames of `coefficients` numbers at `rate` frames per second."""
        super().__init__(4 * coefficients, coefficients, settings)
        self.rate = rate

    def _read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        contours = rows.transpose(1, 2)
        return contours, present(contours)

    @torch.no_grad()
    def _summed_up(self, contours: Tensor, real: Tensor) -> Tensor:
        return torch.cat([summary(contours, real), trend(contours, real.expand_as(contours), self.rate)], 1)


class SmallSpectrogram(Summarised):
    """Encoder of bands of integer grey levels (B, F, T), including their modulation."""

    axis = 2

    pool: Tensor

    def __init__(self, pool: Tensor, settings: Model, rate: float) -> None:
        """Pool bins into bands by a product with `pool` (BANDS, bins), at `rate` frames per second."""
        super().__init__((3 + len(RHYTHM)) * BANDS, BANDS, settings)
        self.register_buffer("pool", pool, persistent=False)
        self.rate = rate

    def _read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(rows.device.type, enabled=False):
            return self.pool @ rows / 255, present(rows)

    @torch.no_grad()
    def _summed_up(self, contours: Tensor, real: Tensor) -> Tensor:
        return torch.cat([summary(contours, real), rhythm(contours, real, self.rate)], 1)


class Contours(nn.Module):
    """Convolutions over contours of zero mean and unit deviation; returns mean and deviation of their frames."""

    def __init__(self, count: int, settings: Model) -> None:
        super().__init__()
        width = settings.small_width
        self.layers = nn.ModuleList([Convolution(before, width) for before in (count, width, width)])
        self.dropout = nn.Dropout1d(settings.dropout)
        self.path = PathDropout(settings.small_drop)
        self.size = 2 * width

    def forward(self, contours: Tensor, real: Tensor) -> Tensor:
        """Contours (B, K, T), whose frames count where `real` (B, 1, T) is 1, to (B, 2 * small_width)."""
        return self.path(self.whole(contours, real))  # type: ignore[no-any-return]

    def whole(self, contours: Tensor, real: Tensor) -> Tensor:
        """The result of `forward` without dropping any segment."""
        hidden, real = self.dropout(centred(contours, real)).transpose(1, 2), real.transpose(1, 2)
        for layer in self.layers:
            hidden, real = layer(hidden, real)
        return torch.cat(moments(hidden.float().transpose(1, 2), real.transpose(1, 2)), 1)


def present(contours: Tensor) -> Tensor:
    """1 for frames of (B, K, T) that are not all zero, 0 for padding and masked frames; float32 (B, 1, T).

    >>> present(torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])).tolist()
    [[[1.0, 0.0]]]
    """
    return (contours.abs().amax(1, keepdim=True) > 0).float()  # several times as fast as `any` on a CPU


def bands(bins: int, count: int, hertz: float) -> Tensor:
    """Float32 (count, bins): triangular filters of unit sum over linear bins, evenly spaced on the mel scale.

    Args:
        bins: number of bins, from 0 Hz.
        count: number of bands.
        hertz: Hz from one bin to the next.

    >>> bands(200, 28, 20.0).sum(1).allclose(torch.ones(28))
    True
    """
    mel = torch.linspace(0, math.log1p(hertz * bins / 700), count + 2)
    edges = 700 / hertz * mel.expm1()
    place = torch.arange(bins)[None] + 0.5
    low, peak, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangle = torch.minimum((place - low) / (peak - low), (high - place) / (high - peak)).clamp(min=0)
    nearest = F.one_hot(peak[:, 0].long().clamp(max=bins - 1), bins)
    triangle = torch.where(triangle.sum(1, keepdim=True) > 0, triangle, nearest.float())
    return triangle / triangle.sum(1, keepdim=True)
