"""Folds in worker processes, each on a device of its own for as long as it lives."""

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
    part: tuple[int, int] | None = None  # K and N: begin with share K of N, where several processes share the work
    wait: bool = True  # for the folds of other shares that others hold, until all are whole
    share_only: bool = False  # whether the folds of other shares are left to others
    trackers: tuple[str, ...] = ()  # where epochs and scores are logged beside the folds' files
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
    own: bool = False  # whether it is of this process's share

    @property
    def part(self) -> str:
        """The name of the claims on it."""
        return f"{self._run.name}/{self.entry.path.name}"

    @property
    def whole(self) -> bool:
        """Whether it is trained, in a run that is unfinished or whole."""
        return self.entry.done or Entry(self._run / self.entry.path.name, {}).done

    @property
    def _run(self) -> Path:
        run = self.entry.path.parent
        return run.with_name(run.name.removesuffix(PARTIAL))

    def under(self, claim: Claim) -> FoldJob:
        """The job, done under a claim."""
        return replace(self, entry=replace(self.entry, claim=claim.file))


def train_job(job: FoldJob) -> None:
    """Train one fold.

    A process keeps to one device: what it loads and compiles there serves all of its folds.
    """
    device = job.devices[worker() % len(job.devices)]
    if not job.entry.done:
        data, source = data_of(job, device)
        micro, trackers = job.options.micro, job.options.trackers
        fit(job.entry, job.fold, data, source, job.config, torch.device(device), micro=micro, trackers=trackers)


def data_of(job: FoldJob, device: str) -> Any:
    """What a job reads, in segments as long as its model hears them."""
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
    """Data and where its batches come from, shared by the folds that a process trains."""
    manifest = targeted(read_manifest(sources), target)
    data, place = open_data(manifest.whole if whole else manifest, dict(stores)), torch.device(device)
    if front is None:
        return data, open_source(data, place, way, sharers)
    data = with_surroundings(data, reads, front.before, front.after)
    return data, Rendered(open_source(data, place, way, sharers), front.on(place, reads))


def work(parts: Parts[FoldJob], todo: Sequence[FoldJob], failed: dict[Path, str] | None = None) -> None:
    """Train the jobs that nobody else has. One that fails does not keep the others from their turn, nor does a kill.

    Args:
        parts: hands out the jobs.
        todo: all of them.
        failed: what stopped those trained before: fold's folder -> why.

    Raises:
        PipelineError: what stopped a fold, once the others have been trained.
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
                "a training process was killed again and again, perhaps for want of memory; what is finished is "
                "kept: go on with fewer at a time, such as --jobs 1"
            )
    if failed:
        first, *more = failed.values()
        raise PipelineError(f"{len(failed)} of {len(todo)} folds failed; the first: {first}" if more else first)


def claimed(parts: Parts[FoldJob]) -> Iterator[FoldJob | None]:
    """The jobs as this process gets them, each under its claim; None where there is none for now."""
    for job in parts:
        yield job and job.under(parts.claim(job))


def fail(job: FoldJob, why: str, failed: dict[Path, str]) -> None:
    """Note what stopped a fold; what stops all of them alike is said once.

    Args:
        job: of the fold.
        why: what stopped it.
        failed: fold's folder -> what stopped it; gets this one.
    """
    if why not in failed.values():
        log.error("%s", why)
    failed[job.entry.path] = why


def _after_a_kill(parts: Parts[FoldJob], began: float, suspects: set[Path], failed: dict[Path, str]) -> None:
    """Let go the jobs that a kill stopped, to come again after those that are new.

    Who lost the device becomes one of the `suspects`, and if it was one before, of those that `failed`.

    Args:
        parts: of which this process has those in work.
        began: seconds since the epoch, when they were tried.
        suspects: folders of folds.
        failed: fold's folder -> what stopped it.
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
        "a training process was killed%s; what is left goes on", f" (see {_error_file(lost[0])})" if lost else ""
    )


def _tried(todo: Iterable[FoldJob | None], options: QueueOptions) -> Iterator[tuple[FoldJob, str | None]]:
    """The jobs as they end, each with what stopped it."""
    return spread(_attempt, todo, options.jobs or 1) if options.apart else handed_here(_attempt, todo)


def _attempt(job: FoldJob) -> str | None:
    """Train a fold; returns what stopped it. A process whose device is lost ends, for a new one to go on."""
    try:
        train_job(job)
    except Exception as error:
        if job.entry.lost:
            return None
        return str(error) if isinstance(error, PipelineError) else unforeseen(job, error)
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
