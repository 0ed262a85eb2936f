"""Stage 2: a queue of folds, over seeds and ablations, to runs.

A run is one protocol, ablation and seed; a job is one fold of it. Jobs are independent: each reads the shards,
trains and writes its own folder, so that they can be spread over processes and devices, and a run that was killed
goes on with what is missing.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ser_pipeline.cache.catalogue import Sources
from ser_pipeline.claims import Claims, at_work
from ser_pipeline.device import _device_name, _devices
from ser_pipeline.entry import partials, write_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.findings import refuse
from ser_pipeline.parts import Parts, once, own_first
from ser_pipeline.processes import cores
from ser_pipeline.provenance import now
from ser_pipeline.runs import layout
from ser_pipeline.runs.audited import accept, audited
from ser_pipeline.runs.integrity import hashes
from ser_pipeline.runs.origin import gathered
from ser_pipeline.runs.writing import begin_run
from ser_pipeline.text import plural
from ser_pipeline.training.distributed import World
from ser_pipeline.training.fold import fit
from ser_pipeline.training.plan import PlannedRun, findings_of
from ser_pipeline.training.statuses import Progress, fold_entry, watching
from ser_pipeline.training.together import train_together
from ser_pipeline.training.trackers import log_run
from ser_pipeline.training.workers import FoldJob, QueueOptions, claimed, data_of, work

OVER = "over"
"""What the processes of a world are told when no fold is left."""

WAIT = 0.5
"""Seconds between two looks of a world for folds that others may have left."""

log = logging.getLogger(__name__)


def run_queue(
    planned: Sequence[PlannedRun],
    sources: Sources,
    *,
    device: torch.device,
    options: QueueOptions,
    progress: Progress,
    world: World | None = None,
    accepted: Collection[str] = (),
) -> list[Path]:
    """Train every fold that is missing and that no other process has; returns the folders of the runs.

    Any number of processes may do so at once; each ends when all runs are whole, or without `options.wait` when others
    hold what is left.

    Args:
        planned: from `plan`.
        sources: as in the plan.
        device: where to train.
        options: how many at a time, and from where.
        progress: called about twice a second with where every fold stands.
        world: the processes that train every fold together, one after the other.
        accepted: names of the audit's errors that are taken as they are.

    Raises:
        PipelineError: what stopped a fold, the others being kept for the next call to go on; or, with all runs kept,
            an error of the audit that was not accepted.
    """
    world, claims = world or World(), Claims.beside(planned[0].entry.path)
    for run in planned if world.is_main else ():
        once(claims, f"{run.entry.path.name}/{layout.RUN}", partial(_is_begun, run), partial(_begin, run))
    world.barrier()
    waiting = [run for run in planned if not run.entry.done]
    todo = queue_jobs(waiting, sources, device, options)
    with watching(waiting, progress):
        try:
            with _beside(partial(_audit, waiting if world.is_main else [], sources, accepted, claims)):
                _train(todo, claims, device, world)
        finally:
            if world.is_main:
                _publish_whole(waiting, device, claims, options.trackers)
    world.barrier()
    done = [run.entry.path for run in planned if run.entry.done]
    for path in done if world.is_main else ():
        accept(path, accepted)
        if not at_work(path):
            claims.remove(path.name)
    left = sum(not fold_entry(run, fold).done for run in planned for fold in run.folds)
    if left and world.is_main:
        log.info("%s left to other processes: ser-pipeline status", plural(left, "fold"))
    for path in done:
        found, before = audited(path)
        refuse(found, {*accepted, *before}, f"{path} is trained and kept; ")
    return done


def queue_jobs(
    waiting: Sequence[PlannedRun], sources: Sources, device: torch.device, options: QueueOptions
) -> list[FoldJob]:
    """The folds that are missing, those of this process's share first.

    Args:
        waiting: runs, finished or not.
        sources: as in the plan.
        device: chosen by the command.
        options: how many at a time, and from where.
    """
    every = [(run, fold) for run in waiting for fold in run.folds]
    number, count = options.part or (0, 1)
    turns = [(*every[place], place % count == number - 1) for place in own_first(range(len(every)), options.part)]
    missing = [
        (run, fold, own)
        for run, fold, own in turns
        if (own or not options.share_only) and not fold_entry(run, fold).done
    ]
    devices = _devices(device)
    at_once = max(1, min(options.jobs or (cores() if device.type == "cpu" else len(devices)), len(missing)))
    threads = max((run.config.train.threads for run, *_ in missing), default=1)
    if device.type == "cpu" and 4 * at_once * threads <= cores():
        idle = cores() - at_once * threads
        log.info("%d of %d cores are idle: with --set train.threads=N a fold takes more, as another run", idle, cores())
    options = replace(options, jobs=at_once, apart=options.jobs != 1)
    return [
        FoldJob(fold_entry(run, fold), fold, run.config, sources, devices, options, own) for run, fold, own in missing
    ]


def _is_begun(run: PlannedRun) -> bool:
    return run.entry.done or (run.entry.partial / layout.FOLDS).exists()


def _begin(run: PlannedRun) -> None:
    """Make the folder of a run, and write what it says of itself."""
    with _unless_done([run]):
        run.entry.begin()
        begin_run(run.entry.partial, run.config, {**run.about, "started": now()}, run.members, run.manifest)


@contextmanager
def _unless_done(runs: Sequence[PlannedRun]) -> Iterator[None]:
    """Let an error of the block pass only where a run is unfinished: others may have ended them meanwhile."""
    try:
        yield
    except (OSError, PipelineError):
        if not all(run.entry.done for run in runs):
            raise


def _train(todo: Sequence[FoldJob], claims: Claims, device: torch.device, world: World) -> None:
    """Train the folds that nobody else has.

    Args:
        todo: the folds that are missing.
        claims: on them.
        device: where to train.
        world: the processes that train every fold together.
    """
    parts = Parts(claims, todo, lambda job: job.part, lambda job: job.whole, lambda job: job.own or job.options.wait)
    with parts.sharing():
        if world.size > 1:
            _train_in_world(parts, str(device), world)
        else:
            work(parts, todo, train_together(parts, todo))


def _train_in_world(parts: Parts[FoldJob], device: str, world: World) -> None:
    """Train the folds one after the other with all processes of `world`; a fold's data are shared out among them.

    Args:
        parts: the folds, of which the first process claims one at a time.
        device: of this process.
        world: the processes.
    """
    turns = claimed(parts) if world.is_main else iter(())
    while not isinstance(job := world.broadcast(next(turns, OVER)), str):
        if job is None:
            time.sleep(WAIT)
            continue
        data, source = data_of(job, device)
        place, micro, trackers = torch.device(device), job.options.micro, job.options.trackers
        fit(job.entry, job.fold, data, source, job.config, place, micro=micro, world=world, trackers=trackers)
        if world.is_main:
            parts.end(job)


def _audit(runs: Sequence[PlannedRun], sources: Sources, accepted: Collection[str], claims: Claims) -> None:
    """Audit the corpus for the runs that were not yet; of several processes one does it."""

    def left() -> list[PlannedRun]:
        return [run for run in runs if not (run.entry.done or (run.entry.partial / layout.AUDIT).exists())]

    def audit() -> None:
        found: dict[str, Any] = {}
        with _unless_done(runs):
            for run in left():
                protocol = run.about["protocol"]
                if protocol not in found:
                    found[protocol] = findings_of(sources, run.folds, run.config, accepted)
                write_json(run.entry.partial / layout.AUDIT, found[protocol])

    if runs:
        once(claims, f"{runs[0].entry.path.name}/{layout.AUDIT}", lambda: not left(), audit)


@contextmanager
def _beside(task: Callable[[], None]) -> Iterator[None]:
    """Do `task` beside the block, and raise at its end what stopped it; Ctrl-C in the block does not wait for it."""
    outcome: Future[None] = Future()

    def run() -> None:
        try:
            task()
            outcome.set_result(None)
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        yield
    except Exception:
        if error := outcome.exception():
            log.error("%s", error)
        raise
    outcome.result()


def _publish_whole(runs: Sequence[PlannedRun], device: torch.device, claims: Claims, trackers: tuple[str, ...]) -> None:
    """Give the runs that are whole their final names, whatever became of the others.

    Args:
        runs: finished or not.
        device: where this process trained.
        claims: beside the runs.
        trackers: where their scores are logged.
    """
    for run in runs:
        if (run.entry.partial / layout.AUDIT).exists() and all(fold_entry(run, fold).done for fold in run.folds):
            name = f"{run.entry.path.name}/index.json"
            once(claims, name, lambda run=run: run.entry.done, partial(_publish, run, device, trackers))  # type: ignore[misc]


def _publish(run: PlannedRun, device: torch.device, trackers: tuple[str, ...]) -> None:
    """Give a run its final name, without what processes that were taken for dead have left in it.

    Args:
        run: whole.
        device: where this process trained.
        trackers: where its scores are logged.
    """
    for left in partials(run.entry.partial).values():
        shutil.rmtree(left, ignore_errors=True)
    names = [fold.name for fold in run.folds]
    with _unless_done([run]):
        made = gathered(run.entry.partial, names)
        log_run(trackers, run.entry.partial, names)
        run.entry.publish(device=_device_name(device), folds=names, files=hashes(run.entry.partial), **made)
