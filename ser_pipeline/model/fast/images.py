"""AlexNet's first convolution on grey images as one product.

Its three channels are one grey image, scaled and shifted, so a third of the products is enough. The contribution of the
shifts is the same for all images and varies only at the border. Shapes: B batch, F bins, T frames.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.model.fast import kernels

MIDDLE = 124
"""Grey level subtracted from all, since half precision represents small integers exactly: ImageNet's mean red."""

ALIGNED = 4
"""Windows are padded to a multiple of this width, which half-precision products read faster."""


def convolved(alexnet: Any, level: Tensor) -> Tensor:
    """The output of AlexNet's convolutions for integer grey levels (B, F, T), equal to the plain module's.

    Args:
        alexnet: a `model.paper.AlexNet`.
        level: integer grey levels (B, F, T).
    """
    first, *rest = alexnet.features
    cells = grey_convolution(alexnet.grey(level), first, alexnet.mean, alexnet.deviation)
    for layer in rest:
        cells = layer(cells)
    return cells


def grey_convolution(grey: Tensor, layer: nn.Conv2d, mean: Tensor, deviation: Tensor) -> Tensor:
    """The convolution of the image whose channels are `(grey / 255 - mean) / deviation`.

    Args:
        grey: integer levels from 0 to 255 (B, height, width).
        layer: a convolution with a bias and with square kernel and stride.
        mean: mean of each channel (3, 1, 1), for levels from 0 to 1.
        deviation: deviation of each channel (3, 1, 1), for levels from 0 to 1.

    Returns:
        (B, channels, rows, columns) with the channels last in memory, in the precision of autocast.
    """
    dtype, stride, pad = kernels.precision(grey), layer.stride[0], int(layer.padding[0])
    rows, columns = ((size + 2 * pad - layer.kernel_size[0]) // stride + 1 for size in grey.shape[1:])
    wide = -(-layer.kernel_size[0] // ALIGNED) * ALIGNED
    windows = _windows((grey - MIDDLE).to(dtype), (rows, columns), wide, stride, pad)
    with torch.autocast(grey.device.type, enabled=False):
        scaled = (layer.weight / (255 * deviation)).sum(1)  # (channels, taps, taps)
        shifts = (layer.weight * ((MIDDLE / 255 - mean) / deviation)).sum(1, keepdim=True)
        inside = grey.new_ones(1, 1, *grey.shape[1:], dtype=torch.float32)
        shifted = F.conv2d(inside, shifts, layer.bias, stride, pad).to(dtype)
        more = wide - layer.kernel_size[0]
        cells = windows @ F.pad(scaled, (0, more, 0, more)).flatten(1).to(dtype).T
        return cells.view(len(grey), rows, columns, -1).permute(0, 3, 1, 2) + shifted


def _windows(level: Tensor, counts: tuple[int, int], wide: int, stride: int, pad: int) -> Tensor:
    """The windows of `wide` x `wide` pixels of images (B, height, width): (B, windows, wide * wide).

    Args:
        level: (B, height, width).
        counts: number of windows down and across.
        wide: rows and columns of a window.
        stride: pixels from one window to the next.
        pad: zeros before the first row and column.
    """
    beyond = [stride * (count - 1) + wide - size - pad for count, size in zip(counts, level.shape[1:], strict=True)]
    padded = F.pad(level, (pad, beyond[1], pad, beyond[0]))
    windows = padded.unfold(1, wide, stride).unfold(2, wide, stride)[:, : counts[0], : counts[1]]
    return windows.reshape(len(level), -1, wide * wide)
