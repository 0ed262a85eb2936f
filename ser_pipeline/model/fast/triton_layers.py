"""What a transformer layer does between its products, as Triton kernels: attention, GELU, sums, norms, dropout.

Masks of dropout are never stored: a hash of two random words and the element's number gives each, forward and
backward, at a fraction of the cost of a counter-based generator. Nothing depends on the order of atomic operations.

Shapes: B batch, T frames, H heads, D width of a head, M rows of all segments, W width.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from ser_pipeline.model.fast import triton_gelu

QUERIES, KEYS = 64, 32  # of a block of attention
OWN, OTHERS = 64, 32  # rows whose gradient a block makes, and rows it takes at a time
ROWS, COLUMNS = 8, 256  # of a block of GELU's backward pass and of a sum over rows
ELEMENTS = 2_048  # of a block of GELU
PARTS, NORM_PARTS = 132, 528  # in which rows are summed apart, and those of a norm
SHARES = 2.0**32  # a share of elements that is dropped is rounded to one in so many


@dataclass(frozen=True)
class Dropped:
    """How a share of elements is dropped: of the 2 ** 32 values of a hash so many, and what the others grow by."""

    count: int
    larger: float

    @staticmethod
    def share(dropout: float) -> Dropped:
        """To drop a share, 0 to 1."""
        return Dropped(min(int(dropout * SHARES), 2**32 - 1), 1 / (1 - dropout) if dropout < 1 else 0.0)


def attend(packed: Tensor, bias: Tensor | None, words: Tensor, dropped: Dropped) -> tuple[Tensor, Tensor]:
    """Softmax attention of all heads: frames (B, T, H, D), and the logarithms of the weights' sums (B * H, T).

    Args:
        packed: half precision (B, T, 3, H, D): queries, keys, values.
        bias: float (B, T), added to the scores of each key; None: nothing is.
        words: int32 (2,), random.
        dropped: of the weights.
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
    arriving: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    known: tuple[Tensor, Tensor],
    words: Tensor,
    dropped: Dropped,
) -> Tensor:
    """Gradient of `packed`, from that of the frames.

    Args:
        arriving: (B, T, H, D), contiguous.
        packed: as `attend` was given.
        bias: as `attend` was given.
        known: what `attend` gave.
        words: as `attend` was given.
        dropped: as `attend` was given.
    """
    batch, frames, _, heads, width = packed.shape
    output, level = known
    result = torch.empty_like(packed)
    for kernel in (_to_keys, _to_queries):
        kernel[(triton.cdiv(frames, OWN), batch * heads)](
            packed, bias, output, arriving, level, result, words, frames, heads, 1 / math.sqrt(width),
            dropped.count, dropped.larger,
            BIASED=bias is not None, DROPS=dropped.count > 0, D=width, OWN=OWN, OTHERS=OTHERS,
            num_warps=4, num_stages=2,
        )  # fmt: skip
    return result


def gelu(values: Tensor, words: Tensor, dropped: Dropped) -> Tensor:
    """What dropout leaves of the exact GELU.

    Args:
        values: of any shape, contiguous.
        words: int32 (2,), random.
        dropped: of the result.
    """
    output = torch.empty_like(values)
    _gelu[(triton.cdiv(values.numel(), ELEMENTS),)](
        values, output, words, values.numel(), dropped.count, dropped.larger,
        DROPS=dropped.count > 0, ELEMENTS=ELEMENTS, num_warps=4,
    )  # fmt: skip
    return output


def gelu_back(arriving: Tensor, values: Tensor, words: Tensor, dropped: Dropped, sums: Tensor) -> Tensor:
    """Gradient of the values (M, W); its sums over rows go to `sums`.

    Args:
        arriving: gradient of the result (M, W), contiguous.
        values: as `gelu` was given.
        words: as `gelu` was given.
        dropped: as `gelu` was given.
        sums: float32 (PARTS, W), a view of a wider one.
    """
    rows, width = values.shape
    result = torch.empty_like(values)
    _gelu_back[(triton.cdiv(width, COLUMNS), PARTS)](
        values, arriving, result, sums, words, rows, width, sums.stride(0), dropped.count, dropped.larger,
        DROPS=dropped.count > 0, ROWS=ROWS, COLUMNS=COLUMNS, num_warps=4,
    )  # fmt: skip
    return result


