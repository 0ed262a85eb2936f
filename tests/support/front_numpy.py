"""The front end in plain NumPy from its formulas, float64: the reference for an ONNX graph's front end."""

from __future__ import annotations

import numpy as np

from ser_pipeline.config import Audio, LogMel, Mfcc, Spectrogram

FLOOR = 1e-10


def power(samples: np.ndarray, window: np.ndarray, n: int, hop: int) -> np.ndarray:
    """Compute the power (n // 2 + 1, T) of frames centred on every hop, padded with silence."""
    padded = np.pad(samples.astype(np.float64), (n // 2, n))
    left = (n - len(window)) // 2
    frame = np.pad(window, (left, n - len(window) - left))
    starts = range(0, len(samples) + 1, hop)
    spectra = [
        np.fft.rfft(np.pad(padded[start : start + n], (0, max(0, start + n - len(padded)))) * frame) for start in starts
    ]
    return np.abs(np.array(spectra).T) ** 2


def cosine_window(length: int, rest: float) -> np.ndarray:
    """Return a periodic Hann (`rest` 0.5) or Hamming (0.54) window."""
    return rest - (1 - rest) * np.cos(2 * np.pi * np.arange(length) / length)


def mel_bands(rate: int, n: int, count: int) -> np.ndarray:
    """Return triangles (count, n // 2 + 1) of unit area, equally spaced on the HTK scale."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, count + 2) / 2595) - 1)
    hertz = np.arange(n // 2 + 1) * rate / n
    triangles = [
        np.interp(hertz, edges[band : band + 3], [0, 2 / (edges[band + 2] - edges[band]), 0]) for band in range(count)
    ]
    return np.array(triangles)


def mel_decibels(samples: np.ndarray, audio: Audio, settings: Mfcc | LogMel) -> np.ndarray:
    """Compute the mel spectrogram (n_mels, T) in dB."""
    found = power(samples, cosine_window(settings.n_fft, 0.5), settings.n_fft, audio.hop)
    return 10 * np.log10(np.maximum(mel_bands(audio.rate, settings.n_fft, settings.n_mels) @ found, FLOOR))


def mfcc(samples: np.ndarray, audio: Audio, settings: Mfcc) -> np.ndarray:
    """Compute MFCCs (T, n_mfcc)."""
    decibels = mel_decibels(samples, audio, settings)
    decibels = np.maximum(decibels, decibels.max() - settings.top_db)
    bands = np.arange(settings.n_mels)
    waves = np.cos(np.pi / settings.n_mels * np.outer(np.arange(settings.n_mfcc), bands + 0.5)) * np.sqrt(
        2 / settings.n_mels
    )
    waves[0] /= np.sqrt(2)
    return (waves @ decibels).T


def levels(decibels: np.ndarray, loudest: float, top_db: float) -> np.ndarray:
    """Convert dB to grey levels, 0 to 255, not yet rounded down."""
    return np.clip(255 + (decibels - loudest) * 255 / top_db, 0, 255)


def logmel(samples: np.ndarray, audio: Audio, settings: LogMel) -> np.ndarray:
    """Compute grey levels (n_mels, T)."""
    decibels = mel_decibels(samples, audio, settings)
    return levels(decibels, decibels.max(), settings.top_db)


def spectrogram(samples: np.ndarray, audio: Audio, settings: Spectrogram) -> np.ndarray:
    """Compute grey levels (bins, T)."""
    found = power(samples, cosine_window(settings.window, 0.54), settings.n_fft, audio.hop)
    decibels = 10 * np.log10(np.maximum(found, FLOOR))
    return levels(decibels[: settings.bins], decibels.max(), settings.top_db)
