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

from ser_pipeline.config import Audio, Mfcc, Spectrogram

Float = NDArray[np.float32]

BLOCK = 512 << 10  # bytes of frames that are transformed at a time: what the second-level cache holds
TOGETHER = 16  # mel filters in one product: neighbours share most of their bins
FLOOR = np.float32(1e-10)  # power under which the logarithm stops (librosa's `amin`)
DECIBELS = np.float32(10 / np.log(10))  # of a natural logarithm of power


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
    """MFCCs (T, n_mfcc), float32, unscaled.

    Source: `librosa.feature.mfcc(htk=True)`: periodic Hann window, HTK mel scale with Slaney's area normalisation,
    dB with a floor `top_db` under the utterance's maximum, orthonormal DCT-II.
    """
    signal = pre_emphasise(samples, settings.pre_emphasis)
    bands = mel_filters(audio.rate, settings.n_fft, settings.n_mels)
    decibels = np.empty(
        (len(bands), _frames(samples, audio), TOGETHER), np.float32
    )  # whole planes: matmul is slow else
    for frames, squares in _squares(signal, _hann(settings.n_fft), settings.n_fft, audio.hop):
        for plane, band in zip(decibels, bands, strict=True):
            np.matmul(squares[:, band.low : band.high], band.weights, out=plane[frames])
    _to_decibels(decibels)
    np.maximum(decibels, decibels.max() - np.float32(settings.top_db), out=decibels)
    decibels = decibels.transpose(1, 0, 2).reshape(-1, len(bands) * TOGETHER)[:, : settings.n_mels]
    return decibels @ _dct(settings.n_mfcc, settings.n_mels)


