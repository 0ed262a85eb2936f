"""Training of one fold, from random or pre-trained weights to its test predictions; it can resume after any epoch."""

from __future__ import annotations

import gc
import logging
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ser_pipeline.arrays import Array, Rows
from ser_pipeline.cache.targeted import values_of
from ser_pipeline.config import Config
from ser_pipeline.cost import Meter
from ser_pipeline.data.augment import drawings
from ser_pipeline.data.neighbours import BatchSource
from ser_pipeline.data.stream import Data, order
from ser_pipeline.device import autocasting, fixed_threads, made_on, precision, set_arithmetic
from ser_pipeline.entry import Entry, read_json, write_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.inputs import INPUTS
from ser_pipeline.model import SpeechEmotionModel, build_model
from ser_pipeline.model.fast import accelerate
from ser_pipeline.model.kept import keep_weights
from ser_pipeline.runs import layout
from ser_pipeline.splits.folds import Fold
from ser_pipeline.training import scoring
from ser_pipeline.training.checkpoint import Checkpoints, FoldProgress, Record, spare
from ser_pipeline.training.context import FoldContext
from ser_pipeline.training.distributed import World
from ser_pipeline.training.finish import finish_fold
from ser_pipeline.training.groups import freeze, frozen_names
from ser_pipeline.training.linear import HEADS, solve_head
from ser_pipeline.training.objective import outputs_of
from ser_pipeline.training.rows import NumberedSource
from ser_pipeline.training.rowwise import BY_ROW, Rowwise, RowwiseStep, fit_statistics, fits, forward_of
from ser_pipeline.training.scoring import Forward
from ser_pipeline.training.step import Step
from ser_pipeline.training.trackers import log_scores

log = logging.getLogger(__name__)


def fit(
    entry: Entry,
    fold: Fold,
    data: Data,
    source: BatchSource,
    config: Config,
    device: torch.device,
    *,
    micro: int = 0,
    world: World | None = None,
    trackers: tuple[str, ...] = (),
) -> Path:
    """Train a fold, choose its epoch, test it, and write its folder; return the folder.

    If an earlier call was stopped, training resumes from the last saved epoch.

    Args:
        entry: the folder of the fold.
        fold: the training, validation and test rows.
        data: the rows on disk.
        source: yields batches.
        config: the settings.
        device: the device of training.
        micro: segments computed at once, for a batch that does not fit into memory; 0 for the whole batch.
        world: the processes that share a batch; None for this process alone.
        trackers: names of trackers that also log epochs and scores.

    Raises:
        PipelineError: the loss is not finite, or the device is out of memory.
    """
    with fixed_threads(config.train.threads):
        autocast = autocasting(config, device)
        meter = Meter(gpu=device.type != "cpu")
        source = NumberedSource(source) if device.type == "cpu" else source
        world = world or World()
        return _fit(entry, FoldContext(fold, data, source, config, device, world, autocast, micro, meter, trackers))


def _fit(entry: Entry, context: FoldContext) -> Path:
    """Train, test and write the fold of `context`; return its folder."""
    config, device, folder = context.config, context.device, entry.partial
    if context.world.is_main:
        entry.begin()
    if context.world.broadcast((folder / "index.json").exists()):  # killed just before the folder got its final name
        if context.world.is_main:
            entry.publish(discard=spare(folder), digests=True, made=made_on(device, config))
        return entry.path
    set_arithmetic(config, device)
    if device.type == "cuda":
        gc.collect()  # a step and its graph refer to each other, so this frees the last fold's memory
        torch.cuda.empty_cache()  # returns it to the device, for other processes and for libraries
        torch.cuda.reset_peak_memory_stats(device)
    started = time.monotonic()
    kept = Checkpoints(folder, context.trackers)
    model = make_model(kept, context)
    progress = SOLVERS[config.train.solver](model, kept, context)
    if context.world.is_main:
        complete(entry, model, kept, progress, context, time.monotonic() - started)
    context.world.barrier()
    return entry.path


def complete(
    entry: Entry,
    model: SpeechEmotionModel,
    kept: Checkpoints,
    progress: FoldProgress,
    context: FoldContext,
    seconds: float,
) -> None:
    """Test a trained fold with the weights of its best epoch, and give its folder the final name.

    Args:
        entry: the folder of the fold.
        model: loads the weights of the best epoch.
        kept: the checkpoints.
        progress: the epochs.
        context: the fold, its data and settings.
        seconds: duration of training.
    """
    model.load_state_dict(load_file(kept.best(progress), device=str(context.device)))
    finish_fold(entry.partial, model, progress, context, seconds)
    keep_weights(kept.best(progress), entry.partial, frozen_names(model))
    log_scores(context.trackers, entry.partial, progress.history)
    entry.publish(discard=spare(entry.partial), digests=True, made=made_on(context.device, context.config))


