"""One fold from random or pre-trained weights to its test predictions, resumable at every epoch."""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from ser_pipeline import evaluate
from ser_pipeline.batch import Batch
from ser_pipeline.config import Config
from ser_pipeline.entry import Entry, write_json, write_text, writing
from ser_pipeline.errors import PipelineError
from ser_pipeline.folds import Fold
from ser_pipeline.model import build_model
from ser_pipeline.stream import Data, order

Rows = NDArray[np.int64]
Record = dict[str, Any]

EVALUATION = 2  # times the training batch
STATE = "last.pt"
WEIGHTS = "model.safetensors"

log = logging.getLogger(__name__)


class Source(Protocol):
    """Where batches come from."""

    def batches(self, rows: Rows, size: int) -> Iterator[Batch]:
        """Batches of `size` of the segment rows `rows`, in their order."""


@dataclass
class Course:
    """How far a fold has come: what a resumed one needs to go on as if it had never stopped."""

    history: list[Record] = field(default_factory=list)
    best: float = -np.inf
    best_epoch: int = 0

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def finished(self, config: Config) -> bool:
        """Whether the fold has had its epochs, or its patience is out."""
        return self.epoch >= config.train.epochs or self.epoch - self.best_epoch >= config.train.patience


def fit(entry: Entry, fold: Fold, data: Data, source: Source, config: Config, device: torch.device) -> Path:
    """Train, choose the epoch, test, and write the fold's folder; returns it.

    Goes on from the last finished epoch where an earlier call was stopped.

    Raises:
        PipelineError: the loss is no longer a number, or the device is out of memory.
    """
    started = time.monotonic()
    folder = entry.partial
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "index.json").exists():  # killed between the last file and the final name
        return entry.publish(discard=[STATE])
    torch.manual_seed(_seed(config.seed, fold.name))
    model = build_model(config.model, audio=config.audio, features=config.features, classes=len(data.manifest.labels))
    if "spectrogram" in data.stores:
        model.fit_scaler(*map(torch.from_numpy, data.stores["spectrogram"].extremes(fold.train)))
    model.to(device)
    optimiser = torch.optim.AdamW(
        (p for p in model.parameters() if p.requires_grad), lr=config.train.lr, weight_decay=config.train.weight_decay
    )
    course = _resume(folder, model, optimiser)
    autocast = autocasting(config, device)
    while not course.finished(config):
        _epoch(course, model, optimiser, data, source, fold, config, autocast)
        _checkpoint(folder, course, model, optimiser)
    model.load_state_dict(load_file(_best(folder, course), device=str(device)))
    result = _test(folder, model, data, source, fold, config, autocast)
    best = course.history[course.best_epoch - 1]
    write_json(
        folder / "result.json",
        {
            "fold": fold.name,
            "best_epoch": course.best_epoch,
            "epochs": course.epoch,
            "seconds": round(sum(record["seconds"] for record in course.history) + time.monotonic() - started, 3),
            "train": len(fold.train),
            "validation": {"wa": best["wa"], "ua": best["ua"], "loss": best["validation_loss"]},
            **result,
        },
    )
    _best(folder, course).replace(folder / WEIGHTS)
    return entry.publish(discard=[STATE])


def autocasting(config: Config, device: torch.device) -> Callable[[], Any]:
    """Context manager of the arithmetic: bf16 autocast, or plain float32."""
    if precision(config.train.precision, device) == "bf16":
        return partial(torch.autocast, device.type, torch.bfloat16)
    return nullcontext


