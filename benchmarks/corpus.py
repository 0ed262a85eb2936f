"""A seeded synthetic corpus for the benchmarks: fast to write, with lengths similar to IEMOCAP's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import Audio
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.features.measure import measure

RATE = 16_000


@dataclass(frozen=True)
class Corpus:
    """Audio files and their utterances."""

    root: Path
    utterances: tuple[Utterance, ...]

    def manifest(self, copies: int = 1) -> Manifest:
        """The measured corpus; with `copies`, as if it contained every file that many times."""
        several = [
            replace(utterance, id=f"{copy}-{utterance.id}") for copy in range(copies) for utterance in self.utterances
        ]
        return measure("bench", {"a": ("a",)}, several, self.root, Audio())

    def first(self, count: int) -> Corpus:
        """A corpus of the first `count` files."""
        return Corpus(self.root, self.utterances[:count])


def make(root: Path, files: int, seed: int = 0) -> Corpus:
    """Write `files` WAV files of 1 to 8 s, 4.5 s on average: harmonics and noise."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(10 * RATE).astype(np.float32)
    root.mkdir(parents=True)
    utterances = []
    for number in range(files):
        time = np.arange(int(RATE * rng.uniform(1, 8)), dtype=np.float32) / RATE
        pitch = rng.uniform(90, 260)
        sound = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 4))
        start = rng.integers(RATE)
        name = f"{number:04d}.wav"
        soundfile.write(root / name, 0.1 * sound + 0.02 * noise[start : start + len(time)], RATE, subtype="PCM_16")
        utterances.append(Utterance(name, name, "a", f"{number % 10}"))
    return Corpus(root, tuple(utterances))
