"""The first layer of a speech encoder as one Triton kernel per direction: windows, weights, shift, GELU.

The layer's output is the largest array of the model (9,599 x 512 per segment), while its arithmetic is negligible. The
forward pass therefore writes it once, and the backward pass reads its gradient once and recomputes the rest from the
samples.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, misc"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ser_pipeline.model.fast import triton_gelu

ROWS, CHANNELS = 64, 64  # of a block
TAPS = 16  # taps of the kernel and its shift, padded to the size that a tensor core needs
PARTS = 8  # parts of a segment's frames, whose gradients are summed separately


def first_layer(
    waveform: Tensor, weight: Tensor, shift: Tensor, sizes: tuple[int, int, int], dtype: torch.dtype
) -> Tensor:
    """GELU of the windows times weights plus shift: rows (B * padded, C) of `dtype`.

    Args:
        waveform: float32 (B, N) with a complete window for each of the padded rows.
        weight: float32 (B, C, K), K at most 15.
        shift: float32 (B, C).
        sizes: frames, padded frames, stride; rows beyond the frames are zero.
        dtype: dtype of the result.
    """
    taps = torch.cat([weight, shift[:, :, None]], 2)
    return First.apply(waveform.contiguous(), taps.contiguous(), sizes, dtype)  # type: ignore[no-any-return]


class First(torch.autograd.Function):
    """`first_layer` with its gradient, from taps (B, C, K + 1) that end with the shift."""

    @staticmethod
    def forward(ctx: Any, waveform: Tensor, taps: Tensor, sizes: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
        """Rows of all segments end to end.

        Args:
            ctx: stores what `backward` needs.
            waveform: float32 (B, N).
            taps: float32 (B, C, K + 1).
            sizes: frames, padded frames, stride.
            dtype: dtype of the result.
        """
        batch, channels, count = taps.shape
        frames, padded, stride = sizes
        output = waveform.new_empty(batch * padded, channels, dtype=dtype)
        grid = (triton.cdiv(padded, ROWS), triton.cdiv(channels, CHANNELS), batch)
        _forward[grid](
            waveform, taps, output, waveform.shape[1], frames, padded, channels,
            stride=stride, K=count - 1, TAPS=TAPS, ROWS=ROWS, CHANNELS=CHANNELS, num_warps=4,
        )  # fmt: skip
        ctx.save_for_backward(waveform, taps)
        ctx.sizes = sizes
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None, None]:
        """Gradient of the taps; the samples need none."""
        waveform, taps = ctx.saved_tensors
        batch, channels, count = taps.shape
        frames, padded, stride = ctx.sizes
        partial = taps.new_empty(batch, PARTS, channels, TAPS)
        blocks = triton.cdiv(triton.cdiv(frames, ROWS), PARTS)
        grid = (PARTS, triton.cdiv(channels, CHANNELS), batch)
        _backward[grid](
            waveform, taps, gradients[0].contiguous(), partial, waveform.shape[1], frames, padded, channels, blocks,
            stride=stride, K=count - 1, TAPS=TAPS, ROWS=ROWS, CHANNELS=CHANNELS, num_warps=4,
        )  # fmt: skip
        return None, partial.sum(1)[:, :, :count], None, None


@triton.jit
def _windows(waveform, time, tap, frames, stride, K: tl.constexpr):
    """Windows (ROWS, TAPS) of one segment: K samples, a one for the shift, and zeros."""
    samples = tl.load(
        waveform + time[:, None] * stride + tap[None, :], mask=(tap < K)[None, :] & (time < frames)[:, None], other=0.0
    )
    return tl.where(tap[None, :] == K, 1.0, samples)


@triton.jit
def _taps(taps, channel, tap, channels, K: tl.constexpr):
    """Taps (TAPS, CHANNELS) of one segment."""
    return tl.load(
        taps + channel[None, :] * (K + 1) + tap[:, None],
        mask=(tap <= K)[:, None] & (channel < channels)[None, :],
        other=0.0,
    )


@triton.jit
def _forward(
    waveform, taps, output, samples, frames, padded, channels,
    stride: tl.constexpr, K: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    segment = tl.program_id(2).to(tl.int64)
    time = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    tap = tl.arange(0, TAPS)
    window = _windows(waveform + segment * samples, time, tap, frames, stride, K)
    weight = _taps(taps + segment * channels * (K + 1), channel, tap, channels, K)
    value = tl.dot(window, weight, input_precision="tf32")
    value = tl.where((time < frames)[:, None], triton_gelu.gelu(value), 0.0)
    place = output + (segment * padded + time[:, None]) * channels + channel[None, :]
    tl.store(place, value.to(output.dtype.element_ty), mask=(time < padded)[:, None] & (channel < channels)[None, :])


@triton.jit
def _backward(
    waveform, taps, gradient, partial, samples, frames, padded, channels, blocks,
    stride: tl.constexpr, K: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(0)
    segment = tl.program_id(2).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    tap = tl.arange(0, TAPS)
    weight = _taps(taps + segment * channels * (K + 1), channel, tap, channels, K)
    total = tl.zeros((CHANNELS, TAPS), tl.float32)
    for block in range(blocks):
        time = (part * blocks + block) * ROWS + tl.arange(0, ROWS)
        window = _windows(waveform + segment * samples, time, tap, frames, stride, K)
        value = tl.dot(window, weight, input_precision="tf32")
        place = gradient + (segment * padded + time[:, None]) * channels + channel[None, :]
        inside = (time < frames)[:, None] & (channel < channels)[None, :]
        arriving = tl.load(place, mask=inside, other=0.0).to(tl.float32)
        arriving = (arriving * triton_gelu.gelu_slope(value)).to(gradient.dtype.element_ty)
        total += tl.dot(tl.trans(arriving), window.to(gradient.dtype.element_ty))
    place = partial + ((segment * tl.num_programs(0) + part) * channels + channel[:, None]) * TAPS + tap[None, :]
    tl.store(place, total, mask=(channel < channels)[:, None])
