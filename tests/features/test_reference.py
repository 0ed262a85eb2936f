"""Preset `reference` has the inputs of the published code, compared with a second implementation in numpy and PIL.

`pytest -s` prints the numbers. docs/reference.md lists the differences that remain.
"""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from PIL import Image

from ser_pipeline import audio
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import load
from ser_pipeline.data.stream import Data
from ser_pipeline.features.acoustic import FEATURES
from ser_pipeline.model.inputs import FinishMfcc, FinishSpectrogram
from ser_pipeline.model.paper import DEVIATION, IMAGE, MEAN, AlexNet
from ser_pipeline.splits.folds import Fold
from ser_pipeline.training.fold import _extremes
from support import trees
from support.sounds import tone

REFERENCE = load("reference")
Sounds = dict[str, np.ndarray]


def frames_of(samples: np.ndarray, window: np.ndarray, n: int) -> np.ndarray:
    """Compute magnitudes (n // 2 + 1, T) of centred frames, 160 samples apart, of samples padded by reflection."""
    emphasised = np.append(samples[0], samples[1:] - np.float32(0.97) * samples[:-1]).astype(np.float32)
    padded = np.pad(emphasised, n // 2, mode="reflect")
    wide = np.zeros(n)
    start = (n - len(window)) // 2
    wide[start : start + len(window)] = window
    frames = np.stack([padded[at : at + n] * wide for at in range(0, len(padded) - n + 1, 160)])
    return np.abs(np.fft.rfft(frames, axis=1)).T


def cut(frames: np.ndarray, padding: float) -> np.ndarray:
    """Cut frames (T, K) into segments (S, 300, K), the last one padded at its end."""
    rows = np.full((-(-len(frames) // 300) * 300, frames.shape[1]), padding)
    rows[: len(frames)] = frames
    return rows.reshape(-1, 300, frames.shape[1])


def decibels(samples: np.ndarray) -> np.ndarray:
    """Compute dB relative to the utterance's maximum, (S, 300, 200), padded with 0 dB, which is the maximum."""
    hamming = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(640) / 640)
    power = np.maximum(frames_of(samples, hamming, 800), 1e-5) ** 2
    level = 10 * np.log10(power) - 10 * np.log10(power.max())
    return cut(np.maximum(level, level.max() - 80)[:200].T, 0.0)


def cepstra(samples: np.ndarray) -> np.ndarray:
    """Compute MFCCs (S, 300, 40) of unit length as that version's `librosa.feature.mfcc`, with librosa's filters."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    mel = librosa.filters.mel(sr=16_000, n_fft=2048, n_mels=128, htk=True) @ frames_of(samples, hann, 2048) ** 2
    level = 10 * np.log10(np.maximum(mel, 1e-10))
    level = np.maximum(level, level.max() - 80)
    waves = np.sqrt(2 / 128) * np.cos(np.pi / 128 * np.outer(np.arange(40), np.arange(128) + 0.5))
    waves[0] *= np.sqrt(0.5)
    found = (waves @ level).T
    return cut(found / np.linalg.norm(found, axis=1, keepdims=True), 0.0)


def published(sounds: Sounds, train: list[str]) -> list[np.ndarray]:
    """Compute grey levels uint8 (S, 256, 384): scaled by bin on padded training segments, 8 bits, flipped, resized."""
    made = {name: decibels(samples) for name, samples in sounds.items()}
    together = np.concatenate([made[name] for name in train])
    low, high = together.min((0, 1)), together.max((0, 1))
    found = []
    for rows in made.values():
        level = (255 * ((rows - low) / (high - low)).clip(0, 1)).astype(np.uint8).transpose(0, 2, 1)[:, ::-1]
        images = [Image.fromarray(one).resize(IMAGE[::-1], Image.Resampling.BILINEAR) for one in level]
        found.append(np.stack([np.asarray(image) for image in images]))
    return found


class Rows:
    """Spectrograms in memory with the interface of a store."""

    def __init__(self, parts: list[np.ndarray]) -> None:
        self.parts = parts

    def extremes(self, utterances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chosen = [self.parts[row] for row in utterances]
        return np.min([p.min((0, 2)) for p in chosen], axis=0), np.max([p.max((0, 2)) for p in chosen], axis=0)


def ours(sounds: Sounds, train: list[str]) -> list[np.ndarray]:
    """Return the input of the preset's image encoder as grey levels (S, 256, 384)."""
    settings, names = REFERENCE.features.spectrogram, list(sounds)
    stored = [FEATURES["spectrogram"].rows(samples, REFERENCE.audio, settings) for samples in sounds.values()]
    samples = np.array([len(one) for one in sounds.values()])
    utterances = tuple(trees.people(1, turns=len(names)))
    labels = {one.emotion: (one.emotion,) for one in utterances}
    manifest = Manifest("x", labels, REFERENCE.audio, utterances, tuple(names), samples)
    rows = np.array([names.index(name) for name in train])

    class Context:
        fold, config = Fold("x", rows, rows, rows), REFERENCE
        data = Data(manifest, {"spectrogram": Rows(stored)})

    finish, encoder = FinishSpectrogram(REFERENCE.audio, 200, pad_loud=REFERENCE.model.pad_loud), AlexNet(200, 300)
    finish.fit(*map(torch.from_numpy, _extremes("spectrogram", Context)))  # type: ignore[arg-type]
    scale, shift = torch.tensor(DEVIATION).view(3, 1, 1), torch.tensor(MEAN).view(3, 1, 1)
    found = []
    for place, part in enumerate(stored):
        real = torch.from_numpy(manifest.segments[manifest.rows(np.array([place])), 2])
        image = (encoder.image(finish(torch.from_numpy(part), real)) * scale + shift) * 255
        found.append(np.rint(image.numpy()[:, 0]).astype(np.uint8))
    return found


def differing(one: list[np.ndarray], other: list[np.ndarray]) -> tuple[float, int]:
    """Return the share of pixels that differ, and the largest difference in grey levels."""
    apart = np.concatenate([np.abs(a.astype(int) - b).ravel() for a, b in zip(one, other, strict=True)])
    return float((apart > 0).mean()), int(apart.max())


@pytest.fixture(scope="module")
def voices() -> Sounds:
    """Return sounds of 0.3 to 7 s that end in silence, so that every bin reaches the floor."""
    lengths = (0.3, 1.0, 2.99, 3.0, 3.2, 4.5, 7.0, 1.7)
    sounds = {}
    for number, seconds in enumerate(lengths):
        sound = tone(number, seconds, 90.0 + 20 * number).astype(np.float32)
        sound[len(sound) // 2 : len(sound) // 2 + 1_600] = 0
        sounds[str(number)] = sound
    return sounds


def test_images_are_those_of_the_published_code(voices: Sounds) -> None:
    train = list(voices)[:6]
    share, most = differing(ours(voices, train), published(voices, train))
    print(f"{share:.4%} of the pixels differ, by {most} at most")
    assert share < 1e-4
    assert most <= 1


def test_coefficients_are_those_of_the_published_code(voices: Sounds) -> None:
    for samples in voices.values():
        rows = FEATURES["mfcc"].rows(samples, REFERENCE.audio, REFERENCE.features.mfcc)
        found = FinishMfcc()(torch.from_numpy(rows)).numpy()
        assert np.abs(found - cepstra(samples)).max() < 1e-3


@pytest.mark.parametrize("name", ["spectrogram", "mfcc", "logmel"])
@pytest.mark.parametrize("samples", [1, 2, 150, 700, 1_600])
def test_an_utterance_shorter_than_its_reflection_is_reflected_again(name: str, samples: int) -> None:
    settings = load("paper", None, [f"features.{name}.pad_mode=reflect"])
    sound = tone(1, 0.2, 120.0).astype(np.float32)[:samples]
    rows = FEATURES[name].rows(sound, settings.audio, getattr(settings.features, name))
    assert np.isfinite(rows.astype(float)).all()
    assert rows[0].any()


def test_other_presets_are_padded_with_silence() -> None:
    for name in ("paper", "scratch", "demo"):
        features = load(name).features
        assert {features.mfcc.pad_mode, features.spectrogram.pad_mode, features.logmel.pad_mode} == {"constant"}


@pytest.mark.slow(reason="processes 535 recordings twice")
@pytest.mark.parametrize("speaker", ["03", "16"])
def test_images_of_emodb_are_those_of_the_published_code(emodb: Path, speaker: str) -> None:
    files = sorted((emodb / "wav").glob("*.wav"))
    sounds = {file.stem: audio.decode(file.read_bytes(), file.name, 16_000) for file in files}
    train = [name for name in sounds if not name.startswith(speaker)]
    share, most = differing(ours(sounds, train), published(sounds, train))
    print(f"without {speaker}: {share:.4%} of the pixels differ, by {most} at most")
    assert share < 1e-4
    assert most <= 1
