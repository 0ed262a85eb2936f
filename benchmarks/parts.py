"""The parts of the paper's training step: milliseconds of each, or differences between fast and plain modules.

python -m benchmarks.parts [--batch 64 256]     time each part
python -m benchmarks.parts --check              compare outputs and gradients of fast and plain modules
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.paper_step import arithmetic, make_batch, make_model, make_optimiser, measure
from ser_pipeline.model import SpeechEmotionModel
from ser_pipeline.model.fast import PLAIN, FastPaths, accelerate


def profile(sizes: list[int], device: torch.device, seconds: float) -> None:
    """Print the milliseconds of each part, forward and backward, plain and fast, each in a CUDA graph."""
    for size in sizes:
        print(f"\nbatch {size}: ms per part, forward and backward, bf16", flush=True)
        found: dict[str, list[float]] = {}
        for paths in (PLAIN, FastPaths()):
            with arithmetic(tf32=True):
                model = accelerate(make_model(device), device, half=True, paths=paths)
                for name, part in _parts(model, size, device).items():
                    run = graphed(part) if device.type == "cuda" else part
                    found.setdefault(name, []).append(1e3 * measure(run, device, seconds / 4))
                    del run
        print(f"{'part':32} {'plain':>8} {'fast':>8}")
        for name, (plain, fast) in found.items():
            print(f"{name:32} {plain:8.2f} {fast:8.2f}", flush=True)


def _parts(model: SpeechEmotionModel, size: int, device: torch.device) -> dict[str, Callable[[], object]]:
    batch = make_batch(size, device)
    read = model.finished(batch)
    encoder: Any = model.encoders["waveform"]
    speech = encoder.model
    frames = torch.randn(size, 149, 768, device=device, requires_grad=True)
    flat = torch.randn(size, 153_600, device=device, dtype=torch.bfloat16, requires_grad=True)
    optimiser = make_optimiser(model, device, fused=True)

    def both(run: Callable[[], Tensor]) -> Callable[[], object]:
        def part() -> None:
            with torch.autocast(device.type, torch.bfloat16):
                output = run()
            output.backward(torch.ones_like(output))  # type: ignore[no-untyped-call]

        return part

    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return {
        "finishing": lambda: model.finished(batch),
        "feature encoder": both(lambda: speech.feature_extractor(read["waveform"])),
        "positional convolution": both(lambda: speech.encoder.pos_conv_embed(frames)),
        "transformer with it": both(lambda: encoder._layers(speech.encoder, frames)[-1]),
        "AlexNet": both(lambda: model.encoders["spectrogram"](read["spectrogram"])),
        "BiLSTM": both(lambda: model.encoders["mfcc"](read["mfcc"])),
        "linear 153,600 to 128": both(lambda: model.projections["mfcc"](flat)),
        "AdamW": optimiser.step,
    }


def graphed(part: Callable[[], object]) -> Callable[[], object]:
    """`part` as a CUDA graph."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            part()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        part()
    return graph.replay


def check(device: torch.device) -> None:
    """Print the distance of fast and plain outputs and gradients from those in float32, part by part."""
    found: dict[str, dict[str, Tensor]] = {}
    kinds = {
        "fp32": (PLAIN, False),
        "plain": (PLAIN, True),
        "fast": (FastPaths(), True),
        "fast32": (FastPaths(), False),
    }
    with arithmetic(tf32=False):
        for name, (paths, bf16) in kinds.items():
            model = accelerate(make_model(device), device, half=bf16, paths=paths).eval()
            model.encoders["mfcc"].train()  # cuDNN's backward pass requires it; dropout is off for the comparison
            model.encoders["mfcc"].lstm.dropout = 0.0  # type: ignore[union-attr]
            batch = make_batch(8, device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                output = model(batch)
            torch.manual_seed(1)
            loss = sum((part.float() * torch.randn_like(part.float())).sum() for part in output)
            loss.backward()
            found[name] = {"logits": output.logits.detach().float(), "attention": output.attention.detach().float()}
            found[name] |= {k: p.grad.float() for k, p in model.named_parameters() if p.grad is not None}
            del model, output, loss
    print(f"{'relative distance from fp32':70} {'plain bf16':>10} {'fast bf16':>10} {'fast fp32':>10}")
    for key, exact in found["fp32"].items():
        far = [float((found[n][key] - exact).norm() / exact.norm().clamp(min=1e-12)) for n in list(kinds)[1:]]
        good = far[1] < 2 * far[0] + 1e-3 and far[2] < 1e-4
        if not good or any(part in key for part in ("logits", "attention.", "lstm", ".conv")):
            print(f"{key:70} {far[0]:10.2e} {far[1]:10.2e} {far[2]:10.2e}", flush=True)


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare fast with plain modules instead")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256], help="segments per step")
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each part")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(torch.cuda.get_device_name() if device.type == "cuda" else "CPU", torch.__version__, flush=True)
    if arguments.check:
        check(device)
    else:
        profile(arguments.batch, device, arguments.seconds)


if __name__ == "__main__":
    main()
