"""On a CUDA device, graphs of the faster modules and bf16 give the answers of plain modules in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config

from ser_pipeline import config
from ser_pipeline.export.folder import Members
from ser_pipeline.model import build_model
from ser_pipeline.predict import graphs, models
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.predict.runs import of_members
from support.sounds import tone, write_wav

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
LABELS = ("a", "b", "c", "d")
SPEECH = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "ON_GPU", (8, 8))
    monkeypatch.setattr(graphs, "PLAIN_FIRST", 1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write a hundred recordings of 0.3 to 4.3 s."""
    place = tmp_path_factory.mktemp("many")
    found = [place / f"{number:03}.wav" for number in range(100)]
    for number, file in enumerate(found):
        write_wav(file, tone(number, 0.3 + number * 0.04, 90 + 3 * number))
    return found


@pytest.fixture(scope="module")
def members() -> Members:
    """Return two models with the paper's modules, whose features are computed on the device."""
    chosen = config.load("paper", None, ["store=waveform"])
    several = []
    for fold in range(2):
        torch.manual_seed(fold)
        model = build_model(
            chosen.model,
            audio=chosen.model_audio,
            features=chosen.features,
            classes=len(LABELS),
            pretrained=False,
            speech_settings=Wav2Vec2Config(**SPEECH).to_dict(),
        )
        model.classifier.weight.data.mul_(20)  # so that answers differ
        several.append(model.eval().requires_grad_(False).cuda())
    return Members(LABELS, chosen, ("1", "2"), tuple(several), {})


def shares(model: Predictor, files: list[Path]) -> np.ndarray:
    answers: list[Any] = list(model.each(files))
    assert [one.file for one in answers] == list(map(str, files))
    return np.array([list(one.probabilities.values()) for one in answers])


def alone(model: Predictor, files: list[Path]) -> np.ndarray:
    return np.array([list(model(file).probabilities.values()) for file in files])


def test_graphs_and_bf16_answer_as_plain_modules_in_float32(members: Members, files: list[Path]) -> None:
    device = torch.device("cuda")
    exact, half = (of_members(members, device, precision) for precision in ("fp32", "bf16"))
    plain = alone(exact, files)
    for _ in range(2):  # the graph of one exists while the other's is captured with the same weights
        np.testing.assert_allclose(shares(exact, files), plain, atol=1e-4)
        found = shares(half, files)
        np.testing.assert_allclose(found, plain, atol=2e-2)
        lead = np.sort(plain, 1)[:, -1] - np.sort(plain, 1)[:, -2]
        assert (found.argmax(1) == plain.argmax(1))[lead > 0.04].all() and (lead > 0.04).any()
    assert exact.scorer._graphed._taken._graph is not None  # type: ignore[attr-defined]
    assert half.scorer._graphed._taken._graph is not None  # type: ignore[attr-defined]


def test_a_graph_follows_weights_that_change_in_place(members: Members, files: list[Path]) -> None:
    exact = of_members(members, torch.device("cuda"), "fp32")
    shares(exact, files)
    before = [model.classifier.bias.clone() for model in members.models]
    try:
        for model in members.models:
            model.classifier.bias[0] += 2.0
        np.testing.assert_allclose(shares(exact, files), alone(exact, files), atol=1e-4)
    finally:
        for model, bias in zip(members.models, before, strict=True):
            model.classifier.bias.copy_(bias)
