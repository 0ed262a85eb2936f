import threading

import pytest
import torch
from torch import nn

from ser_pipeline import config as settings
from ser_pipeline.model import SpeechEmotionModel, build_model
from ser_pipeline.model.undrawn import Undrawn
from support.speech_models import make


def build(preset: str, speech: str = "", *changes: str) -> SpeechEmotionModel:
    config = settings.load(preset, None, list(changes))
    described = make(speech).config.to_dict() if speech else None
    return build_model(
        config.model,
        audio=config.model_audio,
        features=config.features,
        classes=4,
        pretrained=False,
        speech_settings=described,
    )


@pytest.mark.parametrize(
    ("preset", "speech"), [("paper", "wav2vec2"), ("paper", "wavlm"), ("paper", "data2vec-audio"), ("scratch", "")]
)
def test_a_model_whose_weights_are_loaded_equals_one_that_was_drawn_first(preset: str, speech: str) -> None:
    drawn = build(preset, speech)
    with Undrawn():
        model = build(preset, speech)
    assert not all(torch.equal(one, other) for one, other in zip(drawn.parameters(), model.parameters(), strict=True))
    model.load_state_dict(drawn.state_dict(), assign=True)
    buffers = dict(model.named_buffers())
    assert buffers and all(torch.equal(one, buffers[name]) for name, one in drawn.named_buffers())
    assert all(
        one.data_ptr() == other.data_ptr() for one, other in zip(drawn.parameters(), model.parameters(), strict=True)
    )


def test_nothing_is_drawn_from_the_generator_of_torch() -> None:
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    with Undrawn():
        nn.Sequential(nn.Linear(9, 9), nn.LSTM(4, 4), nn.Conv2d(3, 3, 3), nn.LayerNorm(4), nn.Embedding(4, 4))
    assert torch.equal(torch.rand(3), wanted)


def test_other_threads_and_what_follows_draw_as_ever() -> None:
    torch.manual_seed(0)
    wanted = nn.Linear(5, 5).weight
    found: list[nn.Parameter] = []
    torch.manual_seed(0)
    with Undrawn():
        other = threading.Thread(target=lambda: found.append(nn.Linear(5, 5).weight))
        other.start()
        other.join()
    torch.manual_seed(0)
    assert torch.equal(found[0], wanted) and torch.equal(nn.Linear(5, 5).weight, wanted)