def add_norm(
    kept: Tensor, added: Tensor, norm: tuple[Tensor, Tensor, float], words: Tensor, dropped: Dropped
) -> tuple[Tensor, Tensor]:
    """Layer normalisation of a sum, one term of which is under dropout: rows (M, W), and mean and scale (M, 2).

    Args:
        kept: half precision (M, W).
        added: half precision (M, W), the term under dropout.
        norm: scale float32 (W,), shift float32 (W,), what is added to the variance.
        words: int32 (2,), random.
        dropped: of `added`.
    """
    rows, width = added.shape
    output, known = torch.empty_like(added), added.new_empty(rows, 2, dtype=torch.float32)
    scale, shift, eps = norm
    _norm[(rows,)](
        kept, added, scale, shift, output, known, words, dropped.count, dropped.larger, eps,
        DROPS=dropped.count > 0, W=width, BLOCK=triton.next_power_of_2(width), num_warps=4,
    )  # fmt: skip
    return output, known


def add_norm_back(
    arriving: Tensor, terms: tuple[Tensor, Tensor], scale: Tensor, known: Tensor, words: Tensor, dropped: Dropped
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of both terms (M, W), and those of scale, of shift and of a bias of the dropped term (3 * W).

    Args:
        arriving: gradient of the result (M, W), contiguous.
        terms: as `add_norm` was given.
        scale: as `add_norm` was given.
        known: what `add_norm` gave.
        words: as `add_norm` was given.
        dropped: as `add_norm` was given.
    """
    kept, added = terms
    rows, width = added.shape
    to_kept, to_added = torch.empty_like(kept), torch.empty_like(added)
    sums = known.new_empty(min(NORM_PARTS, rows), 3 * width)
    _norm_back[(len(sums),)](
        kept, added, scale, arriving, known, to_kept, to_added, sums, words, rows, dropped.count, dropped.larger,
        DROPS=dropped.count > 0, W=width, BLOCK=triton.next_power_of_2(width), num_warps=4,
    )  # fmt: skip
    return to_kept, to_added, sums.sum(0)


def sum_rows(values: Tensor, sums: Tensor) -> None:
    """Sums over the rows of `values` (M, W), to `sums` (PARTS, W) in float32, a view of a wider one."""
    rows, width = values.shape
    _sum_rows[(triton.cdiv(width, COLUMNS), PARTS)](
        values, sums, rows, width, sums.stride(0), ROWS=ROWS, COLUMNS=COLUMNS, num_warps=4
    )


@triton.jit
def _keeps(words, number, dropped):
    """Whether the elements of those numbers (uint32) are kept: a multiplicative hash of the number and both words."""
    hashed = number * tl.full((), 0x9E3779B9, tl.uint32) + tl.load(words).to(tl.uint32)
    hashed = (hashed ^ (hashed >> 16)) * tl.full((), 0x21F0AAAD, tl.uint32)
    hashed = (hashed ^ (hashed >> 15) ^ tl.load(words + 1).to(tl.uint32)) * tl.full((), 0xD35A2D97, tl.uint32)
    return hashed >= dropped.to(tl.uint32)


@triton.jit
def _scores(query, key, bias, place, real, scale, BIASED: tl.constexpr):
    """Scores of queries (Q, D) and keys (K, D) as powers of two (Q, K); keys that are not real get no weight."""
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
            weights = tl.where(_keeps(words, number.to(tl.uint32), dropped), weights, 0.0)
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
            keeps = _keeps(words, number.to(tl.uint32), dropped)
            used = tl.where(keeps, weights * larger, 0.0)
            to_weights = tl.where(keeps, to_weights * larger, 0.0)
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
            to_weights = tl.where(_keeps(words, number.to(tl.uint32), dropped), to_weights * larger, 0.0)
        to_scores = weights * (to_weights - shared[:, None])
        to_query = tl.dot(to_scores.to(key.dtype), key, to_query)
    tl.store(to_packed + first + own, (to_query * scale).to(to_packed.dtype.element_ty), mask=real)


@triton.jit
def _gelu(values, output, words, count, dropped, larger, DROPS: tl.constexpr, ELEMENTS: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * ELEMENTS + tl.arange(0, ELEMENTS)
    inside = place < count
    value = tl.load(values + place, mask=inside, other=0.0).to(tl.float32)
    value = triton_gelu.gelu(value)
    if DROPS:
        value = tl.where(_keeps(words, place.to(tl.uint32), dropped), value * larger, 0.0)
    tl.store(output + place, value.to(output.dtype.element_ty), mask=inside)


@triton.jit
def _gelu_back(
    values, arriving, result, sums, words, rows, width, stride, dropped, larger,
    DROPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    part, parts = tl.program_id(1), tl.num_programs(1)
    col = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(part * ROWS, rows, parts * ROWS):
        row = start + tl.arange(0, ROWS)
        place = row.to(tl.int64)[:, None] * width + col[None, :]
        inside = (row < rows)[:, None] & (col < width)[None, :]
        value = tl.load(values + place, mask=inside, other=0.0).to(tl.float32)
        gradient = tl.load(arriving + place, mask=inside, other=0.0).to(tl.float32)
        if DROPS:
            gradient = tl.where(_keeps(words, place.to(tl.uint32), dropped), gradient * larger, 0.0)
        gradient = gradient * triton_gelu.gelu_slope(value)
        total += gradient
        tl.store(result + place, gradient.to(result.dtype.element_ty), mask=inside)
    tl.store(sums + part * stride + col, tl.sum(total, 0), mask=col < width)


@triton.jit
def _sum_rows(values, sums, rows, width, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    part, parts = tl.program_id(1), tl.num_programs(1)
    col = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(part * ROWS, rows, parts * ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (col < width)[None, :]
        total += tl.load(values + row.to(tl.int64)[:, None] * width + col[None, :], mask=inside, other=0.0).to(
            tl.float32
        )
    tl.store(sums + part * stride + col, tl.sum(total, 0), mask=col < width)


@triton.jit
def _norm(
    kept, added, scale, shift, output, known, words, dropped, larger, eps,
    DROPS: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    unit = tl.arange(0, BLOCK)
    place, inside = row * W + unit, unit < W
    total = tl.load(added + place, mask=inside, other=0.0).to(tl.float32)
    if DROPS:
        total = tl.where(_keeps(words, place.to(tl.uint32), dropped), total * larger, 0.0)
    total += tl.load(kept + place, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(total, 0) / W
    centred = tl.where(inside, total - mean, 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / W + eps)
    value = centred * inverse * tl.load(scale + unit, mask=inside, other=0.0)
    value += tl.load(shift + unit, mask=inside, other=0.0)
    tl.store(output + place, value.to(output.dtype.element_ty), mask=inside)
    tl.store(known + row * 2, mean)
    tl.store(known + row * 2 + 1, inverse)


@triton.jit
def _norm_back(
    kept, added, scale, arriving, known, to_kept, to_added, sums, words, rows, dropped, larger,
    DROPS: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    part, parts = tl.program_id(0), tl.num_programs(0)
    unit = tl.arange(0, BLOCK)
    inside = unit < W
    scales = tl.load(scale + unit, mask=inside, other=0.0)
    to_scale = tl.zeros((BLOCK,), tl.float32)
    to_shift, to_bias = to_scale, to_scale
    for row in range(part, rows, parts):
        place = row * W + unit
        total = tl.load(added + place, mask=inside, other=0.0).to(tl.float32)
        if DROPS:
            keeps = _keeps(words, place.to(tl.uint32), dropped)
            total = tl.where(keeps, total * larger, 0.0)
        total += tl.load(kept + place, mask=inside, other=0.0).to(tl.float32)
        inverse = tl.load(known + row * 2 + 1)
        value = tl.where(inside, (total - tl.load(known + row * 2)) * inverse, 0.0)
        gradient = tl.load(arriving + place, mask=inside, other=0.0).to(tl.float32)
        to_scale += gradient * value
        to_shift += gradient
        gradient = gradient * scales
        gradient = (gradient - tl.sum(gradient, 0) / W - value * (tl.sum(gradient * value, 0) / W)) * inverse
        tl.store(to_kept + place, gradient.to(to_kept.dtype.element_ty), mask=inside)
        if DROPS:
            gradient = tl.where(keeps, gradient * larger, 0.0)
        to_bias += gradient
        tl.store(to_added + place, gradient.to(to_added.dtype.element_ty), mask=inside)
    place = sums + part * 3 * W + unit
    tl.store(place, to_scale, mask=inside)
    tl.store(place + W, to_shift, mask=inside)
    tl.store(place + 2 * W, to_bias, mask=inside)
