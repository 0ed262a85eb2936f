"""Stage 2: a queue of folds, over seeds and ablations, to runs.

A run is one protocol, ablation and seed; a job is one fold of it. Jobs are independent: each reads the shards,
trains and writes its own folder, so that they can be spread over processes and devices, and a run that was killed
goes on with what is missing.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ser_pipeline import config as settings
from ser_pipeline.catalogue import Source
from ser_pipeline.distributed import World
from ser_pipeline.entry import Entry, write_json, write_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.fit import fit
from ser_pipeline.folds import Fold
from ser_pipeline.jobs import How, Job, data_of, work
from ser_pipeline.plan import Run, findings_of
from ser_pipeline.processes import cores

AUDIT = "audit.json"  # of a run
POLL = 0.5  # seconds between two looks at the folds' histories

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """Where one fold stands."""

    run: str
    fold: str
    epoch: int
    done: bool
    last: Mapping[str, Any]  # the latest line of its history; empty before the first


Progress = Callable[[Sequence[Status]], None]


def train(
    planned: Sequence[Run],
    sources: Sequence[Source],
    *,
    device: torch.device,
    how: How,
    progress: Progress,
    world: World | None = None,
) -> list[Path]:
    """Train every fold that is missing; returns the folders of the runs.

    Args:
        planned: from `plan`.
        sources: as in the plan.
        device: where to train.
        how: how many at a time, and from where.
        progress: called about twice a second with where every fold stands.
        world: the processes that train every fold together, one after the other.

    Raises:
        PipelineError: what stopped a fold; the others are kept, and the next call goes on.
    """
    world = world or World()
    with ExitStack() as held:
        if world.leads:
            for run in planned:
                held.enter_context(run.entry.lock())
            _open([run for run in planned if not run.entry.done])
        world.wait()
        waiting = [run for run in planned if not run.entry.done]
        todo = _queue(waiting, tuple(source.folder for source in sources), device, how)
        with _watching(waiting, progress):
            try:
                with _beside(partial(_audit, waiting if world.leads else [], sources)):
                    if world.size > 1:
                        for job in todo:
                            _train_together(job, world)
                    else:
                        work(todo)
            finally:
                if world.leads:
                    _publish_whole(waiting, device)
        world.wait()
    return [run.entry.path for run in planned]


def gpu_jobs(device: torch.device, each: int | None) -> int | None:
    """Folds at a time with `each` on every GPU; None, for the default, without GPUs or a number."""
    return each * len(_devices(device)) if each and device.type == "cuda" else None


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA, else Apple's MPS, else the CPU.

    Raises:
        PipelineError: it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise PipelineError(f"no device '{name}' on this machine; --device auto takes what is there") from None
    return device


def _queue(waiting: Sequence[Run], features: tuple[Path, ...], device: torch.device, how: How) -> list[Job]:
    """The folds that are missing."""
    missing = [(run, fold) for run in waiting for fold in run.folds if not _fold_entry(run, fold).done]
    devices = _devices(device)
    at_once = max(1, min(how.jobs or (cores() if device.type == "cpu" else len(devices)), len(missing)))
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    most = int(wanted) if wanted.isdigit() else cores()
    how = replace(how, jobs=at_once, threads=max(1, min(most, cores() // at_once)), apart=how.jobs != 1)
    return [Job(_fold_entry(run, fold), fold, run.config, features, devices, how) for run, fold in missing]


def _train_together(job: Job, world: World) -> None:
    """Train one fold with all processes of `world`; its data are shared out among them."""
    (device,) = job.devices
    data, source = data_of(job, device)
    fit(job.entry, job.fold, data, source, job.config, torch.device(device), micro=job.how.micro, world=world)


def _open(runs: Sequence[Run]) -> None:
    """What runs say of themselves before their first fold; what is there already is left as it is."""
    for run in runs:
        folder = run.entry.partial
        if not (folder / "folds.json").exists():
            write_text(folder / "config.toml", settings.dumps(run.config))
            write_json(folder / "run.json", run.about)
            write_json(folder / "folds.json", run.members)


def _audit(runs: Sequence[Run], sources: Sequence[Source]) -> None:
    """Audit the corpus for the runs that were not yet."""
    new = [run for run in runs if not (run.entry.partial / AUDIT).exists()]
    findings = findings_of(sources, new[0].folds) if new else {}
    for run in new:
        write_json(run.entry.partial / AUDIT, findings)


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


def _publish_whole(runs: Sequence[Run], device: torch.device) -> None:
    """Give the runs that are whole their final names, whatever became of the others."""
    for run in runs:
        if (run.entry.partial / AUDIT).exists() and all(_fold_entry(run, fold).done for fold in run.folds):
            run.entry.publish(device=_device_name(device), folds=[fold.name for fold in run.folds])


def _fold_entry(run: Run, fold: Fold) -> Entry:
    folder = run.entry.path if run.entry.done else run.entry.partial
    return Entry(folder / fold.name, {"run": run.entry.path.name, "fold": fold.name})


@contextmanager
def _watching(runs: Sequence[Run], progress: Progress) -> Iterator[None]:
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


def statuses(runs: Sequence[Run], ended: dict[Path, Status] | None = None) -> list[Status]:
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


def _status(run: Run, fold: Fold) -> Status:
    entry = _fold_entry(run, fold)
    done = entry.done
    try:
        lines = ((entry.path if done else entry.partial) / "history.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return Status(run.entry.path.name, fold.name, len(lines), done, json.loads(lines[-1]) if lines else {})


def _devices(device: torch.device) -> tuple[str, ...]:
    """The devices that folds are dealt out to: every CUDA device where just "cuda" is asked for."""
    if device.type == "cuda" and device.index is None:
        return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    return (str(device),)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
