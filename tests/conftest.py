"""What several tests share: small corpora made on the spot, and the command by its entry point."""

from __future__ import annotations

import logging
import os
import wave
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

os.environ.setdefault("OMP_NUM_THREADS", "1")

CODES = {"anger": "W", "sadness": "T", "neutral": "N", "happiness": "F"}


@pytest.fixture(scope="session")
def emodb() -> Path:
    """The folder of the real EMO-DB."""
    folder = os.environ.get("SER_PIPELINE_EMODB")
    if not folder:
        pytest.skip("$SER_PIPELINE_EMODB is not set: no EMO-DB here")
    return Path(folder)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """The `ser-pipeline` command in an empty folder: `run("features", "emodb", root)`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SER_PIPELINE_CACHE", raising=False)
    log = logging.getLogger("ser_pipeline")
    for name in ("handlers", "level", "propagate"):  # put back after the command has set them
        monkeypatch.setattr(log, name, getattr(log, name))
    (command,) = entry_points(group="console_scripts", name="ser-pipeline")

    def invoke(*args: object, status: int = 0) -> Result:
        result = CliRunner().invoke(command.load(), [str(arg) for arg in args])
        if result.exit_code != status:
            raise AssertionError(f"exit status {result.exit_code}: {result.stderr}{result.exception!r}")
        return result

    return invoke


def write_wav(file: Path, samples: np.ndarray, rate: int = 16_000) -> None:
    """Write float samples in -1..1 as a 16-bit WAV file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes())


def tone(seed: int, seconds: float, pitch: float) -> np.ndarray:
    """A noisy harmonic tone, float64 (N,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16_000)) / 16_000
    wobble = 1 + 0.05 * np.sin(2 * np.pi * 3 * time)
    sound = sum(np.sin(2 * np.pi * k * pitch * wobble * time) / k for k in range(1, 8))
    return 0.1 * np.asarray(sound) + 0.01 * rng.standard_normal(len(time))


def write_emodb(root: Path, speakers: int = 4, takes: int = 2, seconds: float = 1.0) -> Path:
    """A corpus in EMO-DB's naming: four emotions, told apart by pitch; some longer than a segment."""
    for speaker in range(speakers):
        for emotion, (name, code) in enumerate(CODES.items()):
            for take in range(takes):
                seed = speaker * 100 + emotion * 10 + take
                length = seconds * (4 if take == 1 and name == "anger" else 1) + 0.05 * emotion
                file = root / "wav" / f"{speaker + 3:02d}a{take + 1:02d}{code}a.wav"
                write_wav(file, tone(seed, length, 100 * (1 + 0.6 * emotion) + 3 * speaker))
    return root


@pytest.fixture
def small_emodb(tmp_path: Path) -> Path:
    """A small corpus in EMO-DB's naming: 4 speakers, 4 emotions, 2 takes."""
    return write_emodb(tmp_path / "small")
