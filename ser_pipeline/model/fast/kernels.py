"""A Triton kernel for what libraries do slowly: the first layer of a speech encoder.

Used on CUDA under autocast to half precision, where Triton and a C compiler are installed. Nothing here waits for the
device or depends on the order of atomic operations.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
INSTALLED = find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))
"""Triton, and the C compiler that it starts its kernels with."""


def usable(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether the kernel may be used for `tensor` in arithmetic of `dtype`."""
    return INSTALLED and tensor.is_cuda and dtype in HALF


def first_layer(
    waveform: Tensor, weight: Tensor, shift: Tensor, sizes: tuple[int, int, int], dtype: torch.dtype
) -> Tensor:
    """Run `triton_first.first_layer`, where triton is installed.

    Args:
        waveform: float32 (B, N).
        weight: float32 (B, C, K), K at most 15.
        shift: float32 (B, C).
        sizes: frames, padded frames, stride.
        dtype: of the result.
    """
    from ser_pipeline.model.fast import triton_first

    return triton_first.first_layer(waveform, weight, shift, sizes, dtype)
