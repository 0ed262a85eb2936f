"""A transformer layer that normalises after each block, forward and backward, from products and a few Triton kernels.

It is written out so that nothing is computed twice: gradients of weights leave the products in float32, gradients of
biases are summed where the rows are computed, and the products add the gradients of the residual path.

Shapes: B batch, T frames, W width, H heads, D width of a head, M rows of all segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ser_pipeline.model.fast import triton_attention as attention
from ser_pipeline.model.fast import triton_layers as parts
from ser_pipeline.model.fast.triton_dropout import Dropped
from ser_pipeline.model.fast.triton_layers import PARTS
from ser_pipeline.model.fast.wide import wide_product


@dataclass(frozen=True)
class Shares:
    """Dropout rates, 0 to 1, the number of attention heads, and the epsilons of both norms."""

    weights: float
    attended: float
    inner: float
    output: float
    heads: int
    eps: tuple[float, float]


class Layer(torch.autograd.Function):
    """The layer as a function of its input and its parameters."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, bias: Tensor | None, words: Tensor, shares: Shares, *own: Tensor) -> Tensor:
        """Frames (B, T, W) of the dtype of `hidden`.

        Args:
            ctx: stores what `backward` needs.
            hidden: half precision (B, T, W).
            bias: float (B, T), added to the scores of each key; None adds nothing.
            words: int32 (4, 2), random.
            shares: dropout rates.
            own: float32 weights and biases of queries, keys, values, output, the two inner products; scales and shifts
                of the two norms.
        """
        rows, (weights, biases) = hidden.reshape(-1, hidden.shape[2]), halves(own, hidden.dtype)
        drops = [Dropped.share(share) for share in (shares.weights, shares.attended, shares.inner, shares.output)]
        packed = torch.addmm(biases[0], rows, weights[0].T).view(*hidden.shape[:2], 3, shares.heads, -1)
        mixed, level = attention.attend(packed, bias, words[0], drops[0])
        attended = torch.addmm(biases[1], mixed.view_as(rows), weights[1].T)
        middle, known = parts.add_norm(rows, attended, (own[12], own[13], shares.eps[0]), words[1], drops[1])
        values = torch.addmm(biases[2], middle, weights[2].T)
        inner = parts.gelu(values, words[2], drops[2])
        last = torch.addmm(biases[3], inner, weights[3].T)
        output, known_last = parts.add_norm(middle, last, (own[14], own[15], shares.eps[1]), words[3], drops[3])
        ctx.drops, ctx.needed = drops, tuple(ctx.needs_input_grad[4:])
        ctx.save_for_backward(
            rows, packed, bias, mixed, level, attended, middle, known, values, inner, last, known_last, words,
            own[12], own[14], *weights,
        )  # fmt: skip
        return output.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the input and of the parameters."""
        rows, packed, bias, mixed, level, attended, middle, known, values, inner, last, known_last, words, *rest = (
            ctx.saved_tensors
        )
        scale, scale_last, *weights = rest
        width, wide = rows.shape[1], values.shape[1]
        sums = rows.new_empty(PARTS, 3 * width + wide, dtype=torch.float32)
        of_packed, of_values = torch.split(sums, [3 * width, wide], 1)
        arriving = gradients[0].contiguous().view_as(rows)
        to_middle, to_last, to_norm_last = parts.add_norm_back(
            arriving, (middle, last), scale_last, known_last, words[3], ctx.drops[3]
        )
        to_values = parts.gelu_back(to_last @ weights[3], values, words[2], ctx.drops[2], of_values)
        to_middle.addmm_(to_values, weights[2])
        to_rows, to_attended, to_norm = parts.add_norm_back(
            to_middle, (rows, attended), scale, known, words[1], ctx.drops[1]
        )
        to_mixed = (to_attended @ weights[1]).view_as(mixed)
        dropout = words[0], ctx.drops[0]
        to_packed = attention.attend_back(to_mixed, packed, bias, (mixed, level), dropout).view(len(rows), -1)
        parts.sum_rows(to_packed, of_packed)
        to_rows.addmm_(to_packed, weights[0])
        to_weights = [
            *torch.split(_to_weight(to_packed, rows, ctx.needed[:6:2]), width),
            _to_weight(to_attended, mixed.view_as(rows), ctx.needed[6:7]),
            _to_weight(to_values, middle, ctx.needed[8:9]),
            _to_weight(to_last, inner, ctx.needed[10:11]),
        ]
        query, key, value, up = torch.split(sums.sum(0), [width] * 3 + [wide])
        to_scale, to_shift, out = torch.split(to_norm, width)
        to_scale_last, to_shift_last, down = torch.split(to_norm_last, width)
        to_biases = [query, key, value, out, up, down]
        pairs = [part for pair in zip(to_weights, to_biases, strict=True) for part in pair]
        own = [*pairs, to_scale, to_shift, to_scale_last, to_shift_last]
        needed = [part if wanted else None for part, wanted in zip(own, ctx.needed, strict=True)]
        return to_rows.view(gradients[0].shape), None, None, None, *needed


def halves(own: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of the four products in half precision, with queries, keys and values as one.

    Args:
        own: as in `Layer`.
        dtype: dtype of the copies.
    """
    width = len(own[1])
    packed, bias = own[0].new_empty(3 * width, width, dtype=dtype), own[1].new_empty(3 * width, dtype=dtype)
    others = [torch.empty_like(part, dtype=dtype) for part in own[6:12]]
    three = zip(torch.split(packed, width), torch.split(bias, width), strict=True)
    targets = [part for pair in three for part in pair] + others
    torch._foreach_copy_(targets, list(own[:12]))
    return [packed, *others[::2]], [bias, *others[1::2]]


def _to_weight(gradient: Tensor, rows: Tensor, needed: tuple[bool, ...]) -> Tensor:
    """Gradient of a product's weight in float32, from the gradient of its result (M, N) and its input (M, K)."""
    if not any(needed):
        return rows.new_empty(gradient.shape[1], 0)
    return wide_product(gradient.T, rows)
