"""The convolutions of speech encoders as matrix products and Fourier transforms.

wav2vec 2.0's feature encoder processes long rows of 512 channels. With the channels last and all segments end to end, a
strided convolution is two matrix products on views, without copies or transpositions. To make this possible, every
segment gets a few extra rows at its end that are computed but never used; their gradient is zero. The group
normalisation of the first layer follows from the covariance of the samples under the kernel, so that this layer is also
one product.

Shapes: B batch, N samples, T frames, C channels, K kernel, S stride, M rows of all segments end to end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.model.fast import kernels
from ser_pipeline.model.speech.frames import within


class FeatureEncoder(nn.Module):
    """The feature encoder of a transformers speech model, sharing its parameters: float32 (B, N) to (B, C, T)."""

    heeds_counts = True
    """`forward` accepts the number of real frames of the first layer."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        layers: Any = original.conv_layers
        self.conv_layers = layers
        self.gelu = is_gelu(layers[0].activation)

    @staticmethod
    def fits(original: nn.Module) -> bool:
        """Whether this class supports the layers of `original`."""
        layers: Any = original.conv_layers
        grouped = [isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm) for layer in layers]
        fit = all(_size(layer)[0] <= 2 * _size(layer)[1] for layer in layers[1:])
        return fit and not any(grouped[1:]) and not (grouped[0] and layers[0].conv.bias is not None)

    def forward(self, waveform: Tensor, count: Tensor | None = None) -> Tensor:
        """Features (B, C, T), a view with the channels last in memory.

        `count` (B,) is the number of real frames of the first layer, over which its group norm computes statistics;
        None for all.
        """
        frames, padded = lengths(waveform.shape[1], [_size(layer) for layer in self.conv_layers])
        dtype = kernels.precision(waveform)
        with torch.autocast(waveform.device.type, enabled=False):
            rows = self._first(waveform, frames[0], padded[0], dtype, count)
            for layer in list(self.conv_layers)[1:]:
                rows = self._next(rows, layer)
        return rows.view(len(waveform), padded[-1], -1)[:, : frames[-1]].transpose(1, 2)

    def _first(self, waveform: Tensor, frames: int, padded: int, dtype: torch.dtype, count: Tensor | None) -> Tensor:
        """The first layer: rows (B * padded, C)."""
        layer = self.conv_layers[0]
        kernel, stride = _size(layer)
        weight, norm = layer.conv.weight[:, 0], getattr(layer, "layer_norm", None)
        waveform = F.pad(waveform, (0, stride * (padded - 1) + kernel - waveform.shape[1]))
        windows = waveform.unfold(1, kernel, stride)
        if isinstance(norm, nn.GroupNorm):
            scaled, shift = normalised(windows[:, :frames], weight, norm, count)
            if self.gelu and kernels.usable(waveform, dtype):
                return kernels.first_layer(waveform, scaled, shift, (frames, padded, stride), dtype)
            rows = torch.baddbmm(shift[:, None].to(dtype), windows.to(dtype), scaled.mT.to(dtype))
        else:
            rows = F.linear(windows.to(dtype), weight.to(dtype), _cast(layer.conv.bias, dtype))
            rows = _normalise(rows, norm)
        return layer.activation(rows).flatten(0, 1)  # type: ignore[no-any-return]

    def _next(self, rows: Tensor, layer: Any) -> Tensor:
        weight = layer.conv.weight.to(rows.dtype).transpose(1, 2)
        rows = StridedConvolution.apply(rows, weight, _cast(layer.conv.bias, rows.dtype), _size(layer)[1])
        return layer.activation(_normalise(rows, getattr(layer, "layer_norm", None)))  # type: ignore[no-any-return]


