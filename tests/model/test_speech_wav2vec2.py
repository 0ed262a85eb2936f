import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from ser_pipeline.model.speech import Inputs, Options, SpeechEncoder, open_encoder
from ser_pipeline.model.speech.spec_augment import mask, spans
from support.speech_models import MODELS, make

PLAIN = Options(mask_padding=False)
TRAINED = Options(mask_padding=False, masking=True)


@pytest.mark.parametrize("name", MODELS)
def test_frames_and_gradients_equal_those_of_transformers(name: str) -> None:
    plain = make(name).eval()
    ours = SpeechEncoder(make(name), PLAIN).eval()
    wave = torch.randn(2, 8_000)
    expected = plain(wave, output_hidden_states=True)
    states = ours.states(Inputs(wave, None)).layers
    assert torch.equal(states[-1], expected.last_hidden_state)
    assert all(torch.equal(a, b) for a, b in zip(states[:-1], expected.hidden_states[:-1], strict=True))
    assert states[-1].shape == (2, ours.frames(8_000), 48)
    expected.last_hidden_state.square().sum().backward()
    states[-1].square().sum().backward()
    pairs = zip(plain.named_parameters(), ours.model.parameters(), strict=True)
    assert not [key for (key, a), b in pairs if a.grad is not None and not torch.equal(a.grad, b.grad)]


def test_an_encoder_is_read_from_a_folder_with_its_weights(tmp_path: Path) -> None:
    saved = make("hubert")
    saved.save_pretrained(tmp_path)
    wave = torch.randn(1, 8_000)
    loaded = open_encoder(str(tmp_path), PLAIN).eval()
    assert torch.equal(loaded(wave), saved.eval()(wave).last_hidden_state)
    fresh = open_encoder(str(tmp_path), PLAIN, weights=False).eval()
    assert fresh(wave).shape == loaded(wave).shape and not torch.allclose(fresh(wave), loaded(wave))


def test_an_encoder_is_made_anew_from_its_settings_alone(tmp_path: Path) -> None:
    first = make("wavlm")
    second = open_encoder("microsoft/never-asked", PLAIN, settings=first.config.to_dict())
    of_first = SpeechEncoder(first, PLAIN).description()
    assert {key for key, value in second.description().items() if value != of_first[key]} <= {"dtype"}
    shapes = {key: value.shape for key, value in second.model.state_dict().items()}
    assert shapes == {key: value.shape for key, value in first.state_dict().items()}


def test_masking_has_the_distribution_of_transformers() -> None:
    numpy_masks = transformers.models.wav2vec2.modeling_wav2vec2._compute_mask_indices
    torch.manual_seed(0)
    np.random.seed(0)
    for share, length, least in ((0.05, 10, 2), (0.065, 10, 0), (0.4, 7, 1), (0.5, 1, 0)):
        theirs = np.mean([numpy_masks((20, 149), share, length, min_masks=least).mean() for _ in range(200)])
        ours = torch.stack([spans(20, 149, share, length, least, torch.device("cpu")) for _ in range(200)])
        assert abs(float(ours.float().mean()) - theirs) < 0.01
        starts = (ours[..., 1:] & ~ours[..., :-1]).float().mean((0, 1))
        assert starts[: 149 - length - 1].std() < 0.35 * starts.mean() + 0.01


def test_a_row_has_the_least_number_of_whole_spans() -> None:
    rows = spans(50, 149, 0.0, 10, 1, torch.device("cpu"))
    assert (rows.sum(1) == 10).all() and ((rows[:, 1:] != rows[:, :-1]).sum(1) <= 2).all()


def test_masked_frames_hold_the_token_and_masked_channels_zero() -> None:
    settings = transformers.Wav2Vec2Config(mask_feature_prob=0.2, mask_feature_length=4)
    torch.manual_seed(0)
    masked = mask(torch.ones(4, 60, 32), torch.full((32,), 5.0), settings)
    assert set(masked.unique().tolist()) == {0.0, 1.0, 5.0}
    silent = (masked == 0).all(1)
    assert silent.any(1).all() and ((masked == 5.0) | (masked == 0)).all(2).any(1).all()


def test_masking_and_layer_drop_draw_from_torch_alone_and_only_in_training() -> None:
    encoder = SpeechEncoder(make("wav2vec2", layerdrop=0.5), replace(TRAINED, layer_drop=True))
    wave = torch.randn(2, 8_000)
    python, numbers = random.getstate(), np.random.get_state()[1].tolist()
    torch.manual_seed(7)
    first = encoder.train()(wave)
    assert random.getstate() == python and np.random.get_state()[1].tolist() == numbers
    torch.manual_seed(7)
    assert torch.equal(encoder(wave), first) and not torch.equal(encoder(wave), first)
    assert torch.equal(encoder.eval()(wave), encoder(wave))


def test_layer_drop_hands_a_layer_its_input() -> None:
    encoder = SpeechEncoder(make("wav2vec2", layerdrop=1.0), replace(PLAIN, layer_drop=True)).train()
    states = encoder.states(Inputs(torch.randn(1, 8_000), None)).layers
    assert all(torch.equal(states[0], state) for state in states)


def test_a_frozen_encoder_has_no_gradient_and_no_dropout() -> None:
    encoder = SpeechEncoder(make("wav2vec2"), replace(TRAINED, frozen=True, layer_mix=True)).train()
    wave = torch.randn(1, 8_000)
    frames = encoder(wave)
    assert torch.equal(frames, encoder(wave))
    frames.sum().backward()
    assert {name for name, p in encoder.named_parameters() if p.grad is not None} == {"mix"}


def test_the_mix_of_layers_starts_as_their_mean() -> None:
    encoder = SpeechEncoder(make("wav2vec2"), replace(TRAINED, layer_mix=True)).eval()
    wave = torch.randn(1, 8_000)
    assert torch.allclose(encoder(wave), torch.stack(encoder.states(Inputs(wave, None)).layers).mean(0), atol=1e-5)
