"""The queue of stage 2, which trains the folds of all seeds and ablations.

A run is one protocol, ablation and seed; a job is one fold of it. Jobs are independent: each reads the shards, trains
and writes its own folder. They can be spread over processes and devices, and a killed run resumes with the missing
folds.
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
"""Message to the processes of a world that no fold is left."""

WAIT = 0.5
"""Seconds after which a world looks again for folds that other processes may have abandoned."""

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
    """Train every fold that is missing and that no other process trains; return the folders of the finished runs.

    Several processes may call this at the same time. Each returns when all runs are finished or, without
    `options.wait`, when other processes train all remaining folds.

    Args:
        planned: the runs, from `plan_runs`.
        sources: as in the plan.
        device: the device of training.
        options: number of folds in parallel, and this process's share.
        progress: called about twice a second with the states of all folds.
        world: the processes that train every fold together, one fold after the other.
        accepted: names of the audit's errors that the user accepts.

    Raises:
        PipelineError: an error stopped a fold (finished folds are kept, and another call resumes), or the audit found
            an error that was not accepted (all runs are kept).
    """
    world, claims = world or World(), Claims.beside(planned[0].entry.path)
    for run in planned if world.is_main else ():
        once(claims, f"{run.entry.path.name}/{layout.RUN}", partial(_is_begun, run), partial(_begin, run))
    world.barrier()
    waiting = [run for run in planned if not run.entry.done]
    todo = queue_jobs(waiting, sources, device, options)
    with watching(planned, progress):
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
        log.info("%s left for other processes; see ser-pipeline status", plural(left, "fold"))
    for path in done:
        found, before = audited(path)
        refuse(found, {*accepted, *before}, f"{path} is trained and kept; ")
    return done


def queue_jobs(
    waiting: Sequence[PlannedRun], sources: Sources, device: torch.device, options: QueueOptions
) -> list[FoldJob]:
    """Return the missing folds, starting with this process's share.

    Args:
        waiting: runs, finished or not.
        sources: as in the plan.
        device: the device of training.
        options: number of folds in parallel, and this process's share.
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
        log.info("%d of %d cores are idle: --set train.threads=N gives a fold more, as a new run", idle, cores())
    options = replace(options, jobs=at_once, apart=options.jobs != 1)
    return [
        FoldJob(fold_entry(run, fold), fold, run.config, sources, devices, options, own) for run, fold, own in missing
    ]


def _is_begun(run: PlannedRun) -> bool:
    return run.entry.done or (run.entry.partial / layout.FOLDS).exists()


def _begin(run: PlannedRun) -> None:
    """Create the folder of a run, with its settings, folds and description."""
    with _unless_done([run]):
        run.entry.begin()
        begin_run(run.entry.partial, run.config, {**run.about, "started": now()}, run.members, run.manifest)


@contextmanager
def _unless_done(runs: Sequence[PlannedRun]) -> Iterator[None]:
    """Ignore errors of the block if all runs are finished, since another process may have finished them meanwhile."""
    try:
        yield
    except (OSError, PipelineError):
        if not all(run.entry.done for run in runs):
            raise


def _train(todo: Sequence[FoldJob], claims: Claims, device: torch.device, world: World) -> None:
    """Train the folds that no other process trains.

    Args:
        todo: the missing folds.
        claims: the claims on folds.
        device: the device of training.
        world: the processes that train every fold together.
    """
    parts = Parts(claims, todo, lambda job: job.part, lambda job: job.whole, lambda job: job.own or job.options.wait)
    with parts.sharing():
        if world.size > 1:
            _train_in_world(parts, str(device), world)
        else:
            work(parts, todo, train_together(parts, todo))


def _train_in_world(parts: Parts[FoldJob], device: str, world: World) -> None:
    """Train the folds one after the other with all processes of `world`, which share the data of each fold.

    Args:
        parts: the folds; the first process claims one at a time.
        device: device of this process.
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
    """Audit the corpus for the runs that have no audit yet; only one of several processes does it."""

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
    """Run `task` in a thread during the block, and raise its error at the end; Ctrl-C in the block does not wait."""
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
    """Give all runs that are complete their final names, even if others failed.

    Args:
        runs: runs, finished or not.
        device: the device of this process.
        claims: the claims in the folder of the runs.
        trackers: names of trackers that log their scores.
    """
    for run in runs:
        if (run.entry.partial / layout.AUDIT).exists() and all(fold_entry(run, fold).done for fold in run.folds):
            name = f"{run.entry.path.name}/index.json"
            once(claims, name, lambda run=run: run.entry.done, partial(_publish, run, device, trackers))  # type: ignore[misc]


def _publish(run: PlannedRun, device: torch.device, trackers: tuple[str, ...]) -> None:
    """Give a run its final name, after removing partial folders of processes that were assumed dead.

    Args:
        run: a run whose folds are all finished.
        device: the device of this process.
        trackers: names of trackers that log its scores.
    """
    for left in partials(run.entry.partial).values():
        shutil.rmtree(left, ignore_errors=True)
    names = [fold.name for fold in run.folds]
    with _unless_done([run]):
        made = gathered(run.entry.partial, names)
        log_run(trackers, run.entry.partial, names)
        run.entry.publish(device=_device_name(device), folds=names, files=hashes(run.entry.partial), **made)
