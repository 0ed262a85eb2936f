"""An LSTM's recurrence as one Triton kernel a direction of time: all steps of a layer in one launch.

cuDNN launches several kernels a step, and at 300 steps and a few dozen rows waits for little else. Here a program
keeps 16 rows of one reading direction for the whole sequence and streams the recurrent weights from the second
level cache at every step. Rows are independent, so programs never wait for one another; and since they leave most
of the device idle, the kernel runs beside the speech encoder on a stream of its own.

Shapes: T steps, B rows, H hidden units; directions 0 (forwards in time) and 1 (backwards). Gates in torch's order:
input, forget, cell, output.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 16  # of a program: the least that a tensor core takes
COLUMNS = 32  # hidden units of an inner step
WARPS = 4
ROOMY = 200_000
"""Bytes of shared memory from which on a program fetches weights three inner steps ahead instead of two."""


def recurrence(gates: Tensor, weight: Tensor) -> Tensor:
    """Outputs (T, B, 2 * H) of both directions, from what the inputs add to the gates and the recurrent weights.

    Args:
        gates: (2, T, B, 4 * H) in half precision: input times input weights, plus both biases.
        weight: (2, 4 * H, H) in half precision.
    """
    return Recurrence.apply(gates.contiguous(), weight.contiguous())  # type: ignore[no-any-return]


class Recurrence(torch.autograd.Function):
    """As `recurrence`."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor) -> Tensor:
        """Outputs of all steps; keeps cell states and open gates."""
        _, steps, batch, four = gates.shape
        width = four // 4
        columns = min(COLUMNS, width)
        tiles = weight.view(2, 4, width // columns, columns, width).permute(0, 2, 1, 4, 3).contiguous()
        output = gates.new_empty(steps, batch, 2 * width)
        state = gates.new_empty(2, steps, batch, width, dtype=torch.float32)
        active = torch.empty_like(gates)
        _forward[(triton.cdiv(batch, ROWS), 2)](
            gates, tiles, output, state, active, batch,
            steps=steps, H=width, ROWS=ROWS, COLUMNS=columns, num_warps=WARPS, num_stages=_stages(gates),
        )  # fmt: skip
        ctx.save_for_backward(weight, output, state, active)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the gates' inputs, step by step, and of the weights as one product."""
        weight, output, state, active = ctx.saved_tensors
        _, steps, batch, width = state.shape
        columns = min(COLUMNS, width)
        tiles = weight.view(2, 4, width, width // columns, columns).permute(0, 3, 1, 2, 4).contiguous()
        to_gates = torch.empty_like(active)
        carry = state.new_empty(2, batch, width)
        _backward[(triton.cdiv(batch, ROWS), 2)](
            gradients[0].contiguous(), tiles, state, active, to_gates, carry, batch,
            steps=steps, H=width, ROWS=ROWS, COLUMNS=columns, num_warps=WARPS, num_stages=_stages(active),
        )  # fmt: skip
        before = (output[:-1, :, :width], output[1:, :, width:])
        after = (to_gates[0, 1:], to_gates[1, :-1])
        to_weight = [g.flatten(0, 1).T @ h.flatten(0, 1) for g, h in zip(after, before, strict=True)]
        return to_gates, torch.stack(to_weight)


def _stages(tensor: Tensor) -> int:
    """How many inner steps ahead a program fetches its weights."""
    if not tensor.is_cuda:
        return 2
    limit: int = torch.cuda.get_device_properties(tensor.device).shared_memory_per_block_optin
    return 3 if limit >= ROOMY else 2


@triton.jit
def _tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def _four(place, there, H: tl.constexpr):
    """What stands at `place` for the four gates, as it is kept."""
    first = tl.load(place, mask=there, other=0.0)
    second = tl.load(place + H, mask=there, other=0.0)
    third = tl.load(place + 2 * H, mask=there, other=0.0)
    return first, second, third, tl.load(place + 3 * H, mask=there, other=0.0)


@triton.jit
def _store_four(place, first, second, third, fourth, there, H: tl.constexpr):
    tl.store(place, first.to(place.dtype.element_ty), mask=there)
    tl.store(place + H, second.to(place.dtype.element_ty), mask=there)
    tl.store(place + 2 * H, third.to(place.dtype.element_ty), mask=there)
    tl.store(place + 3 * H, fourth.to(place.dtype.element_ty), mask=there)


@triton.jit
def _forward(
    gates, tiles, output, state, active, batch,
    steps: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    BLOCKS: tl.constexpr = H // COLUMNS
    direction = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    there = row < batch
    unit = tl.arange(0, H)
    inner = tl.arange(0, COLUMNS)
    tile = unit[:, None] * COLUMNS + inner[None, :]
    tiles += direction.to(tl.int64) * (4 * H * H)
    origin = tl.where(direction == 0, 0, steps - 1).to(tl.int64)
    onward = tl.where(direction == 0, 1, -1)
    start = (direction * steps + origin) * batch + row
    next_i, next_f, next_g, next_o = _four(gates + start * (4 * H) + inner[None, :], there, H)
    for step in range(steps):
        time = origin + onward * step
        known = there & (step > 0)
        before = output + ((time - onward) * batch + row) * (2 * H) + direction * H
        hidden = tl.load(before + unit[None, :], mask=known, other=0.0)
        now = (direction * steps + time) * batch + row
        for block in range(BLOCKS):
            column = block * COLUMNS + inner[None, :]
            i, f, g, o = next_i, next_f, next_g, next_o
            held = tl.load(state + (now - onward * batch) * H + column, mask=known, other=0.0)
            # what the next inner step reads is asked for before this one's products
            wraps = (block + 1) // BLOCKS
            ahead = (now + wraps * onward * batch) * (4 * H) + (block + 1 - wraps * BLOCKS) * COLUMNS + inner[None, :]
            next_i, next_f, next_g, next_o = _four(gates + ahead, row < tl.where(step + wraps < steps, batch, 0), H)
            weights = tiles + block * (4 * H * COLUMNS) + tile
            i = tl.sigmoid(i.to(tl.float32) + tl.dot(hidden, tl.load(weights)))
            f = tl.sigmoid(f.to(tl.float32) + tl.dot(hidden, tl.load(weights + H * COLUMNS)))
            g = _tanh(g.to(tl.float32) + tl.dot(hidden, tl.load(weights + 2 * H * COLUMNS)))
            o = tl.sigmoid(o.to(tl.float32) + tl.dot(hidden, tl.load(weights + 3 * H * COLUMNS)))
            cell = f * held + i * g
            tl.store(state + now * H + column, cell, mask=there)
            value = (o * _tanh(cell)).to(output.dtype.element_ty)
            tl.store(output + (time * batch + row) * (2 * H) + direction * H + column, value, mask=there)
            _store_four(active + now * (4 * H) + column, i, f, g, o, there, H)
        tl.debug_barrier()  # the outputs of this step are what every thread of the program reads next


@triton.jit
def _backward(
    gradient, tiles, state, active, to_gates, carry, batch,
    steps: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    BLOCKS: tl.constexpr = H // COLUMNS
    direction = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    there = row < batch
    unit = tl.arange(0, H)
    inner = tl.arange(0, COLUMNS)
    tile = unit[:, None] * COLUMNS + inner[None, :]
    tiles += direction.to(tl.int64) * (4 * H * H)
    origin = tl.where(direction == 0, steps - 1, 0).to(tl.int64)
    onward = tl.where(direction == 0, -1, 1)  # of this pass: against the direction of reading
    start = (direction * steps + origin) * batch + row
    next_i, next_f, next_g, next_o = _four(active + start * (4 * H) + inner[None, :], there, H)
    next_cell = tl.load(state + start * H + inner[None, :], mask=there, other=0.0)
    next_past = tl.load(state + (start + onward * batch) * H + inner[None, :], mask=there & (steps > 1), other=0.0)
    arriving = gradient + (origin * batch + row) * (2 * H) + direction * H + inner[None, :]
    next_arriving = tl.load(arriving, mask=there, other=0.0)
    for step in range(steps):
        time = origin + onward * step
        known = there & (step > 0)
        now = (direction * steps + time) * batch + row
        later = to_gates + (now - onward * batch) * (4 * H) + unit[None, :]
        for block in range(BLOCKS):
            column = block * COLUMNS + inner[None, :]
            i, f, g, o = next_i.to(tl.float32), next_f.to(tl.float32), next_g.to(tl.float32), next_o.to(tl.float32)
            cell, past, to_hidden = next_cell, next_past, next_arriving.to(tl.float32)
            carried = carry + (direction * batch + row) * H + column
            to_cell = tl.load(carried, mask=known, other=0.0)
            # what the next inner step reads is asked for before this one's products
            wraps = (block + 1) // BLOCKS
            ahead = now + wraps * onward * batch
            following = (block + 1 - wraps * BLOCKS) * COLUMNS + inner[None, :]
            left = row < tl.where(step + wraps < steps, batch, 0)
            next_i, next_f, next_g, next_o = _four(active + ahead * (4 * H) + following, left, H)
            next_cell = tl.load(state + ahead * H + following, mask=left, other=0.0)
            earlier = row < tl.where(step + wraps + 1 < steps, batch, 0)
            next_past = tl.load(state + (ahead + onward * batch) * H + following, mask=earlier, other=0.0)
            arriving = gradient + ((time + wraps * onward) * batch + row) * (2 * H) + direction * H + following
            next_arriving = tl.load(arriving, mask=left, other=0.0)
            weights = tiles + block * (4 * H * COLUMNS) + tile
            for gate in tl.static_range(4):
                flowing = tl.load(later + gate * H, mask=known, other=0.0)
                to_hidden += tl.dot(flowing, tl.load(weights + gate * H * COLUMNS))
            level = _tanh(cell)
            to_cell += to_hidden * o * (1.0 - level * level)
            tl.store(carried, to_cell * f, mask=there)
            to_i, to_f = to_cell * g * i * (1.0 - i), to_cell * past * f * (1.0 - f)
            to_g, to_o = to_cell * i * (1.0 - g * g), to_hidden * level * o * (1.0 - o)
            _store_four(to_gates + now * (4 * H) + column, to_i, to_f, to_g, to_o, there, H)
        tl.debug_barrier()  # the gates' gradients of this step are what every thread of the program reads next