def lengths(samples: int, sizes: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Frames after each layer of (kernel, stride), and the rows per segment that make all strides divide evenly.

    >>> lengths(48_000, [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)])[0][-1]
    149
    >>> lengths(48_000, [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)])[1][:2]
    [9600, 4800]
    """
    frames = []
    for kernel, stride in sizes:
        samples = (samples - kernel) // stride + 1
        frames.append(samples)
    products = [math.prod(stride for _, stride in sizes[layer + 1 :]) for layer in range(len(sizes))]
    last = max(-(-count // product) for count, product in zip(frames, products, strict=True))
    return frames, [last * product for product in products]


def normalised(
    windows: Tensor, weight: Tensor, norm: nn.GroupNorm, count: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Merge a one-channel convolution and the group normalisation after it: weights (B, C, K) and shifts (B, C).

    Mean and variance of a channel over time follow from the mean and the covariance of the windows (B, T, K).

    Args:
        windows: windows of the samples (B, T, K).
        weight: weight of the convolution (C, K).
        norm: group norm with one channel per group.
        count: (B,) number of leading windows that the statistics cover; None for all.
    """
    exact = torch.float32 if windows.device.type == "mps" else torch.float64
    with torch.no_grad():
        taken, share = windows.to(exact), torch.full((), windows.shape[1], dtype=exact, device=windows.device)
        if count is not None:
            taken = taken.masked_fill(~within(taken.shape[1], count)[..., None], 0.0)
            share = count.clamp(min=1).to(exact)[:, None, None]
        mean = (taken.sum(1, keepdim=True) / share)[:, 0]
        covariance = taken.mT @ taken / share - mean[:, :, None] * mean[:, None]
    wide = weight.to(exact)
    level = mean @ wide.T
    variance = ((wide @ covariance) * wide).sum(2)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return (scale[:, :, None] * wide).float(), (norm.bias - scale * level).float()


