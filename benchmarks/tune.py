"""Milliseconds of the kernels for different values of their constants, on a CUDA device.

python -m benchmarks.tune [--batch 64 256]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.paper_step import arithmetic, measure
from benchmarks.parts import graphed
from ser_pipeline.model.fast import triton_first
from ser_pipeline.model.fast.convolutions import StridedConvolution

CUDA = torch.device("cuda")
Make = Callable[[], tuple[Tensor, tuple[Tensor, ...]]]


def report(title: str, make: Make, seconds: float = 0.5) -> None:
    """Print milliseconds of the forward pass, and of forward and backward, for what `make` computes."""
    try:
        found = []
        for backward in (False, True):

            def run(backward: bool = backward) -> None:
                output, leaves = make()
                if backward:
                    torch.autograd.grad(output, leaves, torch.ones_like(output))

            found.append(1e3 * measure(graphed(run), CUDA, seconds))
        print(f"{title:60} {found[0]:8.3f} {found[1]:8.3f}", flush=True)
    except Exception as error:  # the values may not fit the device
        print(f"{title:60} failed: {str(error).splitlines()[0][:100]}", flush=True)


def first(size: int) -> None:
    """The first layer of wav2vec 2.0: rows and channels of a block, parts."""
    wave = torch.randn(size, 48_005, device=CUDA)
    weight = torch.randn(size, 512, 10, device=CUDA, requires_grad=True)
    shift = torch.randn(size, 512, device=CUDA, requires_grad=True)
    sizes = (9_599, 9_600, 5)
    for rows, channels, parts in ((64, 128, 8), (128, 128, 8), (64, 64, 8), (64, 128, 16), (64, 128, 4), (32, 128, 8)):
        triton_first.ROWS, triton_first.CHANNELS, triton_first.PARTS = rows, channels, parts
        title = f"first layer: {rows} rows, {channels} channels, {parts} parts"
        report(title, lambda: (triton_first.first_layer(wave, weight, shift, sizes, torch.bfloat16), (weight, shift)))


def convolution(size: int) -> None:
    """The second layer of wav2vec 2.0, the largest product: this package's, cuDNN's; GELU alone."""
    rows = torch.randn(size * 9_600, 512, device=CUDA, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(512, 3, 512, device=CUDA, dtype=torch.bfloat16, requires_grad=True)
    report("second layer: two products", lambda: (StridedConvolution.apply(rows, weight, None, 2), (rows, weight)))
    image = torch.randn(size, 512, 1, 9_599, device=CUDA, dtype=torch.bfloat16)
    image = image.to(memory_format=torch.channels_last).requires_grad_()
    kernel = torch.randn(512, 512, 1, 3, device=CUDA, dtype=torch.bfloat16)
    kernel = kernel.to(memory_format=torch.channels_last).requires_grad_()
    report("second layer: conv2d, channels last", lambda: (F.conv2d(image, kernel, stride=(1, 2)), (image, kernel)))
    half = torch.randn(size * 4_800, 512, device=CUDA, dtype=torch.bfloat16, requires_grad=True)
    report("its GELU", lambda: (F.gelu(half), (half,)))


def attention(size: int) -> None:
    """Attention of one layer of wav2vec 2.0 base by torch's backends, with dropout."""
    shape = (3, size, 12, 149, 64)
    parts: Any = torch.randn(shape, device=CUDA, dtype=torch.bfloat16, requires_grad=True)
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):

        def run(backend: SDPBackend = backend) -> tuple[Tensor, tuple[Tensor, ...]]:
            with sdpa_kernel(backend):
                query, key, value = parts.unbind(0)
                return F.scaled_dot_product_attention(query, key, value, dropout_p=0.1), (parts,)

        report(f"attention: {backend.name}", run)


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256], help="segments per step")
    for size in parser.parse_args().batch:
        print(f"\nbatch {size}\n{'kernel':60} {'forward':>8} {'both':>8}  ms")
        with arithmetic(tf32=True):
            for table in (first, convolution, attention):
                table(size)


if __name__ == "__main__":
    main()
