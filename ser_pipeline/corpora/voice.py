"""Synthetic speech: a source-filter model turns phones, pitch and loudness into a waveform.

Glottal pulses and noise excite a series of resonators whose frequencies move from phone to phone. The speech has no
words; it has syllables, accents, phrases and pauses, a voice for each speaker, and a style for each emotion.

Source: the cascade of resonators and its bandwidths, Klatt (1980); vowels, Peterson and Barney (1952), men;
consonant loci, Delattre, Liberman and Cooper (1955).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp2

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats

Complexes = NDArray[np.complex128]
Sound = tuple[str, float, float]  # the symbol of a phone, its seconds, its accent

SAMPLE_RATE = 16_000
HOP = 80  # samples from one frame to the next: 5 ms
FFT = 384  # samples of one pulse or noise frame, including the ringing of the vocal tract: 24 ms
FREQUENCIES = np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)
UPPER_FORMANTS = (3500.0, 4500.0, 5500.0, 6500.0, 7500.0)  # Hz: a uniform tube of 17.5 cm; vowels hardly change them

BREATH, HISS = 0.01, 0.025  # amplitudes relative to the glottal source; spectrograms then look like recorded speech


@dataclass(frozen=True)
class Voice:
    """Constant properties of a speaker and of the speaker's microphone."""

    pitch: float  # Hz, in neutral speech
    tract: float  # formants relative to the tables' adult male
    quirks: tuple[float, float, float]  # additional factors of the first three formants
    rate: float  # relative speaking rate
    tilt: float  # Hz, above which the glottal source falls faster
    breath: float  # dB of aspiration
    liveliness: float  # factor of how strongly an emotion changes the voice
    gain: float  # dB, of the recording
    floor: float  # dB of the room noise at low frequencies, relative to white noise of unit deviation


@dataclass(frozen=True)
class Style:
    """Style of one utterance, relative to the speaker's `Voice`."""

    pitch: float  # semitones
    span: float  # semitones of a full accent
    final: float  # semitones by which the pitch of a phrase moves at its end
    loudness: float  # dB
    rate: float  # octaves of the speaking rate
    tilt: float  # octaves of the frequency above which the source falls faster
    breath: float  # dB of aspiration
    roughness: float  # octaves of jitter and shimmer
    smile: float  # octaves of all formants; spread lips shorten the tract
    slack: float  # 0 to 1: how far vowels move to the centre
    pause: float  # octaves of the pauses


@dataclass(frozen=True)
class Phone:
    """Targets of one speech sound, for an adult male voice at normal rate."""

    seconds: float
    formants: tuple[float, float, float]  # Hz
    voiced: float = 0.0  # amplitude of the glottal source, 1 in a vowel
    aspirated: float = 0.0  # amplitude of noise that passes through the whole tract
    fricated: float = 0.0  # amplitude of noise from the lips or teeth
    centre: float = 4000.0  # Hz, centre frequency of that noise


@dataclass(frozen=True)
class SpokenText:
    """Phones in order, with their lengths and accents."""

    phones: tuple[Phone, ...]
    seconds: Floats  # (phones,)
    accents: Floats  # (phones,), 1 for a full accent, 0 for none
    phrases: tuple[tuple[float, float], ...]  # first and last second of each phrase between pauses

    @property
    def centres(self) -> Floats:
        """The middle of each phone, in seconds."""
        return np.cumsum(self.seconds) - self.seconds / 2


@dataclass(frozen=True)
class Tracks:
    """The movements of the articulators, one row for every `HOP` samples."""

    formants: Floats  # (T, 3) Hz
    voiced: Floats  # (T,)
    aspirated: Floats  # (T,)
    fricated: Floats  # (T,)
    centre: Floats  # (T,) Hz
    pitch: Floats  # (T,) Hz


