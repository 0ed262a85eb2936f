"""Training of all folds of a small head on stored features at once, in one process.

The results are the same as in training fold by fold. A stopped fold resumes from its own epoch, in either way. A fold
that finishes leaves the group.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ser_pipeline.arrays import Rows
from ser_pipeline.config import Config
from ser_pipeline.cost import Meter
from ser_pipeline.data.batch import Batch
from ser_pipeline.data.stream import Data, Resident
from ser_pipeline.device import autocasting, fixed_threads, made_on, set_arithmetic
from ser_pipeline.errors import PipelineError
from ser_pipeline.inputs import FRAMES, INPUTS, VECTOR
from ser_pipeline.model import SpeechEmotionModel
from ser_pipeline.parts import Parts
from ser_pipeline.runs.writing import Scores
from ser_pipeline.training import scoring
from ser_pipeline.training.checkpoint import Checkpoints, FoldProgress, Record, spare
from ser_pipeline.training.context import EVALUATION, FoldContext
from ser_pipeline.training.distributed import World
from ser_pipeline.training.fold import complete, epoch_rows, make_model, make_step, require_finite, shares
from ser_pipeline.training.stack import RandomState, Stack
from ser_pipeline.training.step import Step
from ser_pipeline.training.workers import FoldJob, data_of, fail, unforeseen

MEMORY = {"cpu": 1 << 30, "cuda": 8 << 30}
"""Largest memory of a step of all folds in bytes, by type of device."""

COPIES = 6
"""Approximate number of float32 copies of a batch's rows in a step."""

log = logging.getLogger(__name__)


@dataclass
class Member:
    """One of the folds that are trained together."""

    job: FoldJob
    context: FoldContext
    model: SpeechEmotionModel
    kept: Checkpoints
    step: Step
    progress: FoldProgress
    random: RandomState
    seconds: float  # duration of its start
    cost: dict[str, float]  # resources used by its start, to be added to its next epoch

    @property
    def finished(self) -> bool:
        """Whether it has trained all its epochs."""
        return self.progress.finished(self.context.config)


def stackable(config: Config, device: str) -> bool:
    """Whether all folds with these settings can be trained at once: a small head, by gradient, on stored features."""
    forms, kind = {INPUTS[name].form for name in config.model.reads}, device.partition(":")[0]
    masks = config.augment.mixup or (config.model.dropout and config.model.head != "linear")
    return (
        not (kind == "cuda" and masks)  # a captured step draws these in another order
        and config.train.solver == "adamw"
        and forms <= {VECTOR, FRAMES}
        and config.train.precision == "fp32"
        and kind in MEMORY
    )


