"""Training of folds in worker processes, each of which uses one device for its lifetime."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ser_pipeline.cache.catalogue import Sources
from ser_pipeline.cache.targeted import targeted
from ser_pipeline.claims import Claim
from ser_pipeline.config import Config
from ser_pipeline.data.neighbours import Neighbours, longer
from ser_pipeline.data.rendered import Rendered, with_surroundings
from ser_pipeline.data.stream import open_data, open_source
from ser_pipeline.entry import PARTIAL, Entry, write_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.rendering import Renderer
from ser_pipeline.features.stores import find_stores, read_manifest, rendered
from ser_pipeline.parts import Parts
from ser_pipeline.processes import handed_here, spread, worker
from ser_pipeline.runs import layout
from ser_pipeline.splits.folds import Fold
from ser_pipeline.training.fold import fit

MOST_KILLS = 3  # the queue gives up after so many kills in a row without a finished fold
LOST = 70  # exit status of a process whose device no longer works

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueueOptions:
    """Options that change the speed of training but not its results."""

    jobs: int | None = None  # folds trained in parallel; None for one per core on the CPU, or one per GPU
    data: str = "auto"  # "resident" on the device, "stream" from disk, or "auto" by size
    micro: int = 0  # segments computed at once; 0 for the whole batch
    stack: bool = True  # whether all folds of a small head are trained at once
    part: tuple[int, int] | None = None  # K and N, to start with share K of N if several processes share the work
    wait: bool = True  # whether to wait for folds of other shares that other processes train
    share_only: bool = False  # whether to train only the folds of this share
    trackers: tuple[str, ...] = ()  # names of trackers that also log epochs and scores
    apart: bool = False  # whether to train in worker processes, which can be replaced; set by `queue_jobs`


@dataclass(frozen=True)
class FoldJob:
    """One fold of a run, with everything that a process needs to train it."""

    entry: Entry
    fold: Fold
    config: Config
    sources: Sources
    devices: tuple[str, ...]  # devices of training; each process uses one of them
    options: QueueOptions
    own: bool = False  # whether it belongs to this process's share

    @property
    def part(self) -> str:
        """Name of the fold in claims."""
        return f"{self._run.name}/{self.entry.path.name}"

    @property
    def whole(self) -> bool:
        """Whether it is finished, in an unfinished or finished run."""
        return self.entry.done or Entry(self._run / self.entry.path.name, {}).done

    @property
    def _run(self) -> Path:
        run = self.entry.path.parent
        return run.with_name(run.name.removesuffix(PARTIAL))

    def under(self, claim: Claim) -> FoldJob:
        """Return the job with a claim on it."""
        return replace(self, entry=replace(self.entry, claim=claim.file))


def train_job(job: FoldJob) -> None:
    """Train one fold on the device of this process, which reuses loaded data and compiled code for all its folds."""
    device = job.devices[worker() % len(job.devices)]
    if not job.entry.done:
        data, source = data_of(job, device)
        micro, trackers = job.options.micro, job.options.trackers
        fit(job.entry, job.fold, data, source, job.config, torch.device(device), micro=micro, trackers=trackers)


def data_of(job: FoldJob, device: str) -> Any:
    """Open the data of a job, in segments of the model's length, and the source of its batches."""
    sharers = -(-(job.options.jobs or 1) // len(job.devices))
    stores = find_stores(job.sources.folders, job.config)
    made = rendered(job.config.model.reads, job.config)
    front = Renderer(made, job.config.audio, job.config.features) if made else None
    reads, target = job.config.model.reads, job.config.train.target
    whole, way = job.config.model.whole, job.options.data
    data, source = _data(job.sources, stores, device, way, sharers, whole, reads, front, target)
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
    reads: tuple[str, ...],
    front: Renderer | None,
    target: str,
) -> Any:
    """Open data and the source of its batches, which all folds of a process share."""
    manifest = targeted(read_manifest(sources), target)
    data, place = open_data(manifest.whole if whole else manifest, dict(stores)), torch.device(device)
    if front is None:
        return data, open_source(data, place, way, sharers)
    data = with_surroundings(data, reads, front.before, front.after)
    return data, Rendered(open_source(data, place, way, sharers), front.on(place, reads))


