"""Profile of a model: parameters, operations, size, time and memory, of its parts and as a whole.

Times are measured from samples to probabilities, with noise of a segment's length as input, after a warm-up call.
Models that cannot be built as one module are timed through `predict`, and only as a whole.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ser_pipeline.config import Config
from ser_pipeline.errors import PipelineError
from ser_pipeline.export import names
from ser_pipeline.export.folder import Members, read_members, write_weights
from ser_pipeline.export.graph import Listener
from ser_pipeline.export.names import is_model_folder
from ser_pipeline.export.session import INPUTS, open_session
from ser_pipeline.model import build_model
from ser_pipeline.predict.runs import of_members, run_members
from ser_pipeline.provenance import now
from ser_pipeline.runs.profiled import Profile, amounts, profiles
from ser_pipeline.shape import shaped
from ser_pipeline.text import plural
from ser_pipeline.training.groups import freeze

WHOLE = 3.0
"""Length of the noise in seconds for models of whole utterances; others get a segment."""

CALLS = (3, 20)
"""Smallest and largest number of timed calls, of which the median and the 95th percentile are reported."""

BUDGET = 5.0
"""Seconds after which timing stops, if the smallest number of calls is reached."""

LARGEST = {"cpu": 16, "cuda": 4096}
"""Largest batch in recordings, by type of device."""


Progress = Callable[[str, int, int], None]
"""Called with what is measured next, its number and the number of all measurements."""


class Measurements:
    """Counts the measurements of a profile, and reports each before it starts."""

    def __init__(self, progress: Progress, count: int) -> None:
        self._progress, self._count = progress, count
        self._number = 0

    def next(self, what: str) -> None:
        """Report the next measurement."""
        self._number += 1
        self._progress(what, self._number, self._count)

    def leave_out(self, count: int) -> None:
        """Count fewer measurements."""
        self._count -= count


def profile(
    run: Path | str,
    device: torch.device,
    folds: Sequence[str] = (),
    graph: Path | None = None,
    progress: Progress = lambda what, number, count: None,
) -> dict[str, Any]:
    """Measure the size, time and memory of a run's models.

    Args:
        run: folder of the run, or a model folder.
        device: device of torch; onnxruntime uses the CPU.
        folds: names of folds; () for all.
        graph: an ONNX graph to time as well; None for that of the model folder, if it has one.
        progress: called before each measurement.

    Raises:
        PipelineError: `run` is neither a run nor a model folder.
    """
    run, kept = Path(run), Path(run) / names.ONNX
    members = read_members(run, device) if is_model_folder(run) else run_members(run, device, folds)
    graph = graph or (kept if kept.is_file() else None)
    parts, config = _parts(members, device), members.config
    engines = {"torch": (parts, device, run)}
    if graph is not None:
        engines["onnx"] = (_onnx(graph), torch.device("cpu"), graph)
    told = Measurements(progress, 1 + sum(2 + 2 * len(each) for each, *_ in engines.values()))
    told.next("parameters, operations and sizes")
    found: dict[str, Any] = {
        "seconds": _seconds(config),
        "measured": now(),
        "folds": list(members.folds),
        "device": _name(device),
        "parameters": _parameters(members),
        "gflops": _operations(members, device),
        "megabytes": _sizes(members, graph),
        "start_seconds": {},
    }
    for engine, (each, place, model) in engines.items():
        found[engine] = _timed(engine, each, config, place, told)
        told.next(f"start of predict, with {engine}")
        found["start_seconds"][engine] = _start(model, config)
    return found | {"memory_megabytes": _memory(device)}


def _seconds(config: Config) -> float:
    """Return the length of the noise in seconds."""
    return WHOLE if config.model.whole else config.model_audio.seconds


def figures(members: Members, weights: Path) -> list[str]:
    """Return the lines of a model card about size and operations, which do not depend on the machine.

    Args:
        members: the models, on the CPU.
        weights: the file of their weights.
    """
    counts = _parameters(members)
    lines = [f"Parameters per model: {counts['model']:,}, of which {counts['trained']:,} were trained"]
    if counts["encoders of its features"]:
        lines.append(f"Parameters of the encoders that compute its features: {counts['encoders of its features']:,}")
    if counted := _operations(members, torch.device("cpu")):
        lines.append(
            f"Operations for {_seconds(members.config):g} s of audio: {counted['whole']:.3g} GFLOPs "
            f"for {plural(counts['models'], 'model')}, of which {counted['front end']:.3g} for the front end"
        )
    return [*lines, f"Weights: {weights.stat().st_size / 1e6:.1f} MB"]


def measured(run: Path) -> Iterator[str]:
    """Yield the lines of a model card about times and memory, from the profiles in a run's folder."""
    for one in profiles(run):
        yield f"Measured on {one.heard}; peak memory: {amounts(one.memory_megabytes)} MB"
        yield f"Seconds from the start of the command to the first prediction: {amounts(one.start_seconds)}"
        for engine, row in one.timings:
            if row.part == "whole":
                yield (
                    f"{engine}, batch {row.batch}: median {row.median_ms:.1f} ms, 95th percentile {row.p95_ms:.1f} ms, "
                    f"real-time factor {row.real_time_factor:.2g}"
                )


