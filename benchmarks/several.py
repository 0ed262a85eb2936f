"""One training step divided over several GPUs, compared with the same step on one: losses, and segments per second.

    python -m benchmarks.several [--gpus 2] [--batch 64 256 512] [--steps 50]

The paper's model with random weights on random data. The losses are compared in float32, without dropout and masks,
which every process draws for itself; one GPU processes the batch as a whole, and again in as many parts as there are
GPUs. The rates are in bf16 with everything enabled. `--batch` is the total over all GPUs. One GPU's rate at its share
of the batch shows how much is lost to smaller batches, and how much to the exchange of gradients, which is also timed
alone. A GPU computes at most 256 segments at a time, more in parts.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.paper_step import CLASSES, CONFIG, make_batch, make_model, measure
from ser_pipeline.config import Config
from ser_pipeline.device import autocasting, set_arithmetic
from ser_pipeline.model.fast import accelerate
from ser_pipeline.targets import TARGETS
from ser_pipeline.training.distributed import World, join_world
from ser_pipeline.training.objective import Objective
from ser_pipeline.training.step import Step

LARGEST = 256  # maximum segments that one GPU computes at a time
COMPARED = 32  # segments of a step in the comparison of losses
QUIET = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"), 0.0)


def make_step(world: World, device: torch.device, precision: str, *, random: bool, micro: int = 0) -> Step:
    """The trainer's own step; deterministic unless `random`."""
    train = replace(CONFIG.train, precision=precision)
    still = replace(CONFIG.model, dropout=0.0, lstm_dropout=0.0, spec_augment=False)
    config = Config(train=train, model=CONFIG.model if random else still)
    set_arithmetic(config, device)
    model = make_model(device, config.model, **({} if random else QUIET))
    model = accelerate(model, device, half=precision == "bf16")
    autocast = autocasting(config, device)
    wanted = torch.eye(CLASSES, device=device).repeat(LARGEST, 1)  # by utterance
    objective = Objective(TARGETS["class"], CLASSES, wanted)
    return Step(model, config, objective=objective, steps=1, weights=None, autocast=autocast, micro=micro, world=world)


def losses(world: World, device: torch.device, steps: int, micro: int = 0) -> list[float]:
    """The mean loss of each of `steps` steps in float32, computed on `micro` segments at a time."""
    gc.collect()  # free the previous step
    size = COMPARED
    step = make_step(world, device, "fp32", random=False, micro=micro)
    every = make_batch(4 * size, device)
    found: list[Tensor] = []
    for number in range(steps):
        part = size // world.size
        first = number % 4 * size + world.rank * part
        mine = every.part(slice(first, first + part))
        found.append(step(mine, len(mine.label), size))
    summed = torch.stack(found)
    world.all_reduce([summed])
    return [float(value) / size for value in summed]


def rate(world: World, device: torch.device, size: int) -> float:
    """Segments per second of all GPUs together, in bf16."""
    gc.collect()
    torch.cuda.empty_cache()
    torch._dynamo.reset()  # compile the layers for this size only
    step = make_step(world, device, "bf16", random=True, micro=LARGEST if size // world.size > LARGEST else 0)
    mine = make_batch(size // world.size, device)
    calls = max(4, 1280 // size)
    return size / measure(lambda: step(mine, len(mine.label), size), device, seconds=4.0, calls=calls)


def exchange(world: World, device: torch.device) -> float:
    """Seconds to sum the gradients of the whole model over all GPUs, without any other work."""
    model = make_model(device)
    gradients = [torch.zeros_like(parameter) for parameter in model.parameters() if parameter.requires_grad]
    return measure(lambda: world.all_reduce(gradients), device, seconds=1.0, calls=20)


def work(sizes: list[int], steps: int, parts: int, file: Path) -> None:
    """The work of one process; the first one writes the results."""
    world = join_world("cuda")
    device = torch.device(world.device("cuda"))
    found: dict[str, Any] = {"losses": losses(world, device, steps)}
    if world.size == 1:
        found["parts"] = losses(world, device, steps, COMPARED // parts)
        sizes = sorted({*sizes, *(size // parts for size in sizes)})
    else:
        found["exchange"] = exchange(world, device)
    found["rates"] = {size: rate(world, device, size) for size in sizes}
    if world.is_main:
        file.write_text(json.dumps(found))
    world.barrier()


def compare(gpus: int, sizes: list[int], steps: int) -> None:
    """Run on one GPU and on `gpus`, and print both."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, gpus):
            file = Path(folder) / f"{count}.json"
            module = ["-m", "benchmarks.several", "--gpus", str(gpus), "--steps", str(steps), "--write", str(file)]
            module += ["--batch", *map(str, sizes)]
            torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(count)] if count > 1 else []
            subprocess.run([sys.executable, *torchrun, *module], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            found.append(json.loads(file.read_text()))
    one, several = found
    print(f"losses of {steps} float32 steps: {one['losses'][0]:.4f} to {one['losses'][-1]:.4f} on one GPU")
    for name, title in (("losses", "whole batches"), ("parts", f"batches in {gpus} parts")):
        off = [abs(a - b) / abs(a) for a, b in zip(one[name], several["losses"], strict=True)]
        print(
            f"relative difference of {gpus} GPUs from {title} on one: {off[0]:.1e} at the first, {max(off):.1e} at most"
        )
    for size in map(str, sizes):
        alone, together = (result["rates"][size] for result in found)
        share = str(int(size) // gpus)
        most = gpus * one["rates"][share] / alone
        print(
            f"batch {size}: {alone:,.0f} segments/s on one GPU, {together:,.0f} on {gpus}: {together / alone:.2f}x, "
            f"where one GPU's {one['rates'][share]:,.0f} at {share} allow {most:.2f}x"
        )
    print(f"the exchange alone: {1e3 * several['exchange']:.2f} ms")


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256, 512], help="segments per step, of all GPUs")
    parser.add_argument("--steps", type=int, default=50, help="number of steps whose losses are compared")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        work(options.batch, options.steps, options.gpus, options.write)
    else:
        compare(options.gpus, options.batch, options.steps)


if __name__ == "__main__":
    main()
