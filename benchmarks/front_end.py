"""What a training step loses where the waveforms alone are stored, and it makes MFCC and images on its device.

    python -m benchmarks.front_end [--preset scratch paper] [--batch 64] [--device cuda] [--seconds 10]

Random segments, random weights. The step is timed with the rows in its batch; with waveforms, levels and the samples
around them in it, as training reads them; and, in turn, where the step waits for its features. Rounds take turns in one
process; what is copied to the device is left out of all. Before that, the features that are made beside a step are
compared with those that are made alone. `paper` needs transformers.
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
    """What makes the acoustic features of a model."""
    names = tuple(name for name in chosen.model.reads if INPUTS[name].level)
    return Renderer(names, chosen.audio, chosen.features)


def waveforms(size: int, chosen: Config, device: torch.device) -> Batch:
    """Random segments from the middle of utterances, with what their features are made of."""
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
    """The optimiser's step on a model of random weights."""
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
    """Seconds of a call, the mean of `calls`.

    Args:
        call: what is timed.
        device: that it uses.
        calls: how many.
    """
    started = time.perf_counter()
    for _ in range(calls):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / calls


def in_turns(ways: dict[str, Callable[[], object]], device: torch.device, seconds: float) -> dict[str, list[float]]:
    """Seconds of each way, a number a round.

    Args:
        ways: what is timed, by name.
        device: that it uses.
        seconds: about how long all of it takes.
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
    """The largest difference of features that are made beside steps from those that are made alone.

    Args:
        batches: of the same segments again and again.
        stored: what each must be.
        step: what runs beside them.
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
        preset: of the settings.
        size: segments of a batch.
        device: on which it trains.
        seconds: to spend.
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
    parser.add_argument("--seconds", type=float, default=20.0, help="to spend on a row")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "one core"
    print(f"{name}, torch {torch.__version__}; ms a step, medians of {ROUNDS} rounds that take turns\n")
    print("| preset | segments | rows stored | waveforms alone | the same in turn | the features | loss | apart |")
    print("|---|---|---|---|---|---|---|---|")
    with fixed_threads(1):
        for preset in arguments.preset:
            print(line(preset, arguments.batch, device, arguments.seconds), flush=True)


if __name__ == "__main__":
    main()
