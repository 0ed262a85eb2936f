"""The front end as torch modules of plain products, so that it becomes a part of an ONNX graph.

The values are those of `ser_pipeline.features`, which the tests hold it to, but for rounding: a grey level may differ
by one where float32 falls on the other side of a step. Discrete Fourier transforms are one product with sines and
cosines, or, where that is less work, two with a turn between them (Bailey, FFTs in external or hierarchical memory,
1990).

Shapes: B utterances, N samples (whole segments), S segments, L frames of a segment, T = S L frames, K bins or bands.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.config import Audio, LogMel, Mfcc, Spectrogram
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.acoustic import DECIBELS, dct, hamming, hann, mel_triangles
from ser_pipeline.features.fourier import FLOOR, Sums

FULL_SCALE = 32_768.0
"""The size of the loudest int16 sample, which stands for 1.0."""


class Power(nn.Module):
    """Power of the bins of a short-time Fourier transform, centred on every hop."""

    window: Tensor
    first: Tensor
    second: Tensor
    cosine: Tensor
    sine: Tensor

    def __init__(self, window: NDArray[np.float32], n: int, hop: int, bins: int, pad_mode: str = "constant") -> None:
        """Make the tables of the transform.

        Args:
            window: at most `n` numbers, in the middle of a frame.
            n: points of the transform.
            hop: samples from a frame to the next.
            bins: how many of the lowest are wanted.
            pad_mode: "constant" or "reflect".
        """
        super().__init__()
        self.hop, self.bins, self.length, self.pad_mode = hop, bins, len(window), pad_mode
        self.margin = n // 2 - (n - len(window)) // 2
        self.columns = _columns(n, len(window), bins)
        if self.columns == 1:
            self._direct(window, n)
        else:
            self._in_two(window, n)

    def _direct(self, window: NDArray[np.float32], n: int) -> None:
        angles = 2 * np.pi / n * np.outer(np.arange(self.length), np.arange(self.bins))
        self._keep("first", window[:, None] * np.concatenate([np.cos(angles), -np.sin(angles)], 1))

    def _in_two(self, window: NDArray[np.float32], n: int) -> None:
        rows, columns = n // self.columns, self.columns
        self.rest = n - self.length
        self._keep("window", np.pad(window, (0, self.rest)))
        inner = 2 * np.pi / rows * np.outer(np.arange(rows), np.arange(rows))
        self._keep("first", np.concatenate([np.cos(inner), -np.sin(inner)], 1))  # (rows, 2 rows)
        turn = 2 * np.pi / n * np.outer(np.arange(rows), np.arange(columns))
        self._keep("cosine", np.cos(turn))
        self._keep("sine", -np.sin(turn))
        wanted = -(-self.bins // rows)
        outer = 2 * np.pi / columns * np.outer(np.arange(columns), np.arange(wanted))
        real, imaginary = np.cos(outer), -np.sin(outer)
        self._keep("second", np.block([[real, imaginary], [-imaginary, real]]))  # (2 columns, 2 wanted)

    def _keep(self, name: str, table: NDArray[np.floating]) -> None:
        self.register_buffer(name, torch.from_numpy(table.astype(np.float32)), persistent=False)

    def forward(self, signal: Tensor, samples: Tensor | None, before: Tensor | None = None) -> Tensor:
        """Power (B, T, K) of signals (B, T hop).

        Args:
            signal: 0 after the real samples.
            samples: real samples (B,); None where nothing is reflected.
            before: what stands before the signals (B, margin); None: what `pad_mode` says.
        """
        frames = self._frames(signal, samples, before)
        return self._product(frames) if self.columns == 1 else self._products(frames)

    def _frames(self, signal: Tensor, samples: Tensor | None, before: Tensor | None) -> Tensor:
        """The frames (B, T, length)."""
        parts = -(-self.length // self.hop)
        after = (parts - 1) * self.hop - self.margin
        if before is not None:
            padded = F.pad(torch.cat([before, signal], 1), (0, after))
        elif self.pad_mode == "reflect" and samples is not None:
            padded = _reflected(signal, samples, self.margin, after)
        else:
            padded = F.pad(signal, (self.margin, after))
        blocks = padded.reshape(signal.shape[0], -1, self.hop)
        count = signal.shape[1] // self.hop
        joined = torch.cat([blocks[:, first : first + count] for first in range(parts)], 2)
        return joined[..., : self.length]

    def _product(self, frames: Tensor) -> Tensor:
        real, imaginary = (frames @ self.first).chunk(2, 2)
        return real * real + imaginary * imaginary

    def _products(self, frames: Tensor) -> Tensor:
        windowed = F.pad(frames, (0, self.rest)) * self.window  # sample j = columns a + b
        inner = (
            windowed.reshape(*windowed.shape[:2], -1, self.columns).transpose(2, 3) @ self.first
        )  # (B, T, b, 2 rows)
        real, imaginary = (part.transpose(2, 3) for part in inner.chunk(2, 3))  # (B, T, rows, b)
        turned = [real * self.cosine - imaginary * self.sine, real * self.sine + imaginary * self.cosine]
        outer = torch.cat(turned, 3) @ self.second  # (B, T, rows, 2 wanted)
        real, imaginary = outer.chunk(2, 3)
        power = (real * real + imaginary * imaginary).transpose(2, 3)  # bin k = row + rows wanted
        return power.flatten(2)[..., : self.bins]


def _columns(n: int, length: int, bins: int) -> int:
    """Columns of a transform of two products; 1 where one product is less work."""
    rows = max(number for number in range(1, math.isqrt(n) + 1) if n % number == 0)
    columns, wanted = n // rows, -(-bins // rows)
    in_two = 2 * n * rows + 4 * n * wanted
    return columns if rows > 1 and in_two < 2 * length * bins else 1


def _reflected(signal: Tensor, samples: Tensor, before: int, after: int) -> Tensor:
    """Signals (B, N) with their real samples turned round at both ends; (B, before + N + after)."""
    place = (torch.arange(before + signal.shape[1] + after, device=signal.device) - before).abs()[None]
    last = samples.long()[:, None] - 1
    place = torch.where(place > last, 2 * last - place, place).clamp(min=0)
    return signal.gather(1, torch.minimum(place, last.clamp(min=0)))


class Emphasis(nn.Module):
    """`y[t] = x[t] - coefficient x[t-1]`, 0 after the end."""

    def __init__(self, coefficient: float) -> None:
        super().__init__()
        self.coefficient = coefficient

    def forward(self, signal: Tensor, samples: Tensor) -> Tensor:
        """Signals (B, N) of `samples` (B,)."""
        if not self.coefficient:
            return signal
        changed = signal - self.coefficient * F.pad(signal, (1, 0))[:, :-1]
        return changed * (torch.arange(signal.shape[1], device=signal.device) < samples[:, None])


class MelLogarithms(nn.Module):
    """Natural logarithms of mel bands' power."""

    filters: Tensor

    def __init__(self, audio: Audio, settings: Mfcc | LogMel) -> None:
        super().__init__()
        bins = settings.n_fft // 2 + 1
        self.emphasis = Emphasis(settings.pre_emphasis)
        self.power = Power(hann(settings.n_fft), settings.n_fft, audio.hop, bins, settings.pad_mode)
        filters = matrix(mel_triangles(audio.rate, settings.n_fft, settings.n_mels), bins)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)

    def forward(self, signal: Tensor, samples: Tensor) -> Tensor:
        """Logarithms (B, T, K) of signals (B, N) of `samples` (B,)."""
        power = self.power(self.emphasis(signal, samples), samples)
        return (power @ self.filters).clamp(min=float(FLOOR)).log()  # type: ignore[no-any-return]


