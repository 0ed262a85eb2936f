"""Parameter groups with their own learning rate and weight decay, and the frozen parts of a speech encoder.

A pre-trained encoder needs a lower learning rate than the new layers above it, and a still lower one for its lower
layers, which are the most general. Sources: Howard and Ruder, ULMFiT, ACL 2018 (a rate per layer); Clark et al.,
ELECTRA, ICLR 2020 (decay of the rate from layer to layer, no weight decay of norms and biases).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from ser_pipeline.config import Model, Train
from ser_pipeline.model import SpeechEmotionModel
from ser_pipeline.model.speech import FrameEncoder

FRONT = ("feature_extractor", "feature_projection", "pos_conv_embed", "conv1", "conv2", "embed_positions")
"""Names of the parts of an encoder before its layers."""

LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
"""Matches a layer's number in the name of a parameter."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate and a weight decay."""

    parameters: list[nn.Parameter]
    factor: float  # learning rate as a multiple of `train.lr`
    decay: float  # weight decay
    speech: bool  # whether they belong to the pre-trained speech encoder


def depth(name: str, layers: int) -> int:
    """Return a parameter's depth in an encoder: 0 before the layers, 1 in the first one, `layers` + 1 after the last.

    >>> depth("encoder.layers.3.fc1.weight", 12), depth("encoder.conv1.bias", 12), depth("mix", 12)
    (4, 0, 13)
    """
    found = LAYER.search(name)
    if found and not any(part in name for part in FRONT):
        return min(int(found[1]), layers - 1) + 1
    return 0 if any(part in name for part in FRONT) else layers + 1


def freeze(model: SpeechEmotionModel, settings: Model) -> None:
    """Freeze the parts of the speech encoder that `model.freeze` names."""
    encoder = model.encoders[model.speech] if model.speech else None
    if not isinstance(encoder, FrameEncoder) or settings.freeze == "none":
        return
    most = {"features": 0, "all": encoder.layers + 1}.get(settings.freeze)
    if most is None:
        most = int(settings.freeze.removeprefix("first-"))
    for name, parameter in encoder.named_parameters():
        if depth(name, encoder.layers) <= most and name != "mix":
            parameter.requires_grad_(False)


def frozen_names(model: nn.Module) -> list[str]:
    """Return the names of a model's weights that are not trained."""
    weights = model.state_dict(keep_vars=True).items()
    return [name for name, one in weights if isinstance(one, nn.Parameter) and not one.requires_grad]


def parameter_groups(model: nn.Module, settings: Train) -> list[ParameterGroup]:
    """Return the trained parameters of a model in groups; a single group unless the settings require more."""
    parts: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for parameter, factor, speech in _rated(model, settings):
        small = parameter.ndim < 2 and not settings.decay_norms
        key = (factor, 0.0 if small else settings.weight_decay, speech)
        parts.setdefault(key, []).append(parameter)
    return [ParameterGroup(parameters, *key) for key, parameters in parts.items()]


def _rated(model: nn.Module, settings: Train) -> Iterator[tuple[nn.Parameter, float, bool]]:
    """Yield every trained parameter with its factor of the rate, and whether it follows the encoder's schedule."""
    encoders = [module for module in model.modules() if isinstance(module, FrameEncoder)]
    owned = {
        id(parameter): (encoder, name)
        for encoder in encoders
        for name, parameter in encoder.named_parameters()
        if name != "mix"
    }
    apart = bool(settings.speech_lr) or settings.layer_decay < 1 or bool(settings.head_epochs)
    mixes = {id(module.mix) for module in model.modules() if isinstance(getattr(module, "mix", None), nn.Parameter)}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if settings.mix_lr and id(parameter) in mixes:
            yield parameter, settings.mix_lr / settings.lr, False
            continue
        encoder, name = owned.get(id(parameter), (None, ""))
        if encoder is None or not apart:
            yield parameter, 1.0, False
            continue
        share = settings.speech_lr / settings.lr if settings.speech_lr else 1.0
        above = encoder.layers + 1 - depth(name, encoder.layers)
        yield parameter, share * settings.layer_decay**above, True
