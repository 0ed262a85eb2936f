"""Statistics of the real frames of contours: the starting point of the small encoders.

With a few hundred utterances, means and deviations of plain descriptors generalise to unseen speakers better than
anything learned, as openSMILE's functionals show (Eyben et al., ACM MM 2010). The small encoders add a learned path.
Shapes: B batch, K contours, T frames, S statistics.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

LIMIT = 5.0
"""Standardised statistics are clipped to this many deviations, against other corpora and broken recordings."""

CONSTANT = 1e-6
"""Fraction of a mean below which a deviation is considered rounding error."""

SMALLEST = 1e-30
"""Smallest variance of statistics whose magnitudes differ widely."""

FLOOR = 1e-5
"""Added to a variance before its square root, so that a constant contour has a gradient."""

SPAN = 5.12  # seconds: minimum length of the Fourier transform over a contour
SHORTEST = 1e-2  # s^2: variance of time below which a slope is damped
RHYTHM = ((1.0, 2.5), (2.5, 5.0), (5.0, 9.0), (9.0, 16.0), (16.0, 30.0))
"""Modulation bands of a contour in Hz; syllables occur at 3 to 8 Hz."""


class Standard(nn.Module):
    """Standardises statistics (B, S) by the mean and deviation of a fold's training rows; the identity before `fit`."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int, scaled: bool = False) -> None:
        """Start with the identity.

        Args:
            size: S.
            scaled: whether the statistics' magnitudes differ widely, so that no single minimum suits all deviations.
        """
        super().__init__()
        self.size, self.scaled = size, scaled
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    @torch.no_grad()
    def fit(self, parts: Iterable[Tensor]) -> None:
        """Compute mean and deviation of the statistics (B, S) of all batches."""
        count, total, squares = 0, torch.zeros(self.size).double(), torch.zeros(self.size).double()
        for part in parts:
            rows = part.cpu().double()
            count, total, squares = count + len(rows), total + rows.sum(0), squares + rows.square().sum(0)
        mean = total / count
        self.mean.copy_(mean)
        least = (CONSTANT * mean).square() + SMALLEST if self.scaled else torch.full_like(mean, FLOOR)
        self.deviation.copy_(torch.maximum(squares / count - mean.square(), least).sqrt())

    def forward(self, statistics: Tensor) -> Tensor:
        """Standardise and clip statistics (B, S)."""
        return ((statistics - self.mean) / self.deviation).clamp(-LIMIT, LIMIT)


class PathDropout(nn.Module):
    """Drops a learned path (B, D) for some training segments, so that the statistics must suffice there.

    Source: stochastic depth, Huang et al., ECCV 2016, applied to the one branch that overfits. The remaining values are
    not rescaled, since the following layers are fitted to their magnitude. A share of 1 removes the path entirely.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, path: Tensor) -> Tensor:
        """The path (B, D), with whole rows set to 0 in training."""
        if self.share == 1:
            return torch.zeros_like(path)
        return path * (torch.rand_like(path[:, :1]) >= self.share) if self.training else path


def moments(contours: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, K) of contours (B, K, T) weighted by `real` (B, 1 or K, T); about 0 without frames.

    >>> mean, deviation = moments(torch.tensor([[[1.0, 3.0, 9.0]]]), torch.tensor([[[1.0, 1.0, 0.0]]]))
    >>> mean.item(), round(deviation.item(), 3)
    (2.0, 1.0)
    """
    count = real.sum(2).clamp(min=1)
    mean = (contours * real).sum(2) / count
    variance = ((contours - mean[..., None]).square() * real).sum(2) / count
    return mean, (variance + FLOOR).sqrt()


def centred(contours: Tensor, real: Tensor) -> Tensor:
    """Contours (B, K, T) with zero mean and unit deviation over the frames of `real` (B, 1, T), 0 elsewhere."""
    mean, deviation = moments(contours, real)
    return (contours - mean[..., None]) / deviation[..., None] * real


def summary(contours: Tensor, real: Tensor) -> Tensor:
    """Mean, deviation, and deviation of the change between frames: (B, 3 K) from contours (B, K, T)."""
    change, both = contours[..., 1:] - contours[..., :-1], real[..., 1:] * real[..., :-1]
    return torch.cat([*moments(contours, real), moments(change, both)[1]], 1)


def trend(contours: Tensor, weights: Tensor, rate: float) -> Tensor:
    """Slopes per second (B, K) of contours (B, K, T), by weighted least squares.

    Args:
        contours: (B, K, T).
        weights: weights of the frames (B, K, T), 0 or more.
        rate: frames per second.
    """
    time = (torch.arange(contours.shape[2], device=contours.device) / rate).expand_as(contours)
    middle, spread = moments(time, weights)
    swing = (contours - moments(contours, weights)[0][..., None]) * (time - middle[..., None]) * weights
    return swing.sum(2) / weights.sum(2).clamp(min=1) / (spread.square() + SHORTEST)


def rhythm(contours: Tensor, real: Tensor, rate: float) -> Tensor:
    """Log power of the contours' modulation in the bands of `RHYTHM`: (B, 5 K) from contours (B, K, T).

    Args:
        contours: (B, K, T).
        real: mask of the frames that count (B, 1, T).
        rate: frames per second, at least twice the highest band limit.
    """
    swing = (contours - moments(contours, real)[0][..., None]) * real
    span = 1 << (max(contours.shape[2], math.ceil(SPAN * rate)) - 1).bit_length()
    power = torch.view_as_real(torch.fft.rfft(swing, span)).square().sum(-1)
    edges = [(math.ceil(low * span / rate), math.ceil(high * span / rate)) for low, high in RHYTHM]
    bands = [power[..., first:last].mean(2) for first, last in edges]
    return torch.log(torch.cat(bands, 1) / real.sum(2).clamp(min=1) + 1e-4)


def quantiles(contours: Tensor, real: Tensor, shares: tuple[float, ...]) -> Tensor:
    """Quantiles (B, K, len(shares)) of contours (B, K, T) over the frames where `real` exceeds 0.5.

    Args:
        contours: (B, K, T).
        real: (B, K, T), above 0.5 for frames that count.
        shares: the quantiles, each 0 to 1.

    >>> quantiles(torch.tensor([[[5.0, 1.0, 3.0, 9.0]]]), torch.tensor([[[1.0, 1.0, 1.0, 0.0]]]), (0.0, 0.5)).tolist()
    [[[1.0, 3.0]]]
    """
    there = real > 0.5
    ranked = contours.masked_fill(~there, torch.inf).sort(2).values
    last = (there.sum(2) - 1).clamp(min=0)  # (B, K)
    found = ranked.gather(2, torch.stack([(last * share).round().long() for share in shares], 2))
    return found.masked_fill(~there.any(2, keepdim=True), 0.0)
