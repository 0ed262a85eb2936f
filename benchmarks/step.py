"""Rate of a whole training step in segments per second, one row per optimisation, against the published code's model.

    python -m benchmarks.step [--batch 64 256] [--rows …]     the table

Random data and random weights at the sizes of the paper: wav2vec 2.0 base, AlexNet, the BiLSTM. Rates are medians of
rounds in one process; on the CPU, every row has its own process, since memory that one row keeps would help the next.
The reference is timed first and last, and the table shows its drift.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import alexnet
from transformers import Wav2Vec2Config, Wav2Vec2Model

from benchmarks.paper_step import CLASSES, CONFIG, arithmetic, make_batch, make_model, make_optimiser, measure
from ser_pipeline.data.batch import Batch
from ser_pipeline.device import keep_memory
from ser_pipeline.model.fast import PLAIN, FastPaths, accelerate
from ser_pipeline.model.fast.graph import Captured

BEFORE = "+ dropout of four masks a random word (CPU)"
"""Last row of the optimisations that existed before the Triton kernels."""
NOW = "+ AlexNet's first convolution on one channel"
"""Row with all optimisations that a run uses by default."""


class Reference(nn.Module):
    """The published model: transformers' wav2vec 2.0 unmodified, and AlexNet with its unused classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.alexnet = alexnet(num_classes=CLASSES)
        self.lstm = nn.LSTM(40, 256, 2, batch_first=True, dropout=0.5, bidirectional=True)
        self.speech = Wav2Vec2Model(Wav2Vec2Config())
        self.image, self.mfcc = nn.Linear(9_216, 128), nn.Linear(153_600, 128)
        self.weights, self.wave = nn.Linear(256, 149), nn.Linear(768, 128)
        self.first, self.second, self.last = nn.Linear(384, 128), nn.Linear(128, 128), nn.Linear(128, CLASSES)
        self.dropout = nn.Dropout(0.1)

    def forward(self, image: Tensor, mfcc: Tensor, wave: Tensor) -> Tensor:
        """Logits of prepared float32 inputs."""
        seen = self.alexnet.avgpool(self.alexnet.features(image))
        self.alexnet.classifier(seen.flatten(1))
        seen = F.relu(self.image(self.dropout(seen.flatten(1))))
        heard = F.relu(self.mfcc(self.dropout(self.lstm(F.normalize(mfcc, dim=2))[0].flatten(1))))
        weights = F.relu(self.weights(self.dropout(torch.cat([seen, heard], 1))))
        said = torch.matmul(weights[:, None], self.speech(wave).last_hidden_state)[:, 0]
        said = F.relu(self.wave(self.dropout(said)))
        fused = F.relu(self.first(self.dropout(torch.cat([seen, heard, said], 1))))
        logits: Tensor = self.last(F.relu(self.second(self.dropout(fused))))
        return logits


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    title: str
    reference: bool = False
    loader: bool = False  # prepared float32 items through a DataLoader of one process, as in the published code
    tf32: bool = False
    bf16: bool = True
    graph: bool = True
    paths: FastPaths = field(default_factory=lambda: PLAIN)


def rows() -> list[Row]:
    """The optimisations in sequence, each added to those before it."""
    table = [
        Row("reference, fp32", reference=True, bf16=False, graph=False),
        Row("reference, fp32, one DataLoader process", reference=True, loader=True, bf16=False, graph=False),
        Row("reference, TF32", reference=True, tf32=True, bf16=False, graph=False),
        Row("own model, plain modules, fp32", bf16=False, graph=False),
        Row("own model, fast modules, fp32", bf16=False, graph=False, paths=FastPaths()),
        Row("own model, plain modules, bf16 autocast", graph=False),
        Row("+ whole step as a CUDA graph"),
    ]
    paths = PLAIN
    steps = {
        "convolutions": "+ feature encoder as matrix products",
        "positions": "+ positional convolution by FFT",
        "layers": "+ transformer layers with fused attention",
        "compiled": "+ transformer layers compiled",
        "channels_last": "+ AlexNet with channels last",
        "streams": "+ BiLSTM and AlexNet on streams of their own",
        "dropout": BEFORE,
        "lstm": "+ BiLSTM as a kernel a layer",
        "kernels": "+ transformer's attention, GELU, norms as kernels, not compiled",
        "grey": NOW,
    }
    for name, title in steps.items():
        paths = replace(paths, **{name: True})
        table.append(Row(title, paths=paths))
    table.append(Row("all of these without the CUDA graph", graph=False, paths=paths))
    return table


