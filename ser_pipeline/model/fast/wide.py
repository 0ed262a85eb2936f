"""Half-precision products with float32 results, for gradients of weights."""

from __future__ import annotations

import torch
from torch import Tensor

WIDE_RESULTS = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 8)
"""Whether torch's half-precision products can return float32."""


def wide_product(first: Tensor, second: Tensor) -> Tensor:
    """Product, float32 (M, N), of half-precision matrices (M, K) and (K, N)."""
    if first.is_cuda and WIDE_RESULTS:
        return torch.mm(first, second, out_dtype=torch.float32)
    return (first @ second).float()