def work(parts: Parts[FoldJob], todo: Sequence[FoldJob], failed: dict[Path, str] | None = None) -> None:
    """Train the jobs that no other process has; a failed or killed job does not stop the others.

    Args:
        parts: hands out the jobs.
        todo: all jobs.
        failed: errors of folds that have failed before, by the fold's folder.

    Raises:
        PipelineError: an error stopped a fold; it is raised after the others have been trained.
    """
    failed = {} if failed is None else failed
    suspects: set[Path] = set()
    fruitless, over = 0, not todo
    while not over:
        began, before = time.time(), len(failed)
        ended = 0
        try:
            for job, error in _tried(claimed(parts), todo[0].options):
                parts.end(job, error or "")
                ended += 1
                if error is not None:
                    fail(job, error, failed)
            over = True
        except BrokenProcessPool:
            _after_a_kill(parts, began, suspects, failed)
        fruitless = 0 if ended or len(failed) > before else fruitless + 1
        if fruitless == MOST_KILLS and not over:
            raise PipelineError(
                "a training process was killed repeatedly, perhaps because memory is too small; finished folds are "
                "kept: resume with fewer folds in parallel, such as --jobs 1"
            )
    if failed:
        first, *more = failed.values()
        raise PipelineError(f"{len(failed)} of {len(todo)} folds failed; the first: {first}" if more else first)


def claimed(parts: Parts[FoldJob]) -> Iterator[FoldJob | None]:
    """Yield the jobs that this process gets, each with its claim; None if there is none for now."""
    for job in parts:
        yield job and job.under(parts.claim(job))


def fail(job: FoldJob, why: str, failed: dict[Path, str]) -> None:
    """Note the error of a fold, and log it unless another fold had the same one.

    Args:
        job: the fold.
        why: the error.
        failed: errors by the fold's folder, to which this one is added.
    """
    if why not in failed.values():
        log.error("%s", why)
    failed[job.entry.path] = why


def _after_a_kill(parts: Parts[FoldJob], began: float, suspects: set[Path], failed: dict[Path, str]) -> None:
    """Release the jobs that a killed process had, to be tried again after new ones.

    A job that lost its device is added to `suspects`, and the second time to `failed`.

    Args:
        parts: the jobs, including those that this process has claimed.
        began: start of the attempt, in seconds since the epoch.
        suspects: folders of folds that lost their device.
        failed: errors by the fold's folder.
    """
    running = [job.under(parts.claim(job)) for job in parts.mine]
    lost = [job for job in running if _broke_since(job, began)]
    for job in running:
        why = ""
        if job.entry.path in suspects and any(job is other for other in lost):
            why = f"fold {job.fold.name} lost its device twice (see {_error_file(job)})"
            fail(job, why, failed)
        parts.end(job, why)
    suspects.update(job.entry.path for job in lost)
    log.warning(
        "a training process was killed%s; the other folds continue", f" (see {_error_file(lost[0])})" if lost else ""
    )


def _tried(todo: Iterable[FoldJob | None], options: QueueOptions) -> Iterator[tuple[FoldJob, str | None]]:
    """Train jobs, and yield each one when it ends, with its error or None."""
    return spread(_attempt, todo, options.jobs or 1) if options.apart else handed_here(_attempt, todo)


def _attempt(job: FoldJob) -> str | None:
    """Train a fold and return its error or None; a process whose device is lost exits, and a new one replaces it."""
    try:
        train_job(job)
    except Exception as error:
        if job.entry.lost:
            return None
        return str(error) if isinstance(error, PipelineError) else unforeseen(job, error)
    return None


def unforeseen(job: FoldJob, error: Exception) -> str:
    """Return the message about an unexpected error, and write its traceback into the fold's folder.

    Raises:
        PipelineError: the device no longer works in this process.
    """
    error_file = _error_file(job)
    with suppress(OSError, PipelineError):
        job.entry.begin()
        write_text(error_file, traceback.format_exc())
    what = f"fold {job.fold.name}: {type(error).__name__}: {str(error).partition(chr(10))[0]} (see {error_file})"
    if _lost(job):
        if multiprocessing.parent_process():
            os._exit(LOST)
        raise PipelineError(f"{what}; the device no longer works in this process: run the same command again") from None
    return what + _advice(error)


def _advice(error: Exception) -> str:
    """Return advice on an unexpected error."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "; train fewer folds in parallel (--jobs) or fewer segments at once (--micro-batch)"
    return "; please report it with that file" if not isinstance(error, OSError) else ""


def _error_file(job: FoldJob) -> Path:
    return job.entry.partial / layout.ERROR


def _broke_since(job: FoldJob, began: float) -> bool:
    """Whether the job has written a traceback since `began`, with a tolerance of a second for file times."""
    with suppress(OSError):
        return _error_file(job).stat().st_mtime > began - 1
    return False


def _lost(job: FoldJob) -> bool:
    """Whether CUDA no longer works in this process, for example after an illegal memory access."""
    if not job.devices[0].startswith("cuda"):
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
