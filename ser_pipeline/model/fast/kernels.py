"""Triton kernels for what libraries do slowly: first layer and transformer of a speech encoder, steps of an LSTM.

They are used on CUDA under autocast to half precision, where Triton and a C compiler are installed. Nothing here waits
for the device or depends on the order of atomic operations.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
INSTALLED = find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))
"""Whether Triton is installed, and the C compiler that it needs to launch kernels."""


def usable(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether the kernels support `tensor` in arithmetic of `dtype`."""
    return INSTALLED and tensor.is_cuda and dtype in HALF


def precision(tensor: Tensor) -> torch.dtype:
    """The dtype in which products of `tensor` are computed: autocast's, or float32."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32


def recurrence(added: Tensor, weight: Tensor) -> Tensor:
    """Run `triton_lstm.Recurrence`, which gives hidden states (B, T, 2, H); needs Triton.

    Args:
        added: half precision (B, T, 2, 4 H), the input's contribution to the gates.
        weight: recurrent weights of the same dtype (2, 4 H, H).
    """
    from ser_pipeline.model.fast.triton_lstm import Recurrence

    return Recurrence.apply(added, weight)  # type: ignore[no-any-return]


def first_layer(
    waveform: Tensor, weight: Tensor, shift: Tensor, sizes: tuple[int, int, int], dtype: torch.dtype
) -> Tensor:
    """Run `triton_first.first_layer`; needs Triton.

    Args:
        waveform: float32 (B, N).
        weight: float32 (B, C, K), K at most 15.
        shift: float32 (B, C).
        sizes: frames, padded frames, stride.
        dtype: dtype of the result.
    """
    from ser_pipeline.model.fast import triton_first

    return triton_first.first_layer(waveform, weight, shift, sizes, dtype)


def random_words(count: int, device: torch.device, *, drawn: bool) -> Tensor:
    """Random words int32 (count, 2) that seed `count` dropout masks; uninitialised memory if not `drawn`.

    Args:
        count: number of masks.
        device: device whose generator draws the words.
        drawn: whether anything is dropped.
    """
    if not drawn:
        return torch.empty(count, 2, dtype=torch.int32, device=device)
    return torch.randint(-(2**31), 2**31 - 1, (count, 2), dtype=torch.int32, device=device)


def transformer_layer(layer: Any, hidden: Tensor, bias: Tensor | None, words: Tensor, own: list[Tensor]) -> Tensor:
    """Run `triton_layer.Layer`, which gives frames (B, T, W) in half precision; needs Triton.

    Args:
        layer: a `FusedLayer`.
        hidden: half precision (B, T, W), contiguous.
        bias: float (B, T), added to the scores of each key; None adds nothing.
        words: int32 (4, 2), random.
        own: the layer's parameters, in the order of `triton_layer.Layer`.
    """
    from ser_pipeline.model.fast.triton_layer import Layer, Shares

    block, first, last = layer.feed_forward, layer.layer_norm, layer.final_layer_norm
    weights = layer.attention.dropout if layer.attention.training else 0.0
    drops = (layer.dropout, block.intermediate_dropout, block.output_dropout)
    attended, inner, output = (part.p if part.training else 0.0 for part in drops)
    shares = Shares(weights, attended, inner, output, layer.attention.num_heads, (first.eps, last.eps))
    return Layer.apply(hidden, bias, words, shares, *own)  # type: ignore[no-any-return]
