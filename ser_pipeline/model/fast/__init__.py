"""Faster implementations of the same model: same parameters, same state, same results up to rounding.

`accelerate` replaces modules by equivalents that share their parameters, so a checkpoint fits both. The script
`benchmarks/step.py` measures the gain of each, and tests compare each with the plain module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import torch
from torch import nn

from ser_pipeline.model.coattention import SpeechEmotionModel
from ser_pipeline.model.fast import kernels
from ser_pipeline.model.fast.convolutions import FeatureEncoder, PositionalConvolution
from ser_pipeline.model.fast.dropout import Dropout
from ser_pipeline.model.fast.images import convolved
from ser_pipeline.model.fast.layers import (
    Forward,
    FusedLayer,
    kernel_forward,
    layer_forward,
    mix,
    takes_kernels,
)
from ser_pipeline.model.fast.lstm import fits, fused_lstm
from ser_pipeline.model.fast.streams import CudaStreams
from ser_pipeline.model.paper import AlexNet, BiLstm
from ser_pipeline.model.registry import Stored
from ser_pipeline.model.small import SmallLayer
from ser_pipeline.model.speech import SpeechEncoder


@dataclass(frozen=True)
class FastPaths:
    """The faster implementations to use."""

    convolutions: bool = True  # the speech encoder's feature encoder as matrix products
    positions: bool = True  # its positional convolution by Fourier transforms
    layers: bool = True  # its transformer layers with fused attention
    channels_last: bool = True  # AlexNet in the layout that tensor cores read (CUDA)
    streams: bool = True  # BiLSTM and AlexNet in parallel with the speech encoder (CUDA)
    compiled: bool = True  # transformer layers through torch.compile (CUDA)
    kernels: bool = True  # transformer layers' attention, GELU and norms as Triton kernels instead (CUDA)
    grey: bool = True  # AlexNet's first convolution on one channel (CUDA)
    lstm: bool = True  # the BiLSTM's steps as one Triton kernel per layer (CUDA)
    dropout: bool = True  # four dropout masks from every random word (CPU)


PLAIN = FastPaths(*[False] * len(fields(FastPaths)))
"""The plain modules only."""


def accelerate(
    model: SpeechEmotionModel, device: torch.device, *, half: bool, paths: FastPaths | None = None
) -> SpeechEmotionModel:
    """Switch `model`, already on `device`, to faster implementations, and return it.

    Whatever the device or the model does not support stays unchanged.

    Args:
        model: a model from `build_model`.
        device: device of the model.
        half: whether the model runs under autocast to half precision. In float32, only implementations that are
            bit-for-bit reproducible are used.
        paths: implementations that may be used; all by default.
    """
    paths = paths or FastPaths()
    if device.type != "cuda" or not half:
        paths = replace(paths, channels_last=False, compiled=False, kernels=False, lstm=False, grey=False)
    if not kernels.INSTALLED:  # torch.compile needs Triton and a C compiler too
        paths = replace(paths, compiled=False, kernels=False, lstm=False)
    if device.type != "cuda":
        paths = replace(paths, streams=False)
    if device.type != "cpu":
        paths = replace(paths, dropout=False)
    for encoder in model.encoders.values():
        for kind, change in CHANGES.items():
            if isinstance(encoder, kind):
                change(encoder, paths)
    if paths.dropout:
        _dropout(model)
    if paths.streams and model.speech and not isinstance(model.encoders[model.speech], Stored):
        model.streams = CudaStreams(model.acoustic, device)
    return model


def _speech(encoder: Any, paths: FastPaths) -> None:
    if type(encoder) is not SpeechEncoder:  # these implementations do not support conformers
        return
    model: Any = encoder.model
    if paths.convolutions and FeatureEncoder.fits(model.feature_extractor):
        model.feature_extractor = FeatureEncoder(model.feature_extractor)
    inner = model.encoder
    if paths.positions and PositionalConvolution.fits(inner.pos_conv_embed):
        inner.pos_conv_embed = PositionalConvolution(inner.pos_conv_embed)
    if paths.layers and all(FusedLayer.fits(layer) for layer in inner.layers):
        stable = bool(getattr(encoder.settings, "do_stable_layer_norm", False))
        inner.layers = nn.ModuleList(_layer(layer, paths, stable=stable) for layer in inner.layers)


def _layer(original: nn.Module, paths: FastPaths, *, stable: bool) -> FusedLayer:
    layer = FusedLayer(original, stable=stable, forward=layer_forward)
    if paths.kernels and takes_kernels(layer):
        layer.run = kernel_forward
    elif paths.compiled:
        layer.run = _compiled()
    return layer


def _alexnet(encoder: Any, paths: FastPaths) -> None:
    if paths.channels_last:
        encoder.features.to(memory_format=torch.channels_last)
    if paths.grey:
        encoder.convolve = convolved


def _lstm(encoder: Any, paths: FastPaths) -> None:
    if paths.lstm and fits(encoder.lstm):
        encoder.run = fused_lstm


def _dropout(model: nn.Module) -> None:
    for module in list(model.modules()):
        if isinstance(module, SmallLayer):
            module.mix = mix
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p))


@cache
def _compiled() -> Forward:
    """The layer's forward pass through torch.compile: one compilation serves all layers of all models."""
    torch._dynamo.config.recompile_limit = VARIANTS
    return torch.compile(layer_forward)


VARIANTS = 32
"""Maximum compilations of a layer: training and evaluation, full and last batches, of each architecture in a queue."""

CHANGES: dict[type[nn.Module], Callable[[Any, FastPaths], None]] = {
    SpeechEncoder: _speech,
    AlexNet: _alexnet,
    BiLstm: _lstm,
}
"""Type of an encoder -> the function that accelerates it."""
