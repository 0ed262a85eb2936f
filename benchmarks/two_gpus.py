"""A small grid on two GPUs by the local queue, compared with two processes that share it by parts.

    python -m benchmarks.two_gpus [--seeds 3] [--rounds 2] [--jobs-per-gpu 5] [--epochs 45] [--device cuda]

Random stores of EMO-DB's size are written without audio; the preset is `scratch`, with ten folds per seed. The local
queue is one command on both GPUs; by parts, each of two commands sees one GPU and has a share of the same folder. The
start of all processes counts. The predictions of both are compared. Packages that are only needed for sound may be
missing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ser_pipeline import config
from ser_pipeline.cache import shard_writing, shards
from ser_pipeline.config import Config

CORPUS, SPEAKERS, EACH = "random", 10, 54
LABELS = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
READS = ("mfcc", "spectrogram", "waveform")
SOUND = ("soundfile", "soxr")
"""Packages that training on stored features imports but never calls."""

COMMAND = (
    "import sys; from pathlib import Path; from ser_pipeline.training.stage import prepare\n"
    "cache, runs, seeds, epochs, jobs, device, part = sys.argv[1:]\n"
    "share = tuple(map(int, part.split('/'))) if part else None\n"
    "prepare(preset='scratch', overrides=[f'train.epochs={epochs}'], seeds=int(seeds), jobs_per_gpu=int(jobs),\n"
    "        device=device, part=share, cache=cache, runs=runs).train()\n"
)
"""The work of `ser-pipeline train`, for a checkout that need not be installed."""


def make_stores(cache: Path, chosen: Config) -> None:
    """Write random rows of the paper's features, two segments per utterance, in the form that stage 1 writes."""
    from ser_pipeline.cache.catalogue import FeatureSet, features_root, register
    from ser_pipeline.cache.manifest import Manifest
    from ser_pipeline.corpora.corpus import Utterance
    from ser_pipeline.features.stores import store_entry

    rng, count = np.random.default_rng(0), SPEAKERS * EACH
    people = [
        Utterance(f"{row:04}", f"{row:04}.wav", LABELS[row % len(LABELS)], f"{row // EACH:02}") for row in range(count)
    ]
    lengths = rng.integers(chosen.audio.segment + 1, 2 * chosen.audio.segment, count)
    keys = tuple(f"{row:032x}" for row in range(count))
    data = Manifest(CORPUS, {label: (label,) for label in LABELS}, chosen.audio, tuple(people), keys, lengths)
    entry = data.entry(features_root(cache))
    entry.begin()
    data.write(entry.partial)
    entry.publish(labels=list(LABELS), rows=2 * count, seconds=float(lengths.sum() / chosen.audio.rate))
    bounds = list(shards.shard_bounds(data.stored))
    for name in READS:
        store = store_entry(entry.path, name, chosen)
        store.begin()
        for number, (first, last) in enumerate(bounds):
            file = store.partial / shards.name(number)
            parts = [random_rows(name, rng, chosen) for _ in range(first, last)]
            said = shards.shard_settings(asdict_of(store.inputs))
            shard_writing.write_shard(file, name, said, list(keys[first:last]), parts, extremes=name == "spectrogram")
        store.publish(shards=[shards.name(number) for number in range(len(bounds))], rows=2 * count)
    register(cache, FeatureSet(CORPUS, entry.path, cache / "no-audio", "scratch"))


def asdict_of(inputs: Mapping[str, object]) -> dict[str, object]:
    """Inputs of a store in the form of JSON."""
    return {**inputs, "audio": asdict(inputs["audio"])}  # type: ignore[call-overload]


def random_rows(name: str, rng: np.random.Generator, chosen: Config) -> np.ndarray:
    """Two random rows of a feature."""
    if name == "mfcc":
        return rng.standard_normal((2, chosen.audio.frames, chosen.features.mfcc.size)).astype(np.float16)
    if name == "spectrogram":
        return rng.integers(0, 256, (2, chosen.features.spectrogram.bins, chosen.audio.frames), np.uint8)
    return rng.integers(-3_000, 3_000, (2, 1 + chosen.audio.segment), np.int16)


def without_sound(folder: Path) -> str:
    """Write empty modules in place of missing packages for sound; return the value of `PYTHONPATH`."""
    folder.mkdir()
    for name in SOUND:
        if find_spec(name) is None:
            (folder / f"{name}.py").write_text('__libsndfile_version__ = __version__ = "none"\n')
    return os.pathsep.join([str(folder), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])


def seconds_of(commands: list[list[str]], environments: list[dict[str, str]]) -> float:
    """Seconds from the start of all commands to the end of the last."""
    began = time.perf_counter()
    running = [
        subprocess.Popen(command, env=environment) for command, environment in zip(commands, environments, strict=True)
    ]
    statuses = [process.wait() for process in running]
    if any(statuses):
        raise SystemExit(f"a command ended with {statuses}")
    return time.perf_counter() - began


def predictions(runs: Path) -> dict[str, bytes]:
    """The predictions of every fold."""
    return {str(file.relative_to(runs)): file.read_bytes() for file in sorted(runs.glob("*/*/predictions.csv"))}


def main() -> None:
    """Write the stores, train the grid both ways in alternation, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--jobs-per-gpu", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=45)
    parser.add_argument("--device", default="cuda")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_stores(folder / "cache", config.load("scratch"))
        base = {**os.environ, "PYTHONPATH": without_sound(folder / "stubs")}
        words = [sys.executable, "-c", COMMAND, str(folder / "cache")]
        rest = [str(asked.seeds), str(asked.epochs), str(asked.jobs_per_gpu), asked.device]
        ways = {
            "local queue": [("", "0,1")],
            "two parts": [("1/2", "0"), ("2/2", "1")],
        }
        found: dict[str, list[float]] = {way: [] for way in ways}
        made = dict[str, dict[str, bytes]]()
        for number in range(asked.rounds):
            for way in list(ways)[:: -1 if number % 2 else 1]:
                runs = folder / f"runs-{number}-{way.replace(' ', '-')}"
                commands = [[*words, str(runs), *rest, part] for part, _ in ways[way]]
                environments = [{**base, "CUDA_VISIBLE_DEVICES": gpus} for _, gpus in ways[way]]
                found[way].append(seconds_of(commands, environments))
                made[way] = predictions(runs)
                print(f"{way}: {len(made[way])} folds in {found[way][-1]:.1f} s", flush=True)
        one, other = (statistics.median(found[way]) for way in ways)
        same = sum(made["two parts"].get(file) == text for file, text in made["local queue"].items())
        print(f"two parts take {other / one:.3f} of the local queue's time ({other:.1f} s, {one:.1f} s); ", end="")
        print(f"{same} of {len(made['local queue'])} folds have byte-identical predictions")


if __name__ == "__main__":
    main()
