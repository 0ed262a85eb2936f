"""Pooling of frames, the heads on it, and refused settings."""

from __future__ import annotations

import pytest
import torch

from ser_pipeline import config as settings
from ser_pipeline.config import Config
from ser_pipeline.data.batch import Batch
from ser_pipeline.errors import PipelineError
from ser_pipeline.model import SpeechEmotionModel, build_model
from ser_pipeline.model.pooling import POOLINGS
from ser_pipeline.model.small import SpeechFrames
from ser_pipeline.training.ablations import ablated

FRAMES = [
    'model.inputs=["embedding"]',
    "features.embedding.depth=2",
    "features.embedding.frames=7",
    "features.embedding.width=6",
    "features.embedding.context=utterance",
    "model.width=10",
]


def chosen(*pairs: str) -> Config:
    return settings.load("paper", None, [*FRAMES, *pairs])


def build(*pairs: str) -> SpeechEmotionModel:
    config = chosen(*pairs)
    torch.manual_seed(0)
    return build_model(config.model, audio=config.audio, features=config.features, classes=4)


def batch(rows: torch.Tensor) -> Batch:
    nothing = torch.zeros(len(rows), dtype=torch.int64)
    return Batch({"embedding": rows.half()}, nothing, nothing, nothing)


def padded() -> tuple[SpeechFrames, list[torch.Tensor]]:
    """Return two rows of 7 frames with 3 and 7 real ones, and the real ones alone."""
    torch.manual_seed(1)
    frames = torch.randn(2, 7, 6)
    real = torch.ones(2, 7)
    real[0, 3:] = 0
    return SpeechFrames(frames, real), [frames[0, :3], frames[1]]


@pytest.mark.parametrize("kind", sorted(POOLINGS))
def test_padding_reaches_no_pooling(kind: str) -> None:
    speech, parts = padded()
    pool = POOLINGS[kind](6)
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter)
    found = pool(speech)
    assert found.shape == (2, pool.size)
    for row, part in zip(found, parts, strict=True):
        torch.testing.assert_close(row, pool(SpeechFrames(part[None]))[0])


def test_pooling_is_mean_deviation_and_weighted_mean() -> None:
    frames = torch.randn(1, 7, 6)
    mean, moments, attention = (POOLINGS[kind](6) for kind in ("mean", "mean+deviation", "attention"))
    torch.testing.assert_close(mean(SpeechFrames(frames))[0], frames[0].mean(0))
    expected = torch.cat([frames[0].mean(0), frames[0].std(0, correction=0)])
    torch.testing.assert_close(moments(SpeechFrames(frames))[0], expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(attention(SpeechFrames(frames)), mean(SpeechFrames(frames)))
    with torch.no_grad():
        attention.score.weight.copy_(torch.tensor([[0.0, 3.0, 0.0, 0.0, 0.0, 0.0]]))
    weights = (3 * frames[0, :, 1]).softmax(0)
    torch.testing.assert_close(attention(SpeechFrames(frames))[0], weights @ frames[0])


@pytest.mark.parametrize("head", ["fusion", "linear", "mlp"])
@pytest.mark.parametrize("pooling", ["mean", "mean+deviation", "attention"])
def test_every_head_stands_on_every_pooling(head: str, pooling: str) -> None:
    model = build(f"model.head={head}", f"model.pooling={pooling}")
    size = 12 if pooling == "mean+deviation" else 6
    assert set(model.encoders) == {"embedding"}, "no acoustic feature weights them"
    rows = torch.randn(3, 2, 7, 6)
    rows[0, :, 4:] = 0
    output = model(batch(rows))
    layers = [module for module in (*model.projections.modules(), *model.fusion.modules()) if hasattr(module, "weight")]
    assert len(layers) == {"fusion": 3, "linear": 0, "mlp": 1}[head]
    assert output.logits.shape == (3, 4) and output.attention is None
    first = layers[0] if layers else model.classifier
    assert first.weight.shape[1] == size
    output.logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_linear_head_can_stand_on_co_attention() -> None:
    config = settings.load("demo", None, [*FRAMES, "model.head=linear", "model.small_drop=0"])
    model = build_model(config.model, audio=config.audio, features=config.features, classes=4)
    assert set(model.projections["mfcc"].state_dict()) and not set(model.projections["embedding"].state_dict())
    assert model.classifier.weight.shape == (4, 6)


def test_the_mean_is_what_it_was_without_co_attention() -> None:
    one, other = build("model.pooling=mean"), build("model.co_attention=false")
    rows = batch(torch.randn(3, 2, 7, 6))
    assert torch.equal(one.eval()(rows).logits, other.eval()(rows).logits)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (
            ["model.pooling=attention", 'model.inputs=["mfcc"]'],
            "model.pooling='attention' needs frames of a speech encoder",
        ),
        (["model.pooling=mean", 'model.inputs=["statistics"]'], "model.inputs has none; the nearest is"),
        (["model.head=mlp", 'model.inputs=["mfcc", "embedding"]'], "model.head='mlp' needs inputs of whole"),
        (["model.head=linear", 'model.inputs=["mfcc"]'], "model.head='linear' needs inputs of whole"),
        (["model.head=linear", "train.solver=ridge"], "the nearest is train.solver='adamw'"),
        (["model.pooling=median"], "must be one of co-attention, mean, mean.deviation, attention, not 'median'"),
    ],
)
def test_what_a_pooling_or_head_cannot_do_is_one_line(pairs: list[str], said: str) -> None:
    with pytest.raises(PipelineError, match=said) as caught:
        chosen(*pairs)
    assert "\n" not in str(caught.value)


def test_rows_of_the_ablation_table_keep_their_meaning_under_another_pooling() -> None:
    config = settings.load("paper", None, ["model.pooling=attention"])
    rows = ablated(config, ["full", "full-mean", "w2e", "mfcc"])
    assert {name: row.model.pooled for name, row in rows.items() if row.model.speech} == {
        "full": "attention",
        "full-mean": "mean",
        "w2e": "co-attention",
    }
    assert "full-mean" not in ablated(settings.load("paper", None, ["model.pooling=mean"]), ["full", "full-mean"])
