"""Recordings that stand in a corpus twice though their samples differ: louder, cut, padded, resampled, coded, joined.

Each recording is reduced to landmarks: peaks of its spectrogram, taken three at a time. Where two recordings share
several at one distance in time, their waveforms are laid over each other there, and their correlation decides. Someone
who says a sentence twice, or ten people who say it, share landmarks now and then, but no waveform.

Source: landmarks, Wang, An Industrial-Strength Audio Search Algorithm, ISMIR 2003. Sizes and limits are ours, measured
by `benchmarks/copies.py`.
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
"""Hz at which recordings are compared: every codec of speech keeps what lies below half of it."""

WINDOW = 512
"""Samples of a frame, 64 ms: harmonics of a voice are told apart."""

HOP = 128
"""Samples between two frames, 16 ms."""

LOWEST, HIGHEST = 10, 220
"""Bins of the spectrum that hold peaks, 156 to 3,438 Hz: above hum, below where codecs cut."""

AROUND = (8, 12)
"""Frames and bins on each side among which a peak is the largest."""

STRETCH = 8_192
"""How many frames have their spectrum in memory at a time: 131 s of them."""

FLOOR = 40.0
"""dB below the loudest bin within half a second, from which on a peak is noise."""

LOCAL = 31
"""Frames on each side that are half a second."""

NEXT = 4
"""Peaks after a peak of which two make a landmark with it."""

GRIDS = 2
"""Times that frames are taken, each a part of a hop later: a cut copy's frames lie near those of one of them."""

SPAN = 64
"""Frames that a landmark spans at most, 1 s."""

NEIGHBOURS = 32
"""Holders of the same landmark with which each is compared, so that the time grows as the corpus does."""

APART = 4
"""Moments at which two recordings share landmarks at one distance in time, and are worth a look. Copies of EMO-DB share
seven and more, its other recordings two at most."""

MOMENT = 8
"""Half hops that are one moment, 64 ms; landmarks that begin together have peaks in common and count once."""

CORRELATION = 0.7
"""The correlation from which on two waveforms are one. Copies of EMO-DB reach 0.92 by the worst codec, its other
recordings 0.28."""

OVERLAP = 0.5
"""Share of the shorter recording that must lie over the other; two turns of a dialogue may overlap by less."""

TOGETHER = 1 << 21
"""Samples of two recordings that are laid over each other whole, 4 minutes; of longer ones the middle of both is."""

FINE = 4
"""Parts of a sample to which the distance is found, since half a sample at 3 kHz is a fifth of a period."""


KEPT = 32
"""Recordings, or stretches of them, that stay in memory for the next comparison."""

Stretch = tuple[float, float]
"""Seconds of a recording, first and last."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What tells a recording from others, N landmarks."""

    hashes: Ints  # (N,) three frequencies and two distances in time
    starts: NDArray[np.int32]  # (N,) where each begins, in hops over `GRIDS`
    samples: int = 0  # of the recording at `RATE`


UNMARKED = Landmarks(np.empty(0, np.int64), np.empty(0, np.int32))
"""The landmarks of a recording that cannot be read: there are none."""


@dataclass(frozen=True)
class NearCopy:
    """Two recordings that hold the same sound."""

    one: int  # their places in what was compared
    other: int
    correlation: float  # of the waveforms where they overlap, to 1
    offset: float  # seconds after the start of `one` at which `other` starts; negative: before it
    overlap: float  # seconds


def landmarks(samples: Samples, rate: int) -> Landmarks:
    """The landmarks of a recording, mono float (samples,), at `rate` Hz."""
    heard = Marks(rate)
    heard.add(samples)
    return heard.landmarks()


class Marks:
    """The landmarks of a recording that is heard block by block; it is kept at `RATE`, and its spectrum is not."""

    def __init__(self, rate: int) -> None:
        """Hears blocks at `rate` Hz."""
        self._stream = soxr.ResampleStream(rate, RATE, 1, dtype="float32") if rate != RATE else None
        self._narrow = bytearray()

    def add(self, mono: Samples) -> None:
        """Hear a block (samples,)."""
        exact = np.ascontiguousarray(mono, np.float32)
        self._narrow += (self._stream.resample_chunk(exact) if self._stream else exact).data

    def landmarks(self) -> Landmarks:
        """The landmarks of all that was heard."""
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
    """Every two of the next peaks with the one before them, as one number, and the frame at which they begin."""
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
    """Recordings that hold the same sound, the surest first.

    Args:
        marks: of each recording.
        read: mono samples and rate in Hz of the recording at a place of `marks`, all of it or a stretch in seconds;
            called for the few worth a look.
        progress: called with how many pairs are compared, and of how many.
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
    """`_compare` of recordings too long for it, by what lies around the middle of their overlap.

    Args:
        one: a stretch of it in seconds, at `RATE`.
        other: the same of the other.
        lengths: samples of both.
        shift: about how many samples after the start of `one` the other starts.
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
    """Places of two recordings that share landmarks, and how much later the second starts, in hops over `GRIDS`."""
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
    """Pairs that meet at `APART` moments or more, with the distance in time at which they meet most often."""
    found: dict[int, set[int]] = defaultdict(set)
    for key, moment in zip(keys.tolist(), moments.tolist(), strict=True):
        for near in (key - 1, key, key + 1):  # a copy's peaks may lie one step beside
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
    """The landmarks that two recordings share, each with both and their distance in time as one number; its moment.

    Args:
        hashes: sorted, (N,).
        starts: of each landmark, (N,).
        owner: place of its recording, (N,), ascending among equal hashes.
        count: recordings.
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
    """The count of each of `wanted` among sorted `keys`, 0 where it is not there."""
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[place] == wanted, counts[place], 0)


def _narrow(samples: Samples, rate: int) -> Samples:
    """A recording resampled to `RATE`."""
    exact = np.asarray(samples, np.float32)
    return np.asarray(soxr.resample(exact, rate, RATE) if rate != RATE else exact)


def _peaks(samples: Samples) -> tuple[Ints, Ints]:
    """Frames and bins of the spectrogram's peaks, by frame; `STRETCH` frames at a time, with what lies around them."""
    total = 1 + (len(samples) + WINDOW // 2) // HOP
    found = [_peaks_of(samples, first, min(first + STRETCH, total)) for first in range(0, total, STRETCH)]
    return np.concatenate([frames for frames, _ in found]), np.concatenate([bins for _, bins in found])


def _peaks_of(samples: Samples, first: int, last: int) -> tuple[Ints, Ints]:
    """Frames and bins of the peaks among the frames `first` to `last`."""
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
    """Correlation, offset and overlap in seconds near `offset` samples; None where too little overlaps.

    Both are kept to the band of the peaks; the larger part of speech's energy is at its low end, so that amplitudes
    are weighted by the root of the frequency.
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
