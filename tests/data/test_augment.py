import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ser_pipeline import config as settings
from ser_pipeline.config import Config
from ser_pipeline.data.augment import augment
from ser_pipeline.data.batch import Batch, Mix
from ser_pipeline.features.acoustic import mfcc_rows, spectrogram_rows, waveform_rows
from ser_pipeline.model import build_model

RATE, SIZE = 16_000, 6


@pytest.fixture
def batch() -> Batch:
    """Return tones of 500 Hz as stored: two seconds in segments of three."""
    config = Config()
    time = np.arange(2 * RATE) / RATE
    tone = (0.1 * np.sin(2 * np.pi * 500 * time)).astype(np.float32)
    made = (
        waveform_rows(tone, config.audio),
        spectrogram_rows(tone, config.audio, config.features.spectrogram),
        mfcc_rows(tone, config.audio, config.features.mfcc),
    )
    rows = (torch.from_numpy(np.repeat(row, SIZE, axis=0)) for row in made)
    inputs = dict(zip(("waveform", "spectrogram", "mfcc"), rows, strict=True))
    return Batch(inputs, torch.full((SIZE,), len(tone)), torch.arange(SIZE) % 4, torch.arange(SIZE))


def changed(batch: Batch, **options: float) -> Batch:
    torch.manual_seed(0)
    overrides = [f"augment.{name}={value}" for name, value in options.items()]
    return augment(batch, settings.load("paper", None, overrides))


def view(batch: Batch, name: str) -> Tensor:
    return batch[name].double()


def test_without_settings_nothing_changes(batch: Batch) -> None:
    assert all(
        torch.equal(before, after) for before, after in zip(batch.tensors(), changed(batch).tensors(), strict=True)
    )


def test_every_change_keeps_types_and_shapes(batch: Batch) -> None:
    after = changed(batch, speed=0.1, gain=6.0, noise=1.0, frame_masks=2, bin_masks=2)
    for before, now in zip(batch.tensors(), after.tensors(), strict=True):
        assert (now.dtype, now.shape) == (before.dtype, before.shape)
    for name in ("waveform", "spectrogram", "mfcc"):
        assert not torch.equal(view(batch, name), view(after, name))


def test_faster_speech_is_higher_and_shorter_in_every_view(batch: Batch) -> None:
    after = changed(batch, speed=0.2)
    factor = 2 * RATE / after.samples.double()
    assert factor.min() < 0.95
    assert factor.max() > 1.05
    heard = view(after, "waveform")[:, 1:16_001]
    hertz = torch.fft.rfft(heard * torch.hann_window(16_000)).abs().argmax(1)  # one second: bins of 1 Hz
    assert (hertz - 500 * factor).abs().max() < 2
    peaks = view(after, "spectrogram")[..., 100].argmax(1)  # bins of 20 Hz
    assert (peaks - 25 * factor).abs().max() <= 1
    for name, axis in (("spectrogram", 1), ("mfcc", 2)):
        frames = (view(after, name) != 0).any(axis).sum(1)
        assert (frames - 200 / factor).abs().max() <= 3


def test_louder_speech_is_louder_by_as_much_in_every_view_that_knows_the_level(batch: Batch) -> None:
    after = changed(batch, gain=6.0)
    power = [view(rows, "waveform").square().sum(1) for rows in (batch, after)]
    decibels = 10 * torch.log10(power[1] / power[0])
    assert 1 < decibels.max() <= 6.01
    assert -6.01 <= decibels.min() < -1
    first = (view(after, "mfcc") - view(batch, "mfcc"))[:, 100, 0] / math.sqrt(128)
    assert (first - decibels).abs().max() < 0.05
    assert torch.equal(view(after, "mfcc")[..., 1:], view(batch, "mfcc")[..., 1:])
    assert torch.equal(after["mfcc"][:, 250], batch["mfcc"][:, 250])  # padding stays silent


def test_noise_lies_10_to_30_db_under_the_speech_of_a_share_of_the_segments(batch: Batch) -> None:
    after = changed(batch, noise=0.5)
    speech, noise = view(batch, "waveform"), view(after, "waveform") - view(batch, "waveform")
    noisy = noise.abs().sum(1) > 0
    assert 0 < noisy.sum() < SIZE
    part = slice(1, 2 * RATE)
    ratio = 10 * torch.log10(speech[noisy, part].square().mean(1) / noise[noisy, part].square().mean(1))
    assert ratio.min() > 9.5
    assert ratio.max() < 30.5
    raised = (view(after, "spectrogram") > view(batch, "spectrogram")).any(2).any(1)
    assert torch.equal(raised, noisy)


def test_masks_silence_the_same_frames_of_both_views_and_bands_of_one(batch: Batch) -> None:
    after = changed(batch, frame_masks=2)
    for row in range(SIZE):
        silent = ~(view(after, "mfcc")[row, :195] != 0).any(1)
        assert torch.equal(silent, ~(view(after, "spectrogram")[row, :, :195] != 0).any(0))
        assert silent.sum() <= 60
    bands = changed(batch, bin_masks=1)
    assert torch.equal(bands["mfcc"], batch["mfcc"])
    hidden = (view(bands, "spectrogram") == 0).all(2).sum(1) - (view(batch, "spectrogram") == 0).all(2).sum(1)
    assert 0 < hidden.max() <= 20


def test_a_share_of_the_segments_is_mixed_with_another() -> None:
    torch.manual_seed(0)
    mix = Mix.draw(4000, 0.5, torch.device("cpu"))
    assert sorted(mix.other.tolist()) == list(range(4000))
    assert abs((mix.weight < 1).double().mean() - 0.5) < 0.03
    assert abs(mix.weight[mix.weight < 1].mean() - 0.5) < 0.03
    rows = torch.randn(4000, 3)
    mixed = mix(rows)
    assert torch.equal(mixed[mix.weight[:, 0] == 1], rows[mix.weight[:, 0] == 1])
    assert torch.allclose(mixed[:5], mix.weight[:5] * rows[:5] + (1 - mix.weight[:5]) * rows[mix.other[:5]])


def test_what_is_mixed_is_what_the_inputs_are_encoded_as(batch: Batch) -> None:
    config = settings.load("scratch", None, ["model.segments=1", "model.co_attention=false", "model.small_width=8"])
    torch.manual_seed(0)
    model = build_model(config.model, audio=config.model_audio, features=config.features, classes=4).eval()
    loud = changed(batch, gain=20.0, speed=0.2)
    other = torch.roll(torch.arange(SIZE), 1)
    with torch.no_grad():
        alone, swapped, kept = (
            model(loud, mix).logits for mix in (None, Mix(other, torch.zeros(SIZE, 1)), Mix(other, torch.ones(SIZE, 1)))
        )
    assert torch.allclose(swapped, alone[other], atol=1e-5)
    assert torch.allclose(kept, alone, atol=1e-5)
    assert not torch.allclose(alone, alone[other], atol=1e-3)
