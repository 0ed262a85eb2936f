"""Recordings answered for by `predict`, beside a file at a time, in one run.

    python -m benchmarks.predict RUN AUDIO… [--device cpu]

RUN is a trained run, AUDIO recordings or folders of them. The plain way is what a script does: a file at a time is
decoded by librosa, made into rows, and given to each model. Rates are seconds of audio a second, and a CPU-second;
starts are apart: both ways answered for a few recordings before.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence

import librosa
import torch

from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.predict.recordings import listed
from ser_pipeline.predict.runs import load

Way = Callable[[Predictor, Sequence[str]], None]


def plainly(model: Predictor, files: Sequence[str]) -> None:
    """A file at a time, through every model."""
    for file in files:
        samples, _ = librosa.load(file, sr=model.rate)
        model(samples, model.rate)


def together(model: Predictor, files: Sequence[str]) -> None:
    """All files, in batches that fill over them."""
    for _ in model.each(files):
        pass


def rates(way: Way, model: Predictor, files: Sequence[str]) -> tuple[float, float]:
    """Seconds of audio a second and a CPU-second, after a first call on a few of them.

    Args:
        way: how they are answered for.
        model: the run.
        files: recordings.
    """
    way(model, files[:4])
    seconds = sum(librosa.get_duration(path=file) for file in files)
    began, worked = time.perf_counter(), sum(os.times()[:4])
    way(model, files)
    return seconds / (time.perf_counter() - began), seconds / (sum(os.times()[:4]) - worked)


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("audio", nargs="+")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    model, files = load(chosen.run, chosen.device), listed(chosen.audio)
    print(f"{len(files)} recordings, {len(model.folds)} folds, {torch.get_num_threads()} threads of torch")
    for name, way in (("a file at a time", plainly), ("predict", together)):
        wall, cpu = rates(way, model, files)
        print(f"{name}: {wall:.0f} s of audio a second, {cpu:.0f} a CPU-second")


if __name__ == "__main__":
    main()