def spectrogram(samples: Float, audio: Audio, settings: Spectrogram) -> Float:
    """Spectrogram (bins, T), float32 dB from -top_db to 0, relative to the utterance's maximum over all bins.

    Source: paper, section 3.1; `librosa.amplitude_to_db(abs(librosa.stft(...)), ref=numpy.max)`.
    """
    signal = pre_emphasise(samples, settings.pre_emphasis)
    decibels = np.empty((_frames(samples, audio), settings.bins), np.float32)
    power = np.empty((_block(settings.n_fft), settings.n_fft // 2 + 1), np.float32)
    loudest = FLOOR
    for frames, squares in _squares(signal, _hamming(settings.window), settings.n_fft, audio.hop):
        block = _power(squares, power[: len(squares)])
        loudest = max(loudest, block.max())
        decibels[frames] = block[:, : settings.bins]
    _to_decibels(decibels)
    decibels -= DECIBELS * np.log(loudest)
    return np.maximum(decibels, np.float32(-settings.top_db), out=decibels).T


def pre_emphasise(samples: Float, coefficient: float) -> Float:
    """`y[t] = x[t] - coefficient x[t-1]` with silence before the first sample; (N,) float32."""
    if coefficient == 0.0:
        return samples
    emphasised = samples.copy()
    emphasised[1:] -= np.float32(coefficient) * samples[:-1]
    return emphasised


def mfcc_rows(samples: Float, audio: Audio, settings: Mfcc) -> NDArray[np.float16]:
    """MFCCs (S, L, n_mfcc), float16; frames after the end are 0."""
    whole = mfcc(samples, audio, settings)
    rows = np.zeros((segment_count(len(samples), audio) * audio.frames, settings.n_mfcc), np.float16)
    rows[: len(whole)] = whole
    return rows.reshape(-1, audio.frames, settings.n_mfcc)


def spectrogram_rows(samples: Float, audio: Audio, settings: Spectrogram) -> NDArray[np.uint8]:
    """Spectrograms (S, bins, L), uint8: 0 is -top_db, 255 is 0 dB; frames after the end are 0."""
    levels = spectrogram(samples, audio, settings)
    levels += np.float32(settings.top_db)
    levels *= np.float32(255 / settings.top_db)
    pixels = levels.astype(np.uint8, order="K")
    rows = np.zeros((segment_count(len(samples), audio), settings.bins, audio.frames), np.uint8)
    for row, first in zip(rows, range(0, pixels.shape[1], audio.frames), strict=True):
        part = pixels[:, first : first + audio.frames]
        row[:, : part.shape[1]] = part
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

    low: int  # column of what `_squares` gives
    high: int  # column, exclusive
    weights: Float  # (high - low, TOGETHER): every bin's weight twice, for its real and its imaginary part


@lru_cache
def mel_filters(rate: int, n_fft: int, n_mels: int) -> tuple[Band, ...]:
    """HTK-scale triangular filters of unit area, `TOGETHER` in a band; zeros fill the last one.

    Source: `librosa.filters.mel(htk=True, norm="slaney")`.
    """
    hertz = np.linspace(0, rate / 2, n_fft // 2 + 1)
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    parts = np.zeros((-(-n_mels // TOGETHER) * TOGETHER, n_fft), np.float32)
    parts[:n_mels] = np.repeat(weights, 2, axis=1)[:, 1 : n_fft + 1]
    bands = []
    for block in np.split(parts, len(parts) // TOGETHER):
        used = np.flatnonzero(block.any(axis=0))
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        bands.append(Band(low, high, np.ascontiguousarray(block[:, low:high].T)))
    return tuple(bands)


def _squares(signal: Float, window: Float, n_fft: int, hop: int) -> Iterator[tuple[slice, Float]]:
    """Blocks of (slice of frames, squares (frames, n_fft)) of the centred short-time Fourier transform.

    The columns are the squared parts of the bins: real of bin 0, then real and imaginary of each, and of the last,
    where `n_fft` is even, the real alone. A block is valid until the next one. A window shorter than `n_fft` stands
    in the middle of the frame; its zeros only shift the phase, so they are left out and the transform pads at the end.
    """
    length = len(window)
    padded = np.zeros(len(signal) + 2 * (n_fft // 2), np.float32)
    padded[n_fft // 2 : n_fft // 2 + len(signal)] = signal
    views = np.lib.stride_tricks.sliding_window_view(padded[(n_fft - length) // 2 :], length)[::hop]
    count = 1 + len(signal) // hop
    together = min(_block(n_fft), count)
    buffer = np.empty((together, n_fft), np.float32)
    for first in range(0, count, together):
        last = min(first + together, count)
        block = buffer[: last - first]
        np.multiply(views[first:last], window, out=block[:, :length])
        block[:, length:] = 0
        squares = rfft(block, overwrite_x=True)
        yield slice(first, last), np.square(squares, out=squares)


def _block(n_fft: int) -> int:
    """Frames that are transformed at a time."""
    return max(1, BLOCK // (4 * n_fft))


def _power(squares: Float, out: Float) -> Float:
    """Power of every bin, (frames, n_fft // 2 + 1), into `out` from what `_squares` gives."""
    out[:, 0] = squares[:, 0]
    pairs = (squares.shape[1] - 1) // 2
    np.add(squares[:, 1 : 2 * pairs : 2], squares[:, 2 : 2 * pairs + 1 : 2], out=out[:, 1 : 1 + pairs])
    out[:, 1 + pairs :] = squares[:, 1 + 2 * pairs :]
    return out


def _to_decibels(power: Float) -> None:
    """10 log10 of `power`, in place, with librosa's floor."""
    np.maximum(power, FLOOR, out=power)
    np.log(power, out=power)
    power *= DECIBELS


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
    """The first `n_mfcc` columns of the orthonormal DCT-II of bands; (n_mels, n_mfcc)."""
    return np.ascontiguousarray(dct(np.eye(n_mels), axis=0, norm="ortho")[:n_mfcc].T, np.float32)


FEATURES: dict[str, Feature] = {
    "mfcc": Feature(
        rows=mfcc_rows,
        shape=lambda audio, settings: (audio.frames, settings.n_mfcc),
        dtype="float16",
        version=1,
        source="Zou et al. 2022, section 3.1; librosa.feature.mfcc",
    ),
    "spectrogram": Feature(
        rows=spectrogram_rows,
        shape=lambda audio, settings: (settings.bins, audio.frames),
        dtype="uint8",
        version=1,
        source="Zou et al. 2022, section 3.1; librosa.amplitude_to_db",
        extremes=True,
    ),
    "waveform": Feature(
        rows=waveform_rows,
        shape=lambda audio, settings: (audio.segment + 1,),
        dtype="int16",
        version=1,
        source="Zou et al. 2022, section 3.1",
    ),
}
