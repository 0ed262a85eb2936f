"""Slowdown of a training step if only waveforms are stored and the step computes MFCC and images on its device.

    python -m benchmarks.front_end [--preset scratch paper] [--batch 64] [--device cuda] [--seconds 10]

Segments and weights are random. The step is timed in three variants: with rows in its batch; with waveforms, levels and
the samples around them, as training reads them; and with features that are computed in sequence with the step. The
variants alternate in one process; copies to the device are excluded. Before that, features that are computed in
parallel with a step are compared with those computed alone. `paper` needs transformers.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice, repeat

import torch

from ser_pipeline import config
from ser_pipeline.config import Config
from ser_pipeline.data.batch import Batch
from ser_pipeline.data.neighbours import join_segments
from ser_pipeline.data.rendered import ahead
from ser_pipeline.data.surroundings import AROUND, PLACE
from ser_pipeline.device import autocasting, fixed_threads, pick_device, precision, set_arithmetic
from ser_pipeline.features.rendering import Renderer, Rendering
from ser_pipeline.inputs import INPUTS
from ser_pipeline.model import build_model
from ser_pipeline.model.fast import accelerate
from ser_pipeline.targets import TARGETS
from ser_pipeline.training.objective import Objective
from ser_pipeline.training.step import Step

CLASSES, ROUNDS = 4, 7


def renderer(chosen: Config) -> Renderer:
    """The renderer of a model's acoustic features."""
    names = tuple(name for name in chosen.model.reads if INPUTS[name].level)
    return Renderer(names, chosen.audio, chosen.features)


def waveforms(size: int, chosen: Config, device: torch.device) -> Batch:
    """Random segments from the middle of utterances, with the inputs of their features."""
    made, generator = renderer(chosen), torch.Generator().manual_seed(0)

    def samples(count: int) -> torch.Tensor:
        return torch.randint(-3_000, 3_000, (size, count), generator=generator, dtype=torch.int16)

    rows = {
        "waveform": samples(1 + chosen.audio.segment),
        AROUND: samples(made.before + made.after),
        PLACE: torch.tensor([[chosen.audio.segment, 2 * chosen.audio.segment]]).expand(size, 2).contiguous(),
        **{f"{name}_level": torch.full((size, 401), 5.0) for name in made.names},
    }
    known = torch.full((size,), chosen.audio.segment), torch.arange(size) % CLASSES, torch.arange(size)
    return Batch(rows, *known).map(lambda part: part.to(device))


def make_step(chosen: Config, device: torch.device, size: int) -> Step:
    """The optimiser's step on a model with random weights."""
    settings = None
    if chosen.model.speech_encoder != "small":
        from transformers import Wav2Vec2Config

        settings = Wav2Vec2Config().to_dict()
    torch.manual_seed(0)
    model = build_model(
        chosen.model,
        audio=chosen.model_audio,
        features=chosen.features,
        classes=CLASSES,
        pretrained=False,
        speech_settings=settings,
    ).to(device)
    accelerate(model, device, half=precision(chosen.train.precision, device) == "bf16")
    autocast = autocasting(chosen, device)
    objective = Objective(TARGETS["class"], CLASSES, torch.eye(CLASSES, device=device).repeat(size, 1))
    return Step(model, chosen, objective=objective, steps=1_000, weights=None, autocast=autocast)


def seconds_of(call: Callable[[], object], device: torch.device, calls: int) -> float:
    """Mean seconds of a call over `calls` calls.

    Args:
        call: function to time.
        device: device that it uses.
        calls: number of calls.
    """
    started = time.perf_counter()
    for _ in range(calls):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / calls


def in_turns(ways: dict[str, Callable[[], object]], device: torch.device, seconds: float) -> dict[str, list[float]]:
    """Seconds of each variant, one number per round.

    Args:
        ways: functions to time, by name.
        device: device that they use.
        seconds: approximate total time.
    """
    for call in ways.values():
        seconds_of(call, device, 3)
    once = sum(seconds_of(call, device, 1) for call in ways.values())
    calls = max(1, int(seconds / ROUNDS / once))
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            found[name].append(seconds_of(call, device, calls))
    return found


def apart(batches: Iterator[Batch], stored: Batch, step: Callable[[], object]) -> float:
    """The largest difference between features computed in parallel with steps and those computed alone.

    Args:
        batches: batches of the same segments, repeated.
        stored: the expected batch.
        step: function that runs in parallel.
    """
    found = 0.0
    for batch in islice(batches, 20):
        step()
        for name, rows in stored.inputs.items():
            found = max(found, float((batch[name].float() - rows.float()).abs().max()))
    return found


def line(preset: str, size: int, device: torch.device, seconds: float) -> str:
    """A row of the table.

    Args:
        preset: preset of the settings.
        size: segments of a batch.
        device: training device.
        seconds: approximate time to spend.
    """
    chosen = config.load(preset)
    set_arithmetic(chosen, device)
    step, joined = make_step(chosen, device, size), chosen.model.segments
    raw = waveforms(size * joined, chosen, device)
    render = Rendering(renderer(chosen), device, chosen.model.reads)
    stored = render(raw)
    there = torch.ones(size, joined, dtype=torch.bool, device=device)

    def heard(batch: Batch) -> Batch:
        return join_segments(batch, there) if joined > 1 else batch

    batches = ahead(render, repeat(raw))
    ways: dict[str, Callable[[], object]] = {
        "stored": lambda: step(heard(stored), size, size),
        "alone": lambda: step(heard(next(batches)), size, size),
        "in turn": lambda: step(heard(render(raw)), size, size),
        "made": lambda: render(raw),
    }
    beside = apart(batches, stored, ways["stored"])
    found = in_turns(ways, device, seconds)
    step.release()
    middle = {name: 1e3 * statistics.median(times) for name, times in found.items()}
    ratio = statistics.median(b / a for a, b in zip(found["stored"], found["alone"], strict=True))
    times = " | ".join(f"{middle[name]:.2f}" for name in ways)
    return f"| {preset} | {size} x {joined} | {times} | {100 * (ratio - 1):+.1f} % | {beside:g} |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=["scratch", "paper"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=20.0, help="time to spend on a row")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "one core"
    print(f"{name}, torch {torch.__version__}; ms per step, medians of {ROUNDS} alternating rounds\n")
    print("| preset | segments | rows stored | only waveforms | in sequence | the features | slowdown | difference |")
    print("|---|---|---|---|---|---|---|---|")
    with fixed_threads(1):
        for preset in arguments.preset:
            print(line(preset, arguments.batch, device, arguments.seconds), flush=True)


if __name__ == "__main__":
    main()