SCHWA = (500.0, 1500.0, 2500.0)
VOWELS = {
    "i": Phone(0.11, (270, 2290, 3010), voiced=0.8),
    "I": Phone(0.09, (390, 1990, 2550), voiced=0.9),
    "E": Phone(0.10, (530, 1840, 2480), voiced=1.0),
    "a": Phone(0.13, (660, 1720, 2410), voiced=1.0),
    "A": Phone(0.13, (730, 1090, 2440), voiced=1.0),
    "O": Phone(0.12, (570, 840, 2410), voiced=1.0),
    "U": Phone(0.09, (440, 1020, 2240), voiced=0.9),
    "u": Phone(0.11, (300, 870, 2240), voiced=0.8),
    "V": Phone(0.09, (640, 1190, 2390), voiced=1.0),
    "R": Phone(0.11, (490, 1350, 1690), voiced=0.9),
}
CONSONANTS = {
    " ": Phone(0.25, SCHWA),  # a pause
    "_": Phone(0.06, (300, 1500, 2500)),  # the closure of p, t, k
    "=": Phone(0.05, (200, 1400, 2500), voiced=0.15),  # the closure of b, d, g
    "p": Phone(0.015, (350, 800, 2300), fricated=0.5, centre=1200),
    "t": Phone(0.02, (350, 1800, 2700), fricated=1.0, centre=4500),
    "k": Phone(0.02, (350, 2000, 2400), fricated=0.8, centre=2200),
    "b": Phone(0.015, (300, 800, 2300), voiced=0.4, fricated=0.2, centre=1000),
    "d": Phone(0.015, (300, 1800, 2700), voiced=0.4, fricated=0.4, centre=4000),
    "g": Phone(0.02, (300, 2000, 2400), voiced=0.4, fricated=0.4, centre=2000),
    "h": Phone(0.05, SCHWA, aspirated=1.0),
    "f": Phone(0.08, (350, 1100, 2300), fricated=0.25, centre=6500),
    "s": Phone(0.09, (350, 1700, 2600), fricated=0.9, centre=6000),
    "S": Phone(0.09, (350, 1800, 2500), fricated=1.0, centre=3300),
    "z": Phone(0.07, (300, 1700, 2600), voiced=0.3, fricated=0.5, centre=5800),
    "v": Phone(0.05, (300, 1100, 2300), voiced=0.4, fricated=0.1, centre=6000),
    "m": Phone(0.06, (250, 1000, 2200), voiced=0.4),
    "n": Phone(0.06, (250, 1600, 2500), voiced=0.4),
    "l": Phone(0.06, (360, 1200, 2800), voiced=0.6),
    "w": Phone(0.06, (290, 650, 2200), voiced=0.5),
    "j": Phone(0.06, (260, 2200, 3000), voiced=0.5),
    "r": Phone(0.06, (340, 1100, 1500), voiced=0.5),
}
PHONES = VOWELS | CONSONANTS
ONSETS = ("", "_ph", "_th", "_kh", "=b", "=d", "=g", "f", "s", "S", "z", "v", "m", "n", "l", "w", "j", "r", "h", "s_t")
CODAS = ("", "", "", "", "n", "m", "l", "s", "z", "_t", "_k", "n_t")
EDGES = (0.25, 0.75)  # the part of a phone that stays at its target; the rest glides


