"""Predictions for recordings by `predict`, compared with plain alternatives, in total and by part.

    python -m benchmarks.predict [--files 2000] [--device cuda]      the paper's sizes, random weights, WAV files of 3 s
    python -m benchmarks.predict --run RUN AUDIO… [--device cpu]     a trained run, recordings or folders of them

Rates are seconds of audio per second, and per CPU-second. The plain alternatives do what a script would do: predict for
one file at a time, or for sixteen, in float32, with unmodified modules. Each runs first on enough recordings to warm up
libraries, kernels and graphs. Features are computed on the device, so numba is not needed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.paper_members import RATE, paper_members
from benchmarks.paper_step import make_batch, measure
from ser_pipeline.audio import header
from ser_pipeline.predict.answers import Unanswered
from ser_pipeline.predict.decoders import held
from ser_pipeline.predict.excerpts import Excerpt
from ser_pipeline.predict.graphs import Graphed
from ser_pipeline.predict.opening import load
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.predict.recordings import Opened, listed
from ser_pipeline.predict.runs import of_members
from ser_pipeline.processes import cores
from ser_pipeline.provenance import here

ON_DEVICE = ("store=waveform", "train.precision=bf16")
"""Settings of models whose features are computed on the device."""

SAMPLES = 47_840
SECONDS = SAMPLES / RATE
SIZES = (64, 128, 256)
"""Batch sizes in segments for timing the model alone."""

Way = Callable[[Predictor, Sequence[str]], object]


def one_by_one(model: Predictor, files: Sequence[str]) -> None:
    """Predict for one file at a time."""
    for file in files:
        model(file)


def by_sixteen(model: Predictor, files: Sequence[str]) -> None:
    """Predict for sixteen files at a time, like `pipeline(..., batch_size=16)`."""
    for first in range(0, len(files), 16):
        together(model, files[first : first + 16])


def together(model: Predictor, files: Sequence[str]) -> list[Any]:
    """Predict for all files, in batches that extend over several files."""
    return list(model.each(files))


def decoding(model: Predictor, files: Sequence[str]) -> None:
    """Only decode files to samples."""
    for one in held(files, model.rate, "mix", fast=True):
        one.closing.close()


def excerpts(model: Predictor, files: Sequence[str]) -> Iterator[Excerpt]:
    """Yield whole recordings, decoded."""
    for one in held(files, model.rate, "mix", fast=True):
        with one.closing:
            assert isinstance(one.recording, Opened)
            (track,) = one.recording.tracks
            yield Excerpt(one.recording, track, 0, track.samples.count)


def rows(model: Predictor, files: Sequence[str]) -> None:
    """Compute from files what the model reads."""
    for _ in model.front(excerpts(model, files)):
        pass
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Nobody:
    """A scorer that costs nothing."""

    ahead = 1

    def __init__(self, size: int, models: int, classes: int) -> None:
        self.size, self.models, self.classes = size, models, classes

    def __call__(self, rows: Any, samples: Any) -> Any:
        """Return equal scores for all segments."""
        return np.full((self.models, len(samples), self.classes), -1.4, np.float32)

    def begin(self, rows: Any, samples: Any) -> Any:
        """Return a function that computes the scores."""
        return lambda: self(rows, samples)


def without_models(model: Predictor, files: Sequence[str]) -> None:
    """Run everything except the models: decoding, rows, batches, predictions."""
    stand_in = Nobody(model.scorer.size, len(model.folds), len(model.labels))
    together(Predictor(model.labels, model.rate, model.window, model.front, stand_in, model.folds), files)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rates(way: Way, model: Predictor, files: Sequence[str], ready: int) -> tuple[float, float]:
    """Seconds of audio per second and per CPU-second, after a warm-up on the first few files.

    Args:
        way: how predictions are made.
        model: the models.
        files: recordings.
        ready: number of recordings for the warm-up.
    """
    way(model, files[:ready])
    heads = [header(Path(file), file) for file in files]
    seconds = sum(head.frames / head.rate for head in heads)
    began, worked = time.perf_counter(), sum(os.times()[:4])
    way(model, files)
    return seconds / (time.perf_counter() - began), seconds / max(sum(os.times()[:4]) - worked, 1e-3)


def print_row(title: str, way: Way, model: Predictor, files: Sequence[str], ready: int = 32) -> None:
    """Print the result of `rates`; a failure is reported, and the other alternatives continue.

    Args:
        title: title of the row.
        way: how predictions are made.
        model: the models.
        files: recordings.
        ready: number of recordings for the warm-up.
    """
    try:
        wall, cpu = rates(way, model, files, ready)
        print(f"{title:58} {wall:10,.0f} {cpu:10,.0f}", flush=True)
    except Exception as error:
        print(f"{title:58} failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}", flush=True)


def write_files(folder: Path, count: int) -> list[str]:
    """Write recordings of 3 s: modulated tones in noise, each one different."""
    draw, time_of = np.random.default_rng(0), np.arange(SAMPLES) / RATE
    for number in range(count):
        pitch, beat, loud = draw.uniform(80, 900), draw.uniform(1, 9), draw.uniform(500, 12_000)
        tone = np.sin(2 * np.pi * pitch * time_of) * (1 + np.sin(2 * np.pi * beat * time_of)) / 2
        samples = (loud * (tone + draw.uniform(0.05, 0.6) * draw.standard_normal(SAMPLES).clip(-1, 1))).astype("<i2")
        with wave.open(str(folder / f"{number:05}.wav"), "wb") as written:
            written.setparams((1, 2, RATE, 0, "NONE", ""))
            written.writeframes(samples.tobytes())
    return listed([str(folder)])


def print_model(model: Predictor) -> None:
    """Print the rates of the models alone, on random rows on the device, with a CUDA graph for each batch size."""
    scorer: Any = model.scorer
    for size in SIZES:
        graphed = Graphed(scorer.models, size, half=scorer.half, forward=scorer._forward)
        seconds = measure(partial(graphed, make_batch(size, scorer.device)), scorer.device, 2.0)
        print(f"{f'models alone, CUDA graph, batches of {size}':58} {size * SECONDS / seconds:10,.0f}", flush=True)


def print_agreement(model: Predictor, other: Predictor, files: Sequence[str]) -> None:
    """Print the difference of predictions in bf16 from those in float32, or the number of failed recordings."""
    found = [together(one, files) for one in (model, other)]
    for name, answers in zip(("bf16", "fp32"), found, strict=True):
        if without := [one for one in answers if isinstance(one, Unanswered)]:
            print(f"{name}: {len(without)} of {len(files)} without a prediction: {without[0].error}")
            return
    one, two = (np.array([list(answer.probabilities.values()) for answer in answers]) for answers in found)
    top, same = np.sort(two, 1), (one.argmax(1) == two.argmax(1)).mean()
    print(
        f"bf16 against float32: {100 * same:.1f} % of {len(files)} labels equal, probabilities differ by up to "
        f"{abs(one - two).max():.4f}; median lead of the likeliest class {np.median(top[:, -1] - top[:, -2]):.4f}"
    )


def paper(count: int, folds: int, device: torch.device) -> None:
    """Print the table of the paper's sizes."""
    with tempfile.TemporaryDirectory() as room:
        files = write_files(Path(room), count)
        members = paper_members(1, device, ON_DEVICE)
        exact, half = (of_members(members, device, precision) for precision in ("fp32", "bf16"))
        some, warm = files[: max(1, count // 10)], min(count, 1_024)
        print_row("a file at a time, plain modules, fp32", one_by_one, exact, some)
        print_row("sixteen files at a time, plain modules, fp32", by_sixteen, exact, some)
        print_row("predict, fp32", together, exact, files, warm)
        print_row("predict, bf16", together, half, files, warm)
        print_row("predict, bf16, again", together, half, files)
        print_row("  of it decoding", decoding, half, files)
        print_row("  decoding and features", rows, half, files)
        print_row("  all but the models", without_models, half, files)
        if device.type == "cuda":
            print_model(half)
        print_agreement(half, exact, some)
        several = paper_members(folds, device, ON_DEVICE)
        print_row(f"predict, bf16, {folds} folds", together, of_members(several, device, "bf16"), files, warm)


def main() -> None:
    """Print one line per alternative."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="*", help="recordings or folders, with --run")
    parser.add_argument("--run", help="a trained run, or a model folder; by default the paper's sizes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--files", type=int, default=2_000, help="number of recordings to write")
    parser.add_argument("--folds", type=int, default=10, help="number of folds in the last line")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(
        f"{name}, {cores()} cores, torch {torch.__version__}, {date.today()}, commit {here().get('commit', 'unknown')}"
    )
    print(f"{'seconds of audio':58} {'per second':>10} {'per CPU-s':>10}", flush=True)
    if not chosen.run:
        paper(chosen.files, chosen.folds, device)
        return
    model, files = load(chosen.run, chosen.device), listed(chosen.audio)
    print_row("a file at a time", one_by_one, model, files)
    print_row("predict", together, model, files, 1_024)
    print_row("  of it decoding", decoding, model, files)
    print_row("  all but the models", without_models, model, files)


if __name__ == "__main__":
    main()
