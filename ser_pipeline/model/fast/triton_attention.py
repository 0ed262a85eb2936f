"""Softmax attention with dropout as Triton kernels, forward and backward.

Shapes: B batch, T frames, H heads, D width of a head.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ser_pipeline.model.fast.triton_dropout import Dropped, keeps

QUERIES, KEYS = 64, 32  # of a block of attention
OWN, OTHERS = 64, 32  # rows whose gradient a block computes, and rows that it processes at a time


def attend(packed: Tensor, bias: Tensor | None, words: Tensor, dropped: Dropped) -> tuple[Tensor, Tensor]:
    """Softmax attention of all heads: frames (B, T, H, D), and base-2 logarithms of softmax denominators (B * H, T).

    Args:
        packed: half precision (B, T, 3, H, D): queries, keys, values.
        bias: float (B, T), added to the scores of each key; None adds nothing.
        words: int32 (2,), random.
        dropped: dropout of the weights.
    """
    batch, frames, _, heads, width = packed.shape
    output = packed.new_empty(batch, frames, heads, width)
    level = packed.new_empty(batch * heads, frames, dtype=torch.float32)
    _attend[(triton.cdiv(frames, QUERIES), batch * heads)](
        packed, bias, output, level, words, frames, heads, 1 / math.sqrt(width), dropped.count, dropped.larger,
        BIASED=bias is not None, DROPS=dropped.count > 0, D=width, QUERIES=QUERIES, KEYS=KEYS, num_warps=4,
        num_stages=2,
    )  # fmt: skip
    return output, level


def attend_back(
    arriving: Tensor, packed: Tensor, bias: Tensor | None, known: tuple[Tensor, Tensor], dropout: tuple[Tensor, Dropped]
) -> Tensor:
    """Gradient of `packed`, from the gradient of the frames.

    Args:
        arriving: gradient of the frames (B, T, H, D), contiguous.
        packed: as in `attend`.
        bias: as in `attend`.
        known: results of `attend`.
        dropout: `words` and `dropped`, as in `attend`.
    """
    batch, frames, _, heads, width = packed.shape
    result, (words, dropped) = torch.empty_like(packed), dropout
    for kernel in (_to_keys, _to_queries):
        kernel[(triton.cdiv(frames, OWN), batch * heads)](
            packed, bias, known[0], arriving, known[1], result, words, frames, heads, 1 / math.sqrt(width),
            dropped.count, dropped.larger, BIASED=bias is not None, DROPS=dropped.count > 0, D=width,
            OWN=OWN, OTHERS=OTHERS, num_warps=4,
        )  # fmt: skip
    return result


@triton.jit
def _scores(query, key, bias, place, real, scale, BIASED: tl.constexpr):
    """Scores of queries (Q, D) and keys (K, D) as exponents of 2 (Q, K); keys that are not real get no weight."""
    scores = tl.dot(query, tl.trans(key)) * (scale * 1.4426950408889634)
    if BIASED:
        added = tl.load(bias + place, mask=real, other=0.0).to(tl.float32)
        scores += added[None, :] * 1.4426950408889634
    return tl.where(real[None, :], scores, float("-inf"))


@triton.jit
def _attend(
    packed, bias, output, level, words, frames, heads, scale, dropped, larger,
    BIASED: tl.constexpr, DROPS: tl.constexpr, D: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    both = tl.program_id(1)
    segment, head = (both // heads).to(tl.int64), both % heads
    step = 3 * heads * D
    queries = packed + segment * frames * step + head * D
    keys, values = queries + heads * D, queries + 2 * heads * D
    row, unit, key = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES), tl.arange(0, D), tl.arange(0, KEYS)
    query = tl.load(queries + row[:, None] * step + unit[None, :], mask=(row < frames)[:, None], other=0.0)
    most = tl.full((QUERIES,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    mixed = tl.zeros((QUERIES, D), tl.float32)
    for start in range(0, frames, KEYS):
        col = start + key
        place, inside = col[:, None] * step + unit[None, :], (col < frames)[:, None]
        scores = _scores(
            query,
            tl.load(keys + place, mask=inside, other=0.0),
            bias,
            segment * frames + col,
            col < frames,
            scale,
            BIASED,
        )
        above = tl.maximum(most, tl.max(scores, 1))
        weights = tl.exp2(scores - above[:, None])
        shrink = tl.exp2(most - above)
        total = total * shrink + tl.sum(weights, 1)
        if DROPS:
            number = ((both * frames + row) * frames)[:, None] + col[None, :]
            weights = tl.where(keeps(words, number.to(tl.uint32), dropped), weights, 0.0)
        value = tl.load(values + place, mask=inside, other=0.0)
        mixed = tl.dot(weights.to(value.dtype), value, mixed * shrink[:, None])
        most = above
    mixed = mixed * (larger / total)[:, None]
    place = ((segment * frames + row[:, None]) * heads + head) * D + unit[None, :]
    tl.store(output + place, mixed.to(output.dtype.element_ty), mask=(row < frames)[:, None])
    tl.store(level + both.to(tl.int64) * frames + row, most + tl.log2(total), mask=row < frames)


@triton.jit
def _to_keys(
    packed, bias, output, arriving, level, to_packed, words, frames, heads, scale, dropped, larger,
    BIASED: tl.constexpr, DROPS: tl.constexpr, D: tl.constexpr, OWN: tl.constexpr, OTHERS: tl.constexpr,
):  # fmt: skip
    both = tl.program_id(1)
    segment, head = (both // heads).to(tl.int64), both % heads
    step = 3 * heads * D
    first = segment * frames * step + head * D
    col, unit, query_row = tl.program_id(0) * OWN + tl.arange(0, OWN), tl.arange(0, D), tl.arange(0, OTHERS)
    place, inside = col[:, None] * step + unit[None, :], (col < frames)[:, None]
    key = tl.load(packed + first + heads * D + place, mask=inside, other=0.0)
    value = tl.load(packed + first + 2 * heads * D + place, mask=inside, other=0.0)
    if BIASED:
        added = tl.load(bias + segment * frames + col, mask=col < frames, other=0.0).to(tl.float32)
    to_key, to_value = tl.zeros((OWN, D), tl.float32), tl.zeros((OWN, D), tl.float32)
    for start in range(0, frames, OTHERS):
        row = start + query_row
        real = (row < frames)[:, None]
        query = tl.load(packed + first + row[:, None] * step + unit[None, :], mask=real, other=0.0)
        wide = ((segment * frames + row[:, None]) * heads + head) * D + unit[None, :]
        gradient = tl.load(arriving + wide, mask=real, other=0.0)
        mixed = tl.load(output + wide, mask=real, other=0.0)
        shared = tl.sum(gradient.to(tl.float32) * mixed.to(tl.float32), 1)
        known = tl.load(level + both.to(tl.int64) * frames + row, mask=row < frames, other=float("inf"))
        scores = tl.dot(key, tl.trans(query)) * (scale * 1.4426950408889634)
        if BIASED:
            scores += added[:, None] * 1.4426950408889634
        weights = tl.exp2(tl.where((col < frames)[:, None], scores, float("-inf")) - known[None, :])
        to_weights = tl.dot(value, tl.trans(gradient))
        used = weights
        if DROPS:
            number = ((both * frames + row) * frames)[None, :] + col[:, None]
            keep = keeps(words, number.to(tl.uint32), dropped)
            used = tl.where(keep, weights * larger, 0.0)
            to_weights = tl.where(keep, to_weights * larger, 0.0)
        to_value = tl.dot(used.to(gradient.dtype), gradient, to_value)
        to_scores = weights * (to_weights - shared[None, :])
        to_key = tl.dot(to_scores.to(query.dtype), query, to_key)
    kind = to_packed.dtype.element_ty
    tl.store(to_packed + first + heads * D + place, (to_key * scale).to(kind), mask=inside)
    tl.store(to_packed + first + 2 * heads * D + place, to_value.to(kind), mask=inside)


@triton.jit
def _to_queries(
    packed, bias, output, arriving, level, to_packed, words, frames, heads, scale, dropped, larger,
    BIASED: tl.constexpr, DROPS: tl.constexpr, D: tl.constexpr, OWN: tl.constexpr, OTHERS: tl.constexpr,
):  # fmt: skip
    both = tl.program_id(1)
    segment, head = (both // heads).to(tl.int64), both % heads
    step = 3 * heads * D
    first = segment * frames * step + head * D
    row, unit, key_row = tl.program_id(0) * OWN + tl.arange(0, OWN), tl.arange(0, D), tl.arange(0, OTHERS)
    real, own = (row < frames)[:, None], row[:, None] * step + unit[None, :]
    query = tl.load(packed + first + own, mask=real, other=0.0)
    wide = ((segment * frames + row[:, None]) * heads + head) * D + unit[None, :]
    gradient = tl.load(arriving + wide, mask=real, other=0.0)
    mixed = tl.load(output + wide, mask=real, other=0.0)
    shared = tl.sum(gradient.to(tl.float32) * mixed.to(tl.float32), 1)
    known = tl.load(level + both.to(tl.int64) * frames + row, mask=row < frames, other=float("inf"))
    to_query = tl.zeros((OWN, D), tl.float32)
    for start in range(0, frames, OTHERS):
        col = start + key_row
        place, inside = col[:, None] * step + unit[None, :], (col < frames)[:, None]
        key = tl.load(packed + first + heads * D + place, mask=inside, other=0.0)
        value = tl.load(packed + first + 2 * heads * D + place, mask=inside, other=0.0)
        weights = tl.exp2(
            _scores(query, key, bias, segment * frames + col, col < frames, scale, BIASED) - known[:, None]
        )
        to_weights = tl.dot(gradient, tl.trans(value))
        if DROPS:
            number = ((both * frames + row) * frames)[:, None] + col[None, :]
            to_weights = tl.where(keeps(words, number.to(tl.uint32), dropped), to_weights * larger, 0.0)
        to_scores = weights * (to_weights - shared[:, None])
        to_query = tl.dot(to_scores.to(key.dtype), key, to_query)
    tl.store(to_packed + first + own, (to_query * scale).to(to_packed.dtype.element_ty), mask=real)