class MfccFront(nn.Module):
    """What `mfcc_rows` makes: rows (B, T, n_mfcc), rounded to float16 as stores keep them."""

    waves: Tensor

    def __init__(self, audio: Audio, settings: Mfcc) -> None:
        super().__init__()
        if settings.deltas:
            raise PipelineError("features.mfcc.deltas have no ONNX form yet; export without --onnx")
        self.logarithms = MelLogarithms(audio, settings)
        self.range = settings.top_db / float(DECIBELS)
        self.register_buffer("waves", torch.from_numpy(dct(settings.n_mfcc, settings.n_mels)), persistent=False)

    def forward(self, signal: Tensor, samples: Tensor, real: Tensor) -> Tensor:
        """Rows of signals (B, N) of `samples` (B,), 0 in frames that are not `real` (B, T, 1).

        Args:
            signal: float32, -1 to 1.
            samples: real samples.
            real: True for real frames.
        """
        logs = self.logarithms(signal, samples)
        loudest = loudest_of(logs, real)
        clipped = torch.maximum(logs, loudest - self.range)
        return (clipped @ self.waves).half().float() * real


class ImageFront(nn.Module):
    """What `spectrogram_rows` and `logmel_rows` make: grey levels (B, K, T), whole numbers from 0 to 255."""

    def __init__(self, audio: Audio, settings: Spectrogram | LogMel) -> None:
        super().__init__()
        self.mel = isinstance(settings, LogMel)
        self.steps = float(DECIBELS * np.float32(255 / settings.top_db))
        self.emphasis = Emphasis(settings.pre_emphasis)
        if isinstance(settings, LogMel):
            self.source: nn.Module = MelLogarithms(audio, settings)
        else:
            window, self.kept = hamming(settings.window), settings.bins
            self.source = Power(window, settings.n_fft, audio.hop, settings.n_fft // 2 + 1, settings.pad_mode)

    def forward(self, signal: Tensor, samples: Tensor, real: Tensor) -> Tensor:
        """Rows of signals (B, N) of `samples` (B,), 0 in frames that are not `real` (B, T, 1).

        Args:
            signal: float32, -1 to 1.
            samples: real samples.
            real: True for real frames.
        """
        if self.mel:
            logs = self.source(signal, samples)
            loudest = loudest_of(logs, real)
        else:
            power = self.source(self.emphasis(signal, samples), samples).clamp(min=float(FLOOR))
            loudest, logs = loudest_of(power, real).log(), power[..., : self.kept].log()
        levels = logs * self.steps + (255 - loudest * self.steps)
        return (levels.clamp(0, 255).floor() * real).transpose(1, 2)  # type: ignore[no-any-return]


def loudest_of(values: Tensor, real: Tensor) -> Tensor:
    """The largest (B, 1, 1) of values (B, T, K) in frames that are `real` (B, T, 1)."""
    return values.masked_fill(~real, -torch.inf).amax((1, 2), keepdim=True)


def rounded(waveform: Tensor) -> Tensor:
    """Samples as int16 holds them, in whole float32 numbers from -32768 to 32767."""
    return (waveform * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1)


def waveform_front(signal: Tensor, segment: int) -> Tensor:
    """What `waveform_rows` makes of signals (B, S segment), float32: (B S, 1 + segment)."""
    whole = rounded(signal)
    before = F.pad(whole, (1, 0))[:, :-1].reshape(-1, segment)[:, :1]
    return torch.cat([before, whole.reshape(-1, segment)], 1)


def matrix(sums: Sums, bins: int) -> NDArray[np.float32]:
    """Weighted sums of bins as a matrix (bins, K)."""
    found, used = np.zeros((bins, len(sums.first)), np.float32), 0
    for band, (first, count) in enumerate(zip(sums.first, sums.bins, strict=True)):
        found[first : first + count, band] = sums.weights[used : used + count]
        used += count
    return found
