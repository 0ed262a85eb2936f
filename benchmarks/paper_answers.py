"""Predictions of the paper's model at its real size, with random weights: torch compared with ONNX Runtime.

    python -m benchmarks.paper_answers [--seconds 30] [--minutes 10] [--folder FOLDER]

Rates are seconds of audio per second, for one recording of noise, after a warm-up. Memory is the peak of a process of
`ser-pipeline predict`, torch and its libraries included, on a recording of `--minutes`. The time to the first
prediction is for such a process and three seconds of audio.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
import torch

from benchmarks.paper_members import RATE, paper_members
from ser_pipeline.export.folder import read_members
from ser_pipeline.export.names import ONNX, WEIGHTS
from ser_pipeline.export.onnx_writing import write_graph
from ser_pipeline.export.session import open_graph
from ser_pipeline.export.writing import describe, write_parts
from ser_pipeline.predict.predictor import Predictor
from ser_pipeline.predict.runs import of_members

CPU = torch.device("cpu")


def write_model(folder: Path) -> None:
    """Write a model folder with the paper's settings, wav2vec 2.0 base and random weights, and its ONNX graph."""
    members = paper_members(1, CPU)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as run:
        (Path(run) / "run.json").write_text(json.dumps({"folds": members.folds}), encoding="utf-8")
        about = describe(Path(run), members)
    write_parts(folder, members, about)
    write_graph(folder / ONNX, members, about)


def write_noise(file: Path, minutes: float) -> Path:
    """Write a recording of noise."""
    part = np.random.default_rng(0).integers(-9000, 9000, RATE * 3, dtype=np.int16).tobytes()
    with wave.open(str(file), "wb") as written:
        written.setparams((1, 2, RATE, 0, "NONE", ""))
        for _ in range(round(minutes * 20)):
            written.writeframesraw(part)
    return file


def rate(model: Predictor, seconds: float) -> float:
    """Seconds of audio per second."""
    noise = (0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE))).astype(np.float32)
    model(noise, RATE)
    began = time.perf_counter()
    model(noise, RATE)
    return seconds / (time.perf_counter() - began)


MEASURE = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)
"""
"""A small process between this one and the measured one, which would otherwise inherit this one's peak memory."""


def process(model: Path, file: Path) -> tuple[float, float]:
    """Seconds of a process that predicts for a file, and its peak memory in MB."""
    words = [sys.executable, "-m", "ser_pipeline", "predict", str(model), str(file), "--quiet", "--device", "cpu"]
    said = subprocess.run([sys.executable, "-c", MEASURE, *words], capture_output=True, text=True, check=True).stdout
    seconds, memory = map(float, said.split())
    return seconds, memory


def main() -> None:
    """Print one line per engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, help="folder in which the model is kept for the next time")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        folder = chosen.folder or Path(room) / "model"
        if not folder.exists():
            write_model(folder)
        long, short = write_noise(Path(room) / "long.wav", chosen.minutes), write_noise(Path(room) / "short.wav", 0.05)
        print(f"{(folder / WEIGHTS).stat().st_size / 1e6:.0f} MB of weights, {torch.get_num_threads()} threads")
        for name, file in (("torch", folder), ("ONNX Runtime", folder / ONNX)):
            model = open_graph(file) if file.is_file() else of_members(read_members(file, CPU), CPU)
            heard = rate(model, chosen.seconds)
            del model
            first, (_, memory) = process(file, short)[0], process(file, long)
            print(f"{name}: {heard:.1f} x real time, first answer {first:.2f} s, {memory:.0f} MB at most")


if __name__ == "__main__":
    main()
