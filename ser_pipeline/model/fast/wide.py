"""Products of half precision whose results are float32, as gradients of weights are kept."""

from __future__ import annotations

import torch
from torch import Tensor

WIDE_RESULTS = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 8)
"""Whether torch's products of half precision can give float32."""


def wide_product(first: Tensor, second: Tensor) -> Tensor:
    """Float32 (M, N) of matrices (M, K) and (K, N) of half precision."""
    if first.is_cuda and WIDE_RESULTS:
        return torch.mm(first, second, out_dtype=torch.float32)
    return (first @ second).float()