def train_together(parts: Parts[FoldJob], todo: Sequence[FoldJob]) -> dict[Path, str]:
    """Train together the folds that can be, and that no other process trains; return errors by the fold's folder.

    The other folds are left for training one by one.

    Args:
        parts: hands out the jobs.
        todo: all jobs, starting with this process's share.

    Raises:
        PipelineError: the data cannot be read.
    """
    groups: dict[Config, list[FoldJob]] = defaultdict(list)
    failed = dict[Path, str]()
    for job in todo:
        if job.options.stack and stackable(job.config, job.devices[0]) and not job.options.micro:
            groups[replace(job.config, seed=0)].append(job)
    for jobs in groups.values():
        data, source = data_of(jobs[0], jobs[0].devices[0])
        _, count = jobs[0].options.part or (1, 1)
        size = min(_fitting(data, jobs[0].config, source), -(-len(jobs) // count))
        for first in range(0, len(jobs), size) if min(size, len(jobs)) > 1 else ():
            mine = [job.under(parts.claim(job)) for job in jobs[first : first + size] if parts.take(job)]
            if mine:
                _train_group(mine, data, source, failed)
            for job in mine:
                parts.end(job, failed.get(job.entry.path, ""))
    return failed


def _fitting(data: Data, config: Config, source: object) -> int:
    """Return the number of folds that fit into a step; 0 if their rows are streamed."""
    if not isinstance(source, Resident):
        return 0
    each = COPIES * 2 * config.train.batch * data.row_bytes
    return max(1, MEMORY[source.device.type] // each)


def _train_group(jobs: Sequence[FoldJob], data: Data, source: Resident, failed: dict[Path, str]) -> None:
    """Train folds with the same settings, and add errors to `failed`; if memory is too small they stay unfinished."""
    set_arithmetic(jobs[0].config, source.device)
    with fixed_threads(jobs[0].config.train.threads):
        try:
            members = [member for job in jobs for member in _begun(job, data, source, failed)]
            _train_members(members, source, failed)
        except torch.OutOfMemoryError:
            log.warning("%d folds at once do not fit into the memory of %s; training one by one", len(jobs), source)
        except Exception as error:
            if any(job.entry.lost and not job.whole for job in jobs):
                return  # this process was suspended, and another one has taken over a fold
            if isinstance(error, PipelineError):
                raise
            raise PipelineError(unforeseen(jobs[0], error)) from None


def _begun(job: FoldJob, data: Data, source: Resident, failed: dict[Path, str]) -> Iterator[Member]:
    """Yield the fold of a job, new or resumed; none if it cannot start, or if it only lacked its final name."""
    folder, started, meter = job.entry.partial, time.monotonic(), Meter(source.device.type != "cpu")
    job.entry.begin()
    if (folder / "index.json").exists():
        job.entry.publish(discard=spare(folder), digests=True, made=made_on(source.device, job.config))
        return
    device = source.device
    autocast, trackers = autocasting(job.config, device), job.options.trackers
    context = FoldContext(job.fold, data, source, job.config, device, World(), autocast, trackers=trackers)
    kept = Checkpoints(folder, trackers)
    try:
        model = make_model(kept, context)
        step = make_step(model, context)
        progress = kept.resume(step)
    except PipelineError as error:
        fail(job, str(error), failed)
        return
    yield Member(
        job, context, model, kept, step, progress, RandomState(device), time.monotonic() - started, meter.read()
    )


def _train_members(members: list[Member], source: Resident, failed: dict[Path, str]) -> None:
    """Train folds, one epoch of all at a time, until all are finished."""
    stack = None
    try:
        while members:
            for member in [member for member in members if member.finished]:
                _end(member)
                members.remove(member)
                stack = None
            if members:
                stack = stack or Stack([member.step for member in members], source)
                lost = _epoch(stack, members, failed)
                members = [member for member in members if member not in lost]
                stack = None if lost else stack
    finally:
        for member in members:
            member.kept.close()


def _end(member: Member) -> None:
    """Test a trained fold, and give its folder the final name."""
    member.kept.wait()
    member.kept.close()
    entry, context = member.job.entry, member.context
    trained = sum(record["seconds"] for record in member.progress.history)
    complete(entry, member.model, member.kept, member.progress, context, member.seconds + trained)


def _epoch(stack: Stack, members: Sequence[Member], failed: dict[Path, str]) -> list[Member]:
    """Train an epoch of every fold, evaluate it on the validation rows and save it; return the folds that failed."""
    started, meter = time.monotonic(), Meter(members[0].context.on_gpu)
    rows = [epoch_rows(member.context, member.progress.epoch) for member in members]
    losses = _steps(stack, members, rows).cpu()
    trained = time.monotonic() - started
    scores = _validate(stack, members)
    seconds, spent = time.monotonic() - started, meter.read(len(members))
    lost = []
    for member, mine, loss, found in zip(members, rows, losses.T, scores, strict=True):
        steps = -(-len(mine) // member.context.config.train.batch)
        member.step.taken(steps)
        try:
            require_finite(loss[:steps], member.context, member.progress.epoch + 1)
        except PipelineError as error:
            fail(member.job, str(error), failed)
            lost.append(member)
            continue
        record = {
            "epoch": member.progress.epoch + 1,
            "loss": float(loss.sum()) / len(mine),
            "lr": float(member.step.rate),
            "segments_per_second": round(sum(map(len, rows)) / trained, 1),
            **found,
            "seconds": round(seconds / len(members), 4),
            **{name: round(value + member.cost.pop(name, 0.0), 3) for name, value in spent.items()},
        }
        _keep(member, record)
    return lost


def _keep(member: Member, record: Record) -> None:
    """Add an epoch to a fold and save it, with the state of the fold's generators."""
    device, settings = member.context.device, member.context.config.train
    if device.type == "cuda":
        record["memory_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
    member.progress.add(record, settings.monitor)
    with member.random:
        member.kept.save(member.progress, member.step, last=member.finished)


def _steps(stack: Stack, members: Sequence[Member], rows: Sequence[Rows]) -> Tensor:
    """Take all N steps of an epoch, and return their summed losses (N, K), 0 where a fold had no batch left."""
    size, device = members[0].context.config.train.batch, stack.device
    count = max(-(-len(part) // size) for part in rows)
    filled, share = np.zeros((len(rows), count, size), np.int64), np.zeros((len(rows), count, size), np.float32)
    for place, part in enumerate(rows):
        whole, counts = shares(part, size, World())
        filled[place, : len(counts)] = whole.reshape(-1, size)
        for number, (real, total) in enumerate(counts):
            share[place, number, :real] = 1 / total
    batches, weights, rates = (torch.from_numpy(x).to(device) for x in (filled, share, _rates(members, count)))
    losses = []
    for number in range(count):
        idle = share[:, number, 0] == 0
        randoms = [None if rests else member.random for member, rests in zip(members, idle, strict=True)]
        resting = torch.from_numpy(idle).to(device) if idle.any() else None
        drawn = stack.draw(randoms)
        losses.append(stack(batches[:, number], weights[:, number], rates[number], drawn, resting))
    return torch.stack(losses)


def _rates(members: Sequence[Member], count: int) -> NDArray[np.float32]:
    """Return the learning rates (N, G, K) of every group and fold at the next `count` steps."""
    each = [[member.step.group_rates(member.step.done + number) for number in range(count)] for member in members]
    return np.ascontiguousarray(np.array(each, np.float32).transpose(1, 2, 0))


def _validate(stack: Stack, members: Sequence[Member]) -> list[Record]:
    """Return the loss, WA, UA and CCC of every fold's validation rows, as far as the target has them."""
    manifest, size = members[0].context.data.manifest, EVALUATION * members[0].context.config.train.batch
    rows = [manifest.rows(member.context.fold.validation) for member in members]
    filled = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for place, part in enumerate(rows):
        filled[place, : len(part)] = part
    batches = torch.split(torch.from_numpy(filled).to(stack.device), size, dim=1)
    every = torch.cat([stack.logits(part).float() for part in batches], 1).cpu()
    found = []
    for member, part, outputs in zip(members, rows, every, strict=True):
        utterances = member.context.fold.validation
        own, objective = outputs[: len(part)].to(stack.device), member.context.objective
        batch = Batch({}, *(column[torch.from_numpy(part).to(stack.device)] for column in stack.source.columns))
        log_prob, vad = objective.split(own)
        losses = scoring.Losses(objective)
        losses.add(own, log_prob, batch)
        kept = log_prob.cpu().numpy()
        real, how = manifest.segments[part, 2], member.context.config.model.utterance_score
        told = None if vad is None else vad.cpu().numpy()
        scores = Scores(kept, losses.mean(), None, kept, None, real, how, told)
        found.append(scoring.measured(scores, manifest, utterances))
    return found