class StridedConvolution(torch.autograd.Function):
    """A convolution over rows (M * S, C) of all segments end to end: rows (M, C') from weights (C', K, C).

    Row m is the sum over k of row m * S + k times the k-th weight. One product covers the taps within a stride, another
    product, on the following rows, covers the taps beyond it. The last row lacks its followers and must not be used.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        """The convolution's rows (M, C').

        Args:
            ctx: stores what `backward` needs.
            rows: (M * stride, C).
            weight: (C', K, C).
            bias: (C',) or None.
            stride: rows from one window to the next.
        """
        channels = rows.shape[1]
        blocks = rows.view(-1, stride * channels)
        near, far = _split(weight, stride)
        output = blocks @ near.T if bias is None else torch.addmm(bias, blocks, near.T)
        if far.shape[1]:
            output[:-1].addmm_(blocks[1:, : far.shape[1]], far.T)
        ctx.save_for_backward(rows, near, far)
        ctx.stride, ctx.has_bias = stride, bias is not None
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        """Gradients of rows, weights and bias."""
        rows, near, far = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        blocks = rows.view(-1, ctx.stride * rows.shape[1])
        beyond = far.shape[1]
        to_rows = None
        if ctx.needs_input_grad[0]:
            to_rows = gradient @ near
            if beyond:
                to_rows[1:, :beyond].addmm_(gradient[:-1], far)
            to_rows = to_rows.view_as(rows)
        to_weight = gradient.T @ blocks
        if beyond:
            to_weight = torch.cat([to_weight, gradient[:-1].T @ blocks[1:, :beyond]], 1)
        to_bias = gradient.sum(0) if ctx.has_bias else None
        return to_rows, to_weight.view(len(near), -1, rows.shape[1]), to_bias, None


def _split(weight: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Split weights (C', K, C) into the taps within a stride and those beyond it, each (C', taps * C)."""
    if weight.shape[1] < stride:
        weight = F.pad(weight, (0, 0, 0, stride - weight.shape[1]))
    return weight[:, :stride].flatten(1), weight[:, stride:].flatten(1)


class PositionalConvolution(nn.Module):
    """The relative positions of a transformers speech model by Fourier transforms, sharing its parameters."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        if hasattr(original, "layers"):
            self.layers: Any = original.layers
        else:
            self.conv: Any = original.conv
            self.activation: Any = original.activation

    @staticmethod
    def fits(original: nn.Module) -> bool:
        """Whether this class supports the positions of `original`."""
        return getattr(original, "batch_norm", None) is None

    def forward(self, hidden: Tensor) -> Tensor:
        """Positions (B, T, D) of frames (B, T, D)."""
        if hasattr(self, "conv"):
            return self.activation(_same(hidden, self.conv))  # type: ignore[no-any-return]
        for layer in self.layers:  # data2vec-audio: several small convolutions, each normalised
            hidden = layer.activation(layer.layer_norm(_same(hidden, layer.conv)))
        return hidden


def _same(hidden: Tensor, convolution: nn.Conv1d) -> Tensor:
    output = fourier_convolution(hidden, _weight(convolution, hidden), convolution.groups)
    return output if convolution.bias is None else output + convolution.bias


def _weight(convolution: nn.Conv1d, hidden: Tensor) -> Tensor:
    """The convolution's weight; on CUDA, where torch's weight norm kernels are slow, computed by plain operations."""
    parts: Any = getattr(convolution, "parametrizations", None)
    if not hidden.is_cuda or parts is None or [type(part).__name__ for part in parts.weight] != ["_WeightNorm"]:
        return convolution.weight
    return weight_normed(parts.weight.original0, parts.weight.original1)


def weight_normed(length: Tensor, direction: Tensor) -> Tensor:
    """`direction` rescaled to `length`, over the axes along which `length` has one element."""
    axes = [axis for axis in range(direction.ndim) if length.shape[axis] == 1]
    size: Tensor = torch.linalg.vector_norm(direction, dim=axes, keepdim=True)
    return direction * (length / size)


def fourier_convolution(hidden: Tensor, weight: Tensor, groups: int) -> Tensor:
    """`conv1d` with K // 2 zeros before and after, restricted to its first T frames.

    The result is float32 (B, T, C).

    Args:
        hidden: frames (B, T, C).
        weight: (C, C / groups, K), K at most 2 T.
        groups: number of groups of channels that are convolved separately.
    """
    batch, frames, channels = hidden.shape
    kernel = weight.shape[2]
    left = kernel // 2
    size = smooth(frames + max(left, kernel - 1 - left))
    with torch.autocast(hidden.device.type, enabled=False):
        signal = torch.fft.rfft(F.pad(hidden.float(), (0, 0, left, size - frames - left)), dim=1)
        filters = torch.fft.rfft(weight.float(), size, dim=2).view(groups, channels // groups, -1, size // 2 + 1)
        signal = signal.view(batch, -1, groups, channels // groups).permute(1, 2, 0, 3)  # (frequencies, groups, B, in)
        product = signal @ filters.permute(3, 0, 2, 1).conj()  # (frequencies, groups, B, out)
        product = product.permute(2, 0, 1, 3).flatten(2)
        output: Tensor = torch.fft.irfft(product, size, dim=1)
        return output[:, :frames]


def smooth(least: int) -> int:
    """The smallest even number >= `least` without prime factors above 5: a fast size for a Fourier transform.

    >>> smooth(213), smooth(7)
    (216, 8)
    """
    size = least + least % 2
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 2


def _size(layer: Any) -> tuple[int, int]:
    return layer.conv.kernel_size[0], layer.conv.stride[0]


def _normalise(rows: Tensor, norm: nn.Module | None) -> Tensor:
    """Apply layer normalisation, if any, in float32, as autocast does."""
    return rows if norm is None else norm(rows.float()).to(rows.dtype)


def is_gelu(activation: Callable[[Tensor], Tensor]) -> bool:
    """Whether a function is the exact GELU."""
    exact = torch.linspace(-3, 3, 7)
    return torch.equal(activation(exact), F.gelu(exact))


def _cast(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if tensor is None else tensor.to(dtype)
