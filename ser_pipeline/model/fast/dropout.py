"""Dropout on the CPU: four masks from every random word, where torch draws a number for each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 1 << 16
"""Shares are rounded to one in so many: 16 bits an element."""


class Dropout(nn.Dropout):
    """Dropout as torch's, from torch's generator, in another order."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """`input` with a share of its elements 0 in training, and the others enlarged."""
        return drop(input, self.p) if self.training and 0 < self.p < 1 else super().forward(input)


def drop(tensor: Tensor, share: float) -> Tensor:
    """`tensor` with about `share` of its elements 0, over 0 and under 1, and the others over what is left."""
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
