"""Acoustic features as torch modules, on any device: for stored waveforms and for the samples of recordings.

The values equal those of `ser_pipeline.features.acoustic` up to rounding, which the tests check: a grey level may
differ by one where float32 falls on the other side of a step. The ONNX graph uses the same modules, with a transform
that consists of plain products (`ser_pipeline.export.front`).

Shapes: B utterances or segments, N samples (whole segments), T frames, K bins or bands, P samples including the
padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.arrays import FULL_SCALE
from ser_pipeline.config import Audio, LogMel, Mfcc, Spectrogram
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.tables import DECIBELS, FLOOR, Sums, dct, hamming, hann, mel_triangles


class Power(nn.Module):
    """Power of the bins of a short-time Fourier transform."""

    window: Tensor

    def __init__(self, window: NDArray[np.float32], n: int, hop: int, bins: int) -> None:
        """Build the tables of the transform.

        Args:
            window: at most `n` values, centred in a frame.
            n: points of the transform.
            hop: samples from one frame to the next.
            bins: number of bins to compute, the lowest ones.
        """
        super().__init__()
        self.n, self.hop, self.bins, self.length = n, hop, bins, len(window)
        self.before = n // 2 - (n - len(window)) // 2  # samples of the first frame before its centre
        self.after = max(0, self.length - self.before - hop)  # samples of the last frame after the last hop
        self.keep("window", window)

    def keep(self, name: str, table: NDArray[np.floating]) -> None:
        """Register a table as a buffer that is not part of the state."""
        self.register_buffer(name, torch.from_numpy(table.astype(np.float32)), persistent=False)

    def forward(self, padded: Tensor) -> Tensor:
        """Power (B, T, K) of signals (B, before + T hop + after)."""
        return self.lowest(padded, self.bins)

    def lowest(self, padded: Tensor, count: int) -> Tensor:
        """Power of the `count` lowest bins."""
        frames = (padded.shape[1] - self.before - self.after) // self.hop
        windows = padded.unfold(1, self.length, self.hop)[:, :frames]
        return squared(torch.fft.rfft(windows * self.window, self.n)[..., :count])


class Bands(nn.Module):
    """Natural logarithms of a signal's bands or bins, with the pre-emphasis and padding that come before them."""

    def __init__(self, power: Power, pre_emphasis: float, pad_mode: str) -> None:
        """Keep the transform and the settings.

        Args:
            power: the transform.
            pre_emphasis: a in y[t] = x[t] - a x[t-1].
            pad_mode: padding around the utterance: "constant" for silence, or "reflect".
        """
        super().__init__()
        self.power, self.pre_emphasis, self.pad_mode = power, pre_emphasis, pad_mode
        self.before, self.after = power.before, power.after

    def logarithms(self, padded: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms (B, T, K) of padded signals, and the largest of each frame (B, T, 1)."""
        raise NotImplementedError

    def kept(self, padded: Tensor) -> Tensor:
        """Logarithms (B, T, K) of padded signals, for callers that know the loudest value."""
        raise NotImplementedError

    def forward(self, signal: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms and largest of each frame for whole utterances (B, N) of `samples` (B,), 0 after their end."""
        if self.pre_emphasis:
            emphasised = signal - self.pre_emphasis * F.pad(signal, (1, 0))[:, :-1]
            signal = emphasised * (torch.arange(signal.shape[1], device=signal.device) < samples[:, None])
        if self.pad_mode == "reflect":
            return self.logarithms(_reflected(signal, samples, self.before, self.after))
        return self.logarithms(F.pad(signal, (self.before, self.after)))


class MelBands(Bands):
    """Mel bands, as in `acoustic.mel_logarithms`."""

    filters: Tensor

    def __init__(self, audio: Audio, settings: Mfcc | LogMel, transform: type[Power] = Power) -> None:
        """Build the tables.

        Args:
            audio: sample rate and hop.
            settings: settings of the mel bands.
            transform: class that computes the power.
        """
        bins = settings.n_fft // 2  # all but the last, which no filter uses: products of such rows are faster
        power = transform(hann(settings.n_fft), settings.n_fft, audio.hop, bins)
        super().__init__(power, settings.pre_emphasis, settings.pad_mode)
        filters = matrix(mel_triangles(audio.rate, settings.n_fft, settings.n_mels), bins + 1)
        self.register_buffer("filters", torch.from_numpy(filters[:bins]), persistent=False)

    def logarithms(self, padded: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms (B, T, K) of padded signals, and the largest of each frame (B, T, 1)."""
        logs = self.kept(padded)
        return logs, logs.amax(2, keepdim=True)

    def kept(self, padded: Tensor) -> Tensor:
        """Logarithms (B, T, K) of padded signals."""
        bands: Tensor = self.power(padded) @ self.filters
        return bands.clamp(min=float(FLOOR)).log()


class LowestBins(Bands):
    """Bins, as in `acoustic.bins`: the lowest are kept, and all of them count for the largest."""

    def __init__(self, audio: Audio, settings: Spectrogram, transform: type[Power] = Power) -> None:
        """Build the tables.

        Args:
            audio: sample rate and hop.
            settings: settings of the spectrogram.
            transform: class that computes the power.
        """
        power = transform(hamming(settings.window), settings.n_fft, audio.hop, settings.n_fft // 2 + 1)
        super().__init__(power, settings.pre_emphasis, settings.pad_mode)
        self.lowest = settings.bins

    def logarithms(self, padded: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms (B, T, K) of padded signals, and the largest of each frame (B, T, 1)."""
        power = self.power(padded).clamp(min=float(FLOOR))
        return power[..., : self.lowest].log(), power.amax(2, keepdim=True).log()

    def kept(self, padded: Tensor) -> Tensor:
        """Logarithms (B, T, K) of padded signals."""
        return self.power.lowest(padded, self.lowest).clamp(min=float(FLOOR)).log()


class Front(nn.Module):
    """Front end of one feature: turns logarithms of bands or bins into rows."""

    def __init__(self, bands: Bands) -> None:
        """Keep the bands or bins."""
        super().__init__()
        self.bands = bands

    def rows(self, logs: Tensor, loudest: Tensor, real: Tensor) -> Tensor:
        """Rows of logarithms (B, T, K), 0 in frames that are not `real` (B, T, 1).

        Args:
            logs: logarithms of the bands or bins.
            loudest: the largest logarithm of each utterance (B, 1, 1).
            real: True for real frames.
        """
        raise NotImplementedError

    def forward(self, signal: Tensor, samples: Tensor, real: Tensor) -> Tensor:
        """Rows of whole utterances (B, N) of `samples` (B,), 0 in frames that are not `real` (B, T, 1).

        Args:
            signal: float32, -1 to 1.
            samples: number of real samples.
            real: True for real frames.
        """
        logs, largest = self.bands(signal, samples)
        return self.rows(logs, loudest_of(largest, real), real)


class MfccFront(Front):
    """Rows (B, T, n_mfcc), as in `mfcc_rows`, rounded to float16 as stores keep them."""

    waves: Tensor

    def __init__(self, audio: Audio, settings: Mfcc, transform: type[Power] = Power) -> None:
        """Build the tables.

        Args:
            audio: sample rate and hop.
            settings: settings of the MFCCs.
            transform: class that computes the power.

        Raises:
            PipelineError: deltas are requested, which need frames beyond the segment.
        """
        if settings.deltas:
            raise PipelineError("features.mfcc.deltas span segments, so they are stored and not computed per segment")
        super().__init__(MelBands(audio, settings, transform))
        self.range = settings.top_db / float(DECIBELS)
        self.register_buffer("waves", torch.from_numpy(dct(settings.n_mfcc, settings.n_mels)), persistent=False)

    def rows(self, logs: Tensor, loudest: Tensor, real: Tensor) -> Tensor:
        """Rows (B, T, n_mfcc) of logarithms: see `Front.rows`.

        Args:
            logs: logarithms of the mel bands.
            loudest: the largest logarithm of each utterance.
            real: True for real frames.
        """
        return self.finished(torch.maximum(logs, loudest - self.range) @ self.waves, real)

    def finished(self, coefficients: Tensor, real: Tensor) -> Tensor:
        """Rows of coefficients (B, T, n_mfcc), rounded to float16, returned as float32."""
        return coefficients.half().float() * real


class ImageFront(Front):
    """Grey levels (B, K, T), integers from 0 to 255, as in `spectrogram_rows` and `logmel_rows`."""

    def __init__(self, audio: Audio, settings: Spectrogram | LogMel, transform: type[Power] = Power) -> None:
        """Build the tables.

        Args:
            audio: sample rate and hop.
            settings: settings of the image.
            transform: class that computes the power.
        """
        if isinstance(settings, LogMel):
            super().__init__(MelBands(audio, settings, transform))
        else:
            super().__init__(LowestBins(audio, settings, transform))
        self.steps = float(DECIBELS * np.float32(255 / settings.top_db))

    def rows(self, logs: Tensor, loudest: Tensor, real: Tensor) -> Tensor:
        """Rows (B, K, T) of logarithms (B, T, K), 0 in frames that are not `real` (B, T, 1).

        Args:
            logs: logarithms of the bands or bins.
            loudest: the largest logarithm of each utterance (B, 1, 1).
            real: True for real frames.
        """
        levels = logs * self.steps + (255 - loudest * self.steps)
        return (levels.clamp(0, 255).floor() * real).transpose(1, 2)


FRONTS: Mapping[str, Callable[..., Front]] = {"mfcc": MfccFront, "spectrogram": ImageFront, "logmel": ImageFront}
"""Feature -> its module."""


def loudest_of(largest: Tensor, real: Tensor) -> Tensor:
    """The largest (B, 1, 1) of values (B, T, 1) in frames that are `real` (B, T, 1)."""
    return largest.masked_fill(~real, -torch.inf).amax((1, 2), keepdim=True)


def squared(spectrum: Tensor) -> Tensor:
    """Power of complex numbers, with the fewest passes over memory that the device offers."""
    if spectrum.is_cuda:  # on a CPU, the square root in `abs` would take seconds
        return spectrum.abs().square_()
    return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)


def rounded(waveform: Tensor) -> Tensor:
    """Round samples to the values of int16: whole float32 numbers from -32768 to 32767."""
    return (waveform * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1)


def matrix(sums: Sums, bins: int) -> NDArray[np.float32]:
    """Convert weighted sums of bins to a matrix (bins, K)."""
    found, used = np.zeros((bins, len(sums.first)), np.float32), 0
    for band, (first, count) in enumerate(zip(sums.first, sums.bins, strict=True)):
        found[first : first + count, band] = sums.weights[used : used + count]
        used += count
    return found


def _reflected(signal: Tensor, samples: Tensor, before: int, after: int) -> Tensor:
    """Pad signals (B, N) by mirroring their real samples at both ends: (B, before + N + after)."""
    place = (torch.arange(before + signal.shape[1] + after, device=signal.device) - before).abs()[None]
    last = samples.long()[:, None] - 1
    place = torch.where(place > last, 2 * last - place, place).clamp(min=0)
    return signal.gather(1, torch.minimum(place, last.clamp(min=0)))