def make_step(row: Row, size: int, device: torch.device) -> Callable[[], object]:
    """A training step that can be called repeatedly."""
    torch.manual_seed(0)
    if row.reference:
        return _reference_step(row, size, device)
    batch = make_batch(size, device)
    model = accelerate(make_model(device), device, half=row.bf16, paths=row.paths)
    optimiser = make_optimiser(model, device, fused=True)
    names = tuple(batch.inputs)

    def step(*parts: Any) -> Tensor:
        batch = Batch.of(names, parts)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16) if row.bf16 else nullcontext():
            output = model(batch)
        loss = F.cross_entropy(output.logits.float(), batch.label)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    taken = Captured(step, "steps") if row.graph and device.type == "cuda" else step
    return lambda: taken(*batch.tensors())


def _reference_step(row: Row, size: int, device: torch.device) -> Callable[[], object]:
    model = Reference().to(device)
    optimiser = make_optimiser(model, device, fused=False)
    items = [
        (torch.randn(3, 256, 384), torch.randn(300, 40), torch.randn(CONFIG.audio.segment), torch.tensor(0))
        for _ in range(size)
    ]
    resident = [torch.stack(column).to(device) for column in zip(*items, strict=True)]

    def batches() -> Iterator[list[Tensor]]:
        while row.loader:
            yield from torch.utils.data.DataLoader(items, size, shuffle=True)  # type: ignore[arg-type]
        while True:
            yield resident

    source = batches()

    def step() -> Tensor:
        image, mfcc, wave, label = (part.to(device) for part in next(source))
        loss = F.cross_entropy(model(image, mfcc, wave), label)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    return step


def table(sizes: list[int], chosen: list[int], device: torch.device, seconds: float) -> None:
    """Print one line per row, and the drift of the reference."""
    every = rows()
    for size in sizes:
        print(f"\nbatch {size}", flush=True)
        print(f"{'step':58} {'segments/s':>10} {'ms':>8} {'ratio':>6} {'GB':>6}", flush=True)
        plain, found = 0.0, {}
        for number in (*chosen, -1):
            row = every[max(number, 0)]
            try:
                rate, memory = _rate(row, size, device, seconds)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                print(f"{row.title:58} failed: {str(error).splitlines()[0][:120]}", flush=True)
                continue
            plain = plain or rate
            title = row.title if number >= 0 else "reference, fp32, again"
            found[title] = 1e3 * size / rate
            print(f"{title:58} {rate:10.4g} {found[title]:8.1f} {rate / plain:6.2f} {memory:6.1f}", flush=True)
        if BEFORE in found and NOW in found:
            print(f"before Triton's kernels {found[BEFORE]:.1f} ms, now {found[NOW]:.1f} ms", flush=True)


def _rate(row: Row, size: int, device: torch.device, seconds: float) -> tuple[float, float]:
    """Segments per second, and peak memory in GB."""
    if device.type == "cpu":
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_rate_here, row, size, device, seconds).result()
    return _rate_here(row, size, device, seconds)


def _rate_here(row: Row, size: int, device: torch.device, seconds: float) -> tuple[float, float]:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif not row.reference:
        keep_memory()
    with arithmetic(tf32=row.tf32 or (row.bf16 and not row.reference)):
        step = make_step(row, size, device)
        rate = size / measure(step, device, seconds)
        del step
    if device.type == "cuda":
        return rate, torch.cuda.max_memory_allocated() / 2**30
    return rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256], help="segments per step")
    every = list(range(len(rows())))
    parser.add_argument("--rows", type=int, nargs="+", default=every, help="rows of the table, from 0")
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each row")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(torch.cuda.get_device_name() if device.type == "cuda" else "CPU", torch.__version__, flush=True)
    table(arguments.batch, arguments.rows, device, arguments.seconds)


if __name__ == "__main__":
    main()
