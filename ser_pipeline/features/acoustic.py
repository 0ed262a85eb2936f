"""Acoustic features of an utterance, cut into segments and converted to the types that shards store.

Each function gives librosa's values (the tests compare them) at several times the speed: tables are built once, all
arithmetic is float32, and one compiled function (`fourier`) goes from samples to logarithms. That module is imported
only where it is needed, since importing numba takes half a second.

Shapes: N samples, T frames of an utterance, S segments, L frames of a segment.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import FULL_SCALE, Floats32
from ser_pipeline.config import Audio, LogMel, Mfcc, Spectrogram
from ser_pipeline.features.tables import DECIBELS, dct, hamming, hann, lowest_bins, mel_triangles
from ser_pipeline.inputs import INPUTS, LEVELS, Input

CHANGE = 9  # frames over which a delta is fitted (librosa's default)


def mfcc(samples: Floats32, audio: Audio, settings: Mfcc) -> Floats32:
    """MFCCs, followed by as many orders of deltas as the settings ask for: (T, size), float32, unscaled.

    Source: `librosa.feature.mfcc(htk=True)`: periodic Hann window, HTK mel scale with Slaney's area normalisation,
    dB clipped at `top_db` below the utterance's maximum, orthonormal DCT-II. Deltas are those of
    `librosa.feature.delta`.

    Args:
        samples: (N,), -1 to 1.
        audio: sample rate and hop.
        settings: settings of the MFCCs.
    """
    logs = mel_logarithms(samples, audio, settings)
    return cepstra(logs, logs.max(), settings)


def cepstra(logs: Floats32, loudest: np.float32, settings: Mfcc) -> Floats32:
    """MFCCs (T, size) from the natural logarithms of mel bands, which are clipped in place.

    Args:
        logs: (n_mels, T).
        loudest: the largest logarithm of the whole utterance.
        settings: settings of the MFCCs.
    """
    np.clip(logs, loudest - np.float32(settings.top_db) / DECIBELS, loudest, out=logs)
    coefficients: Floats32 = logs.T @ dct(settings.n_mfcc, settings.n_mels)
    if not settings.deltas:
        return coefficients
    from scipy.signal import savgol_filter  # importing it takes a third of a second, and few runs need it

    mode = "interp" if len(coefficients) >= CHANGE else "nearest"
    deltas = [
        savgol_filter(coefficients, CHANGE, polyorder=order, deriv=order, axis=0, mode=mode)
        for order in range(1, settings.deltas + 1)
    ]
    return np.concatenate([coefficients, *deltas], axis=1)


def mel_logarithms(samples: Floats32, audio: Audio, settings: Mfcc | LogMel) -> Floats32:
    """Natural logarithms (n_mels, T) of the mel bands' power.

    Args:
        samples: (N,), -1 to 1.
        audio: sample rate and hop.
        settings: settings of the mel bands.
    """
    from ser_pipeline.features.fourier import logarithms

    signal = pre_emphasise(samples, settings.pre_emphasis)
    filters = mel_triangles(audio.rate, settings.n_fft, settings.n_mels)
    window = hann(settings.n_fft)
    return logarithms(signal, window, settings.n_fft, audio.hop, filters, pad_mode=settings.pad_mode)[0]


def logmel(samples: Floats32, audio: Audio, settings: LogMel) -> Floats32:
    """Mel spectrogram (bands, T), float32 dB from -top_db to 0, relative to the utterance's maximum.

    Source: `librosa.power_to_db(librosa.feature.melspectrogram(htk=True), ref=numpy.max)`.

    Args:
        samples: (N,), -1 to 1.
        audio: sample rate and hop.
        settings: settings of the mel spectrogram.
    """
    logs = mel_logarithms(samples, audio, settings)
    return _decibels(logs, logs.max(), settings.top_db)


def spectrogram(samples: Floats32, audio: Audio, settings: Spectrogram) -> Floats32:
    """Spectrogram (bins, T), float32 dB from -top_db to 0, relative to the utterance's maximum over all bins.

    Source: paper, section 3.1; `librosa.amplitude_to_db(abs(librosa.stft(...)), ref=numpy.max)`.

    Args:
        samples: (N,), -1 to 1.
        audio: sample rate and hop.
        settings: settings of the spectrogram.
    """
    logs, loudest = bins(samples, audio, settings)
    return _decibels(logs, np.log(loudest.max()), settings.top_db)


def bins(samples: Floats32, audio: Audio, settings: Spectrogram) -> tuple[Floats32, Floats32]:
    """Natural logarithms of power (bins, T), and the power of the loudest of all bins in each frame (T,).

    Args:
        samples: (N,), -1 to 1.
        audio: sample rate and hop.
        settings: settings of the spectrogram.
    """
    from ser_pipeline.features.fourier import logarithms

    signal, window = pre_emphasise(samples, settings.pre_emphasis), hamming(settings.window)
    lowest = lowest_bins(settings.bins)
    return logarithms(signal, window, settings.n_fft, audio.hop, lowest, pad_mode=settings.pad_mode)


def _decibels(logs: Floats32, loudest: np.float32, top_db: float) -> Floats32:
    """Convert natural logarithms of power to dB from -top_db to 0, relative to `loudest`."""
    decibels: Floats32 = np.clip((logs - loudest) * DECIBELS, -np.float32(top_db), 0)
    return decibels


def pre_emphasise(samples: Floats32, coefficient: float) -> Floats32:
    """`y[t] = x[t] - coefficient x[t-1]` with silence before the first sample; (N,) float32."""
    if coefficient == 0.0:
        return samples
    emphasised = samples.copy()
    emphasised[1:] -= np.float32(coefficient) * samples[:-1]
    return emphasised


def mfcc_rows(samples: Floats32, audio: Audio, settings: Mfcc) -> NDArray[np.float16]:
    """MFCCs (S, L, size), float16; frames after the end of the utterance are 0.

    Args:
        samples: (N,) of an utterance, -1 to 1.
        audio: sample rate, hop and segment length.
        settings: settings of the MFCCs.
    """
    whole = mfcc(samples, audio, settings)
    rows = np.zeros((audio.segments(len(samples)) * audio.frames, settings.size), np.float16)
    rows[: len(whole)] = whole
    return rows.reshape(-1, audio.frames, settings.size)


def spectrogram_rows(samples: Floats32, audio: Audio, settings: Spectrogram) -> NDArray[np.uint8]:
    """Spectrograms (S, bins, L), uint8: 0 is -top_db, 255 is 0 dB; frames after the end of the utterance are 0.

    Args:
        samples: (N,) of an utterance, -1 to 1.
        audio: sample rate, hop and segment length.
        settings: settings of the spectrogram.
    """
    logs, loudest = bins(samples, audio, settings)
    return images(logs, np.log(loudest.max()), audio.frames, settings.top_db)


def logmel_rows(samples: Floats32, audio: Audio, settings: LogMel) -> NDArray[np.uint8]:
    """Mel spectrograms (S, bands, L), uint8: 0 is -top_db, 255 is 0 dB; frames after the end of the utterance are 0.

    Args:
        samples: (N,) of an utterance, -1 to 1.
        audio: sample rate, hop and segment length.
        settings: settings of the mel spectrogram.
    """
    logs = mel_logarithms(samples, audio, settings)
    return images(logs, logs.max(), audio.frames, settings.top_db)


def mel_level(samples: Floats32, audio: Audio, settings: Mfcc | LogMel) -> Floats32:
    """The largest logarithm of a mel band's power, from samples rounded to int16; the same in all segments (S, 1).

    Args:
        samples: (N,) of an utterance, -1 to 1.
        audio: sample rate, hop and segment length.
        settings: settings of the mel bands.
    """
    loudest = mel_logarithms(rounded(samples), audio, settings).max()
    return np.full((audio.segments(len(samples)), 1), loudest, np.float32)


def spectrogram_level(samples: Floats32, audio: Audio, settings: Spectrogram) -> Floats32:
    """The logarithm of the loudest bin, and each bin's minimum and maximum level; in all segments (S, 1 + 2 bins).

    Args:
        samples: (N,) of an utterance, -1 to 1; they are rounded to int16 first, as stores round them.
        audio: sample rate, hop and segment length.
        settings: settings of the spectrogram.
    """
    logs, power = bins(rounded(samples), audio, settings)
    loudest = np.log(power.max())
    rows = images(logs, loudest, audio.frames, settings.top_db)
    return np.tile(level_of(loudest, rows.min(axis=(0, 2)), rows.max(axis=(0, 2))), (len(rows), 1))


def level_of(loudest: np.float32, low: NDArray[np.uint8], high: NDArray[np.uint8]) -> Floats32:
    """One row of `spectrogram_level`.

    Args:
        loudest: logarithm of the loudest bin.
        low: smallest level of each bin (bins,).
        high: largest level of each bin (bins,).
    """
    return np.concatenate([[loudest], low, high]).astype(np.float32)


def images(logs: Floats32, loudest: np.float32, frames: int, top_db: float) -> NDArray[np.uint8]:
    """Convert natural logarithms of power (K, T) to segments (S, K, L) in 255 steps from `loudest` minus `top_db` up.

    Args:
        logs: natural logarithms of power.
        loudest: the largest logarithm of the whole utterance.
        frames: frames of a segment.
        top_db: dynamic range in dB.
    """
    starts = range(0, logs.shape[1], frames)
    rows = np.zeros((len(starts), len(logs), frames), np.uint8)
    steps = DECIBELS * np.float32(255 / top_db)
    for row, start in zip(rows, starts, strict=True):  # one segment at a time, which fits the processor's cache
        levels = logs[:, start : start + frames] * steps
        levels += np.float32(255) - loudest * steps
        row[:, : levels.shape[1]] = np.clip(levels, 0, 255, out=levels)
    return rows


def rounded(samples: Floats32) -> Floats32:
    """Round samples (N,) from -1 to 1 to the values that int16 can represent."""
    whole: Floats32 = np.rint(samples * np.float32(FULL_SCALE))
    np.clip(whole, -FULL_SCALE, FULL_SCALE - 1, out=whole)
    whole /= np.float32(FULL_SCALE)
    return whole


def waveform_rows(samples: Floats32, audio: Audio, settings: None = None) -> NDArray[np.int16]:
    """Raw samples (S, segment + 1), int16: the sample before each segment, then the segment; 0 after the end.

    Args:
        samples: (N,) of an utterance, -1 to 1.
        audio: segment length.
        settings: None; waveforms have no settings.
    """
    whole = np.concatenate([np.zeros(1, np.float32), rounded(samples) * np.float32(FULL_SCALE)])
    rows = np.zeros((audio.segments(len(samples)), audio.segment + 1), np.int16)
    for row, start in zip(rows, range(0, len(rows) * audio.segment, audio.segment), strict=True):
        part = whole[start : start + audio.segment + 1]
        row[: len(part)] = part
    return rows


FEATURES: dict[str, Input] = {name: row for name, row in {**INPUTS, **LEVELS}.items() if row.function}
"""Features that are computed from samples alone, and the levels that are stored in place of some features' rows."""
