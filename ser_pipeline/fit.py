"""One fold from random or pre-trained weights to its test predictions, resumable at every epoch."""

from __future__ import annotations

import gc
import logging
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from ser_pipeline import evaluate
from ser_pipeline.arithmetic import autocasting, precision, set_arithmetic
from ser_pipeline.batch import Batch
from ser_pipeline.checkpoint import STATE, WEIGHTS, Checkpoints, Course, Record
from ser_pipeline.config import Config
from ser_pipeline.distributed import World
from ser_pipeline.entry import Entry, read_json, write_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.evaluate import Forward
from ser_pipeline.folds import Fold
from ser_pipeline.model import SpeechEmotionModel, build_model
from ser_pipeline.model.fast import accelerate
from ser_pipeline.neighbours import Source
from ser_pipeline.step import Step
from ser_pipeline.stream import Data, order

Rows = NDArray[np.int64]

EVALUATION = 4  # times the training batch: without gradients that takes less memory than a step
SPEECH = "speech.json"  # configuration of the speech encoder, so that the weights alone rebuild the model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitting:
    """What stays the same while a fold is trained."""

    fold: Fold
    data: Data
    source: Source
    config: Config
    device: torch.device
    world: World
    autocast: Callable[[], Any]
    micro: int = 0  # segments computed at a time; 0: the whole batch

    @property
    def seed(self) -> int:
        """The fold's own seed, the same on every machine."""
        return zlib.crc32(f"{self.config.seed}:{self.fold.name}".encode())

    def score(self, forward: Forward, utterances: Rows, change: evaluate.Change | None = None) -> evaluate.Scores:
        """The model's output over the segments of `utterances`."""
        return evaluate.score(forward, self.segments(utterances), change)

    def swapped(self, name: str) -> evaluate.Change:
        """A change of test batches that gives every utterance another one's input `name`."""
        rows = evaluate.shuffled(self.data.manifest, self.fold.test, self.config.seed)
        return evaluate.swapped(name, self._large(rows))

    def segments(self, utterances: Rows) -> Iterator[Batch]:
        """The segments of `utterances`, in batches as large as those of an evaluation."""
        return self._large(self.data.manifest.rows(utterances))

    def _large(self, rows: Rows) -> Iterator[Batch]:
        return self.source.batches(rows, EVALUATION * (self.micro or self.config.train.batch))


def fit(
    entry: Entry,
    fold: Fold,
    data: Data,
    source: Source,
    config: Config,
    device: torch.device,
    *,
    micro: int = 0,
    world: World | None = None,
) -> Path:
    """Train, choose the epoch, test, and write the fold's folder; returns it.

    Goes on from the last finished epoch where an earlier call was stopped. `micro` segments are computed at a
    time where the batch does not fit into memory; in a `world` of several processes the batch is shared out.

    Raises:
        PipelineError: the loss is no longer a number, or the device is out of memory.
    """
    folder = entry.partial
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "index.json").exists():  # killed between the last file and the final name
        return entry.publish(discard=[STATE])
    fitting = Fitting(fold, data, source, config, device, world or World(), autocasting(config, device), micro)
    set_arithmetic(config, device)
    if device.type == "cuda":
        gc.collect()  # a step and its graph know each other: the last fold's memory is free only now
        torch.cuda.empty_cache()  # and is the device's again, for the processes beside this one and for its libraries
        torch.cuda.reset_peak_memory_stats(device)
    started = time.monotonic()
    kept = Checkpoints(folder)
    model = _model(kept, fitting)
    course = _train(model, kept, fitting)
    if fitting.world.leads:
        model.load_state_dict(load_file(kept.best(course), device=str(device)))
        _finish(folder, model, course, fitting, time.monotonic() - started)
        kept.best(course).replace(folder / WEIGHTS)
        entry.publish(discard=[STATE])
    fitting.world.wait()
    return entry.path


