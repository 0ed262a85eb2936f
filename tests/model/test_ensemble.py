"""An ensemble of folds gives the answers of its single models, and computes shared parts once."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from ser_pipeline.data.batch import Batch
from ser_pipeline.model import SpeechEmotionModel
from ser_pipeline.model.ensemble import Ensemble
from ser_pipeline.model.prosody import Prosody
from ser_pipeline.model.small import Convolution
from ser_pipeline.model.speech.wav2vec2 import SpeechEncoder
from support.models import followed_by_silence, make_batch, small_model


def differing(model: SpeechEmotionModel, count: int, *, but: str = "") -> list[SpeechEmotionModel]:
    """Return copies with different weights, except parameters whose names begin with `but`."""
    found = []
    for number in range(count):
        copied = copy.deepcopy(model).eval().requires_grad_(False)
        for name, parameter in copied.named_parameters():
            if not (but and name.startswith(but)):
                parameter.add_(0.02 * (number + 1) * torch.randn_like(parameter))
        found.append(copied)
    return found


def counted_calls(kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the calls of all modules of a kind."""
    calls, original = [0], kind.forward

    def counted(*args: object, **named: object) -> object:
        calls[0] += 1
        return original(*args, **named)

    monkeypatch.setattr(kind, "forward", counted)
    return calls


def batch_of_lengths() -> Batch:
    """Return a short segment, one of a single frame, and a full one."""
    batch = make_batch(3)
    return batch.changed({}, torch.tensor([20_000, 100, 48_000], dtype=torch.int32))


@torch.inference_mode()
@pytest.mark.parametrize("scales", [False, True])
def test_small_models_together_answer_as_each_alone(scales: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    models, batch = differing(small_model(), 3), batch_of_lengths()
    if scales:
        for number, model in enumerate(models):
            model.fit_scaler("spectrogram", *(torch.full((200,), edge, dtype=torch.uint8) for edge in (number, 200)))
    ensemble = Ensemble(models)
    assert set(ensemble.summed_up) == {"waveform", "mfcc"} | (set() if scales else {"spectrogram"})
    alone = torch.stack([model(batch).logits for model in models])
    calls = counted_calls(Prosody, monkeypatch)
    torch.testing.assert_close(ensemble(batch), alone, atol=1e-6, rtol=1e-6)
    assert calls == [1]
    assert (alone[0] - alone[1]).abs().max() > 1e-3
    torch.testing.assert_close(Ensemble(models[:1])(batch)[0], alone[0], atol=0, rtol=0)


@torch.inference_mode()
def test_nothing_is_computed_of_the_silence_after_the_longest_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    models = differing(small_model(), 3)
    for number, model in enumerate(models):
        model.fit_scaler("spectrogram", *(torch.full((200,), edge, dtype=torch.uint8) for edge in (number, 200)))
    ensemble, batch = Ensemble(models), followed_by_silence(make_batch(3), (20_000, 100, 9_000))
    assert ensemble.needs_no_silence
    longest = [0]
    original = Convolution.forward

    def watched(self: Convolution, hidden: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        longest[0] = max(longest[0], hidden.shape[1])
        return original(self, hidden, real)

    alone = torch.stack([model(batch).logits for model in models])
    monkeypatch.setattr(Convolution, "forward", watched)
    torch.testing.assert_close(ensemble.cut(batch), alone, atol=1e-5, rtol=1e-5)
    assert 125 <= longest[0] <= 130, "out of 300 frames"


@pytest.mark.parametrize("changes", [{"pad_front": True}, {"pre_emphasis": 0.97}])
def test_models_that_take_something_from_silence_are_given_it(changes: dict[str, Any]) -> None:
    assert not Ensemble([small_model(**changes)]).needs_no_silence
    faint = small_model()
    faint.fit_scaler("spectrogram", torch.zeros(200, dtype=torch.uint8), torch.full((200,), 100, dtype=torch.uint8))
    assert not Ensemble([small_model(), faint]).needs_no_silence, "silence has a grey level of at least 1 there"


@torch.inference_mode()
@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_speech_encoder_hears_a_batch_once_for_all_folds(
    tmp_path: Path, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.Wav2Vec2Config(**sizes, conv_dim=(8,) * 7, num_conv_pos_embeddings=8)
    config.num_conv_pos_embedding_groups = 2
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    model = small_model(speech_encoder=str(tmp_path), freeze_speech_encoder=frozen)
    models = differing(model, 3, but="encoders.waveform" if frozen else "")
    batch, ensemble = batch_of_lengths(), Ensemble(models)
    alone = torch.stack([model(batch).logits for model in models])
    assert ensemble.hears_once == frozen
    calls = counted_calls(SpeechEncoder, monkeypatch)
    torch.testing.assert_close(ensemble(batch), alone, atol=1e-6, rtol=1e-6)
    assert calls == [1 if frozen else 3]
