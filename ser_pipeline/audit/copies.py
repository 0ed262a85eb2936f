"""Find recordings that occur twice with different samples: louder, cut, padded, resampled, coded, joined.

Each recording is reduced to landmarks: peaks of its spectrogram, taken three at a time. Where two recordings share
several landmarks at one distance in time, their waveforms are aligned there and correlated. If a speaker repeats a
sentence, or ten people say it, the recordings share some landmarks, but no waveform.

Source: landmarks, Wang, An Industrial-Strength Audio Search Algorithm, ISMIR 2003. The sizes and limits are ours,
measured by `benchmarks/copies.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations

import numpy as np
import soxr
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ser_pipeline.arrays import Ints
from ser_pipeline.audio import Samples

RATE = 8_000
"""Sample rate in Hz of the comparison: every speech codec preserves what is below half of it."""

WINDOW = 512
"""Samples of a frame, 64 ms: long enough to separate the harmonics of a voice."""

HOP = 128
"""Samples between two frames, 16 ms."""

LOWEST, HIGHEST = 10, 220
"""Bins of the spectrum that may contain peaks, 156 to 3,438 Hz: above hum, below the cut-off of codecs."""

AROUND = (8, 12)
"""Frames and bins on each side within which a peak is the largest value."""

STRETCH = 8_192
"""Frames whose spectrum is in memory at once: 131 s."""

FLOOR = 40.0
"""dB below the loudest bin within half a second at which a peak counts as noise."""

LOCAL = 31
"""Frames on each side that make up half a second."""

NEXT = 4
"""Number of following peaks, of which two form a landmark with a peak."""

GRIDS = 2
"""Sets of frames, each shifted by a part of a hop: the frames of a cut copy are close to those of one set."""

SPAN = 64
"""Maximum frames that a landmark spans, 1 s."""

NEIGHBOURS = 32
"""Occurrences of a landmark with which each is compared, so that the time grows linearly with the corpus."""

APART = 4
"""Minimum number of moments at which two recordings share landmarks at one distance in time, to be compared further.
Copies in EMO-DB share seven or more, its other recordings at most two."""

MOMENT = 8
"""Half hops that count as one moment, 64 ms; landmarks that begin together share peaks and count once."""

CORRELATION = 0.7
"""Correlation from which two waveforms count as the same. Copies in EMO-DB reach 0.92 with the worst codec, its other
recordings 0.28."""

OVERLAP = 0.5
"""Minimum share of the shorter recording that must overlap the other; two turns of a dialogue may overlap by less."""

TOGETHER = 1 << 21
"""Maximum samples of two recordings that are correlated in full, 4 minutes; of longer ones, the middles are."""

FINE = 4
"""Resolution of the distance, parts of a sample: half a sample at 3 kHz is a fifth of a period."""


KEPT = 32
"""Recordings, or stretches of recordings, that stay in memory for the next comparison."""

Stretch = tuple[float, float]
"""First and last second of a stretch of a recording."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The N landmarks that identify a recording."""

    hashes: Ints  # (N,) three frequencies and two distances in time
    starts: NDArray[np.int32]  # (N,) start of each, in units of a hop divided by `GRIDS`
    samples: int = 0  # samples of the recording at `RATE`


UNMARKED = Landmarks(np.empty(0, np.int64), np.empty(0, np.int32))
"""The landmarks of a recording that cannot be read: none."""


@dataclass(frozen=True)
class NearCopy:
    """Two recordings that contain the same sound."""

    one: int  # their numbers in the list of compared recordings
    other: int
    correlation: float  # of the waveforms where they overlap, 1 at most
    offset: float  # seconds from the start of `one` to the start of `other`; negative if it starts earlier
    overlap: float  # seconds


def landmarks(samples: Samples, rate: int) -> Landmarks:
    """Compute the landmarks of a recording, mono float (samples,), at `rate` Hz."""
    heard = Marks(rate)
    heard.add(samples)
    return heard.landmarks()


