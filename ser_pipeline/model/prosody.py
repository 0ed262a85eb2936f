"""Prosody of a waveform: pitch, loudness, voice quality and their statistics, with nothing learned.

MFCCs lack these measures, in which acted emotions differ most. The descriptors follow eGeMAPS (Eyben et al., IEEE
Transactions on Affective Computing, 2016). Shapes: B batch, N samples, T frames, F frequency bins, K descriptors,
S statistics.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.model.contours import moments, quantiles, trend

FRAME, HOP = 0.040, 0.020  # seconds
LOWEST, HIGHEST = 60.0, 500.0  # Hz: range of the pitch
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)  # quantiles of every descriptor
SPEECH = 35.0  # dB below the loudest frame: quieter frames are pauses
VOICED = 0.5  # autocorrelation at the pitch period above which a frame is voiced
SHORT = 9.6  # per second: preference for shorter lags, against octave errors
QUIET = 1e-4  # power, for speech of unit power: floor of logarithms

DESCRIPTORS = ("pitch", "level", "voicing", "harmonicity", "alpha", "hammarberg", "brightness", "centroid", "flux")
"""Order of the contours; the pitch counts only in voiced frames, the others in all frames except pauses."""


class Prosody(nn.Module):
    """Statistics (B, S) of the prosody of a waveform (B, N)."""

    window: Tensor
    taper: Tensor

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.rate, self.frame, self.hop = rate, round(FRAME * rate), round(HOP * rate)
        self.shortest, self.longest = int(rate / HIGHEST), int(rate / LOWEST)
        self.points = 2 ** math.ceil(math.log2(self.frame + self.longest + 2))
        window = torch.hann_window(self.frame, periodic=False)
        taper = torch.fft.irfft(torch.fft.rfft(window, self.points).abs().square())[: self.longest + 2]
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("taper", taper / taper[0], persistent=False)
        self.size = len(DESCRIPTORS) * (4 + len(SHARES)) + 5

    @torch.no_grad()
    def forward(self, waveform: Tensor, samples: Tensor) -> Tensor:
        """Float32 (B, N) with `samples` (B,) real samples to float32 (B, S), independent of the level."""
        contours, real, speech, voiced = self.contours(waveform, samples)
        weights = torch.cat([voiced, speech.expand(-1, len(DESCRIPTORS) - 1, -1)], 1)
        return torch.cat(
            [_summary(contours, weights, self.rate / self.hop), _shares(contours, real, speech, voiced)], 1
        )

    def contours(self, waveform: Tensor, samples: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Descriptors (B, K, T), and weights (B, 1, T) of real frames, of speech and of voiced speech."""
        frames = _level(waveform, samples).unfold(1, self.frame, self.hop)  # (B, T, frame)
        first = torch.arange(frames.shape[1], device=samples.device) * self.hop
        real = ((first + self.frame <= samples[:, None]) | (first == 0)).float()
        power = self._power(frames)
        level = 10 * torch.log10(power.mean(2) / self.window.square().sum() + QUIET)
        loudest = level.masked_fill(real == 0, -torch.inf).amax(1, keepdim=True)
        speech = (level > loudest - SPEECH) * real
        pitch, voicing = self._pitch(power)
        voiced = torch.sigmoid((voicing - VOICED) * 20) * speech
        harmonicity = 10 * torch.log10(voicing.clamp(0.05, 0.99) / (1 - voicing.clamp(0.05, 0.99)))
        contours = torch.stack([pitch, level, voicing, harmonicity, *self._colour(power)], 1)
        return contours, real[:, None], speech[:, None], voiced[:, None]

    def _power(self, frames: Tensor) -> Tensor:
        """Power (B, T, F) of the windowed spectrum of frames (B, T, frame)."""
        spectrum = torch.fft.rfft(frames * self.window, self.points)
        power: Tensor = spectrum.real.square() + spectrum.imag.square()
        return power

    def _pitch(self, power: Tensor) -> tuple[Tensor, Tensor]:
        """Pitch in semitones above 100 Hz, and its strength from 0 to 1, both (B, T), from power (B, T, F).

        The pitch is the highest peak of the autocorrelation divided by the window's. Source: Boersma, IFA Proceedings
        17, 1993.
        """
        lags = torch.fft.irfft(power)[..., : self.longest + 2]
        lags = lags / (lags[..., :1] + 1e-3) / self.taper
        places = torch.arange(self.shortest, self.longest + 1, device=power.device)
        best = (lags[..., self.shortest : -1] - places * (SHORT / self.rate)).argmax(2, keepdim=True) + self.shortest
        before, peak, after = (lags.gather(2, best + step)[..., 0] for step in (-1, 0, 1))
        shift = (before - after) / (2 * (before - 2 * peak + after) - 1e-6)
        period = best[..., 0] + shift.clamp(-0.5, 0.5)
        return 12 * torch.log2(self.rate / 100 / period), peak.clamp(0, 1)

    def _colour(self, power: Tensor) -> list[Tensor]:
        """Balances of low and high bands in dB, centroid in octaves relative to 1 kHz, and flux, each (B, T)."""
        place = torch.arange(power.shape[2], device=power.device) * (self.rate / self.points)

        def band(low: float, high: float) -> Tensor:
            first, last = (math.ceil(edge * self.points / self.rate) for edge in (low, high))
            first = min(first, power.shape[2] - 1)  # for sample rates that are too low for the band
            return 10 * torch.log10(power[..., first:last].mean(2) + 1e-3)

        centroid = (power * place).sum(2) / power.sum(2).clamp(min=1e-3) / 1000
        shape = torch.log(power[..., : self.points // 4].reshape(*power.shape[:2], -1, 4).mean(3) + 1e-2)
        flux = F.pad((shape[:, 1:] - shape[:, :-1]).abs().mean(2), (1, 0))
        balances = [
            band(50, 1000) - band(1000, 5000),
            band(0, 2000) - band(2000, 5000),
            band(1000, 4000) - band(4000, 8000),
        ]
        return [*balances, torch.log2(centroid + 0.1), flux]


def _level(waveform: Tensor, samples: Tensor) -> Tensor:
    """Waveforms (B, N) with zero mean and unit power over their real samples (B,), 0 after them."""
    real = torch.arange(waveform.shape[1], device=samples.device) < samples[:, None]
    count = samples.clamp(min=1)[:, None]
    signal = (waveform - (waveform * real).sum(1, keepdim=True) / count) * real
    return signal / torch.sqrt(signal.square().sum(1, keepdim=True) / count + 1e-7)


def _summary(contours: Tensor, weights: Tensor, rate: float) -> Tensor:
    """Mean, deviation, deviation of the change, slope and quantiles of each contour: (B, 9 K) from (B, K, T).

    Args:
        contours: (B, K, T).
        weights: weights of their frames (B, K, T).
        rate: frames per second.
    """
    mean, deviation = moments(contours, weights)
    slope, both = contours[..., 2:] - contours[..., :-2], weights[..., 2:] * weights[..., :-2]
    found = torch.stack([mean, deviation, moments(slope, both)[1], trend(contours, weights, rate)], 2)  # (B, K, 4)
    return torch.cat([found, quantiles(contours, weights, SHARES)], 2).flatten(1)


def _shares(contours: Tensor, real: Tensor, speech: Tensor, voiced: Tensor) -> Tensor:
    """Shares of voiced frames and of speech, voiced stretches per 100 frames, jitter and shimmer: (B, 5)."""
    frames = real.sum(2).clamp(min=1)
    both = voiced[..., 1:] * voiced[..., :-1]
    starts = (voiced[..., 1:] - voiced[..., :-1]).clamp(min=0).sum(2)
    change = (contours[:, :2, 1:] - contours[:, :2, :-1]).abs().clamp(max=12)
    unsteady = (change * both).sum(2) / both.sum(2).clamp(min=1)
    return torch.cat([voiced.sum(2) / frames, speech.sum(2) / frames, 100 * starts / frames, unsteady], 1)
