"""Parameters in groups with a learning rate and a decay of their own, and which of a speech encoder are trained.

A pre-trained encoder wants a lower rate than the new layers above it, lower still for its lower layers, which are
the most general. Sources: Howard and Ruder, ULMFiT, ACL 2018 (rates a layer); Clark et al., ELECTRA, ICLR 2020 (decay
of the rate from layer to layer, no weight decay of norms and biases).
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
"""Parts of an encoder that stand before its layers."""

LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
"""A layer's number in the name of a parameter."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a rate and a decay."""

    parameters: list[nn.Parameter]
    factor: float  # of the rate `train.lr`
    decay: float  # of the weights
    speech: bool  # whether they are of the pre-trained speech encoder


def depth(name: str, layers: int) -> int:
    """Where a parameter of an encoder with so many layers stands: 0 before them, 1 for the first, one more after all.

    >>> depth("encoder.layers.3.fc1.weight", 12), depth("encoder.conv1.bias", 12), depth("mix", 12)
    (4, 0, 13)
    """
    found = LAYER.search(name)
    if found and not any(part in name for part in FRONT):
        return min(int(found[1]), layers - 1) + 1
    return 0 if any(part in name for part in FRONT) else layers + 1


def freeze(model: SpeechEmotionModel, settings: Model) -> None:
    """Keep the parts of the speech encoder as they are that `model.freeze` names."""
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
    """Names of the weights of a model that training leaves as they are."""
    weights = model.state_dict(keep_vars=True).items()
    return [name for name, one in weights if isinstance(one, nn.Parameter) and not one.requires_grad]


def parameter_groups(model: nn.Module, settings: Train) -> list[ParameterGroup]:
    """The trained parameters of a model, in groups; one group where the settings ask for nothing else."""
    parts: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for parameter, factor, speech in _rated(model, settings):
        small = parameter.ndim < 2 and not settings.decay_norms
        key = (factor, 0.0 if small else settings.weight_decay, speech)
        parts.setdefault(key, []).append(parameter)
    return [ParameterGroup(parameters, *key) for key, parameters in parts.items()]


def _rated(model: nn.Module, settings: Train) -> Iterator[tuple[nn.Parameter, float, bool]]:
    """Every trained parameter with its share of the rate, and whether it rests with a pre-trained encoder."""
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
