import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ser_pipeline.model.speech import Options, SpeechEncoder, open_encoder, plain
from ser_pipeline.model.speech.plain import PlainModel
from support.speech_models import MODELS, make

KINDS = [name for name in MODELS if name.startswith(("wav2vec2", "hubert"))]
PLAIN, MASKED = Options(mask_padding=False), Options(mask_padding=True)


@pytest.mark.parametrize("options", [PLAIN, MASKED], ids=["padded", "masked"])
@pytest.mark.parametrize("name", KINDS)
def test_frames_and_gradients_equal_those_of_transformers_modules(name: str, options: Options) -> None:
    theirs = SpeechEncoder(make(name), options).eval()
    ours = open_encoder("nowhere", options, settings=theirs.description()).eval()
    assert isinstance(ours.model, PlainModel)
    ours.load_state_dict(theirs.state_dict())
    wave, lengths = torch.randn(2, 8_000), torch.tensor([8_000, 5_000])
    for expected, found in zip(theirs.hear(wave, lengths), ours.hear(wave, lengths), strict=True):
        assert torch.equal(expected, found)
    for encoder in (theirs, ours):
        encoder.hear(wave, lengths)[0].square().sum().backward()
    gradients = [{name: one.grad for name, one in encoder.named_parameters()} for encoder in (theirs, ours)]
    assert gradients[0].keys() == gradients[1].keys()
    heard = [name for name, one in gradients[0].items() if one is not None]
    assert len(heard) > 40 and all(torch.equal(gradients[0][name], gradients[1][name]) for name in heard)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_drawn_in_training_equals_what_transformers_modules_draw(name: str) -> None:
    theirs = SpeechEncoder(make(name), Options(mask_padding=False, masking=True)).train()
    ours = open_encoder("nowhere", theirs.options, settings=theirs.description()).train()
    ours.load_state_dict(theirs.state_dict())
    wave, found = torch.randn(2, 8_000), []
    for encoder in (theirs, ours):
        torch.manual_seed(3)
        found.append(encoder.hear(wave)[0])
    assert torch.equal(*found) and not torch.equal(found[0], ours.hear(wave)[0])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("wav2vec2", {"add_adapter": True}),
        ("wav2vec2-large", {"adapter_attn_dim": 8}),
        ("hubert", {"conv_pos_batch_norm": True}),
        ("hubert", {"feat_proj_layer_norm": False}),
        ("wav2vec2", {"hidden_act": "gelu_new"}),
        ("wavlm", {}),
    ],
)
def test_what_has_other_modules_is_made_of_those_of_transformers(name: str, change: dict[str, object]) -> None:
    theirs = SpeechEncoder(make(name, **change), PLAIN)
    assert not plain.fits(theirs.description())
    ours = open_encoder("nowhere", PLAIN, settings=theirs.description())
    assert not isinstance(ours.model, PlainModel)
    ours.load_state_dict(theirs.state_dict())


def test_a_description_that_leaves_something_to_transformers_is_read_by_transformers() -> None:
    whole = make("wav2vec2").config.to_dict()
    assert plain.fits(whole)
    assert all(not plain.fits({key: value for key, value in whole.items() if key != name}) for name in plain.READ)


def test_an_encoder_that_is_read_from_files_keeps_transformers_modules(tmp_path: Path) -> None:
    make("wav2vec2").save_pretrained(tmp_path)
    assert not isinstance(open_encoder(str(tmp_path), PLAIN).model, PlainModel)


WITHOUT = """
import json, sys
from ser_pipeline import config
from ser_pipeline.model import build_model
made = config.load("paper")
build_model(made.model, audio=made.model_audio, features=made.features, classes=4, pretrained=False,
            speech_settings=json.load(sys.stdin))
print([name for name in ("transformers", "torchvision", "scipy", "sympy", "triton") if name in sys.modules])
"""


def test_the_papers_model_is_made_anew_without_the_libraries_that_take_seconds_to_import() -> None:
    described = json.dumps(make("wav2vec2").config.to_dict(), default=str)
    done = subprocess.run([sys.executable, "-c", WITHOUT], input=described, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
