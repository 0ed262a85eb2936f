"""Generated sounds, and small corpora of them with EMO-DB's file names."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

CODES = {"anger": "W", "sadness": "T", "neutral": "N", "happiness": "F"}


def write_wav(file: Path, samples: np.ndarray, rate: int = 16_000) -> None:
    """Write float samples in -1 to 1 as a 16-bit WAV file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes())


def tone(seed: int, seconds: float, pitch: float) -> np.ndarray:
    """Return a noisy harmonic tone, float64 (N,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16_000)) / 16_000
    wobble = 1 + 0.05 * np.sin(2 * np.pi * 3 * time)
    sound = sum(np.sin(2 * np.pi * k * pitch * wobble * time) / k for k in range(1, 8))
    return 0.1 * np.asarray(sound) + 0.01 * rng.standard_normal(len(time))


def write_emodb(root: Path, speakers: int = 4, takes: int = 2, seconds: float = 1.0) -> Path:
    """Write a corpus with EMO-DB's file names: four emotions that differ in pitch; some longer than a segment."""
    for speaker in range(speakers):
        for emotion, (name, code) in enumerate(CODES.items()):
            for take in range(takes):
                seed = speaker * 100 + emotion * 10 + take
                length = seconds * (4 if take == 1 and name == "anger" else 1) + 0.05 * emotion
                file = root / "wav" / f"{speaker + 3:02d}a{take + 1:02d}{code}a.wav"
                write_wav(file, tone(seed, length, 100 * (1 + 0.6 * emotion) + 3 * speaker))
    return root