class Marks:
    """Landmarks of a recording that arrives in blocks; it is stored at `RATE`, and its spectrum is not stored."""

    def __init__(self, rate: int) -> None:
        """Expect blocks at a sample rate of `rate` Hz."""
        self._stream = soxr.ResampleStream(rate, RATE, 1, dtype="float32") if rate != RATE else None
        self._narrow = bytearray()

    def add(self, mono: Samples) -> None:
        """Add a block (samples,)."""
        exact = np.ascontiguousarray(mono, np.float32)
        self._narrow += (self._stream.resample_chunk(exact) if self._stream else exact).data

    def landmarks(self) -> Landmarks:
        """The landmarks of all blocks so far."""
        if self._stream:
            self._narrow += self._stream.resample_chunk(np.empty(0, np.float32), last=True).data
        narrow = np.frombuffer(self._narrow, np.float32)
        hashes, starts = [], []
        for grid in range(GRIDS):
            for hashed, frames in _constellations(*_peaks(narrow[grid * HOP // GRIDS :])):
                hashes.append(hashed)
                starts.append(GRIDS * frames + grid)
        return Landmarks(np.concatenate(hashes), np.concatenate(starts).astype(np.int32), len(narrow))


def _constellations(frames: Ints, bins: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Combine each peak with every two of its next peaks into one number; yield these and their first frames."""
    place = np.arange(len(frames))
    for first, second in combinations(range(1, NEXT + 1), 2):
        a = place[: max(0, len(place) - second)]
        near, far = frames[a + first] - frames[a], frames[a + second] - frames[a]
        packed = ((bins[a] * 256 + bins[a + first]) * 256 + bins[a + second]) * SPAN + near
        within = far < SPAN
        yield (packed * SPAN + far)[within], frames[a][within]


def near_copies(
    marks: Sequence[Landmarks],
    read: Callable[[int, Stretch | None], tuple[Samples, int]],
    progress: Callable[[int, int], None] | None = None,
) -> list[NearCopy]:
    """Find recordings that contain the same sound, the most certain first.

    Args:
        marks: landmarks of each recording.
        read: returns mono samples and sample rate in Hz of the recording with a number in `marks`, all of it or a
            stretch in seconds; called only for the few candidates.
        progress: called with the number of compared pairs, and the total.
    """
    pairs = candidates(marks)
    kept = lru_cache(maxsize=KEPT)(lambda place, stretch: _narrow(*read(place, stretch)))
    found = []
    for done, (one, other, offset) in enumerate(pairs, 1):
        shift, first, second = offset * HOP // GRIDS, marks[one].samples, marks[other].samples
        if first + second <= TOGETHER:
            copy = _compare(kept(one, None), kept(other, None), shift)
        else:
            copy = _compare_long(partial(kept, one), partial(kept, other), (first, second), shift)
        if copy and copy[0] >= CORRELATION:
            found.append(NearCopy(one, other, *copy))
        if progress:
            progress(done, len(pairs))
    return sorted(found, key=lambda copy: (-round(copy.correlation, 3), copy.one, copy.other))


def _compare_long(
    one: Callable[[Stretch], Samples], other: Callable[[Stretch], Samples], lengths: tuple[int, int], shift: int
) -> tuple[float, float, float] | None:
    """Compare recordings that are too long for `_compare` by the middle of their overlap.

    Args:
        one: reads a stretch of the recording, in seconds, at `RATE`.
        other: reads a stretch of the other recording.
        lengths: samples of both.
        shift: approximate samples from the start of `one` to the start of the other.
    """
    near = 4 * HOP
    first, last = max(0, shift), min(lengths[0], shift + lengths[1])
    if last - first < OVERLAP * min(lengths) - near:
        return None
    middle, half = (first + last) // 2, min(last - first, TOGETHER // 2) // 2
    begins = (max(0, middle - half - near), max(0, middle - half - shift))
    ends = (min(lengths[0], middle + half + near), min(lengths[1], middle + half - shift))
    parts = [read((begin / RATE, end / RATE)) for read, begin, end in zip((one, other), begins, ends, strict=True)]
    found = _compare(parts[0], parts[1], shift - begins[0] + begins[1])
    return found and (found[0], found[1] + (begins[0] - begins[1]) / RATE, (last - first) / RATE)


def candidates(marks: Sequence[Landmarks]) -> list[tuple[int, int, int]]:
    """Pairs of recordings that share landmarks, and by how much the second starts later, in hops over `GRIDS`."""
    hashes = np.concatenate([UNMARKED.hashes, *(mark.hashes for mark in marks)])
    starts = np.concatenate([UNMARKED.starts, *(mark.starts for mark in marks)])
    owner = np.repeat(np.arange(len(marks), dtype=np.int32), [len(mark.hashes) for mark in marks])
    order = np.argsort(hashes, kind="stable")
    longest = int(starts.max(initial=0)) + 2
    met = list(_meetings(hashes[order], starts[order], owner[order], len(marks), longest))
    keys, moments = (np.concatenate(column) for column in zip(*met, strict=True))
    if not len(keys):
        return []
    known, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
    shared = counts + _count_at(known, counts, known - 1) + _count_at(known, counts, known + 1)
    often = shared[place] >= APART
    return _aligned(keys[often], moments[often], len(marks), longest)


def _aligned(keys: Ints, moments: Ints, count: int, longest: int) -> list[tuple[int, int, int]]:
    """Pairs that share landmarks at `APART` moments or more, with the most frequent distance in time."""
    found: dict[int, set[int]] = defaultdict(set)
    for key, moment in zip(keys.tolist(), moments.tolist(), strict=True):
        for near in (key - 1, key, key + 1):  # the peaks of a copy may be off by one step
            found[near].add(moment)
    best: dict[int, tuple[int, int]] = {}
    for key, several in found.items():
        pair, offset = divmod(key, 2 * longest)
        if len(several) >= APART:
            best[pair] = max(best.get(pair, (0, 0)), (len(several), offset - longest))
    return [(*divmod(pair, count), offset) for pair, (_, offset) in sorted(best.items())]


def _meetings(
    hashes: Ints, starts: NDArray[np.int32], owner: NDArray[np.int32], count: int, longest: int
) -> Iterator[tuple[Ints, Ints]]:
    """Landmarks that two recordings share: the pair and their distance in time as one number, and the moment.

    Args:
        hashes: sorted, (N,).
        starts: start of each landmark, (N,).
        owner: number of its recording, (N,), ascending among equal hashes.
        count: number of recordings.
        longest: more than any start.
    """
    for lag in range(1, NEIGHBOURS + 1):
        same = hashes[lag:] == hashes[:-lag]
        met = np.flatnonzero(same & (owner[lag:] != owner[:-lag]))
        yield (
            (owner[met].astype(np.int64) * count + owner[met + lag]) * (2 * longest)
            + (starts[met] - starts[met + lag] + longest),
            starts[met].astype(np.int64) // MOMENT,
        )
        if not same.any():
            return


def _count_at(keys: Ints, counts: Ints, wanted: Ints) -> Ints:
    """The count of each of `wanted` among sorted `keys`, 0 if it is missing."""
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[place] == wanted, counts[place], 0)


def _narrow(samples: Samples, rate: int) -> Samples:
    """Resample a recording to `RATE`."""
    exact = np.asarray(samples, np.float32)
    return np.asarray(soxr.resample(exact, rate, RATE) if rate != RATE else exact)


def _peaks(samples: Samples) -> tuple[Ints, Ints]:
    """Frames and bins of the spectrogram's peaks, by frame; computed `STRETCH` frames at a time, with context."""
    total = 1 + (len(samples) + WINDOW // 2) // HOP
    found = [_peaks_of(samples, first, min(first + STRETCH, total)) for first in range(0, total, STRETCH)]
    return np.concatenate([frames for frames, _ in found]), np.concatenate([bins for _, bins in found])


def _peaks_of(samples: Samples, first: int, last: int) -> tuple[Ints, Ints]:
    """Frames and bins of the peaks from frame `first` to before `last`."""
    from scipy.ndimage import maximum_filter, maximum_filter1d

    total = 1 + (len(samples) + WINDOW // 2) // HOP
    start, end = max(0, first - LOCAL), min(total, last + LOCAL)
    begin, stop = start * HOP - WINDOW // 2, (end - 1) * HOP + WINDOW // 2
    part = np.pad(samples[max(0, begin) : stop], (max(0, -begin), max(0, stop - len(samples))))
    frames = sliding_window_view(part, WINDOW)[::HOP] * np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    bins = np.arange(LOWEST, HIGHEST)
    spectrum = np.abs(np.fft.rfft(frames, axis=1))[:, LOWEST:HIGHEST].astype(np.float32) * np.sqrt(bins, dtype="f4")
    largest = maximum_filter(spectrum, size=[2 * side + 1 for side in AROUND])
    floor = maximum_filter1d(spectrum.max(axis=1), 2 * LOCAL + 1) * 10 ** (-FLOOR / 20)
    frame, place = np.nonzero((spectrum == largest) & (spectrum > floor[:, None]))
    frame = frame.astype(np.int64) + start
    here = (frame >= first) & (frame < last)
    return frame[here], place[here].astype(np.int64) + LOWEST


def _compare(one: Samples, other: Samples, offset: int) -> tuple[float, float, float] | None:
    """Correlation, offset and overlap in seconds near `offset` samples; None if the overlap is too short.

    Both recordings are limited to the band of the peaks. Most of the energy of speech is at low frequencies, so
    amplitudes are weighted by the square root of the frequency.
    """
    from scipy.fft import next_fast_len

    length = next_fast_len(len(one) + len(other), real=True)
    hertz = np.fft.rfftfreq(length, 1 / RATE)
    weight = np.sqrt(hertz) * ((hertz >= LOWEST * RATE / WINDOW) & (hertz <= HIGHEST * RATE / WINDOW))
    spectra = [np.fft.rfft(samples, length) * weight for samples in (one, other)]
    product = np.fft.irfft(spectra[0] * spectra[1].conj(), FINE * length) * FINE
    near = np.arange(FINE * (offset - 2 * HOP), FINE * (offset + 2 * HOP) + 1)
    at = int(near[np.argmax(product[near % (FINE * length)])])
    shift = round(at / FINE)
    first, last = max(0, shift), min(len(one), shift + len(other))
    if last - first < OVERLAP * min(len(one), len(other)):
        return None
    energy = [
        np.square(np.fft.irfft(spectrum, length)[start : start + last - first]).sum()
        for spectrum, start in zip(spectra, (first, first - shift), strict=True)
    ]
    scale = float(np.sqrt(energy[0] * energy[1]))
    correlation = float(product[at % (FINE * length)]) / scale if scale > 0 else 0.0
    return min(1.0, correlation), at / FINE / RATE, (last - first) / RATE
