"""The inputs of the encoders on all of EMO-DB match the paper's formulas, computed with librosa and PIL.

About 15 seconds on one core. `pytest -s` prints the numbers.
"""

from collections.abc import Iterator
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from PIL import Image

from ser_pipeline import audio
from ser_pipeline.config import Audio, Mfcc, Spectrogram
from ser_pipeline.features.acoustic import FEATURES
from ser_pipeline.model.inputs import FinishSpectrogram as Finish
from ser_pipeline.model.paper import DEVIATION, IMAGE, MEAN, AlexNet

TEST_SPEAKER = "03"
"""Speaker whose recordings the scaler is not fitted on."""


@pytest.fixture(scope="module")
def recordings(emodb: Path) -> dict[str, np.ndarray]:
    """Return name -> samples (N,)."""
    files = sorted((emodb / "wav").glob("*.wav"))
    return {file.stem: audio.decode(file.read_bytes(), file.name, 16_000) for file in files}


def segments(frames: np.ndarray, padding: float) -> np.ndarray:
    """Cut frames (T, K) into (S, 300, K), padded at the end."""
    missing = -len(frames) % 300
    return np.pad(frames, ((0, missing), (0, 0)), constant_values=padding).reshape(-1, 300, frames.shape[1])


def decibels(samples: np.ndarray) -> np.ndarray:
    """Compute `amplitude_to_db(ref=max, top_db=80)` of 40 ms Hamming windows, the lowest 200 bins: (S, 300, 200)."""
    spectrum = np.abs(librosa.stft(samples, n_fft=800, hop_length=160, win_length=640, window="hamming"))
    return segments(librosa.amplitude_to_db(spectrum, ref=np.max, top_db=80.0)[:200].T, -80.0)


def images(recordings: dict[str, np.ndarray], train: list[str]) -> Iterator[np.ndarray]:
    """Yield images uint8 (S, 256, 384) of every recording: each bin scaled over `train`, 8 bits, flipped, resized."""
    made = {name: decibels(samples) for name, samples in recordings.items()}
    low = np.min([made[name].min((0, 1)) for name in train], axis=0)
    high = np.max([made[name].max((0, 1)) for name in train], axis=0)
    for rows in made.values():
        levels = np.floor(255 * ((rows - low) / (high - low)).clip(0, 1)).astype(np.uint8).transpose(0, 2, 1)
        resized = [Image.fromarray(level[::-1]).resize(IMAGE[::-1], Image.Resampling.BILINEAR) for level in levels]
        yield np.stack([np.asarray(image) for image in resized])


@pytest.mark.slow(reason="processes 535 recordings twice")
def test_images_of_the_quantised_spectrograms_equal_the_formulas_to_a_grey_level(
    recordings: dict[str, np.ndarray],
) -> None:
    train = [name for name in recordings if not name.startswith(TEST_SPEAKER)]
    stored = {name: FEATURES["spectrogram"].rows(y, Audio(), Spectrogram()) for name, y in recordings.items()}
    finish, encoder = Finish(Audio(), 200), AlexNet(200, 300)
    finish.fit(
        torch.from_numpy(np.min([stored[name].min((0, 2)) for name in train], axis=0)),
        torch.from_numpy(np.max([stored[name].max((0, 2)) for name in train], axis=0)),
    )
    scale, shift = torch.tensor(DEVIATION).view(3, 1, 1), torch.tensor(MEAN).view(3, 1, 1)
    histogram = np.zeros(256, np.int64)
    for rows, expected in zip(stored.values(), images(recordings, train), strict=True):
        level = finish(torch.from_numpy(rows), torch.full((len(rows),), 48_000))
        found = ((encoder.image(level) * scale + shift) * 255).numpy()
        assert np.abs(found - np.rint(found)).max() < 1e-3 and np.ptp(np.rint(found), axis=1).max() == 0
        histogram += np.bincount(np.abs(np.rint(found[:, 0]).astype(int) - expected).ravel(), minlength=256)
    share = histogram[1:].sum() / histogram.sum()
    print(f"{len(recordings)} recordings: {share:.2%} of pixels differ, by {np.flatnonzero(histogram)[-1]} at most")
    assert not histogram[2:].any()
    assert share < 0.1


@pytest.mark.slow(reason="processes 535 recordings twice")
def test_rows_of_coefficients_equal_librosa_to_the_rounding_of_float16(recordings: dict[str, np.ndarray]) -> None:
    worst = 0.0
    for samples in recordings.values():
        rows = FEATURES["mfcc"].rows(samples, Audio(), Mfcc())
        expected = segments(librosa.feature.mfcc(y=samples, sr=16_000, n_mfcc=40, hop_length=160, htk=True).T, 0.0)
        rounding = np.spacing(np.abs(expected).astype(np.float16)).astype(np.float32) / 2
        worst = max(worst, float((np.abs(rows - expected) - rounding).max()))
    print(f"{len(recordings)} recordings: {worst:.1e} beyond the rounding at most")
    assert worst < 1e-3
