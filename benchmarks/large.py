"""Random audio of IEMOCAP's size through the paper's model on a GPU: features, an epoch of ten folds, and a profile.

    python -m benchmarks.large FOLDER [--jobs 8]

5,531 utterances of ten speakers in 11,002 segments of noise; wav2vec 2.0 base, AlexNet and BiLSTM at their real sizes,
with random weights. Prints the duration of each command, and the share of the epoch in which the GPU was busy.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import Wav2Vec2Config

from ser_pipeline import config
from ser_pipeline.cache import catalogue
from ser_pipeline.cache.manifest import read
from ser_pipeline.config import Audio, Config
from ser_pipeline.data.stream import open_data, open_source
from ser_pipeline.device import autocasting, set_arithmetic
from ser_pipeline.features.stores import find_stores
from ser_pipeline.splits.folds import make_folds
from ser_pipeline.training.checkpoint import Checkpoints
from ser_pipeline.training.context import FoldContext
from ser_pipeline.training.distributed import World
from ser_pipeline.training.fold import epoch_rows, make_model, make_step

SPEAKERS = {
    "1F": 528,
    "1M": 557,
    "2F": 481,
    "2M": 542,
    "3F": 522,
    "3M": 629,
    "4F": 528,
    "4M": 503,
    "5F": 590,
    "5M": 651,
}
SEGMENTS = 11_002
RATE = 16_000
LABELS = ("ang", "hap", "neu", "sad")
PROFILED = 40  # steps


def write_corpus(root: Path) -> Path:
    """Write noise with IEMOCAP's numbers of utterances, speakers and segments, and its table; return the table."""
    root.mkdir(parents=True, exist_ok=True)
    generator = np.random.Generator(np.random.PCG64(0))
    speakers = [speaker for speaker, count in SPEAKERS.items() for _ in range(count)]
    seconds = np.clip(generator.lognormal(1.25, 0.7, len(speakers)), 0.6, 34)
    samples = (seconds * RATE).astype(np.int64)
    while (missing := SEGMENTS - int(Audio().segments(samples).sum())) != 0:
        samples[generator.integers(len(samples))] += int(np.sign(missing)) * 3 * RATE
        samples = np.clip(samples, 9_600, None)
    noise = (3_000 * generator.standard_normal(40 * RATE)).astype(np.int16)
    with (root / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "speaker", "session", "emotion"])
        for number, (speaker, length) in enumerate(zip(speakers, samples.tolist(), strict=True)):
            first = int(generator.integers(len(noise) - length))
            soundfile.write(root / f"{number:04d}.wav", noise[first : first + length], RATE)
            writer.writerow([f"{number:04d}.wav", speaker, speaker[0], LABELS[number % 4]])
    return root / "table.csv"


def settings(folder: Path) -> list[str]:
    """Overrides that give the paper's model random weights."""
    Wav2Vec2Config().save_pretrained(folder / "wav2vec2")
    return [
        f"model.speech_encoder={folder / 'wav2vec2'}",
        "model.speech_weights=false",
        "model.spectrogram_weights=none",
        "train.epochs=1",
    ]


def command(*arguments: str) -> float:
    """Seconds that a command of ser-pipeline takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "ser_pipeline.cli", *arguments, "--quiet"], check=True)
    return time.perf_counter() - began


def busy(cache: Path, chosen: Config) -> tuple[float, float]:
    """Share of the time in which the GPU was busy over `PROFILED` steps, and segments per second in that time."""
    device = torch.device("cuda:0")
    folder = catalogue.find(cache, None).folder
    data = read(folder)
    opened = open_data(data, dict(find_stores((folder,), chosen)))
    source = open_source(opened, device)
    fold = make_folds(data, "speaker", "validation")[0]
    context = FoldContext(fold, opened, source, chosen, device, World(), autocasting(chosen, device))
    set_arithmetic(chosen, device)
    step = make_step(make_model(Checkpoints(cache.parent), context), context)
    size = chosen.train.batch
    batches = source.batches(epoch_rows(context, 0), size)
    for _ in range(10):
        step(next(batches), size, size)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        began = time.perf_counter()
        for _ in range(PROFILED):
            step(next(batches), size, size)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    spans = sorted((event.time_range.start, event.time_range.end) for event in found.events() or ())
    worked, until = 0.0, spans[0][0]
    for start, end in spans:
        worked += max(0.0, end - max(start, until))
        until = max(until, end)
    return worked / (until - spans[0][0]), PROFILED * size / seconds


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for corpus, cache and runs: 15 GB")
    parser.add_argument("--jobs", type=int, default=8, help="processes of the extraction")
    options = parser.parse_args()
    folder = options.folder.resolve()
    table, cache = write_corpus(folder / "corpus"), folder / "cache"
    pairs = settings(folder)
    overrides = [part for pair in pairs for part in ("--set", pair)]
    places = ["--cache", str(cache)]
    seconds = command("features", "table", str(table), *places, "--jobs", str(options.jobs))
    print(f"features: {seconds:.0f} s with {options.jobs} processes", flush=True)
    seconds = command("train", "--protocol", "speaker", *places, "--runs-root", str(folder / "runs"), *overrides)
    print(f"train, ten folds of one epoch: {seconds:.0f} s on {torch.cuda.get_device_name()}", flush=True)
    share, rate = busy(cache, config.load("paper", None, pairs))
    print(f"GPU busy for {share:.1%} of {PROFILED} steps, profiled at {rate:,.0f} segments/s", flush=True)


if __name__ == "__main__":
    main()