def _train(model: SpeechEmotionModel, kept: Checkpoints, fitting: Fitting) -> Course:
    """Train to the last epoch, from the one after the last that was kept."""
    step = _step(model, fitting)
    course = kept.resume(step)
    if course.epoch and fitting.world.rank:
        torch.manual_seed(fitting.seed + fitting.world.rank + 1000 * course.epoch)
    forward = Forward(step.evaluated, fitting.autocast, step.pool)
    try:
        while not course.finished(fitting.config):
            _epoch(course, step, forward, fitting)
            if fitting.world.leads:
                kept.save(course, step, last=course.finished(fitting.config))
        kept.wait()
    except torch.OutOfMemoryError:
        raise PipelineError(_too_large(fitting)) from None
    finally:
        kept.close()
        forward.release()
        step.release()
    return course


def _model(kept: Checkpoints, fitting: Fitting) -> SpeechEmotionModel:
    """The model on its device, its weights as the fold's seed has them; pre-trained ones only at the very start."""
    config, data, folder, resumed = fitting.config, fitting.data, kept.folder, kept.begun
    torch.manual_seed(fitting.seed)
    model = build_model(
        config.model,
        audio=config.heard,
        features=config.features,
        classes=len(data.manifest.labels),
        pretrained=not resumed,
        speech_settings=read_json(folder / SPEECH) if resumed and (folder / SPEECH).exists() else None,
    )
    if model.speech_settings and not resumed and fitting.world.leads:
        write_json(folder / SPEECH, model.speech_settings)
    if "spectrogram" in data.stores:
        model.fit_scaler(*map(torch.from_numpy, data.stores["spectrogram"].extremes(fitting.fold.train)))
    model = model.to(fitting.device)
    if not resumed:
        model.fit_statistics(fitting.segments(fitting.fold.train))
    fitting.world.copy_first(model.state_dict().values())
    half = precision(config.train.precision, fitting.device) == "bf16"
    return accelerate(model, fitting.device, half=half)


