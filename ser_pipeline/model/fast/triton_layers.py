"""The elementwise parts of a transformer layer as Triton kernels: GELU, sums, norms, dropout.

Nothing depends on the order of atomic operations. Shapes: M rows of all segments, W width.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ser_pipeline.model.fast import triton_gelu
from ser_pipeline.model.fast.triton_dropout import Dropped, keeps

ROWS, COLUMNS = 8, 256  # of a block of GELU's backward pass and of a sum over rows
ELEMENTS = 2_048  # of a block of GELU
PARTS, NORM_PARTS = 132, 528  # numbers of parts in which rows are summed separately: in general, and for a norm


def gelu(values: Tensor, words: Tensor, dropped: Dropped) -> Tensor:
    """The exact GELU followed by dropout.

    Args:
        values: any shape, contiguous.
        words: int32 (2,), random.
        dropped: dropout of the result.
    """
    output = torch.empty_like(values)
    _gelu[(triton.cdiv(values.numel(), ELEMENTS),)](
        values, output, words, values.numel(), dropped.count, dropped.larger,
        DROPS=dropped.count > 0, ELEMENTS=ELEMENTS, num_warps=4,
    )  # fmt: skip
    return output


def gelu_back(arriving: Tensor, values: Tensor, words: Tensor, dropped: Dropped, sums: Tensor) -> Tensor:
    """Gradient of the values (M, W); its sums over rows are written to `sums`.

    Args:
        arriving: gradient of the result (M, W), contiguous.
        values: as in `gelu`.
        words: as in `gelu`.
        dropped: as in `gelu`.
        sums: float32 (PARTS, W), a view of a wider array.
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
    """Layer normalisation of a sum with dropout on one term: rows (M, W), and mean and scale (M, 2).

    Args:
        kept: half precision (M, W).
        added: half precision (M, W), the term with dropout.
        norm: scale float32 (W,), shift float32 (W,), epsilon of the variance.
        words: int32 (2,), random.
        dropped: dropout of `added`.
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
    """Gradients of both terms (M, W), and of the scale, the shift and a bias of the dropped term (3 * W).

    Args:
        arriving: gradient of the result (M, W), contiguous.
        terms: `kept` and `added`, as in `add_norm`.
        scale: the norm's scale, as in `add_norm`.
        known: mean and scale of the rows, from `add_norm`.
        words: as in `add_norm`.
        dropped: as in `add_norm`.
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
    """Write the sums over the rows of `values` (M, W) to `sums` (PARTS, W), float32, a view of a wider array."""
    rows, width = values.shape
    _sum_rows[(triton.cdiv(width, COLUMNS), PARTS)](
        values, sums, rows, width, sums.stride(0), ROWS=ROWS, COLUMNS=COLUMNS, num_warps=4
    )


@triton.jit
def _gelu(values, output, words, count, dropped, larger, DROPS: tl.constexpr, ELEMENTS: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * ELEMENTS + tl.arange(0, ELEMENTS)
    inside = place < count
    value = tl.load(values + place, mask=inside, other=0.0).to(tl.float32)
    value = triton_gelu.gelu(value)
    if DROPS:
        value = tl.where(keeps(words, place.to(tl.uint32), dropped), value * larger, 0.0)
    tl.store(output + place, value.to(output.dtype.element_ty), mask=inside)


@triton.jit
def _gelu_back(
    values, arriving, result, sums, words, rows, width, stride, dropped, larger,
    DROPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    part, col = tl.program_id(1), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(part * ROWS, rows, tl.num_programs(1) * ROWS):
        row = start + tl.arange(0, ROWS)
        place = row.to(tl.int64)[:, None] * width + col[None, :]
        inside = (row < rows)[:, None] & (col < width)[None, :]
        value = tl.load(values + place, mask=inside, other=0.0).to(tl.float32)
        gradient = triton_gelu.gelu_slope(value) * tl.load(arriving + place, mask=inside, other=0.0).to(tl.float32)
        if DROPS:
            gradient = tl.where(keeps(words, place.to(tl.uint32), dropped), gradient * larger, 0.0)
        total += gradient
        tl.store(result + place, gradient.to(result.dtype.element_ty), mask=inside)
    tl.store(sums + part * stride + col, tl.sum(total, 0), mask=col < width)


@triton.jit
def _sum_rows(values, sums, rows, width, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    part, col = tl.program_id(1), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(part * ROWS, rows, tl.num_programs(1) * ROWS):
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
    row, unit = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    place, inside = row * W + unit, unit < W
    total = tl.load(added + place, mask=inside, other=0.0).to(tl.float32)
    if DROPS:
        total = tl.where(keeps(words, place.to(tl.uint32), dropped), total * larger, 0.0)
    total += tl.load(kept + place, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(total, 0) / W
    centred = tl.where(inside, total - mean, 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / W + eps)
    scales = tl.load(scale + unit, mask=inside, other=0.0)
    value = centred * inverse * scales + tl.load(shift + unit, mask=inside, other=0.0)
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
            keep = keeps(words, place.to(tl.uint32), dropped)
            total = tl.where(keep, total * larger, 0.0)
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
            gradient = tl.where(keep, gradient * larger, 0.0)
        to_bias += gradient
        tl.store(to_added + place, gradient.to(to_added.dtype.element_ty), mask=inside)
    place = sums + part * 3 * W + unit
    tl.store(place, to_scale, mask=inside)
    tl.store(place + W, to_shift, mask=inside)
    tl.store(place + 2 * W, to_bias, mask=inside)
