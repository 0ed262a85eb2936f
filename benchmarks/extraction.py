"""Extraction rate, in seconds of audio per second: the reference code's way, librosa used well, and this package."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import librosa
import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.corpus import Corpus
from benchmarks.table import Row, compared, rounds
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import Config
from ser_pipeline.features import extract

ALONE = """
import sys
from pathlib import Path
from ser_pipeline import extract, manifest
from ser_pipeline.config import Audio, Config
from ser_pipeline.corpora.corpus import Utterance
root = Path(sys.argv[1])
utterances = [Utterance(file.name, file.name, "a", "1") for file in sorted(root.iterdir())]
data = manifest.measure("bench", {"a": ("a",)}, utterances, root, Audio())
extract.extract(data, root, Config(), Path(sys.argv[2]), jobs=1)
print(Path("/proc/self/status").read_text())
"""

Array = NDArray[np.float32]

SEGMENT, FRAMES = 48_000, 300
SOME = 60  # files for the slow alternatives
COPIES = 4  # copies of the corpus for the comparison of two processes with one


def measure(corpus: Corpus, place: Path, count: int = 3) -> list[Row]:
    """Rows of the table on extraction; leaves the stores of a large corpus in `place`."""
    some = corpus.first(SOME).manifest()
    rates = rounds(
        {
            "the reference, pickle written": lambda: _published(corpus.root, some, place.with_suffix(".pkl")),
            "librosa's functions, used efficiently, nothing written": lambda: _every(corpus.root, some, _librosa)[0],
            "ser-pipeline, one process, stores written": lambda: _ours(corpus, corpus.manifest(), place, 1),
        },
        count,
        time.process_time,  # CPU time, which does not depend on other load
    )
    rows = compared("extraction, per core", rates, "ser-pipeline, one process, stores written", "x real time")
    large = corpus.manifest(COPIES)
    several = rounds({str(jobs): partial(_ours, corpus, large, place, jobs) for jobs in (1, 2)}, count)
    rows.append(
        Row("", "a second process (start included)", f"{several['2']:,.0f} x real time", several["2"] / several["1"])
    )
    rows.append(Row("", "peak memory of one process for the whole stage", f"{_peak(corpus):,.0f} MB"))
    return rows


def _every(root: Path, data: Manifest, way: Callable[[Path], object]) -> tuple[float, list[object]]:
    """Seconds of audio, and the result of `way` for every file."""
    kept = [way(root / utterance.file) for utterance in data.utterances]
    return float(data.samples.sum() / data.audio.rate), kept


def _published(root: Path, data: Manifest, file: Path) -> float:
    seconds, kept = _every(root, data, _reference)
    file.write_bytes(pickle.dumps(kept, protocol=4))
    return seconds


def _ours(corpus: Corpus, data: Manifest, place: Path, jobs: int) -> float:
    """The whole stage: checked, cut, quantised, with checksums, flushed to disk."""
    shutil.rmtree(place, ignore_errors=True)
    extract.extract(data, corpus.root, Config(), place, jobs=jobs)
    return float(data.samples.sum() / data.audio.rate)


def _peak(corpus: Corpus) -> float:
    """Peak memory in MB of one process that runs the whole stage, by its own count from its start."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", ALONE, str(corpus.root), folder], check=True, capture_output=True, text=True
        )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _reference(file: Path) -> list[tuple[Array, Array, Array]]:
    """The published code's steps in sequence: float32 throughout, segments cut in Python."""
    loaded, _ = librosa.load(file, sr=16_000)
    sound = np.append(loaded[0], loaded[1:] - 0.97 * loaded[:-1])
    mfcc = librosa.feature.mfcc(y=sound, sr=16_000, n_mfcc=40, hop_length=160, htk=True).T
    spectrum = librosa.stft(sound, n_fft=800, hop_length=160, win_length=640, window="hamming")
    decibels = librosa.amplitude_to_db(np.abs(spectrum), ref=np.max)[:200].T
    segments = []
    for first in range(0, len(mfcc), FRAMES):
        part = sound[first * 160 : first * 160 + SEGMENT]
        part = np.concatenate([np.zeros(SEGMENT - len(part), np.float32), part])
        normal = (part - part.mean()) / np.sqrt(part.var() + 1e-7)
        segments.append((_padded(mfcc, first), _padded(decibels, first).T, normal.astype(np.float32)))
    return segments


def _padded(frames: Array, first: int) -> Array:
    part = frames[first : first + FRAMES]
    return np.concatenate([part, np.zeros((FRAMES - len(part), frames.shape[1]), np.float32)]).astype(np.float32)


def _librosa(file: Path) -> tuple[Array, Array]:
    """Librosa's functions on samples that are decoded once, and nothing else."""
    sound, _ = soundfile.read(file, dtype="float32")
    mfcc = librosa.feature.mfcc(y=sound, sr=16_000, n_mfcc=40, hop_length=160, htk=True)
    spectrum = np.abs(librosa.stft(sound, n_fft=800, hop_length=160, win_length=640, window="hamming"))
    return mfcc, librosa.amplitude_to_db(spectrum, ref=np.max)[:200]
