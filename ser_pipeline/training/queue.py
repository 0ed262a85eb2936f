"""Stage 2: a queue of folds, over seeds and ablations, to runs.

A run is one protocol, ablation and seed; a job is one fold of it. Jobs are independent: each reads the shards,
trains and writes its own folder, so that they can be spread over processes and devices, and a run that was killed
goes on with what is missing.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ser_pipeline.cache.catalogue import Sources
from ser_pipeline.device import _device_name, _devices
from ser_pipeline.entry import Entry, write_json
from ser_pipeline.findings import refuse
from ser_pipeline.processes import cores
from ser_pipeline.provenance import now
from ser_pipeline.runs import layout
from ser_pipeline.runs.audited import accept, audited
from ser_pipeline.runs.integrity import hashes
from ser_pipeline.runs.origin import gathered
from ser_pipeline.runs.writing import begin_run
from ser_pipeline.splits.folds import Fold
from ser_pipeline.text import lines
from ser_pipeline.training.distributed import World
from ser_pipeline.training.fold import fit
from ser_pipeline.training.plan import PlannedRun, findings_of
from ser_pipeline.training.together import train_together
from ser_pipeline.training.workers import FoldJob, QueueOptions, data_of, work

POLL = 0.5  # seconds between two looks at the folds' histories

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """How far one fold is."""

    run: str
    fold: str
    epoch: int
    done: bool
    last: Mapping[str, Any]  # the latest line of its history; empty before the first


Progress = Callable[[Sequence[Status]], None]


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
    """Train every fold that is missing; returns the folders of the runs.

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
    world = world or World()
    with ExitStack() as held:
        if world.is_main:
            for run in planned:
                held.enter_context(run.entry.lock())
            for run in (run for run in planned if not run.entry.done):
                begin_run(run.entry.partial, run.config, {**run.about, "started": now()}, run.members, run.manifest)
        world.barrier()
        waiting = [run for run in planned if not run.entry.done]
        todo = queue_jobs(waiting, sources, device, options)
        with _watching(waiting, progress):
            try:
                with _beside(partial(_audit, waiting if world.is_main else [], sources, accepted)):
                    if world.size > 1:
                        for job in todo:
                            _train_together(job, world)
                    else:
                        work(*train_together(todo))
            finally:
                if world.is_main:
                    _publish_whole(waiting, device)
        world.barrier()
        for run in planned if world.is_main else ():
            accept(run.entry.path, accepted)
    for run in planned:
        found, before = audited(run.entry.path)
        refuse(found, {*accepted, *before}, f"{run.entry.path} is trained and kept; ")
    return [run.entry.path for run in planned]


def queue_jobs(
    waiting: Sequence[PlannedRun], sources: Sources, device: torch.device, options: QueueOptions
) -> list[FoldJob]:
    """The folds that are missing.

    Args:
        waiting: runs, finished or not.
        sources: as in the plan.
        device: chosen by the command.
        options: how many at a time, and from where.
    """
    missing = [(run, fold) for run in waiting for fold in run.folds if not _fold_entry(run, fold).done]
    devices = _devices(device)
    at_once = max(1, min(options.jobs or (cores() if device.type == "cpu" else len(devices)), len(missing)))
    threads = max((run.config.train.threads for run, _ in missing), default=1)
    if device.type == "cpu" and 4 * at_once * threads <= cores():
        idle = cores() - at_once * threads
        log.info("%d of %d cores are idle: with --set train.threads=N a fold takes more, as another run", idle, cores())
    options = replace(options, jobs=at_once, apart=options.jobs != 1)
    return [FoldJob(_fold_entry(run, fold), fold, run.config, sources, devices, options) for run, fold in missing]


def _train_together(job: FoldJob, world: World) -> None:
    """Train one fold with all processes of `world`; its data are shared out among them."""
    (device,) = job.devices
    data, source = data_of(job, device)
    fit(job.entry, job.fold, data, source, job.config, torch.device(device), micro=job.options.micro, world=world)


def _audit(runs: Sequence[PlannedRun], sources: Sources, accepted: Collection[str]) -> None:
    """Audit the corpus for the runs that were not yet."""
    found: dict[str, Any] = {}
    for run in runs:
        if not (run.entry.partial / layout.AUDIT).exists():
            protocol = run.about["protocol"]
            if protocol not in found:
                found[protocol] = findings_of(sources, run.folds, run.config, accepted)
            write_json(run.entry.partial / layout.AUDIT, found[protocol])


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


def _publish_whole(runs: Sequence[PlannedRun], device: torch.device) -> None:
    """Give the runs that are whole their final names, whatever became of the others."""
    for run in runs:
        if (run.entry.partial / layout.AUDIT).exists() and all(_fold_entry(run, fold).done for fold in run.folds):
            names = [fold.name for fold in run.folds]
            made = gathered(run.entry.partial, names)
            run.entry.publish(device=_device_name(device), folds=names, files=hashes(run.entry.partial), **made)


def _fold_entry(run: PlannedRun, fold: Fold) -> Entry:
    folder = run.entry.path if run.entry.done else run.entry.partial
    return Entry(folder / fold.name, {"run": run.entry.path.name, "fold": fold.name})


@contextmanager
def _watching(runs: Sequence[PlannedRun], progress: Progress) -> Iterator[None]:
    """Tell `progress` where the folds stand until the block ends."""
    stop = threading.Event()
    ended: dict[Path, Status] = {}

    def watch() -> None:
        while not stop.wait(POLL):
            progress(statuses(runs, ended))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        progress(statuses(runs, ended))


def statuses(runs: Sequence[PlannedRun], ended: dict[Path, Status] | None = None) -> list[Status]:
    """Where every fold of `runs` stands, read from their histories; `ended` keeps what need not be read again."""
    ended = {} if ended is None else ended
    found = []
    for run in runs:
        for fold in run.folds:
            place = run.entry.path / fold.name
            status = ended.get(place) or _status(run, fold)
            if status.done and status.last:  # else it was given its final name in between
                ended[place] = status
            found.append(status)
    return found


def _status(run: PlannedRun, fold: Fold) -> Status:
    entry = _fold_entry(run, fold)
    done = entry.done
    try:
        history = lines(((entry.path if done else entry.partial) / layout.HISTORY).read_text(encoding="utf-8"))
    except OSError:
        history = []
    return Status(run.entry.path.name, fold.name, len(history), done, json.loads(history[-1]) if history else {})
