"""The front end as torch modules of matrix products, which can become part of an ONNX graph.

The modules are those of `ser_pipeline.features.on_device`. A discrete Fourier transform is one product with sines and
cosines or, if this needs fewer operations, two products with twiddle factors in between (Bailey, FFTs in external or
hierarchical memory, 1990).

Shapes: B utterances, N samples (whole segments), T frames, K bins.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ser_pipeline.config import Audio, Mfcc
from ser_pipeline.features.acoustic import CHANGE
from ser_pipeline.features.on_device import MfccFront, Power, rounded


class ProductPower(Power):
    """Power of the bins of a short-time Fourier transform, by matrix products."""

    first: Tensor
    second: Tensor
    cosine: Tensor
    sine: Tensor
    filled: Tensor

    def __init__(self, window: NDArray[np.float32], n: int, hop: int, bins: int) -> None:
        """Compute the tables of the transform; the arguments are those of `Power`."""
        super().__init__(window, n, hop, bins)
        self.columns = _columns(n, len(window), bins)
        if self.columns == 1:
            self._direct(window, n)
        else:
            self._in_two(window, n)

    def _direct(self, window: NDArray[np.float32], n: int) -> None:
        angles = 2 * np.pi / n * np.outer(np.arange(self.length), np.arange(self.bins))
        self.keep("first", window[:, None] * np.concatenate([np.cos(angles), -np.sin(angles)], 1))

    def _in_two(self, window: NDArray[np.float32], n: int) -> None:
        rows, columns = n // self.columns, self.columns
        self.rest = n - self.length
        self.keep("filled", np.pad(window, (0, self.rest)))
        inner = 2 * np.pi / rows * np.outer(np.arange(rows), np.arange(rows))
        self.keep("first", np.concatenate([np.cos(inner), -np.sin(inner)], 1))  # (rows, 2 rows)
        turn = 2 * np.pi / n * np.outer(np.arange(rows), np.arange(columns))
        self.keep("cosine", np.cos(turn))
        self.keep("sine", -np.sin(turn))
        wanted = -(-self.bins // rows)
        outer = 2 * np.pi / columns * np.outer(np.arange(columns), np.arange(wanted))
        real, imaginary = np.cos(outer), -np.sin(outer)
        self.keep("second", np.block([[real, imaginary], [-imaginary, real]]))  # (2 columns, 2 wanted)

    def forward(self, padded: Tensor) -> Tensor:
        """Return the power (B, T, K) of signals (B, before + T hop + after)."""
        frames = self._frames(padded)
        return self._product(frames) if self.columns == 1 else self._products(frames)

    def _frames(self, padded: Tensor) -> Tensor:
        """Return the frames (B, T, length)."""
        count = (padded.shape[1] - self.before - self.after) // self.hop
        parts = -(-self.length // self.hop)
        whole = F.pad(padded, (0, (parts - 1) * self.hop - self.before - self.after))
        blocks = whole.reshape(padded.shape[0], -1, self.hop)
        joined = torch.cat([blocks[:, first : first + count] for first in range(parts)], 2)
        return joined[..., : self.length]

    def _product(self, frames: Tensor) -> Tensor:
        real, imaginary = (frames @ self.first).chunk(2, 2)
        return real * real + imaginary * imaginary

    def _products(self, frames: Tensor) -> Tensor:
        windowed = F.pad(frames, (0, self.rest)) * self.filled  # sample j = columns a + b
        inner = (
            windowed.reshape(*windowed.shape[:2], -1, self.columns).transpose(2, 3) @ self.first
        )  # (B, T, b, 2 rows)
        real, imaginary = (part.transpose(2, 3) for part in inner.chunk(2, 3))  # (B, T, rows, b)
        turned = [real * self.cosine - imaginary * self.sine, real * self.sine + imaginary * self.cosine]
        outer = torch.cat(turned, 3) @ self.second  # (B, T, rows, 2 wanted)
        real, imaginary = outer.chunk(2, 3)
        power = (real * real + imaginary * imaginary).transpose(2, 3)  # bin k = row + rows wanted
        return power.flatten(2)[..., : self.bins]


class DeltaFront(MfccFront):
    """MFCC with deltas of whole utterances, as in `mfcc_rows`: rows (B, T, size)."""

    fits: Tensor

    def __init__(self, audio: Audio, settings: Mfcc, transform: type[Power] = ProductPower) -> None:
        """Compute the tables.

        Args:
            audio: has the sampling rate and the hop.
            settings: settings of the MFCC.
            transform: class that computes the power.
        """
        from scipy.signal import savgol_coeffs

        super().__init__(audio, replace(settings, deltas=0), transform)
        orders = range(1, settings.deltas + 1)
        fits = np.stack([savgol_coeffs(CHANGE, order, deriv=order, use="dot") for order in orders])
        self.register_buffer("fits", torch.from_numpy(fits.astype(np.float32)), persistent=False)

    def finished(self, coefficients: Tensor, real: Tensor) -> Tensor:
        """Append the deltas to coefficients (B, T, n_mfcc), float32.

        A delta is a derivative of the polynomial that is fitted to the surrounding frames. The first and last frames of
        an utterance have the delta of the nearest frame with enough frames on both sides. Utterances with fewer frames
        than a fit needs are extended by repeating their first and last frame.
        """
        count, half = real.sum(1), CHANGE // 2
        place = torch.arange(coefficients.shape[1], device=coefficients.device)[None]
        inside = torch.minimum(place.clamp(min=half), count - 1 - half)
        middle = torch.where(count >= CHANGE, inside, place)[..., None]
        around = middle + torch.arange(-half, half + 1, device=place.device)
        around = torch.minimum(around.clamp(min=0), count[..., None] - 1).flatten(1)[..., None]
        taken = coefficients.gather(1, around.expand(-1, -1, coefficients.shape[2]))
        taken = taken.reshape(coefficients.shape[0], -1, CHANGE, coefficients.shape[2])
        changes = [(taken * fit[:, None]).sum(2) for fit in self.fits]
        return super().finished(torch.cat([coefficients, *changes], 2), real)


def _columns(n: int, length: int, bins: int) -> int:
    """Return the number of columns of a transform by two products; 1 if a single product needs fewer operations."""
    rows = max(number for number in range(1, math.isqrt(n) + 1) if n % number == 0)
    columns, wanted = n // rows, -(-bins // rows)
    in_two = 2 * n * rows + 4 * n * wanted
    return columns if rows > 1 and in_two < 2 * length * bins else 1


def waveform_front(signal: Tensor, segment: int) -> Tensor:
    """Convert signals (B, S segment) to the rows of `waveform_rows`, float32 (B S, 1 + segment)."""
    whole = rounded(signal)
    before = F.pad(whole, (1, 0))[:, :-1].reshape(-1, segment)[:, :1]
    return torch.cat([before, whole.reshape(-1, segment)], 1)