def precision(wanted: str, device: torch.device) -> str:
    """ "fp32" or "bf16": `wanted`, or where that is "auto", bf16 on a CUDA device that has it."""
    if wanted != "auto":
        return wanted
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def _epoch(
    course: Course,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    data: Data,
    source: Source,
    fold: Fold,
    config: Config,
    autocast: Callable[[], Any],
) -> None:
    """Train an epoch, measure it on the validation rows, and add both to the course."""
    started = time.monotonic()
    rows = order(data.manifest.rows(fold.train), _seed(config.seed, fold.name), course.epoch)
    model.train()
    losses = []
    for batch in source.batches(rows, config.train.batch):
        with autocast():
            output = model(batch)
        loss = F.cross_entropy(output.logits.float(), batch.label)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.detach() * len(batch.label))
    total = float(torch.stack(losses).sum()) / len(rows)
    seconds = time.monotonic() - started
    if not np.isfinite(total):
        raise PipelineError(
            f"fold {fold.name}, epoch {course.epoch + 1}: the loss is {total}; "
            "a smaller train.lr or --set train.precision=fp32 may help"
        )
    scores = _score(model, data, source, fold.validation, config, autocast)
    confusion = evaluate.confusion(scores, data.manifest, fold.validation)
    record = {
        "epoch": course.epoch + 1,
        "loss": total,
        "lr": optimiser.param_groups[0]["lr"],
        "validation_loss": scores.loss,
        "wa": confusion.wa,
        "ua": confusion.ua,
        "seconds": round(time.monotonic() - started, 3),
        "segments_per_second": round(len(rows) / seconds, 1),
    }
    course.history.append(record)
    gain = {"loss": -scores.loss, "wa+ua": confusion.wa + confusion.ua}.get(config.train.monitor)
    value = record[config.train.monitor] if gain is None else gain
    if value > course.best:
        course.best, course.best_epoch = value, course.epoch


def _score(
    model: nn.Module, data: Data, source: Source, utterances: Rows, config: Config, autocast: Callable[[], Any]
) -> evaluate.Scores:
    rows = data.manifest.rows(utterances)
    return evaluate.score(model, source.batches(rows, EVALUATION * config.train.batch), autocast)


def _test(
    folder: Path,
    model: nn.Module,
    data: Data,
    source: Source,
    fold: Fold,
    config: Config,
    autocast: Callable[[], Any],
) -> Record:
    """Write the test predictions, and what becomes of them when an input is shuffled or silenced."""
    size = EVALUATION * config.train.batch
    rows = data.manifest.rows(fold.test)
    scores = _score(model, data, source, fold.test, config, autocast)
    probes = {}
    for name in config.model.inputs:
        others = source.batches(evaluate.shuffled(data.manifest, fold.test, config.seed), size)
        for kind, change in (("shuffled", evaluate.swapped(name, others)), ("zeroed", evaluate.zeroed(name))):
            changed = evaluate.score(model, source.batches(rows, size), autocast, change)
            probes[f"{kind}:{name}"] = changed.log_prob
    evaluate.write_segments(folder / "segments.npz", scores, data.manifest, fold.test, probes)
    evaluate.write_predictions(folder / "predictions.csv", scores, data.manifest, fold.test)
    confusion = evaluate.confusion(scores, data.manifest, fold.test)
    return {"wa": confusion.wa, "ua": confusion.ua, "counts": confusion.counts.tolist()}


def _checkpoint(folder: Path, course: Course, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Keep the epoch: its weights where they are the best yet, then all that a resumed fold needs."""
    if course.best_epoch == course.epoch:
        with writing(folder / _weights(course.epoch)) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "random": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "history": course.history,
        "best": course.best,
        "best_epoch": course.best_epoch,
    }
    with writing(folder / STATE) as temporary:
        torch.save(state, temporary)
    write_text(folder / "history.jsonl", "".join(json.dumps(record) + "\n" for record in course.history))
    for old in folder.glob("epoch-*.safetensors"):
        if old.name != _weights(course.best_epoch):
            old.unlink()


def _resume(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> Course:
    """The course of a fold that was stopped, with its state put back; a new one otherwise."""
    file = folder / STATE
    if not file.exists():
        return Course()
    state = torch.load(file, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    torch.set_rng_state(state["random"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    return Course(state["history"], state["best"], state["best_epoch"])


def _best(folder: Path, course: Course) -> Path:
    """The weights of the best epoch; under their final name once the fold has been tested."""
    file = folder / _weights(course.best_epoch)
    return file if file.exists() else folder / WEIGHTS


def _weights(epoch: int) -> str:
    return f"epoch-{epoch}.safetensors"


def _seed(seed: int, name: str) -> int:
    """A seed of a fold's own, the same on every machine."""
    return zlib.crc32(f"{seed}:{name}".encode())
