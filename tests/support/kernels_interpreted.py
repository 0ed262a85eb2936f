"""The Triton kernels on the CPU against torch's modules; a test runs this with TRITON_INTERPRET=1."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_pipeline.model.fast import triton_first
from ser_pipeline.model.fast.convolutions import normalised
from ser_pipeline.model.fast.triton_layer import Layer, Shares
from ser_pipeline.model.fast.triton_lstm import Recurrence

HALF = 3e-3  # of half precision, over a few operations


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() < 1e-5 * theirs.abs().max() + 1e-7)


def off(ours: Tensor | None, theirs: Tensor | None) -> float:
    """Return the distance relative to the size of `theirs`."""
    assert ours is not None and theirs is not None
    return float((ours.detach().float() - theirs.detach()).norm() / theirs.detach().norm())


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


def check_lstm(batch: int) -> None:
    frames, units = 4, 16
    lstm = nn.LSTM(8, units, 1, batch_first=True, bidirectional=True)
    rows, weight = torch.randn(batch, frames, 8), torch.randn(batch, frames, 2 * units)
    theirs = lstm(rows)[0]
    (theirs * weight).sum().backward()
    expected = {name: part.grad for name, part in lstm.named_parameters()}
    lstm.zero_grad(set_to_none=True)
    names = ("l0", "l0_reverse")
    to_gates = torch.cat([getattr(lstm, f"weight_ih_{name}") for name in names])
    bias = torch.cat([getattr(lstm, f"bias_ih_{name}") + getattr(lstm, f"bias_hh_{name}") for name in names])
    recurrent = torch.stack([getattr(lstm, f"weight_hh_{name}") for name in names])
    added = F.linear(rows, to_gates, bias).half().unflatten(2, (2, -1))
    ours = Recurrence.apply(added, recurrent.half()).flatten(2)
    (ours * weight).sum().backward()
    assert off(ours, theirs) < HALF
    assert all(off(part.grad, expected[name]) < HALF for name, part in lstm.named_parameters())


def kept(words: Tensor, shape: tuple[int, ...], share: float) -> Tensor:
    """Return dropout's factors for the elements of an array: the hash of the kernels, in NumPy."""
    first, second = (np.uint32(int(word) & 0xFFFFFFFF) for word in words)
    with np.errstate(over="ignore"):
        value = np.arange(np.prod(shape), dtype=np.uint32) * np.uint32(0x9E3779B9) + first
        value = (value ^ (value >> np.uint32(16))) * np.uint32(0x21F0AAAD)
        value = (value ^ (value >> np.uint32(15)) ^ second) * np.uint32(0xD35A2D97)
    return torch.from_numpy(value >= np.uint32(int(share * 2**32))).reshape(shape) / (1 - share)


def plain_layer(hidden: Tensor, bias: Tensor, words: Tensor, share: float, heads: int, own: list[Tensor]) -> Tensor:
    batch, frames, width = hidden.shape
    queries, keys, values = (
        F.linear(hidden, own[part], own[part + 1]).view(batch, frames, heads, -1).transpose(1, 2) for part in (0, 2, 4)
    )
    weights = (queries @ keys.mT / (width / heads) ** 0.5 + bias[:, None, None]).softmax(-1)
    weights = weights * kept(words[0], (batch, heads, frames, frames), share)
    attended = F.linear((weights @ values).transpose(1, 2).reshape(hidden.shape), own[6], own[7])
    middle = F.layer_norm(hidden + attended * kept(words[1], hidden.shape, share), (width,), own[12], own[13])
    inner = F.gelu(F.linear(middle, own[8], own[9]))
    last = F.linear(inner * kept(words[2], inner.shape, share), own[10], own[11])
    return F.layer_norm(middle + last * kept(words[3], last.shape, share), (width,), own[14], own[15])


def check_transformer_layer(share: float) -> None:
    batch, frames, heads, width = 2, 37, 2, 32
    shapes = [(width, width), (width,)] * 4 + [(64, width), (64,), (width, 64), (width,)] + [(width,)] * 4
    own = [torch.randn(shape) * (shape[-1] ** -0.5 if len(shape) == 2 else 0.1) for shape in shapes]
    own = [(part + (number in (12, 14))).half().float().requires_grad_() for number, part in enumerate(own)]
    words = torch.randint(-(2**31), 2**31 - 1, (4, 2), dtype=torch.int32)
    bias = torch.zeros(batch, frames)
    bias[0, frames // 2 :] = torch.finfo(torch.float16).min  # padding, to which no query attends
    hidden, weight = torch.randn(batch, frames, width).half(), torch.randn(batch, frames, width)
    results = []
    for layer in ("ours", "theirs"):
        given = (hidden if layer == "ours" else hidden.float()).clone().requires_grad_()
        if layer == "ours":
            output = Layer.apply(given, bias, words, Shares(*[share] * 4, heads, (1e-5, 1e-5)), *own)
        else:
            output = plain_layer(given, bias, words, share, heads, own)
        gradients = torch.autograd.grad((output * weight).sum(), [given, *own])
        results.append([output, *gradients])
    for number, (ours, theirs) in enumerate(zip(*results, strict=True)):
        if number != 5:  # the bias of keys has no effect: it cancels in the softmax
            assert off(ours, theirs) < HALF, number


def check_masks() -> None:
    """Check the dropped share, and that elements are independent at lags of neighbours, frames and rows."""
    share, count = 0.1, 1 << 20
    for _ in range(3):
        words = torch.randint(-(2**31), 2**31 - 1, (2,), dtype=torch.int32)
        mask = (kept(words, (count,), share) > 0).double()
        centred = mask - mask.mean()
        assert abs(float(mask.mean()) - (1 - share)) < 5 * (share / count) ** 0.5
        for lag in (1, 2, 3, 4, 8, 149, 768, 3_072):
            assert abs(float((centred[lag:] * centred[:-lag]).mean() / mask.var())) < 5 * count**-0.5


if __name__ == "__main__":
    torch.manual_seed(0)
    check_first_layer()
    for segments in (3, 16, 19):
        check_lstm(segments)
    for dropped in (0.0, 0.1):
        check_transformer_layer(dropped)
    check_masks()
