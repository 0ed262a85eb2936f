"""Stage 2: a queue of folds, over seeds and ablations, to runs.

A run is one protocol, ablation and seed; a job is one fold of it. Jobs are independent: each reads the shards,
trains and writes its own folder, so that they can be spread over processes and devices, and a run that was killed
goes on with what is missing.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from ser_pipeline import config as settings
from ser_pipeline import folds, manifest
from ser_pipeline.audit import to_json
from ser_pipeline.catalogue import Source
from ser_pipeline.config import Config
from ser_pipeline.entry import Entry, write_json, write_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.extract import store_entry
from ser_pipeline.fit import fit, precision
from ser_pipeline.folds import Fold
from ser_pipeline.leaks import leaks
from ser_pipeline.manifest import Manifest
from ser_pipeline.model import ABLATIONS
from ser_pipeline.processes import cores, die_with_parent
from ser_pipeline.stream import open_data, open_source

log = logging.getLogger(__name__)

INPUTS = ("mfcc", "spectrogram", "waveform")
POLL = 0.5  # seconds between two looks at the folds' histories


@dataclass(frozen=True)
class Run:
    """One protocol, ablation and seed over the features of a corpus."""

    entry: Entry
    folds: tuple[Fold, ...]
    config: Config
    about: Mapping[str, Any]  # what `run.json` and `audit.json` say
    members: Mapping[str, Any]  # what `folds.json` says: ids of every part


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
    device: str
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


def plan(
    sources: Sequence[Source],
    runs: Path,
    config: Config,
    *,
    protocol: str = "speaker",
    file: Path | None = None,
    ablations: Sequence[str] = ("full",),
    seeds: Sequence[int] = (0,),
    device: torch.device,
    about: Mapping[str, Any],
) -> list[Run]:
    """The runs of every ablation and seed, proven not to leak; nothing is written.

    Args:
        sources: the corpus, and the one to test on where that is another.
        runs: where runs are kept.
        config: settings of every run, but for the seed and what an ablation changes.
        protocol: what is left out; of no account with two sources or a `file`.
        file: a published `folds.json` to take instead.
        ablations: rows of the ablation table.
        seeds: a run each.
        device: where it will train; decides on the precision.
        about: what else `run.json` says.

    Raises:
        PipelineError: features are missing, a protocol that the corpus cannot give, or folds that leak.
    """
    data = read_manifest(tuple(source.folder for source in sources))
    protocol, split, config = _split(data, protocol if len(sources) == 1 else "cross", file, config)
    findings = leaks(data, split)
    errors = [finding.message for finding in findings if finding.severity == "error"]
    if errors:
        raise PipelineError(f"{errors[0]}; `ser-pipeline audit` says more")
    about = {**about, "audit": to_json(findings, data.utterances)}
    planned = []
    for ablation in ablations:
        changed = settings.merge(config, ABLATIONS[ablation])
        changed = replace(changed, train=replace(changed.train, precision=precision(config.train.precision, device)))
        planned += [
            _run(sources, data, runs, replace(changed, seed=seed), protocol, ablation, split, about) for seed in seeds
        ]
    return planned


def _split(data: Manifest, protocol: str, file: Path | None, config: Config) -> tuple[str, tuple[Fold, ...], Config]:
    """Protocol, folds and settings, of which a file of folds decides the protocol and the selection."""
    if file is None:
        return protocol, folds.make_folds(data, protocol, config.train.selection), config
    split, protocol, selection = folds.read_folds(file, data.utterances)
    return protocol, split, replace(config, train=replace(config.train, selection=selection))


def train(
    planned: Sequence[Run],
    features: Sequence[Path],
    *,
    device: torch.device,
    how: How,
    progress: Progress,
) -> list[Path]:
    """Train every fold that is missing; returns the folders of the runs.

    Args:
        planned: from `plan`.
        features: folders of the manifests and stores, as the sources of the plan.
        device: where to train.
        how: how many at a time, and from where.
        progress: called about twice a second with where every fold stands.

    Raises:
        PipelineError: what stopped a fold; the others are kept, and the next call goes on.
    """
    with ExitStack() as held:
        for run in planned:
            held.enter_context(run.entry.lock())
        waiting = [run for run in planned if not run.entry.done]
        for run in waiting:
            _open(run)
        queue = [(run, fold) for run in waiting for fold in run.folds if not _fold_entry(run, fold).done]
        devices = _devices(device)
        at_once = max(1, min(how.jobs or (cores() if device.type == "cpu" else len(devices)), len(queue)))
        how = replace(how, jobs=at_once, threads=max(1, cores() // at_once))
        todo = [
            Job(_fold_entry(run, fold), fold, run.config, tuple(features), devices[number % len(devices)], how)
            for number, (run, fold) in enumerate(queue)
        ]
        with _watching(waiting, progress):
            _work(todo, at_once)
        for run in waiting:
            run.entry.publish(device=_device_name(device), folds=[fold.name for fold in run.folds])
    return [run.entry.path for run in planned]


def ablation_names(text: str) -> list[str]:
    """Rows of the ablation table from a comma-separated list; "all" is every row.

    Raises:
        PipelineError: an unknown row.
    """
    names = list(ABLATIONS) if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ABLATIONS:
            raise PipelineError(f"unknown ablation '{name}'; there are {', '.join(ABLATIONS)}")
    return names


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


def train_job(job: Job) -> None:
    """Train one fold, alone: a second process that has the same job waits and finds it done."""
    die_with_parent()
    device = torch.device(job.device)
    torch.set_num_threads(job.how.threads)
    with job.entry.lock():
        if not job.entry.done:
            data, source = _data(job.features, _stores(job.features, job.config), job.device, job.how)
            fit(job.entry, job.fold, data, source, job.config, device, micro=job.how.micro)


@lru_cache(maxsize=1)
def _data(features: tuple[Path, ...], stores: tuple[tuple[str, tuple[Path, ...]], ...], device: str, how: How) -> Any:
    """Data and where its batches come from, shared by the folds that a process trains."""
    data = open_data(read_manifest(features), dict(stores))
    return data, open_source(data, torch.device(device), how.data, sharers=how.jobs or 1)


def read_manifest(features: Sequence[Path]) -> Manifest:
    """The manifest of a features folder, or two of them joined for testing on the second."""
    return reduce(folds.join, map(manifest.read, features))


def _run(
    sources: Sequence[Source],
    data: Manifest,
    runs: Path,
    config: Config,
    protocol: str,
    ablation: str,
    split: tuple[Fold, ...],
    about: Mapping[str, Any],
) -> Run:
    folders = [source.folder for source in sources]
    stores = {name: paths[0].name for name, paths in _stores(folders, config)}
    members = folds.folds_json(split, data.utterances, protocol, config.train.selection)
    inputs = {
        "features": [folder.name for folder in folders],
        "stores": stores,
        "protocol": protocol,
        "ablation": ablation,
        "folds": members,
        "config": config,
    }
    known = {
        **about,
        "corpus": data.corpus,
        "labels": list(data.labels),
        "protocol": protocol,
        "selection": config.train.selection,
        "ablation": ablation,
        "seed": config.seed,
        "features": "+".join(folder.name for folder in folders),
        "test_corpus": sources[-1].corpus if len(sources) > 1 else "",
        "folds": [fold.name for fold in split],
        "precision": config.train.precision,
        "audio_root": str(sources[-1].root),
    }
    entry = Entry.keyed(runs, f"{data.corpus}-{protocol}-{ablation}-s{config.seed}", inputs)
    return Run(Entry(entry.path, {key: inputs[key] for key in inputs if key != "folds"}), split, config, known, members)


def _stores(features: Sequence[Path], config: Config) -> tuple[tuple[str, tuple[Path, ...]], ...]:
    """Every feature that the model reads, with its store in each of the folders.

    Raises:
        PipelineError: a store is not there.
    """
    for folder in features:
        missing = [name for name in INPUTS if not store_entry(folder, name, config).done]
        if missing:
            raise PipelineError(
                f"{folder} lacks {', '.join(missing)} with these settings; "
                "run `ser-pipeline features` with the same --preset, --config and --set first"
            )
    return tuple((name, tuple(store_entry(folder, name, config).path for folder in features)) for name in INPUTS)


def _open(run: Run) -> None:
    """What a run says of itself before its first fold."""
    folder = run.entry.partial
    write_text(folder / "config.toml", settings.dumps(run.config))
    write_json(folder / "run.json", {key: value for key, value in run.about.items() if key != "audit"})
    write_json(folder / "folds.json", run.members)
    write_json(folder / "audit.json", run.about["audit"])


def _fold_entry(run: Run, fold: Fold) -> Entry:
    folder = run.entry.path if run.entry.done else run.entry.partial
    return Entry(folder / fold.name, {"run": run.entry.path.name, "fold": fold.name})


def _work(todo: list[Job], at_once: int) -> None:
    """Train the jobs; a failed one does not keep the others from their turn."""
    failed = []
    try:
        with Parallel(n_jobs=at_once, return_as="generator_unordered", batch_size=1) as parallel:
            for error in parallel(delayed(_attempt)(job) for job in todo):
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


def _attempt(job: Job) -> str | None:
    try:
        train_job(job)
    except PipelineError as error:
        return str(error)
    return None


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


def _devices(device: torch.device) -> list[str]:
    """The devices that folds are dealt out to: every CUDA device where just "cuda" is asked for."""
    if device.type == "cuda" and device.index is None:
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [str(device)]


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
