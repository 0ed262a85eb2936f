"""The queue of folds on one GPU and on several: folds a second, the start of the command and of all processes included.

    python -m benchmarks.queue CORPUS [--gpus 2] [--seeds 3] [--jobs-per-gpu 5]

`CORPUS` has features in the cache. Every GPU is given as many folds of the preset `scratch`: one GPU `--seeds` seeds,
several GPUs so many times more. What was trained is thrown away.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

TO_DO = "\tto do"  # how `--dry-run` ends the line of a fold


def train(corpus: str, gpus: int, seeds: int, jobs: int, runs: str) -> tuple[int, float]:
    """Folds that were trained on the first `gpus` GPUs, and the seconds that took."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus)))}
    command = [sys.executable, "-m", "ser_pipeline.cli", "train", "--corpus", corpus, "--preset", "scratch", "--quiet"]
    command += ["--seeds", str(seeds), "--jobs-per-gpu", str(jobs), "--runs-root", runs]
    listed = subprocess.run([*command, "--dry-run"], env=environment, capture_output=True, text=True, check=True)
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return listed.stdout.count(TO_DO), time.perf_counter() - began


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="for each GPU")
    parser.add_argument("--jobs-per-gpu", type=int, default=5)
    options = parser.parse_args()
    rates = []
    for gpus in (1, options.gpus):
        with tempfile.TemporaryDirectory() as runs:
            folds, seconds = train(options.corpus, gpus, gpus * options.seeds, options.jobs_per_gpu, runs)
        rates.append(folds / seconds)
        print(f"{gpus} GPU{'s' * (gpus > 1)}: {folds} folds in {seconds:.1f} s, {rates[-1]:.2f} a second", flush=True)
    print(f"{options.gpus} GPUs are {rates[1] / rates[0]:.2f} times as fast as one")


if __name__ == "__main__":
    main()