def _step(model: SpeechEmotionModel, fitting: Fitting) -> Step:
    config, world = fitting.config, fitting.world
    torch.manual_seed(fitting.seed + world.rank)  # every process draws dropout of its own
    return Step(
        model,
        config,
        classes=len(fitting.data.manifest.labels),
        steps=config.train.epochs * -(-len(_rows(fitting, 0)) // config.train.batch),
        weights=_class_weights(fitting) if config.train.class_weights else None,
        autocast=fitting.autocast,
        micro=fitting.micro,
        world=world,
    )


def _class_weights(fitting: Fitting) -> Tensor:
    """(C,) inverse of each class's share of the training segments, 1 on average over them."""
    manifest, train = fitting.data.manifest, fitting.fold.train
    counts = np.bincount(manifest.target[train], manifest.counts[train], len(manifest.labels))
    weights = counts.sum() / np.maximum(counts, 1) / np.count_nonzero(counts)
    return torch.tensor(weights, dtype=torch.float32, device=fitting.device)


def _rows(fitting: Fitting, epoch: int) -> Rows:
    """The training segments of an epoch in their order."""
    manifest, train = fitting.data.manifest, fitting.fold.train
    if fitting.config.train.balanced:
        classes = [train[manifest.target[train] == label] for label in np.unique(manifest.target[train])]
        most = max(map(len, classes))
        drawn = [np.resize(order(rows, fitting.seed, epoch), most) for rows in classes]
        train = np.concatenate(drawn)
    return order(manifest.rows(train), fitting.seed, epoch)


def shares(rows: Rows, batch: int, world: World) -> tuple[Rows, list[tuple[int, int]]]:
    """This process's rows, equally many a step, and of every step how many count here and in all.

    A process takes the rows that follow those of the one before it, as micro-batches do in one process alone. Steps are
    filled up with rows that do not count, so that all have the same size in all processes.

    >>> shares(np.arange(5), 4, World(rank=1, size=2))
    (array([2, 3, 0, 0]), [(2, 4), (0, 1)])
    """
    steps, size = -(-len(rows) // batch), -(-batch // world.size)
    whole = np.full(steps * batch, rows[0])
    whole[: len(rows)] = rows
    filled = np.full((steps, size * world.size), rows[0])
    filled[:, :batch] = whole.reshape(steps, batch)
    totals = [min(batch, len(rows) - step * batch) for step in range(steps)]
    counts = [(min(max(total - world.rank * size, 0), size), total) for total in totals]
    return filled.reshape(steps, world.size, size)[:, world.rank].reshape(-1), counts


def _epoch(course: Course, step: Step, forward: Forward, fitting: Fitting) -> None:
    """Train an epoch, measure it on the validation rows, and add both to the course."""
    started = time.monotonic()
    config, world = fitting.config, fitting.world
    rows = _rows(fitting, course.epoch)
    mine, counts = shares(rows, config.train.batch, world)
    batches = fitting.source.batches(mine, len(mine) // len(counts))
    summed = torch.stack([step(batch, real, total) for batch, (real, total) in zip(batches, counts, strict=True)])
    _require_finite(summed, fitting, course.epoch + 1)
    loss = float(summed.sum()) / sum(real for real, _ in counts)
    seconds = time.monotonic() - started
    record = {
        "epoch": course.epoch + 1,
        "loss": loss,
        "lr": float(step.rate),
        "segments_per_second": round(len(rows) / seconds, 1),
        **_validate(forward, fitting),
        "seconds": round(time.monotonic() - started, 3),
    }
    if fitting.device.type == "cuda":
        record["memory_gb"] = round(torch.cuda.max_memory_allocated(fitting.device) / 1e9, 2)
    course.history.append(record)
    values = {
        "ua": record["ua"],
        "wa": record["wa"],
        "wa+ua": record["wa"] + record["ua"],
        "loss": -record["validation_loss"],
        "last": float(course.epoch),
    }
    value = values[config.train.monitor]
    if value > course.best:
        course.best, course.best_epoch = value, course.epoch


def _validate(forward: Forward, fitting: Fitting) -> Record:
    """Loss, WA and UA of the validation rows, measured by the first process."""
    found = [0.0, 0.0, 0.0]
    if fitting.world.leads:
        scores = fitting.score(forward, fitting.fold.validation)
        confusion = evaluate.confusion(scores, fitting.data.manifest, fitting.fold.validation)
        found = [scores.loss, confusion.wa, confusion.ua]
    return dict(zip(("validation_loss", "wa", "ua"), map(fitting.world.decide, found), strict=True))


def _require_finite(losses: Tensor, fitting: Fitting, epoch: int) -> None:
    """Stop a fold whose loss is no longer a number, naming the first batch that gave one."""
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        raise PipelineError(
            f"fold {fitting.fold.name}, epoch {epoch}, batch {int(bad[0]) + 1}: the loss is {float(losses[bad[0]])}; "
            "a smaller train.lr, train.clip=1 or train.precision=fp32 may help"
        )


def _too_large(fitting: Fitting) -> str:
    size = fitting.micro or fitting.config.train.batch
    return (
        f"fold {fitting.fold.name}: {size} segments at a time do not fit into the memory of {fitting.device}; "
        f"--micro-batch {max(1, size // 2)} gives the same result with less"
    )


def _finish(folder: Path, model: nn.Module, course: Course, fitting: Fitting, seconds: float) -> None:
    """Write the test predictions, what becomes of them when an input is shuffled or silenced, and the result."""
    manifest, test = fitting.data.manifest, fitting.fold.test
    forward = Forward(model, fitting.autocast)
    scores = fitting.score(forward, test)
    probes = {}
    for name in fitting.config.model.inputs:
        for kind, change in (("shuffled", fitting.swapped(name)), ("zeroed", evaluate.zeroed(name))):
            probes[f"{kind}:{name}"] = fitting.score(forward, test, change).log_prob
    evaluate.write_segments(folder / "segments.npz", scores, manifest, test, probes)
    if scores.attention is not None and "spectrogram" in fitting.data.stores:
        evaluate.write_examples(folder / "examples.npz", scores, manifest, fitting.source, test)
    evaluate.write_predictions(folder / "predictions.csv", scores, manifest, test)
    confusion = evaluate.confusion(scores, manifest, test)
    best = course.history[course.best_epoch - 1]
    result = {
        "fold": fitting.fold.name,
        "best_epoch": course.best_epoch,
        "epochs": course.epoch,
        "seconds": round(max(seconds, sum(record["seconds"] for record in course.history)), 3),
        "train": len(fitting.fold.train),
        "validation": {"wa": best["wa"], "ua": best["ua"], "loss": best["validation_loss"]},
        "wa": confusion.wa,
        "ua": confusion.ua,
        "silent": round(scores.silent, 4),
        "counts": confusion.counts.tolist(),
    }
    write_json(folder / "result.json", result)
