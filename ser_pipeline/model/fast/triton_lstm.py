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
STAGES = 3  # of the pipeline that fetches weights
WIDTHS = (32, 64, 128, 256, 512)
"""Hidden units that the kernels take."""


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
            steps=steps, H=width, ROWS=ROWS, COLUMNS=columns, num_warps=4, num_stages=STAGES,
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
            steps=steps, H=width, ROWS=ROWS, COLUMNS=columns, num_warps=4, num_stages=STAGES - 1,
        )  # fmt: skip
        before = (output[:-1, :, :width], output[1:, :, width:])
        after = (to_gates[0, 1:], to_gates[1, :-1])
        to_weight = [g.flatten(0, 1).T @ h.flatten(0, 1) for g, h in zip(after, before, strict=True)]
        return to_gates, torch.stack(to_weight)


@triton.jit
def _tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def _forward(
    gates, tiles, output, state, active, batch,
    steps: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    direction = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    there = row < batch
    unit = tl.arange(0, H)
    inner = tl.arange(0, COLUMNS)
    tile = unit[:, None] * COLUMNS + inner[None, :]
    tiles += direction.to(tl.int64) * (4 * H * H)
    for step in range(steps):
        time = tl.where(direction == 0, step, steps - 1 - step).to(tl.int64)
        before = tl.where(direction == 0, time - 1, time + 1)
        known = there & (step > 0)
        hidden = tl.load(
            output + (before * batch + row) * (2 * H) + direction * H + unit[None, :], mask=known, other=0.0
        )
        now = (direction * steps + time) * batch + row
        past = (direction * steps + before) * batch + row
        for block in range(H // COLUMNS):
            column = block * COLUMNS + inner[None, :]
            weights = tiles + block * (4 * H * COLUMNS) + tile
            place = gates + now * (4 * H) + column
            i = tl.load(place, mask=there, other=0.0).to(tl.float32)
            f = tl.load(place + H, mask=there, other=0.0).to(tl.float32)
            g = tl.load(place + 2 * H, mask=there, other=0.0).to(tl.float32)
            o = tl.load(place + 3 * H, mask=there, other=0.0).to(tl.float32)
            i = tl.sigmoid(i + tl.dot(hidden, tl.load(weights)))
            f = tl.sigmoid(f + tl.dot(hidden, tl.load(weights + H * COLUMNS)))
            g = _tanh(g + tl.dot(hidden, tl.load(weights + 2 * H * COLUMNS)))
            o = tl.sigmoid(o + tl.dot(hidden, tl.load(weights + 3 * H * COLUMNS)))
            cell = f * tl.load(state + past * H + column, mask=known, other=0.0) + i * g
            tl.store(state + now * H + column, cell, mask=there)
            value = (o * _tanh(cell)).to(output.dtype.element_ty)
            tl.store(output + (time * batch + row) * (2 * H) + direction * H + column, value, mask=there)
            place = active + now * (4 * H) + column
            tl.store(place, i.to(active.dtype.element_ty), mask=there)
            tl.store(place + H, f.to(active.dtype.element_ty), mask=there)
            tl.store(place + 2 * H, g.to(active.dtype.element_ty), mask=there)
            tl.store(place + 3 * H, o.to(active.dtype.element_ty), mask=there)
        tl.debug_barrier()  # the outputs of this step are what every thread of the program reads next


@triton.jit
def _backward(
    gradient, tiles, state, active, to_gates, carry, batch,
    steps: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    direction = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    there = row < batch
    unit = tl.arange(0, H)
    inner = tl.arange(0, COLUMNS)
    tile = unit[:, None] * COLUMNS + inner[None, :]
    tiles += direction.to(tl.int64) * (4 * H * H)
    for step in range(steps):
        time = tl.where(direction == 0, steps - 1 - step, step).to(tl.int64)
        before = tl.where(direction == 0, time - 1, time + 1)
        after = tl.where(direction == 0, time + 1, time - 1)
        known = there & (step > 0)
        now = (direction * steps + time) * batch + row
        past = (direction * steps + before) * batch + row
        later = to_gates + ((direction * steps + after) * batch + row) * (4 * H) + unit[None, :]
        for block in range(H // COLUMNS):
            column = block * COLUMNS + inner[None, :]
            weights = tiles + block * (4 * H * COLUMNS) + tile
            arriving = tl.load(
                gradient + (time * batch + row) * (2 * H) + direction * H + column, mask=there, other=0.0
            )
            to_hidden = arriving.to(tl.float32)
            for gate in tl.static_range(4):
                flowing = tl.load(later + gate * H, mask=known, other=0.0)
                to_hidden += tl.dot(flowing, tl.load(weights + gate * H * COLUMNS))
            place = active + now * (4 * H) + column
            i = tl.load(place, mask=there, other=0.0).to(tl.float32)
            f = tl.load(place + H, mask=there, other=0.0).to(tl.float32)
            g = tl.load(place + 2 * H, mask=there, other=0.0).to(tl.float32)
            o = tl.load(place + 3 * H, mask=there, other=0.0).to(tl.float32)
            level = _tanh(tl.load(state + now * H + column, mask=there, other=0.0))
            cell = tl.load(state + past * H + column, mask=there & (step < steps - 1), other=0.0)
            held = carry + (direction * batch + row) * H + column
            to_cell = tl.load(held, mask=known, other=0.0) + to_hidden * o * (1.0 - level * level)
            tl.store(held, to_cell * f, mask=there)
            place = to_gates + now * (4 * H) + column
            tl.store(place, (to_cell * g * i * (1.0 - i)).to(to_gates.dtype.element_ty), mask=there)
            tl.store(place + H, (to_cell * cell * f * (1.0 - f)).to(to_gates.dtype.element_ty), mask=there)
            tl.store(place + 2 * H, (to_cell * i * (1.0 - g * g)).to(to_gates.dtype.element_ty), mask=there)
            tl.store(place + 3 * H, (to_hidden * level * o * (1.0 - o)).to(to_gates.dtype.element_ty), mask=there)
        tl.debug_barrier()  # the gates' gradients of this step are what every thread of the program reads next
