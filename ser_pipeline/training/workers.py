"""Folds in worker processes, each on a device of its own for as long as it lives."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ser_pipeline.cache.catalogue import Sources
from ser_pipeline.config import Config
from ser_pipeline.data.neighbours import Neighbours, longer
from ser_pipeline.data.stream import open_data, open_source
from ser_pipeline.entry import Entry, write_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.stores import find_stores, read_manifest
from ser_pipeline.processes import spread, worker
from ser_pipeline.runs import layout
from ser_pipeline.splits.folds import Fold
from ser_pipeline.training.fold import fit

MOST_KILLS = 3  # times that processes may be killed with no fold ended, before the queue gives up
LOST = 70  # exit status of a process whose device no longer works for it

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueueOptions:
    """What changes the speed of training and not its result."""

    jobs: int | None = None  # folds at a time; None: one a core on the CPU, one on every GPU
    data: str = "auto"  # "resident", "stream", or what fits
    micro: int = 0  # segments computed at a time; 0: the whole batch
    stack: bool = True  # whether all folds of a small head are trained at once
    apart: bool = False  # in processes of their own, so that one that is lost can be replaced; set by `train`


@dataclass(frozen=True)
class FoldJob:
    """One fold of a run, with all that a process needs to train it."""

    entry: Entry
    fold: Fold
    config: Config
    sources: Sources
    devices: tuple[str, ...]  # that folds are trained on; each process keeps to one of them
    options: QueueOptions


def train_job(job: FoldJob) -> None:
    """Train one fold, alone: a second process that has the same job waits and finds it done.

    A process keeps to one device: what it loads and compiles there serves all of its folds.
    """
    device = job.devices[worker() % len(job.devices)]
    with job.entry.lock():
        if not job.entry.done:
            data, source = data_of(job, device)
            fit(job.entry, job.fold, data, source, job.config, torch.device(device), micro=job.options.micro)


def data_of(job: FoldJob, device: str) -> Any:
    """What a job reads, in segments as long as its model hears them."""
    sharers = -(-(job.options.jobs or 1) // len(job.devices))
    stores = find_stores(job.sources.folders, job.config)
    data, source = _data(job.sources, stores, device, job.options.data, sharers, job.config.model.whole)
    manifest = data.manifest
    if job.config.model.segments > 1:
        manifest = longer(manifest, job.config.model.segments)
        source = Neighbours(source, data.manifest, manifest)
    return replace(data, manifest=replace(manifest, least=job.config.least_samples)), source


@lru_cache(maxsize=4)
def _data(
    sources: Sources,
    stores: tuple[tuple[str, tuple[Path, ...]], ...],
    device: str,
    way: str,
    sharers: int,
    whole: bool,
) -> Any:
    """Data and where its batches come from, shared by the folds that a process trains."""
    manifest = read_manifest(sources)
    data = open_data(manifest.whole if whole else manifest, dict(stores))
    return data, open_source(data, torch.device(device), way, sharers)


def work(todo: Sequence[FoldJob], failed: dict[Path, str] | None = None) -> None:
    """Train the jobs. One that fails does not keep the others from their turn, nor does a process that is killed.

    Args:
        todo: the jobs.
        failed: what stopped others, trained before: fold's folder -> why.

    Raises:
        PipelineError: what stopped a fold, once the others have been trained.
    """
    failed = {} if failed is None else failed
    count = len(todo) + len(failed)
    suspects: set[Path] = set()
    left, fruitless = list(todo), 0
    while left:
        began = time.time()
        try:
            for job, error in _tried(left):
                if error is not None:
                    if error not in failed.values():  # what stops all of them alike is said once
                        log.error("%s", error)
                    failed[job.entry.path] = error
            break
        except BrokenProcessPool:
            before, left = len(left), _after_a_kill(left, began, suspects, failed)
        fruitless = 0 if len(left) < before else fruitless + 1
        if fruitless == MOST_KILLS:
            raise PipelineError(
                "a training process was killed again and again, perhaps for want of memory; what is finished is "
                "kept: go on with fewer at a time, such as --jobs 1"
            )
    if failed:
        first, *more = failed.values()
        raise PipelineError(f"{len(failed)} of {count} folds failed; the first: {first}" if more else first)


def _after_a_kill(tried: list[FoldJob], began: float, suspects: set[Path], failed: dict[Path, str]) -> list[FoldJob]:
    """What is left of the jobs `tried` since `began`, in the order for another try: who was first comes last.

    Who lost the device becomes one of the `suspects`, and if it was one before, of those that `failed`.
    """
    lost = [job for job in tried if _broke_since(job, began)]
    for job in lost:
        if job.entry.path in suspects:
            failed[job.entry.path] = f"fold {job.fold.name} lost its device twice (see {_error_file(job)})"
            log.error("%s", failed[job.entry.path])
    suspects.update(job.entry.path for job in lost)
    log.warning(
        "a training process was killed%s; what is left goes on", f" (see {_error_file(lost[0])})" if lost else ""
    )
    first = tried[0].options.jobs or 1
    return [job for job in tried[first:] + tried[:first] if not job.entry.done and job.entry.path not in failed]


def _tried(todo: Sequence[FoldJob]) -> Iterator[tuple[FoldJob, str | None]]:
    """The jobs as they end, each with what stopped it."""
    options = todo[0].options
    return spread(_attempt, todo, options.jobs or 1) if options.apart else ((job, _attempt(job)) for job in todo)


def _attempt(job: FoldJob) -> str | None:
    """Train a fold; returns what stopped it. A process whose device is lost ends, for a new one to go on."""
    try:
        train_job(job)
    except PipelineError as error:
        return str(error)
    except Exception as error:
        return unforeseen(job, error)
    return None


def unforeseen(job: FoldJob, error: Exception) -> str:
    """What is said of an error that no check foresaw, whose traceback is written into the fold's folder.

    Raises:
        PipelineError: the device is lost to this process.
    """
    error_file = _error_file(job)
    with suppress(OSError, PipelineError):
        job.entry.begin()
        write_text(error_file, traceback.format_exc())
    what = f"fold {job.fold.name}: {type(error).__name__}: {str(error).partition(chr(10))[0]} (see {error_file})"
    if _lost(job):
        if multiprocessing.parent_process():
            os._exit(LOST)
        raise PipelineError(f"{what}; the device is lost to this process: run the same command again") from None
    return what + _advice(error)


def _advice(error: Exception) -> str:
    """What would help against an error that no check foresaw; nothing where it would only come again."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "; train fewer folds at a time (--jobs) or fewer segments at a time (--micro-batch)"
    return "; please report it with that file" if not isinstance(error, OSError) else ""


def _error_file(job: FoldJob) -> Path:
    return job.entry.partial / layout.ERROR


def _broke_since(job: FoldJob, began: float) -> bool:
    """Whether the job left a traceback since `began`, give or take the clock of a file system."""
    with suppress(OSError):
        return _error_file(job).stat().st_mtime > began - 1
    return False


def _lost(job: FoldJob) -> bool:
    """Whether CUDA no longer works in this process, as after an illegal access to memory."""
    if not job.devices[0].startswith("cuda"):
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