def _name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device}, {plural(torch.get_num_threads(), 'thread')}"
    )


def _parameters(members: Members) -> dict[str, int]:
    """Count the parameters of one model, those that were trained, and those of encoders that compute its features."""
    config = members.config
    model = build_model(
        config.model,
        audio=config.model_audio,
        features=config.features,
        classes=members.outputs,
        pretrained=False,
        speech_settings=members.models[0].speech_settings,
    )
    freeze(model, config.model)
    trained: Any = model.classifier if config.train.solver != "adamw" else model
    return {
        "model": sum(one.numel() for one in model.parameters()),
        "trained": sum(one.numel() for one in trained.parameters() if one.requires_grad),
        "encoders of its features": sum(
            one.numel() for maker in members.makers.values() for one in maker.encoder.parameters()
        ),
        "models": len(members.models),
    }


def _operations(members: Members, device: torch.device) -> dict[str, float]:
    """Count the operations of products and convolutions for the noise, of the front end and in total, in GFLOPs.

    Returns {} if the models cannot be built as one module, because operations of their features cannot be counted.
    """
    from torch.utils.flop_counter import FlopCounterMode

    found = dict[str, float]()
    with suppress(PipelineError):
        listener, given = Listener(members).eval().to(device), _batch(1, members.config, device)
        for name, part in (("front end", listener.front), ("whole", listener)):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                part(*given)
            found[name] = counter.get_total_flops() / 1e9
    return found


