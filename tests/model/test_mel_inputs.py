"""Inputs beyond the paper's: a mel spectrogram, and MFCCs with their deltas."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors import safe_open

from ser_pipeline.config import Audio, Features, LogMel, Mfcc, Model
from ser_pipeline.data.batch import Batch
from ser_pipeline.model import SpeechEmotionModel, build_model
from support.models import SMALL, make_batch
from support.sounds import write_emodb


def model(features: Features, **changes: object) -> SpeechEmotionModel:
    torch.manual_seed(0)
    settings: Model = replace(SMALL, **changes)  # type: ignore[arg-type]
    return build_model(settings, audio=Audio(), features=features, classes=4).eval()


def batch(bands: int = 64) -> Batch:
    return make_batch(3).changed({"logmel": torch.randint(1, 256, (3, bands, 300), dtype=torch.uint8)})


@pytest.mark.parametrize("encoder", ["small", "alexnet"])
@pytest.mark.parametrize("bands", [64, 80])
def test_a_mel_spectrogram_is_encoded_like_the_other_one(encoder: str, bands: int) -> None:
    settings = {"inputs": ("logmel", "waveform"), "spectrogram_encoder": encoder, "spectrogram_weights": "none"}
    made = model(Features(logmel=LogMel(n_mels=bands)), **settings)
    given = batch(bands)
    output = made(given)
    assert made.acoustic == ("logmel",)  # the only input that weights the frames
    assert output.attention is not None and output.logits.shape == (3, 4)
    assert not torch.allclose(made(given.changed({"logmel": given["logmel"].flip(0)})).logits, output.logits)
    other = make_batch(3).map(lambda rows: rows.flip(0))
    swapped = given.changed({name: other[name] for name in ("mfcc", "spectrogram")})
    assert torch.equal(made(swapped).logits, output.logits)
    level = made.finished(given)["logmel"]
    assert torch.equal(level, given["logmel"].float())


@pytest.mark.parametrize("encoder", ["small", "bilstm"])
@pytest.mark.parametrize("deltas", [1, 2])
def test_deltas_are_more_coefficients(encoder: str, deltas: int) -> None:
    made = model(Features(mfcc=Mfcc(deltas=deltas)), inputs=("mfcc",), mfcc_encoder=encoder)
    given = make_batch(3)
    given = given.changed({"mfcc": torch.cat([given["mfcc"]] + deltas * [given["mfcc"].roll(1, 1)], 2)})
    first, others = given["mfcc"].split([40, 40 * deltas], 2)
    changed = given.changed({"mfcc": torch.cat([first, others.flip(0)], 2)})
    assert not torch.allclose(made(given).logits, made(changed).logits)


def test_a_model_without_a_mel_spectrogram_keeps_no_state_of_it() -> None:
    assert not [name for name in model(Features()).state_dict() if "logmel" in name]


def test_both_are_made_trained_on_and_predicted_from(run: Callable[..., Result], tmp_path: Path) -> None:
    root = write_emodb(tmp_path / "corpus", speakers=3, takes=1)
    words = ["--preset", "demo", "--set", 'model.inputs=["mfcc", "logmel"]', "--set", "features.mfcc.deltas=2"]
    folder = Path(run("features", "emodb", root, *words, "--quiet").stdout.strip())
    assert {path.name.split("-")[0] for path in folder.glob("*-*")} == {"mfcc", "spectrogram", "logmel", "waveform"}
    tiny = ["--set", "train.epochs=1", "--set", "model.small_width=8", "--jobs", "1"]
    fold = Path(run("train", "--accept", "counts", *words, *tiny).stdout.strip()) / "03"
    with np.load(fold / "segments.npz") as stored:
        assert {name for name in stored.files if ":" in name} == {
            f"{kind}:{name}" for kind in ("shuffled", "zeroed") for name in ("mfcc", "logmel")
        }
    with safe_open(fold / "model.safetensors", "pt") as weights:
        assert weights.get_slice("encoders.mfcc.contours.layers.0.convolution.weight").get_shape()[1] == 120
    assert "03a01Wa.wav" in run("predict", fold.parent, root / "wav" / "03a01Wa.wav").stdout
    assert (
        "augment.speed cannot be applied to logmel"
        in run("train", "--accept", "counts", *words, "--set", "augment.speed=0.1", status=1).stderr
    )
