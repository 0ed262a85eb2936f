"""Run by a test with TRITON_INTERPRET=1: the Triton kernels on the CPU against torch's modules."""

import torch
from torch import nn

from ser_pipeline.model.fast import triton_first
from ser_pipeline.model.fast.convolutions import normalised


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours - theirs).abs().max() < 1e-5 * theirs.abs().max() + 1e-7)


def check_first_layer() -> None:
    batch, channels, kernel, stride, frames, padded = 2, 130, 10, 5, 70, 80
    samples = torch.randn(batch, stride * (padded - 1) + kernel)
    convolution = nn.Conv1d(1, channels, kernel, stride, bias=False)
    norm = nn.GroupNorm(channels, channels)
    nn.init.normal_(norm.weight)
    weight = torch.randn(batch, padded, channels)
    parameters = [convolution.weight, norm.weight, norm.bias]
    theirs = nn.functional.gelu(norm(convolution(samples[:, None, : stride * (frames - 1) + kernel]))).mT
    expected = torch.autograd.grad((theirs * weight[:, :frames]).sum(), parameters)
    scaled, shift = normalised(samples.unfold(1, kernel, stride)[:, :frames], convolution.weight[:, 0], norm)
    ours = triton_first.first_layer(samples, scaled, shift, (frames, padded, stride), torch.float32)
    ours = ours.view(batch, padded, channels)
    assert close(ours[:, :frames], theirs) and not ours[:, frames:].any()
    gradients = torch.autograd.grad((ours * weight).sum(), parameters)
    assert all(close(a, b) for a, b in zip(gradients, expected, strict=True))


if __name__ == "__main__":
    torch.manual_seed(0)
    check_first_layer()