def _train(model: SpeechEmotionModel, kept: Checkpoints, context: FoldContext) -> FoldProgress:
    """Train to the last epoch, starting after the last saved one."""
    step = make_step(model, context)
    progress = kept.resume(step)
    if progress.epoch and context.world.rank:
        torch.manual_seed(context.seed + context.world.rank + 1000 * progress.epoch)
    forward = forward_of(step, context)
    try:
        while not progress.finished(context.config):
            _epoch(progress, step, forward, context)
            if context.world.is_main:
                kept.save(progress, step, last=progress.finished(context.config))
        kept.wait()
    except torch.OutOfMemoryError:
        raise PipelineError(_too_large(context)) from None
    finally:
        kept.close()
        forward.release()
        step.release()
    return progress


def _solve(model: SpeechEmotionModel, kept: Checkpoints, context: FoldContext) -> FoldProgress:
    """Solve a linear head, and record it as one epoch of training."""
    started, meter = time.monotonic(), Meter(context.on_gpu)
    progress = kept.solved()
    if progress.epoch:
        return progress
    manifest, fold, device = context.data.manifest, context.fold, context.device
    loss = solve_head(
        model,
        (part for batch in context.segments(fold.train) for part in drawings(batch)),
        context.segments(fold.validation),
        context.objective,
        context.config.train,
        [utterance.speaker for utterance in manifest.utterances],
    )
    seconds = time.monotonic() - started
    rate = {"segments_per_second": round(int(manifest.counts[fold.train].sum()) / seconds, 1)}
    record = {"epoch": 1, "loss": loss, "lr": 0.0, **rate, **_validate(Forward(model, context.autocast), context)}
    if device.type == "cuda":
        record["memory_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
    progress.add({**record, "seconds": round(time.monotonic() - started, 3), **meter.read()}, "last")
    kept.keep(progress, model)
    return progress


def make_model(kept: Checkpoints, context: FoldContext) -> SpeechEmotionModel:
    """Build the model on its device, with weights from the fold's seed; load pre-trained weights unless it resumes."""
    config, data, folder, resumed = context.config, context.data, kept.folder, kept.begun
    torch.manual_seed(context.seed)
    model = build_model(
        config.model,
        audio=config.model_audio,
        features=config.features,
        classes=outputs_of(config.train.target, len(data.manifest.labels)),
        pretrained=not resumed,
        speech_settings=read_json(folder / layout.SPEECH) if resumed and (folder / layout.SPEECH).exists() else None,
    )
    if model.speech_settings and not resumed and context.world.is_main:
        write_json(folder / layout.SPEECH, model.speech_settings)
    for name in data.inputs:
        if INPUTS[name].extremes:
            model.fit_scaler(name, *map(torch.from_numpy, _extremes(name, context)))
    freeze(model, config.model)
    model = model.to(context.device)
    kept.require_drawn(BY_ROW if fits(model, context) else None)
    if not kept.begun:
        fit_statistics(model, context)
    context.world.broadcast_tensors(model.state_dict().values())
    half = precision(config.train.precision, context.device) == "bf16"
    return accelerate(model, context.device, half=half)


def _extremes(name: str, context: FoldContext) -> tuple[Array, Array]:
    """Return the minimum and maximum of each bin, uint8 (F,), over the training rows with their padding."""
    low, high = context.data.extremes(name, context.fold.train)
    manifest, hop = context.data.manifest, context.config.audio.hop
    real = manifest.segments[manifest.rows(context.fold.train), 2]
    if context.config.model.pad_loud and (1 + real // hop < manifest.audio.frames).any():
        high = np.full_like(high, 255)
    return low, high


def make_step(model: SpeechEmotionModel, context: FoldContext) -> Step:
    """Build the training step of `model`, at the start of its schedule."""
    config, world = context.config, context.world
    torch.manual_seed(context.seed + world.rank)  # processes draw different dropout masks
    kind = partial(RowwiseStep, rowwise=Rowwise(model, context)) if fits(model, context) else Step
    return kind(
        model,
        config,
        objective=context.objective,
        steps=config.train.epochs * -(-len(epoch_rows(context, 0)) // config.train.batch),
        weights=_class_weights(context) if config.train.class_weights else None,
        autocast=context.autocast,
        micro=context.micro,
        world=world,
    )


def _class_weights(context: FoldContext) -> Tensor:
    """Return class weights (C,), inverse to the class's share of training segments, with a mean of 1 over segments."""
    manifest, train = context.data.manifest, context.fold.train
    shares = values_of(manifest, context.objective.row)[train, : context.objective.classes]
    counts = (shares * manifest.counts[train][:, None]).sum(0)
    weights = counts.sum() / np.maximum(counts, 1) / np.count_nonzero(counts)
    return torch.tensor(weights, dtype=torch.float32, device=context.device)


def epoch_rows(context: FoldContext, epoch: int) -> Rows:
    """Return the training segments of an epoch in their order."""
    manifest, train = context.data.manifest, context.fold.train
    settings = context.config.train
    parts = manifest.target[train] if settings.balanced else np.zeros(len(train), np.int64)
    if settings.corpus_weights == "equal":
        _, corpus = np.unique([manifest.utterances[row].corpus for row in train.tolist()], return_inverse=True)
        parts = parts + corpus * len(manifest.labels)
    if settings.balanced or settings.corpus_weights == "equal":
        several = [train[parts == part] for part in np.unique(parts)]
        most = max(map(len, several))
        train = np.concatenate([np.resize(order(rows, context.seed, epoch), most) for rows in several])
    return order(manifest.rows(train), context.seed, epoch)


def shares(rows: Rows, batch: int, world: World) -> tuple[Rows, list[tuple[int, int]]]:
    """Return this process's rows, and for every step the number of rows that count in this process and in total.

    In each step, a process takes the rows after those of the previous process, as micro-batches do in a single process.
    Steps are padded with rows that do not count, so that they have the same size in all processes.

    Args:
        rows: rows (S,) in the order of the epoch.
        batch: rows of a step over all processes.
        world: the processes.

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


def _epoch(progress: FoldProgress, step: Step, forward: Forward, context: FoldContext) -> None:
    """Train an epoch, evaluate it on the validation rows, and add both to `progress`."""
    started, meter = time.monotonic(), Meter(context.on_gpu)
    config, world = context.config, context.world
    rows = epoch_rows(context, progress.epoch)
    mine, counts = shares(rows, config.train.batch, world)
    batches = context.source.batches(mine, len(mine) // len(counts))
    summed = torch.stack([step(batch, real, total) for batch, (real, total) in zip(batches, counts, strict=True)])
    require_finite(summed, context, progress.epoch + 1)
    loss = float(summed.sum()) / sum(real for real, _ in counts)
    seconds = time.monotonic() - started
    record = {
        "epoch": progress.epoch + 1,
        "loss": loss,
        "lr": float(step.rate),
        "segments_per_second": round(len(rows) / seconds, 1),
        **_validate(forward, context),
        "seconds": round(time.monotonic() - started, 3),
        **meter.read(),
    }
    if context.device.type == "cuda":
        record["memory_gb"] = round(torch.cuda.max_memory_allocated(context.device) / 1e9, 2)
    progress.add(record, config.train.monitor)


def _validate(forward: Forward, context: FoldContext) -> Record:
    """Return the loss, WA, UA and CCC of the validation rows, as far as the target has them, from the first process."""
    row, rows = context.objective.row, context.fold.validation
    found = {"validation_loss": 0.0, **dict.fromkeys(["wa", "ua"] * row.classes + ["ccc"] * row.attributes, 0.0)}
    if context.world.is_main:
        found |= scoring.measured(context.score(forward, rows), context.data.manifest, rows)
    return {name: context.world.broadcast(value) for name, value in found.items()}


def require_finite(losses: Tensor, context: FoldContext, epoch: int) -> None:
    """Stop a fold whose loss is not finite, and name the first batch with such a loss.

    Args:
        losses: the loss of every batch (N,).
        context: the fold.
        epoch: number of the epoch, counted from 1.

    Raises:
        PipelineError: a loss is not finite.
    """
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        raise PipelineError(
            f"fold {context.fold.name}, epoch {epoch}, batch {int(bad[0]) + 1}: the loss is {float(losses[bad[0]])}; "
            "a smaller train.lr, train.clip=1 or train.precision=fp32 may help"
        )


def _too_large(context: FoldContext) -> str:
    size = context.micro or context.config.train.batch
    return (
        f"fold {context.fold.name}: {size} segments at once do not fit into the memory of {context.device}; "
        f"--micro-batch {max(1, size // 2)} gives the same result with less memory"
    )


SOLVERS = {"adamw": _train, **dict.fromkeys(HEADS, _solve)}
"""Function that trains or solves a fold's model, by `train.solver`."""