def speak(voice: Voice, style: Style, seconds: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """An utterance at 16 kHz, int16 `(samples,)`, of about `seconds`: up to half a second more to finish a syllable.

    Args:
        voice: voice of the speaker.
        style: style of the utterance.
        seconds: approximate length.
        rng: random numbers of this utterance.
    """
    score = _compose(seconds, voice, style, rng)
    tracks = _articulate(score, voice, style, rng)
    tract = resonance(tracks.formants, voice)
    gain = decibels(voice.gain + style.loudness)
    room = decibels(voice.floor) / (1 + FREQUENCIES / 500)
    wave = gain * _voicing(tracks, tract, voice, style, rng)
    wave += filtered_noise(gain * _turbulence(tracks, tract, voice, style) + room, rng)
    unclipped = min(1.0, 0.95 / float(np.abs(wave).max()))
    samples: NDArray[np.int16] = np.rint(32_767 * unclipped * wave).astype(np.int16)
    return samples


def _compose(seconds: float, voice: Voice, style: Style, rng: np.random.Generator) -> SpokenText:
    """Random syllables in phrases separated by pauses, until `seconds` are filled."""
    sounds: list[Sound] = [(" ", rng.uniform(0.04, 0.15), 0.0)]
    phrases: list[tuple[float, float]] = []
    while _length(sounds) < seconds:
        if phrases:
            sounds.append((" ", PHONES[" "].seconds * exp2(style.pause) * rng.uniform(0.5, 1.5), 0.0))
        start = _length(sounds)
        for left in reversed(range(rng.integers(3, 9))):
            sounds += _syllable(voice.rate * exp2(style.rate), left == 0, rng)
            if _length(sounds) >= seconds:
                break
        phrases.append((start, _length(sounds)))
    sounds.append((" ", rng.uniform(0.08, 0.2), 0.0))
    symbols, lengths, accents = zip(*sounds, strict=True)
    return SpokenText(tuple(PHONES[s] for s in symbols), np.array(lengths), np.array(accents), tuple(phrases))


def _length(sounds: list[Sound]) -> float:
    return sum(seconds for _, seconds, _ in sounds)


def _syllable(rate: float, last: bool, rng: np.random.Generator) -> list[Sound]:
    """The phones of a random syllable; the last one of a phrase is longer."""
    onset, vowel, coda = (options[rng.integers(len(options))] for options in (ONSETS, tuple(VOWELS), CODAS))
    accent = rng.uniform(0.6, 1.2) if rng.random() < 0.45 else 0.0
    stretch = (1.0 + 0.25 * accent) * (1.35 if last else 1.0) / rate
    return [
        (symbol, PHONES[symbol].seconds * stretch * rng.uniform(0.85, 1.2), accent if symbol == vowel else 0.0)
        for symbol in onset + vowel + coda
    ]


def _articulate(score: SpokenText, voice: Voice, style: Style, rng: np.random.Generator) -> Tracks:
    """Tracks that glide through the targets of `score`."""
    times = np.arange(0, score.seconds.sum(), HOP / SAMPLE_RATE)
    starts = score.centres - score.seconds / 2
    knots = (starts[:, None] + score.seconds[:, None] * EDGES).ravel()

    def glide(targets: Iterable[float]) -> Floats:
        track: Floats = np.interp(times, knots, np.repeat(np.fromiter(targets, float), len(EDGES)))
        return track

    def formant(row: int) -> Floats:
        targets = glide(phone.formants[row] for phone in score.phones)
        factor = voice.tract * voice.quirks[row] * exp2(style.smile)
        track: Floats = factor * (targets + style.slack * (SCHWA[row] - targets))
        return track

    return Tracks(
        formants=np.stack([formant(row) for row in range(3)], axis=1),
        voiced=glide(phone.voiced for phone in score.phones) * (0.8 + 0.4 * _bumps(times, score)),
        aspirated=glide(phone.aspirated for phone in score.phones),
        fricated=glide(phone.fricated for phone in score.phones),
        centre=glide(phone.centre for phone in score.phones),
        pitch=voice.pitch * 2 ** (_intonation(times, score, style, rng) / 12),
    )


def _intonation(times: Floats, score: SpokenText, style: Style, rng: np.random.Generator) -> Floats:
    """The pitch `(T,)` in semitones above the speaker's: slow drift, accents, falling phrases and their endings."""
    steps = np.arange(0.0, times[-1] + 0.15, 0.15)
    pitch = np.interp(times, steps, rng.normal(0.0, 0.4, len(steps))) + style.pitch + style.span * _bumps(times, score)
    for start, end in score.phrases:
        inside = (times >= start) & (times < end)
        pitch[inside] += style.span * np.linspace(0.3, -0.3, inside.sum())
        pitch[inside] += style.final * np.clip(1 - (end - times[inside]) / 0.25, 0, 1)
    return pitch


def _bumps(times: Floats, score: SpokenText) -> Floats:
    """The accents as smooth bumps `(T,)`, 1 at the peak of a full accent."""
    accented = np.flatnonzero(score.accents)
    distance = (times[:, None] - score.centres[accented]) / 0.07
    bumps: Floats = np.sum(score.accents[accented] * np.exp(-0.5 * distance**2), axis=1)
    return bumps


def resonance(formants: Floats, voice: Voice) -> Complexes:
    """The response of the vocal tract `(T, frequencies)` for `formants`, `(T, 3)` in Hz; 1 at 0 Hz."""
    upper = np.array([hertz for hertz in UPPER_FORMANTS if hertz * voice.tract < 0.48 * SAMPLE_RATE]) * voice.tract
    response = np.broadcast_to(np.prod(_resonator(upper), axis=0), (len(formants), len(FREQUENCIES)))
    for hertz in formants.T:
        response = response * _resonator(hertz)
    return response


def _resonator(hertz: Floats) -> Complexes:
    """Two conjugate poles at each of `hertz`; `(len(hertz), frequencies)`."""
    delay = np.exp(-2j * np.pi * FREQUENCIES / SAMPLE_RATE)
    square = np.exp(-2 * np.pi * (50 + 0.04 * hertz) / SAMPLE_RATE)[:, None]
    swing = 2 * np.sqrt(square) * np.cos(2 * np.pi * hertz / SAMPLE_RATE)[:, None]
    response: Complexes = (1 - swing + square) / (1 - swing * delay + square * delay**2)
    return response


def _voicing(tracks: Tracks, tract: Complexes, voice: Voice, style: Style, rng: np.random.Generator) -> Floats:
    """The glottal pulses, each filtered by the tract at that moment; phase shifts place them between samples."""
    cycles = np.cumsum(tracks.pitch) * HOP / SAMPLE_RATE
    frames = np.arange(len(cycles))
    at = np.interp(np.arange(1.0, cycles[-1]), cycles, frames)
    period = SAMPLE_RATE / HOP / np.interp(at, frames, tracks.pitch)
    unsteady = exp2(style.roughness) * rng.standard_normal((2, len(at)))
    loud = np.interp(at, frames, tracks.voiced) * np.maximum(0.0, 1 + 0.04 * unsteady[0])
    at = np.clip(at + 0.006 * period * unsteady[1], 0, frames[-1])
    at, period, loud = at[loud > 1e-3], period[loud > 1e-3], loud[loud > 1e-3]
    first, late = np.divmod(at * HOP, 1.0)
    pulse = glottal_pulse(SAMPLE_RATE / HOP / period, voice.tilt * exp2(style.tilt))
    pulse *= tract[np.rint(at).astype(int)] * np.exp(-2j * np.pi * late[:, None] * FREQUENCIES / SAMPLE_RATE)
    return _overlap_add(loud[:, None] * np.fft.irfft(pulse, FFT), first.astype(int), len(cycles) * HOP)


def glottal_pulse(pitch: Floats, tilt: float) -> Complexes:
    """Spectra `(len(pitch), frequencies)` of the flow derivative: a glottal formant, and a pole at `tilt` Hz.

    Source: Doval, d'Alessandro and Henrich (2006), The spectrum of glottal flow models. A pressed voice has the higher
    glottal formant and `tilt`.
    """
    relative = FREQUENCIES / (pitch[:, None] * 1.2 * (tilt / 2000) ** 0.3)
    pulse: Complexes = 1j * relative / ((1 + 1.2j * relative - relative**2) * (1 + 1j * FREQUENCIES / tilt))
    return pulse


def _turbulence(tracks: Tracks, tract: Complexes, voice: Voice, style: Style) -> Complexes:
    """Filters of the noise at each moment: the whole tract for breath, a band of its own for hissing consonants."""
    breath = BREATH * (tracks.aspirated + decibels(voice.breath + style.breath) * 0.08 * tracks.voiced)
    octaves = np.log2(np.maximum(FREQUENCIES, 1.0) / (tracks.centre[:, None] * voice.tract))
    hiss = HISS * tracks.fricated[:, None] * np.exp(-0.5 * (octaves / 0.45) ** 2)
    response: Complexes = breath[:, None] * tract + hiss
    return response


def filtered_noise(response: Complexes, rng: np.random.Generator) -> Floats:
    """White noise filtered by `response`, `(T, frequencies)`; `(T * HOP,)`."""
    frames = len(response)
    white = rng.standard_normal((frames + 1) * HOP)
    pieces = sliding_window_view(white, 2 * HOP)[::HOP] * np.hanning(2 * HOP + 1)[:-1]
    return _overlap_add(np.fft.irfft(np.fft.rfft(pieces, FFT) * response, FFT), np.arange(frames) * HOP, frames * HOP)


def _overlap_add(pieces: Floats, starts: NDArray[np.int_], samples: int) -> Floats:
    """The sum of `pieces`, `(n, FFT)`, each added at its start; `(samples,)`."""
    wave = np.zeros(samples + FFT)
    for piece, start in zip(pieces, starts, strict=True):
        wave[start : start + FFT] += piece
    return wave[:samples]


def decibels(level: float) -> float:
    """Convert a level in dB to an amplitude.

    >>> decibels(-20)
    0.1
    """
    return float(10 ** (level / 20))
