"""Audio features of an utterance, cut into segments in the types that the shards keep.

Each equals what librosa computes (the tests hold them to it) at several times the speed: tables made once,
float32 throughout, transforms in place on blocks of frames that stay in the processor's cache, mel filters as small
dense products straight from the squared real and imaginary parts, logarithms of what is kept alone, and these as
`numpy.log`, which is vectorised where `numpy.log10` is not.

Legend of shapes: N samples, T frames of an utterance, S segments, L frames of a segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.fftpack import dct, rfft

from ser_pipeline.config import Audio, LogMel, Mfcc, Spectrogram

Float = NDArray[np.float32]

BLOCK = 1 << 20  # bytes of frames that are transformed at a time: few calls, and all of it stays in a cache
TOGETHER = 16  # mel filters in one product: neighbours share most of their bins
FLOOR = np.float32(1e-10)  # power under which the logarithm stops (librosa's `amin`)
DECIBELS = np.float32(10 / np.log(10))  # of a natural logarithm of power
CHANGE = 9  # frames over which a delta is fitted (librosa's default)


@dataclass(frozen=True)
class Feature:
    """How one feature of an utterance is made and kept."""

    rows: Callable[[Float, Audio, Any], NDArray[Any]]  # samples (N,) -> rows (S, *shape) of `dtype`
    shape: Callable[[Audio, Any], tuple[int, ...]]  # of one row
    dtype: str
    version: int  # raised when the same settings give other values
    source: str  # where the definition stands
    extremes: bool = False  # whether shards keep each utterance's minimum and maximum a bin


Count = TypeVar("Count", int, NDArray[np.int64])


def segment_count(samples: Count, audio: Audio) -> Count:
    """Segments of an utterance of `samples` samples, the last one padded.

    Source: reference code; 11,002 over the four classes of IEMOCAP.

    >>> segment_count(16_000, Audio()), segment_count(47_999, Audio()), segment_count(48_000, Audio())
    (1, 1, 2)
    """
    return -(-(1 + samples // audio.hop) // audio.frames)


def mfcc(samples: Float, audio: Audio, settings: Mfcc) -> Float:
    """MFCCs (T, n_mfcc), float32, unscaled, and after them their deltas, as many orders as the settings say.

    Source: `librosa.feature.mfcc(htk=True)`: periodic Hann window, HTK mel scale with Slaney's area normalisation,
    dB with a floor `top_db` under the utterance's maximum, orthonormal DCT-II. `librosa.feature.delta` for the rest.
    """
    coefficients = _mel_logarithms(samples, audio, settings) @ _dct(settings.n_mfcc, settings.n_mels)
    if not settings.deltas:
        return coefficients
    from scipy.signal import savgol_filter  # costs a third of a second that few need

    mode = "interp" if len(coefficients) >= CHANGE else "nearest"
    deltas = [
        savgol_filter(coefficients, CHANGE, polyorder=order, deriv=order, axis=0, mode=mode)
        for order in range(1, settings.deltas + 1)
    ]
    return np.concatenate([coefficients, *deltas], axis=1)


def _mel_logarithms(samples: Float, audio: Audio, settings: Mfcc | LogMel) -> Float:
    """Natural logarithm (T, n_mels) of the mel bands' power, from `top_db` under the utterance's maximum on."""
    signal = pre_emphasise(samples, settings.pre_emphasis)
    bands = mel_filters(audio.rate, settings.n_fft, settings.n_mels)
    logs = np.empty((_frames(samples, audio), settings.n_mels), np.float32)
    for frames, squares in _squares(signal, _hann(settings.n_fft), settings.n_fft, audio.hop):
        for band in bands:
            np.matmul(squares[:, band.low : band.high], band.weights, out=logs[frames, band.filters])
    _to_logs(logs, logs.max(), settings.top_db)
    return logs


def logmel(samples: Float, audio: Audio, settings: LogMel) -> Float:
    """Mel spectrogram (bands, T), float32 dB from -top_db to 0, relative to the utterance's maximum.

    Source: `librosa.power_to_db(librosa.feature.melspectrogram(htk=True), ref=numpy.max)`.
    """
    logs = _mel_logarithms(samples, audio, settings)
    logs -= logs.max()
    logs *= DECIBELS
    return logs.T


def spectrogram(samples: Float, audio: Audio, settings: Spectrogram) -> Float:
    """Spectrogram (bins, T), float32 dB from -top_db to 0, relative to the utterance's maximum over all bins.

    Source: paper, section 3.1; `librosa.amplitude_to_db(abs(librosa.stft(...)), ref=numpy.max)`.
    """
    return (_relative(samples, audio, settings) * DECIBELS).T


def _relative(samples: Float, audio: Audio, settings: Spectrogram) -> Float:
    """Natural logarithm (T, bins) of power relative to the utterance's maximum over all bins."""
    signal = pre_emphasise(samples, settings.pre_emphasis)
    power = np.empty((_frames(samples, audio), settings.bins), np.float32)
    loudest = FLOOR
    for frames, squares in _squares(signal, _hamming(settings.window), settings.n_fft, audio.hop):
        loudest = max(loudest, _power(squares, power[frames]).max())
        others = squares[:, 2 * settings.bins - 1 :]
        if others.size and 2 * others.max() > loudest:  # else no bin of them can be the loudest
            every = np.empty((len(squares), settings.n_fft // 2 + 1), np.float32)
            loudest = max(loudest, _power(squares, every).max())
    _to_logs(power, loudest, settings.top_db)
    power -= np.log(loudest)
    return power


def pre_emphasise(samples: Float, coefficient: float) -> Float:
    """`y[t] = x[t] - coefficient x[t-1]` with silence before the first sample; (N,) float32."""
    if coefficient == 0.0:
        return samples
    emphasised = samples.copy()
    emphasised[1:] -= np.float32(coefficient) * samples[:-1]
    return emphasised


def mfcc_rows(samples: Float, audio: Audio, settings: Mfcc) -> NDArray[np.float16]:
    """MFCCs (S, L, size), float16; frames after the end are 0."""
    whole = mfcc(samples, audio, settings)
    rows = np.zeros((segment_count(len(samples), audio) * audio.frames, settings.size), np.float16)
    rows[: len(whole)] = whole
    return rows.reshape(-1, audio.frames, settings.size)


def spectrogram_rows(samples: Float, audio: Audio, settings: Spectrogram) -> NDArray[np.uint8]:
    """Spectrograms (S, bins, L), uint8: 0 is -top_db, 255 is 0 dB; frames after the end are 0."""
    return _images(_relative(samples, audio, settings), len(samples), audio, settings.top_db)


def logmel_rows(samples: Float, audio: Audio, settings: LogMel) -> NDArray[np.uint8]:
    """Mel spectrograms (S, bands, L), uint8: 0 is -top_db, 255 is 0 dB; frames after the end are 0."""
    logs = _mel_logarithms(samples, audio, settings)
    logs -= logs.max()
    return _images(logs, len(samples), audio, settings.top_db)


def _images(levels: Float, samples: int, audio: Audio, top_db: float) -> NDArray[np.uint8]:
    """Natural logarithms (T, K) under 0, overwritten, as segments (S, K, L) in 255 steps over `top_db`."""
    levels *= DECIBELS * np.float32(255 / top_db)
    levels += np.float32(255)
    pixels = levels.astype(np.uint8)
    rows = np.zeros((segment_count(samples, audio), pixels.shape[1], audio.frames), np.uint8)
    for row, first in zip(rows, range(0, len(pixels), audio.frames), strict=True):
        part = pixels[first : first + audio.frames]
        row[:, : len(part)] = part.T
    return rows


def waveform_rows(samples: Float, audio: Audio, settings: None = None) -> NDArray[np.int16]:
    """Raw samples (S, segment + 1), int16: the sample before the segment, then the segment; 0 after the end."""
    count = segment_count(len(samples), audio)
    whole = np.zeros(1 + count * audio.segment, np.int16)
    whole[1 : 1 + len(samples)] = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767)
    views = np.lib.stride_tricks.sliding_window_view(whole, audio.segment + 1)[:: audio.segment]
    return np.ascontiguousarray(views)


@dataclass(frozen=True)
class Band:
    """Neighbouring mel filters and the squared parts of the bins that any of them touches."""

    filters: slice
    low: int  # column of what `_squares` gives
    high: int  # column, exclusive
    weights: Float  # (high - low, filters): every bin's weight twice, for its real and its imaginary part


@lru_cache
def mel_filters(rate: int, n_fft: int, n_mels: int) -> tuple[Band, ...]:
    """HTK-scale triangular filters of unit area, `TOGETHER` in a band, or what is left in the last one.

    Source: `librosa.filters.mel(htk=True, norm="slaney")`.
    """
    hertz = np.linspace(0, rate / 2, n_fft // 2 + 1)
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    parts = np.repeat(weights, 2, axis=1)[:, 1 : n_fft + 1].astype(np.float32)
    bands = []
    for first in range(0, n_mels, TOGETHER):
        filters = slice(first, min(first + TOGETHER, n_mels))
        used = np.flatnonzero(parts[filters].any(axis=0))
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        bands.append(Band(filters, low, high, np.ascontiguousarray(parts[filters, low:high].T)))
    return tuple(bands)


def _squares(signal: Float, window: Float, n_fft: int, hop: int) -> Iterator[tuple[slice, Float]]:
    """Blocks of (slice of frames, squares (frames, n_fft)) of the centred short-time Fourier transform.

    The columns are the squared parts of the bins: real of bin 0, then real and imaginary of each, and of the last,
    where `n_fft` is even, the real alone. A block is valid until the next one. A window shorter than `n_fft` stands
    in the middle of the frame; its zeros only shift the phase, so they are left out and the transform pads at the end.
    """
    length, margin = len(window), n_fft // 2 - (n_fft - len(window)) // 2
    count = 1 + len(signal) // hop
    padded = np.zeros(margin + max(len(signal), (count - 1) * hop - margin + length), np.float32)
    padded[margin : margin + len(signal)] = signal
    views = np.ndarray((count, length), np.float32, padded, 0, (hop * padded.itemsize, padded.itemsize))
    together = min(max(1, BLOCK // (4 * n_fft)), count)
    buffer = np.empty((together, n_fft), np.float32)
    for first in range(0, count, together):
        last = min(first + together, count)
        block = buffer[: last - first]
        np.multiply(views[first:last], window, out=block[:, :length])
        block[:, length:] = 0
        squares = rfft(block, overwrite_x=True)
        yield slice(first, last), np.square(squares, out=squares)


def _power(squares: Float, out: Float) -> Float:
    """Power of the first bins, into `out` (frames, bins), from what `_squares` gives."""
    pairs = min(out.shape[1] - 1, (squares.shape[1] - 1) // 2)
    out[:, 0] = squares[:, 0]
    np.add(squares[:, 1 : 2 * pairs : 2], squares[:, 2 : 2 * pairs + 1 : 2], out=out[:, 1 : 1 + pairs])
    out[:, 1 + pairs :] = squares[:, 1 + 2 * pairs : pairs + out.shape[1]]
    return out


def _to_logs(power: Float, loudest: np.float32, top_db: float) -> None:
    """Natural logarithms of `power`, in place, with librosa's floor and none lower than `top_db` under `loudest`."""
    np.maximum(power, max(FLOOR, loudest * np.float32(10 ** (-top_db / 10))), out=power)
    np.log(power, out=power)


def _frames(samples: Float, audio: Audio) -> int:
    return 1 + len(samples) // audio.hop


@lru_cache
def _hann(length: int) -> Float:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


@lru_cache
def _hamming(length: int) -> Float:
    return (0.54 - 0.46 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


@lru_cache
def _dct(n_mfcc: int, n_mels: int) -> Float:
    """The first `n_mfcc` columns of the orthonormal DCT-II of bands, times `DECIBELS`; (n_mels, n_mfcc)."""
    return np.ascontiguousarray(DECIBELS * dct(np.eye(n_mels), axis=0, norm="ortho")[:n_mfcc].T, np.float32)


FEATURES: dict[str, Feature] = {
    "mfcc": Feature(
        rows=mfcc_rows,
        shape=lambda audio, settings: (audio.frames, settings.size),
        dtype="float16",
        version=2,
        source="Zou et al. 2022, section 3.1; librosa.feature.mfcc",
    ),
    "spectrogram": Feature(
        rows=spectrogram_rows,
        shape=lambda audio, settings: (settings.bins, audio.frames),
        dtype="uint8",
        version=2,
        source="Zou et al. 2022, section 3.1; librosa.amplitude_to_db",
        extremes=True,
    ),
    "logmel": Feature(
        rows=logmel_rows,
        shape=lambda audio, settings: (settings.n_mels, audio.frames),
        dtype="uint8",
        version=1,
        source="librosa.feature.melspectrogram, librosa.power_to_db",
    ),
    "waveform": Feature(
        rows=waveform_rows,
        shape=lambda audio, settings: (audio.segment + 1,),
        dtype="int16",
        version=1,
        source="Zou et al. 2022, section 3.1",
    ),
}
