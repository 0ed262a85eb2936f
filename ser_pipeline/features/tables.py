"""Tables of the transforms, each built once: windows, mel filters, and cosines.

The compiled features, the torch modules and the ONNX graph share them. They need only numpy.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats32, Ints

DECIBELS = np.float32(10 / np.log(10))
"""Factor from natural logarithms of power to decibels."""

FLOOR = np.float32(1e-10)
"""Smallest power before the logarithm (librosa's `amin`)."""


class Sums(NamedTuple):
    """K weighted sums of neighbouring bins."""

    first: Ints  # (K,) first bin of each sum
    bins: Ints  # (K,) number of bins of each sum
    weights: Floats32  # weights of all sums, one sum after another


@lru_cache
def mel_triangles(rate: int, n_fft: int, n_mels: int) -> Sums:
    """HTK-scale triangular filters of unit area, as sums of bins.

    Source: `librosa.filters.mel(htk=True, norm="slaney")`.

    Args:
        rate: Hz of the samples.
        n_fft: points of the transform.
        n_mels: number of filters, from 0 Hz to half the rate.
    """
    hertz = np.linspace(0, rate / 2, n_fft // 2 + 1)
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return sums(np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None])


@lru_cache
def lowest_bins(count: int) -> Sums:
    """The lowest bins unchanged, as sums of one bin each."""
    return sums(np.eye(count))


def sums(weights: NDArray[np.float64]) -> Sums:
    """Convert each row of a matrix, from its first to its last nonzero number, to a sum."""
    used = weights != 0
    first, last = used.argmax(axis=1), weights.shape[1] - used[:, ::-1].argmax(axis=1)
    count = np.where(used.any(axis=1), last - first, 0)
    parts = [row[start : start + length] for row, start, length in zip(weights, first, count, strict=True)]
    return Sums(first, count, np.concatenate(parts).astype(np.float32))


@lru_cache
def hann(length: int) -> Floats32:
    """The periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


@lru_cache
def hamming(length: int) -> Floats32:
    """The periodic Hamming window."""
    return (0.54 - 0.46 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


@lru_cache
def dct(n_mfcc: int, n_mels: int) -> Floats32:
    """The first `n_mfcc` columns of the orthonormal DCT-II of bands, times `DECIBELS`; (n_mels, n_mfcc)."""
    waves = np.cos(np.pi / n_mels * np.outer(np.arange(n_mels) + 0.5, np.arange(n_mfcc)))
    waves *= np.sqrt(2 / n_mels)
    waves[:, 0] *= np.sqrt(0.5)
    return (DECIBELS * waves).astype(np.float32)
