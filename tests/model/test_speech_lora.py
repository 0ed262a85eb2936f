"""Adapters in a speech encoder: only they are trained, they act on every path, and are loaded with a run."""

from pathlib import Path

import pytest
import torch
import transformers

from ser_pipeline import config
from ser_pipeline.errors import PipelineError
from ser_pipeline.model import SpeechEmotionModel, needs
from ser_pipeline.model.fast import accelerate
from ser_pipeline.model.fast.layers import FusedLayer
from ser_pipeline.model.needs import require_needs
from ser_pipeline.training.groups import depth, freeze
from support.models import make_batch, small_model
from support.speech_models import write_encoder

CPU = torch.device("cpu")
WHISPER = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
WHISPER |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}


@pytest.fixture(params=["wav2vec2", "whisper"])
def encoder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    pytest.importorskip("peft", reason="the extra lora is not installed")
    if request.param == "wav2vec2":
        return write_encoder(tmp_path)
    transformers.WhisperModel(transformers.WhisperConfig(**WHISPER)).save_pretrained(tmp_path)
    transformers.WhisperFeatureExtractor().save_pretrained(tmp_path)
    return tmp_path


def adapted(encoder: Path, **more: object) -> SpeechEmotionModel:
    return small_model(speech_encoder=str(encoder), lora_rank=2, lora_alpha=8.0, spec_augment=False, **more)


def test_adapters_alone_are_trained_and_are_heard(encoder: Path) -> None:
    model, plain = adapted(encoder), small_model(speech_encoder=str(encoder), spec_augment=False)
    batch = make_batch(2)
    trained = {name for name, p in model.encoders["waveform"].named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert {depth(name, 2) for name in trained} == {1, 2}
    fast = accelerate(model, CPU, half=False).eval()
    assert not any(isinstance(part, FusedLayer) for part in fast.modules())
    before = fast.encoders["waveform"].hear(fast.finished(batch)["waveform"], batch.samples)[0]
    usual = plain.eval().encoders["waveform"].hear(plain.finished(batch)["waveform"], batch.samples)[0]
    torch.testing.assert_close(before, usual, atol=1e-5, rtol=1e-4)  # new adapters change nothing
    fast(batch).logits.sum().backward()
    gradients = {name: p.grad for name, p in fast.encoders["waveform"].named_parameters() if p.requires_grad}
    assert all(gradient is not None for gradient in gradients.values())
    for name, parameter in fast.encoders["waveform"].named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    after = fast.encoders["waveform"].hear(fast.finished(batch)["waveform"], batch.samples)[0]
    assert float((after - before).abs().max()) > 1e-3


def test_a_model_with_adapters_is_made_anew_from_its_description(encoder: Path) -> None:
    model, batch = adapted(encoder), make_batch(2)
    for parameter in model.encoders["waveform"].parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    again = adapted(Path("never/asked"), speech_settings=model.speech_settings)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval()(batch).logits, model.eval()(batch).logits, atol=1e-5, rtol=1e-4)


def test_lower_layers_can_go_without(encoder: Path) -> None:
    model = adapted(encoder)
    freeze(model, config.load("paper", None, ["model.freeze=first-1"]).model)
    names = [name for name, p in model.encoders["waveform"].named_parameters() if p.requires_grad]
    assert names and all(depth(name, 2) == 2 for name in names)


def test_layers_that_there_are_not_are_one_line(encoder: Path) -> None:
    with pytest.raises(PipelineError, match=r"no layer of the speech encoder has a name in .*=\['query'\]"):
        adapted(encoder, lora_targets=("query",))


@pytest.mark.parametrize(
    ("preset", "pairs", "said"),
    [
        (
            "scratch",
            "model.lora_rank=4",
            "needs a pre-trained encoder that runs during training; .* model.lora_rank=0$",
        ),
        ("paper", "model.lora_rank=4 model.freeze=all", "the encoder is frozen; the nearest is model.lora_rank=0$"),
        ("scratch", "model.layer_drop=true", "not to the small one; the nearest is model.layer_drop=false$"),
        ("demo", "model.spec_augment=false", "not to the small one; the nearest is model.spec_augment=true$"),
    ],
)
def test_what_acts_on_nothing_is_refused(preset: str, pairs: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        require_needs(config.load(preset, None, pairs.split()))


def test_without_the_package_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    with pytest.raises(PipelineError, match=r"needs the package peft: pip install 'ser-pipeline\[lora\]'"):
        require_needs(config.load("paper", None, ["model.lora_rank=4"]))
