"""The front end of an ONNX graph, compared with the features that models are trained on and with plain NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from ser_pipeline.config import Audio, LogMel, Mfcc, Spectrogram
from ser_pipeline.errors import PipelineError
from ser_pipeline.export.front import DeltaFront, ProductPower, waveform_front
from ser_pipeline.features.acoustic import logmel_rows, mfcc_rows, spectrogram_rows, waveform_rows
from ser_pipeline.features.on_device import ImageFront, MfccFront, Power
from support import front_numpy
from support.sounds import tone

AUDIO = Audio()
LENGTHS = (5_000, 47_999, 48_000, 70_001)


def signals() -> list[np.ndarray]:
    return [tone(number, length / 16_000, 150).astype(np.float32)[:length] for number, length in enumerate(LENGTHS)]


def together() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return all signals as one batch of whole segments, their samples, and which frames are real."""
    given, most = signals(), AUDIO.segments(max(LENGTHS))
    batch = torch.zeros(len(given), most * AUDIO.segment)
    for row, signal in zip(batch, given, strict=True):
        row[: len(signal)] = torch.from_numpy(signal)
    samples = torch.tensor([len(signal) for signal in given])
    real = torch.arange(most * AUDIO.frames) <= samples[:, None] // AUDIO.hop
    return batch, samples, real[..., None]


@pytest.mark.parametrize("transform", [Power, ProductPower])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("pre_emphasis", [0.0, 0.97])
@pytest.mark.parametrize("kind", [Mfcc, Spectrogram, LogMel])
def test_rows_are_those_of_the_features(kind: type, pre_emphasis: float, pad_mode: str, transform: type) -> None:
    settings = kind(pre_emphasis=pre_emphasis, pad_mode=pad_mode)
    front: nn.Module = (MfccFront if kind is Mfcc else ImageFront)(AUDIO, settings, transform)
    rows: Callable[..., np.ndarray] = {Mfcc: mfcc_rows, Spectrogram: spectrogram_rows, LogMel: logmel_rows}[kind]
    made = front(*together()).numpy()
    for signal, found in zip(signals(), made, strict=True):
        wanted = rows(signal, AUDIO, settings).astype(np.float32)
        joined = wanted.reshape(-1, wanted.shape[2]) if kind is Mfcc else np.concatenate(list(wanted), 1)
        if kind is Mfcc:
            np.testing.assert_allclose(found[: len(joined)], joined, atol=0.02, rtol=1e-3)
            assert not found[len(joined) :].any()
        else:
            part = found[:, : joined.shape[1]]
            assert np.abs(part - joined).max() <= 1
            assert (part != joined).mean() < 0.001
            assert not found[:, joined.shape[1] :].any()


@pytest.mark.parametrize("kind", [Mfcc, Spectrogram, LogMel])
def test_rows_are_those_of_the_formulas(kind: type) -> None:
    settings = kind()
    front: nn.Module = (MfccFront if kind is Mfcc else ImageFront)(AUDIO, settings, ProductPower)
    formula: Callable[..., np.ndarray] = getattr(front_numpy, kind.__name__.lower())
    made = front(*together()).numpy()
    for signal, found in zip(signals(), made, strict=True):
        wanted = formula(signal, AUDIO, settings)
        if kind is Mfcc:
            np.testing.assert_allclose(found[: len(wanted)], wanted, atol=0.05, rtol=2e-3)
        else:
            assert np.abs(found[:, : wanted.shape[1]] + 0.5 - wanted).max() < 0.75


@pytest.mark.parametrize("transform", [Power, ProductPower])
@pytest.mark.parametrize("n", [400, 2_048, 1_021, 600])
def test_a_transform_in_one_product_or_two_is_the_transform(n: int, transform: type[Power]) -> None:
    window = np.hanning(n - n // 5).astype(np.float32)
    signal = tone(1, 0.5, 200).astype(np.float32)[:4_800]
    power = transform(window, n, 160, n // 2 + 1)
    made = power(nn.functional.pad(torch.from_numpy(signal)[None], (power.before, power.after)))[0].numpy()
    wanted = front_numpy.power(signal, window, n, 160).T[: len(made)]
    np.testing.assert_allclose(made, wanted, atol=1e-4 * wanted.max())


def test_samples_are_rounded_as_stores_have_them() -> None:
    batch, _, _ = together()
    made = waveform_front(batch, AUDIO.segment).reshape(len(LENGTHS), -1, AUDIO.segment + 1)
    for signal, found in zip(signals(), made.numpy(), strict=True):
        wanted = waveform_rows(signal, AUDIO)
        np.testing.assert_array_equal(found[: len(wanted)], wanted)


@pytest.mark.parametrize("deltas", [1, 2])
def test_deltas_are_those_of_the_features(deltas: int) -> None:
    settings, lengths = Mfcc(deltas=deltas), (1, 700, 1_440, 1_441, 5_000, 47_999)
    batch = torch.zeros(len(lengths), AUDIO.segment)
    given = [tone(number, 3.0, 150).astype(np.float32)[:length] for number, length in enumerate(lengths)]
    for row, signal in zip(batch, given, strict=True):
        row[: len(signal)] = torch.from_numpy(signal)
    real = (torch.arange(AUDIO.frames) <= torch.tensor(lengths)[:, None] // AUDIO.hop)[..., None]
    made = DeltaFront(AUDIO, settings)(batch, torch.tensor(lengths), real).numpy()
    for signal, found in zip(given, made, strict=True):
        wanted = mfcc_rows(signal, AUDIO, settings)[0].astype(np.float32)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, atol=0.02, rtol=1e-3)


def test_deltas_are_refused_of_segments() -> None:
    with pytest.raises(PipelineError, match=r"features\.mfcc\.deltas span segments"):
        MfccFront(AUDIO, Mfcc(deltas=1))
