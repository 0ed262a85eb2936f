"""The steps of a bidirectional LSTM layer as one Triton kernel for the forward pass and one for the backward pass.

Libraries launch several kernels for every frame. Here, a block takes 16 segments of one direction through all frames.
For every frame it reads the recurrent weights again, from the L2 cache. No block waits for another. The kernel occupies
few multiprocessors, so everything else of a training step can run in parallel.

Shapes: B batch, T frames, H units of a direction; gates are in the order of `torch.nn.LSTM`: input, forget, cell,
output.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ser_pipeline.model.fast.wide import wide_product

SEGMENTS = 16  # of a block: the minimum of a tensor core
DEPTH, BACK_DEPTH = 32, 128  # of the products' blocks, in units and in gates
STAGES = 3  # blocks of weights in flight, one of which is in registers
SPARE = 8 << 10  # bytes of shared memory that the compiler needs besides these blocks (H100: 2 to 8 kB)


class Recurrence(torch.autograd.Function):
    """The hidden states of one bidirectional layer from its input's contribution to the gates."""

    @staticmethod
    def forward(ctx: Any, added: Tensor, weight: Tensor) -> Tensor:
        """Hidden states (B, T, 2, H).

        Args:
            ctx: stores what `backward` needs.
            added: half precision (B, T, 2, 4 H): products of the input with its weights, and biases.
            weight: recurrent weights of the same dtype (2, 4 H, H).
        """
        batch, frames, _, gates = added.shape
        units = gates // 4
        hidden = added.new_empty(batch, frames, 2, units)
        opened = torch.empty_like(added)
        cells = added.new_empty(batch, frames, 2, units, dtype=torch.float32)
        turned = weight.view(2, 4, units, units).transpose(2, 3).contiguous()
        depth, stages = blocks(min(DEPTH, units), 4 * units * weight.element_size(), shared_memory(weight))
        _steps[(triton.cdiv(batch, SEGMENTS), 2)](
            added, turned, hidden, opened, cells, batch, frames,
            H=units, ROWS=SEGMENTS, DEPTH=depth, STAGES=stages, num_warps=8,
        )  # fmt: skip
        ctx.save_for_backward(weight, hidden, opened, cells)
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of `added` and of the weights."""
        weight, hidden, opened, cells = ctx.saved_tensors
        batch, frames, _, units = hidden.shape
        depth, stages = blocks(min(BACK_DEPTH, 4 * units), units * weight.element_size(), shared_memory(weight))
        to_added = torch.empty_like(opened)
        _steps_back[(triton.cdiv(batch, SEGMENTS), 2)](
            gradients[0].contiguous(), weight, opened, cells, to_added, batch, frames,
            H=units, ROWS=SEGMENTS, DEPTH=depth, STAGES=stages, num_warps=8,
        )  # fmt: skip
        return to_added, torch.stack([_to_weight(to_added, hidden, back=back) for back in (False, True)])


def blocks(depth: int, row: int, memory: int) -> tuple[int, int]:
    """Depth of the blocks of weights, and how many are in flight, so that shared memory can hold them.

    Args:
        depth: preferred rows of a block.
        row: bytes of a row of weights.
        memory: bytes of shared memory.

    >>> [blocks(32, 2_048, size << 10) for size in (227, 163, 99, 64)]  # Hopper, A100, GeForce RTX 30 and 40, Turing
    [(32, 3), (32, 3), (32, 2), (16, 2)]
    """
    for rows, stages in ((depth, STAGES), (depth, 2), (depth // 2, 2)):
        if (stages - 1) * rows * row + SPARE <= memory and rows >= SEGMENTS:
            return rows, stages
    return SEGMENTS, 2


def shared_memory(tensor: Tensor) -> int:
    """Bytes of shared memory available to a block on the device of `tensor`; a gigabyte if it is not CUDA."""
    if not tensor.is_cuda:
        return 1 << 30
    properties: Any = torch.cuda.get_device_properties(tensor.device)
    return int(properties.shared_memory_per_block_optin)


def _to_weight(to_added: Tensor, hidden: Tensor, *, back: bool) -> Tensor:
    """Gradient (4 H, H) of one direction's weights: products of successive frames, minus those across segments.

    Args:
        to_added: gradient of `added` (B, T, 2, 4 H).
        hidden: states (B, T, 2, H).
        back: whether the direction runs backward from the last frame.
    """
    arriving, states = to_added[:, :, int(back)], hidden[:, :, int(back)]
    rows, before = arriving.flatten(0, 1), states.flatten(0, 1)
    if back:
        whole, seams = (rows[:-1], before[1:]), (arriving[:-1, -1], states[1:, 0])
    else:
        whole, seams = (rows[1:], before[:-1]), (arriving[1:, 0], states[:-1, -1])
    return wide_product(whole[0].T, whole[1]) - wide_product(seams[0].T, seams[1])


@triton.jit
def _sigmoid(value):
    return 1.0 / (1.0 + tl.exp(-value))


@triton.jit
def _tanh(value):
    return 2.0 / (1.0 + tl.exp(-2.0 * value)) - 1.0


@triton.jit
def _gates(place, inside, H: tl.constexpr):
    """The four gates (ROWS, H) at `place`, in float32."""
    first = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(place + H, mask=inside, other=0.0).to(tl.float32)
    third = tl.load(place + 2 * H, mask=inside, other=0.0).to(tl.float32)
    fourth = tl.load(place + 3 * H, mask=inside, other=0.0).to(tl.float32)
    return first, second, third, fourth


@triton.jit
def _steps(
    added, weight, hidden, opened, cells, batch, frames,
    H: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    back = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (row < batch)[:, None]
    unit, deep = tl.arange(0, H), tl.arange(0, DEPTH)
    weight += back * 4 * H * H
    cell = tl.zeros((ROWS, H), tl.float32)
    for step in range(frames):
        time = tl.where(back == 1, frames - 1 - step, step)
        place = (row.to(tl.int64) * frames + time)[:, None] * 2 + back
        first, second, third, fourth = _gates(added + place * 4 * H + unit[None, :], inside, H)
        if step > 0:
            before = hidden + (place + tl.where(back == 1, 2, -2)) * H
            for depth in tl.range(0, H, DEPTH, num_stages=STAGES):
                known = tl.load(before + (depth + deep)[None, :], mask=inside, other=0.0, cache_modifier=".cg")
                block = weight + (depth + deep)[:, None] * H + unit[None, :]
                first = tl.dot(known, tl.load(block), first)
                second = tl.dot(known, tl.load(block + H * H), second)
                third = tl.dot(known, tl.load(block + 2 * H * H), third)
                fourth = tl.dot(known, tl.load(block + 3 * H * H), fourth)
        first, second, third, fourth = _sigmoid(first), _sigmoid(second), _tanh(third), _sigmoid(fourth)
        cell = second * cell + first * third
        kind = hidden.dtype.element_ty
        tl.store(hidden + place * H + unit[None, :], (fourth * _tanh(cell)).to(kind), mask=inside)
        tl.debug_barrier()
        tl.store(cells + place * H + unit[None, :], cell, mask=inside)
        gate = opened + place * 4 * H + unit[None, :]
        tl.store(gate, first.to(kind), mask=inside)
        tl.store(gate + H, second.to(kind), mask=inside)
        tl.store(gate + 2 * H, third.to(kind), mask=inside)
        tl.store(gate + 3 * H, fourth.to(kind), mask=inside)


@triton.jit
def _steps_back(
    gradient, weight, opened, cells, to_added, batch, frames,
    H: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    back = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (row < batch)[:, None]
    unit, deep = tl.arange(0, H), tl.arange(0, DEPTH)
    weight += back * 4 * H * H
    to_cell = tl.zeros((ROWS, H), tl.float32)
    for step in range(frames):
        time = tl.where(back == 1, step, frames - 1 - step)
        place = (row.to(tl.int64) * frames + time)[:, None] * 2 + back
        arriving = tl.load(gradient + place * H + unit[None, :], mask=inside, other=0.0).to(tl.float32)
        first, second, third, fourth = _gates(opened + place * 4 * H + unit[None, :], inside, H)
        now = tl.load(cells + place * H + unit[None, :], mask=inside, other=0.0)
        past = (place + tl.where(back == 1, 2, -2)) * H + unit[None, :]
        begun = row < tl.where(step < frames - 1, batch, 0)
        before = tl.load(cells + past, mask=begun[:, None], other=0.0)
        if step > 0:
            after = to_added + (place + tl.where(back == 1, -2, 2)) * 4 * H
            for depth in tl.range(0, 4 * H, DEPTH, num_stages=STAGES):
                known = tl.load(after + (depth + deep)[None, :], mask=inside, other=0.0, cache_modifier=".cg")
                arriving = tl.dot(known, tl.load(weight + (depth + deep)[:, None] * H + unit[None, :]), arriving)
        bent = _tanh(now)
        to_cell += arriving * fourth * (1.0 - bent * bent)
        kind = to_added.dtype.element_ty
        gate = to_added + place * 4 * H + unit[None, :]
        tl.store(gate, (to_cell * third * first * (1.0 - first)).to(kind), mask=inside)
        tl.store(gate + H, (to_cell * before * second * (1.0 - second)).to(kind), mask=inside)
        tl.store(gate + 2 * H, (to_cell * first * (1.0 - third * third)).to(kind), mask=inside)
        tl.store(gate + 3 * H, (arriving * bent * fourth * (1.0 - fourth)).to(kind), mask=inside)
        to_cell = to_cell * second
        tl.debug_barrier()
