"""Stage 2: a queue of folds, over seeds and ablations, to runs.

A run is one protocol, ablation and seed; a job is one fold of it. Jobs are independent: each reads the shards,
trains and writes its own folder, so that they can be spread over processes and devices, and a run that was killed
goes on with what is missing.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from ser_pipeline import config as settings
from ser_pipeline.catalogue import Source
from ser_pipeline.config import Config
from ser_pipeline.distributed import World
from ser_pipeline.entry import Entry, write_json, write_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.fit import fit
from ser_pipeline.folds import Fold
from ser_pipeline.neighbours import Neighbours, longer
from ser_pipeline.plan import Run, find_stores, findings_of, read_manifest
from ser_pipeline.processes import cores, die_with_parent
from ser_pipeline.stream import open_data, open_source

log = logging.getLogger(__name__)


POLL = 0.5  # seconds between two looks at the folds' histories


@dataclass(frozen=True)
class How:
    """What changes the speed of training and not its result."""

    jobs: int | None = None  # folds at a time; None: one a core on the CPU, one on every GPU
    data: str = "auto"  # "resident", "stream", or what fits
    micro: int = 0  # segments computed at a time; 0: the whole batch
    threads: int = 0  # of each process on the CPU; set by `train`


@dataclass(frozen=True)
class Job:
    """One fold of a run, with all that a process needs to train it."""

    entry: Entry
    fold: Fold
    config: Config
    features: tuple[Path, ...]
    devices: tuple[str, ...]  # that folds are trained on; each process keeps to one of them
    how: How


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
            _open([run for run in planned if not run.entry.done], sources)
        world.wait()
        waiting = [run for run in planned if not run.entry.done]
        todo = _queue(waiting, tuple(source.folder for source in sources), device, how)
        with _watching(waiting, progress):
            try:
                if world.size > 1:
                    for job in todo:
                        _train_together(job, world)
                else:
                    _work(todo)
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
    how = replace(how, jobs=at_once, threads=max(1, min(most, cores() // at_once)))
    return [Job(_fold_entry(run, fold), fold, run.config, features, devices, how) for run, fold in missing]


def _train_together(job: Job, world: World) -> None:
    """Train one fold with all processes of `world`; its data are shared out among them."""
    (device,) = job.devices
    data, source = _data_of(job, device)
    fit(job.entry, job.fold, data, source, job.config, torch.device(device), micro=job.how.micro, world=world)


def train_job(job: Job, place: int = 0) -> None:
    """Train one fold, alone: a second process that has the same job waits and finds it done.

    Args:
        job: what to train.
        place: number of this process among those that train, which decides on its device.
    """
    die_with_parent()
    device = job.devices[place % len(job.devices)]
    torch.set_num_threads(job.how.threads)
    with job.entry.lock():
        if not job.entry.done:
            data, source = _data_of(job, device)
            fit(job.entry, job.fold, data, source, job.config, torch.device(device), micro=job.how.micro)


def _data_of(job: Job, device: str) -> Any:
    """What a job reads, in segments as long as its model hears them."""
    sharers = -(-(job.how.jobs or 1) // len(job.devices))
    stores = find_stores(job.features, job.config)
    data, source = _data(job.features, stores, device, job.how.data, sharers)
    if job.config.model.segments == 1:
        return data, source
    long = longer(data.manifest, job.config.model.segments)
    return replace(data, manifest=long), Neighbours(source, data.manifest, long)


@lru_cache(maxsize=4)
def _data(
    features: tuple[Path, ...], stores: tuple[tuple[str, tuple[Path, ...]], ...], device: str, way: str, sharers: int
) -> Any:
    """Data and where its batches come from, shared by the folds that a process trains."""
    data = open_data(read_manifest(features), dict(stores))
    return data, open_source(data, torch.device(device), way, sharers)


def _open(runs: Sequence[Run], sources: Sequence[Source]) -> None:
    """What runs say of themselves before their first fold; what is there already is left as it is."""
    new = [run for run in runs if not (run.entry.partial / "audit.json").exists()]
    findings = findings_of(sources, new[0].folds) if new else {}
    for run in new:
        folder = run.entry.partial
        write_text(folder / "config.toml", settings.dumps(run.config))
        write_json(folder / "run.json", run.about)
        write_json(folder / "folds.json", run.members)
        write_json(folder / "audit.json", findings)


def _publish_whole(runs: Sequence[Run], device: torch.device) -> None:
    """Give the runs whose folds are all there their final names, whatever became of the others."""
    for run in runs:
        if all(_fold_entry(run, fold).done for fold in run.folds):
            run.entry.publish(device=_device_name(device), folds=[fold.name for fold in run.folds])


def _fold_entry(run: Run, fold: Fold) -> Entry:
    folder = run.entry.path if run.entry.done else run.entry.partial
    return Entry(folder / fold.name, {"run": run.entry.path.name, "fold": fold.name})


def _work(todo: list[Job]) -> None:
    """Train the jobs; a failed one does not keep the others from their turn."""
    failed = []
    try:
        processes = todo[0].how.jobs if todo else 1
        with (
            tempfile.TemporaryDirectory(prefix="ser-pipeline-") as places,
            Parallel(n_jobs=processes, return_as="generator_unordered", batch_size=1) as parallel,
        ):
            for error in parallel(delayed(_attempt)(job, Path(places)) for job in todo):
                if error is not None:
                    log.error("%s", error)
                    failed.append(error)
    except TerminatedWorkerError:
        raise PipelineError(
            "a training process was killed, perhaps for want of memory; what is finished is kept: "
            "run the same command again, with --jobs 1 if it happens again"
        ) from None
    if failed:
        raise PipelineError(
            failed[0] if len(failed) == 1 else f"{len(failed)} of {len(todo)} folds failed; the first: {failed[0]}"
        )


def _attempt(job: Job, places: Path) -> str | None:
    """Train a fold; returns what stopped it. Whatever that was, the other folds have their turn."""
    try:
        number, _ = _place(places)
        train_job(job, number)
    except PipelineError as error:
        return str(error)
    except Exception as error:
        log.debug("what stopped fold %s", job.fold.name, exc_info=error)
        return f"fold {job.fold.name}: {type(error).__name__}: {error}; run the same command again"
    return None


@lru_cache(maxsize=1)
def _place(folder: Path) -> tuple[int, FileLock]:
    """The lowest number that no other process holds in `folder`, held for as long as this one lives, by the lock.

    By it a process keeps to one device: what it loads and compiles there serves all of its folds.
    """
    for number in itertools.count():
        lock = FileLock(folder / str(number))
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return number, lock
    raise AssertionError("the numbers have no end")


@contextmanager
def _watching(runs: Sequence[Run], progress: Progress) -> Iterator[None]:
    """Tell `progress` where the folds stand until the block ends."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(POLL):
            progress(statuses(runs))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        progress(statuses(runs))


def statuses(runs: Sequence[Run]) -> list[Status]:
    """Where every fold of `runs` stands, read from their histories."""
    found = []
    for run in runs:
        for fold in run.folds:
            entry = _fold_entry(run, fold)
            history = _history(entry.path if entry.done else entry.partial)
            last = history[-1] if history else {}
            found.append(Status(run.entry.path.name, fold.name, len(history), entry.done, last))
    return found


def _history(folder: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []


def _devices(device: torch.device) -> tuple[str, ...]:
    """The devices that folds are dealt out to: every CUDA device where just "cuda" is asked for."""
    if device.type == "cuda" and device.index is None:
        return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    return (str(device),)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