def _sizes(members: Members, graph: Path | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as room:
        write_weights(Path(room) / "weights", members.models, members.makers)
        found = {"model.safetensors": (Path(room) / "weights").stat().st_size / 1e6}
    return found | ({graph.name: names.graph_size(graph) / 1e6} if graph else {})


def _batch(size: int, config: Config, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    samples = round(_seconds(config) * config.audio.rate)
    noise = torch.randn(size, samples, generator=torch.Generator().manual_seed(0)).mul(0.1)
    return noise.to(device), torch.full((size,), samples, device=device)


Call = Callable[[torch.Tensor, torch.Tensor], Any]


def _parts(members: Members, device: torch.device) -> Mapping[str, Call]:
    """Return the front end and the whole model as functions that wait for the device."""
    try:
        listener = Listener(members).eval().to(device)
    except PipelineError:  # its features cannot be built as a module
        model, rate = of_members(members, device), members.config.audio.rate
        return {"whole": lambda waveform, _: list(model.each([(one, rate) for one in waveform.cpu().numpy()]))}
    return {"front end": _done(listener.front, device), "whole": _done(listener, device)}


def _done(module: torch.nn.Module, device: torch.device) -> Call:
    """Return a module as a function that waits for the device."""

    def call(waveform: torch.Tensor, samples: torch.Tensor) -> None:
        with torch.inference_mode():
            module(waveform, samples)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return call


def _onnx(graph: Path) -> Mapping[str, Call]:
    session, _ = open_session(graph, torch.get_num_threads())
    return {
        "whole": lambda waveform, samples: session.run(
            None, dict(zip(INPUTS, (waveform.numpy(), samples.numpy()), strict=True))
        )
    }


def _timed(
    engine: str, parts: Mapping[str, Call], config: Config, device: torch.device, told: Measurements
) -> list[dict[str, Any]]:
    """Time every part with batches of 1, and of the largest size that fits.

    Args:
        engine: "torch" or "onnx".
        parts: the parts as functions.
        config: has the length of the noise.
        device: the device of the parts.
        told: reports every measurement.
    """
    rows = []
    told.next(f"largest batch of {engine}")
    sizes = list(dict.fromkeys((1, _largest(parts["whole"], config, device))))
    if len(sizes) == 1:
        told.leave_out(len(parts))
    for size in sizes:
        given = _batch(size, config, device)
        for name, call in parts.items():
            told.next(f"time of {engine}, {name}, batch {size}")
            seconds = _calls(call, given)
            median = float(np.median(seconds))
            rows.append(
                {
                    "part": name,
                    "batch": size,
                    "median_ms": 1000 * median,
                    "p95_ms": 1000 * float(np.quantile(seconds, 0.95)),
                    "real_time_factor": median / (size * _seconds(config)),
                }
            )
    return rows


def _largest(call: Call, config: Config, device: torch.device) -> int:
    """Return the largest batch size that fits, a power of two up to `LARGEST`."""
    size = 1
    try:
        while size < LARGEST.get(device.type, 64):
            call(*_batch(2 * size, config, device))
            size *= 2
    except (torch.OutOfMemoryError, MemoryError):
        torch.cuda.empty_cache()
    return size


def _calls(call: Call, given: tuple[torch.Tensor, torch.Tensor]) -> NDArray[np.float64]:
    call(*given)
    least, most = CALLS
    seconds: list[float] = []
    while len(seconds) < least or (len(seconds) < most and sum(seconds) < BUDGET):
        started = time.perf_counter()
        call(*given)
        seconds.append(time.perf_counter() - started)
    return np.array(seconds)


def _start(model: Path, config: Config) -> float:
    """Measure the seconds from the start of `predict`, as a new process, to its first prediction."""
    import soundfile

    with tempfile.TemporaryDirectory() as room:
        file = Path(room) / "noise.wav"
        soundfile.write(file, _batch(1, config, torch.device("cpu"))[0][0].numpy(), config.audio.rate)
        words = [sys.executable, "-m", "ser_pipeline", "predict", str(model), str(file), "--quiet", "--device", "cpu"]
        started = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(f"predict cannot open {model}: {done.stderr.strip()}")
    return time.perf_counter() - started


def _memory(device: torch.device) -> dict[str, float]:
    """Return the peak memory of this process, and of the device, in MB."""
    unit = 1e6 if sys.platform == "darwin" else 1e3  # macOS counts bytes, others kilobytes
    found = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}
    return found | ({"device": torch.cuda.max_memory_allocated(device) / 1e6} if device.type == "cuda" else {})


def table(found: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of a profile."""
    told = shaped(dict(found), Profile)
    lines = [told.heard, *("\t".join(pair) for pair in told.sums)]
    lines.append("engine\tpart\tbatch\tmedian, ms\t95 %, ms\treal-time factor")
    for engine, row in told.timings:
        times = f"{row.median_ms:.2f}\t{row.p95_ms:.2f}\t{row.real_time_factor:.5f}"
        lines.append(f"{engine}\t{row.part}\t{row.batch}\t{times}")
    return lines
