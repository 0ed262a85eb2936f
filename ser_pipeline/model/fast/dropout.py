"""Dropout on the CPU with four masks from every random word, where torch draws one number for each element."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 1 << 16
"""Number of steps to which a dropout rate is rounded: 16 bits per element."""


class Dropout(nn.Dropout):
    """Dropout like torch's, from torch's generator, but with the random numbers in another order."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """`input` with a share of its elements set to 0 in training, and the others scaled up."""
        return drop(input, self.p) if self.training and 0 < self.p < 1 else super().forward(input)


def drop(tensor: Tensor, share: float) -> Tensor:
    """Set about `share` of the elements to 0, with 0 < share < 1, and divide the others by `1 - share`."""
    return _Drop.apply(tensor, min(max(round(share * LEVELS), 1), LEVELS - 1))  # type: ignore[no-any-return]


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, dropped: int) -> Tensor:
        count = tensor.numel()
        words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = (words.view(torch.int16)[:count] >= dropped - LEVELS // 2).view(tensor.shape)
        ctx.save_for_backward(kept)
        ctx.scale = LEVELS / (LEVELS - dropped)
        scaled: Tensor = tensor * ctx.scale
        return scaled.mul_(kept)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (gradients[0] * ctx.scale).mul_(kept), None
