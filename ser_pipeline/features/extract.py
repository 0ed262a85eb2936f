"""Stage 1: extract a corpus folder into stores of features, one shard per job, in parallel.

Each job reads the audio files of its shard once, computes every missing feature, and writes its own files; only names
travel between processes. Rows that an earlier store of the same settings already contains are copied from there, so
after a file has changed, only that file is extracted again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ser_pipeline import audio
from ser_pipeline.cache import shards
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.cache.shard_writing import writing_shard
from ser_pipeline.claims import Claims, at_work
from ser_pipeline.config import Audio, Config, require_valid
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.cost import Meter
from ser_pipeline.entry import PARTIAL, Entry
from ser_pipeline.errors import PipelineError
from ser_pipeline.features import measure, streamed
from ser_pipeline.features.acoustic import FEATURES
from ser_pipeline.features.stores import Place, copied, known_rows, plain_settings, require_shards, store_entry
from ser_pipeline.inputs import PAPER
from ser_pipeline.parts import Parts, once, own_first
from ser_pipeline.processes import cores, handed, handed_here, pool

DEFAULT_FEATURES = PAPER
SECONDS_A_PROCESS = 60
"""Seconds of audio per worker process; starting a process for less, a tenth of a second of work, does not pay."""

LONG = 900
"""Utterances longer than this many seconds are not loaded into memory at once."""

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ShardJob:
    """One shard, in every store that lacks it."""

    number: int
    root: Path
    audio: Audio
    utterances: tuple[Utterance, ...]
    keys: tuple[str, ...]
    samples: tuple[int, ...]
    rows: int  # rows of all its utterances
    stores: Mapping[str, Path]  # feature -> the `.partial` folder of its store
    settings: Mapping[str, Any]  # feature -> its settings
    known: Mapping[str, Mapping[str, Place]]  # feature -> key -> where its rows are already stored
    compress: bool

    @property
    def missing(self) -> dict[str, Path]:
        """The stores that still lack the shard: unfinished ones without its file."""
        return {name: folder for name, folder in self.stores.items() if not self._there(folder)}

    def _there(self, folder: Path) -> bool:
        whole = folder.with_name(folder.name.removesuffix(PARTIAL)) / "index.json"
        return (folder / shards.name(self.number)).exists() or whole.exists()


def wanted_features(config: Config) -> tuple[str, ...]:
    """Features extracted by default: the model's inputs, and the paper's unless the model reads whole utterances."""
    return config.model.reads if config.model.whole else (*DEFAULT_FEATURES, *config.model.reads)


def extract(
    data: Manifest,
    root: Path,
    config: Config,
    cache: Path,
    *,
    names: Sequence[str] = DEFAULT_FEATURES,
    jobs: int | None = None,
    part: tuple[int, int] | None = None,
    compress: bool = False,
    progress: Progress = lambda done, total: None,
) -> Path:
    """Extract features of a corpus; return their folder in `cache`, with the manifest and a complete store of each.

    Args:
        data: manifest of the utterances, measured below `root`.
        root: the corpus folder.
        config: `audio` and `features` are used.
        cache: folder of all features.
        names: keys of `FEATURES`.
        jobs: processes; by default as many as the cores and the amount of audio keep busy.
        part: K and N: begin with share K of N, where several processes share the work.
        compress: whether to compress new shards, which halves their size and slows reading.
        progress: called with the number of utterances that are done, and the total.

    Raises:
        PipelineError: broken or changed audio, a full disk, or a killed worker; finished work is kept.
    """
    require_valid(config)
    entry = data.entry(cache)
    if compress:
        shards.compression()
    stores = {name: store_entry(entry.path, name, config) for name in names}
    claims = Claims.beside(entry.path)
    once(claims, f"{entry.path.name}/manifest", lambda: entry.done, partial(_begin, data, entry))
    with suppress(OSError, PipelineError):  # a read-only cache keeps the speaker details that it has
        data.update(entry.path)
    missing = {name: store for name, store in stores.items() if not store.done}
    if not missing:
        log.info("nothing to do: every feature is already stored")
        return entry.path
    for store in missing.values():
        store.begin()
    for whole in (False, True):
        kind = {name: store for name, store in missing.items() if (FEATURES[name].kind == "utterance") == whole}
        if kind:
            rows = data.whole if whole else data
            work = own_first(_jobs(rows, root, config, kind, cache, compress), part)
            _make(rows, kind, work, claims, jobs or _processes(data), progress)
    if not at_work(entry.path):
        claims.remove(entry.path.name)
    return entry.path


def _begin(data: Manifest, entry: Entry) -> None:
    """Create the features folder of a corpus, with its manifest."""
    entry.begin()
    data.write(entry.partial)
    entry.publish(labels=list(data.labels), rows=int(data.stored.sum()), seconds=_seconds(data))


def _make(
    data: Manifest,
    stores: Mapping[str, Entry],
    work: list[ShardJob],
    claims: Claims,
    processes: int,
    progress: Progress,
) -> None:
    """Write the shards that `stores` lack and no other process writes; publish the stores once all shards exist.

    Args:
        data: manifest whose segments are the rows.
        stores: feature -> its unfinished store, all of one kind of rows.
        work: jobs for the missing shards.
        claims: claims on these shards.
        processes: number of worker processes.
        progress: called with the number of utterances that are done, and the total.
    """
    meter, place = Meter(), next(iter(stores.values())).path.parent.name
    kind = FEATURES[next(iter(stores))].kind
    parts = Parts(claims, work, lambda job: f"{place}/{kind}-{job.number:03}", lambda job: not job.missing)
    made = _run(parts, work, processes, progress, len(data.utterances))
    written = [shards.name(number) for number, _ in enumerate(shards.shard_bounds(data.stored))]
    # the total cost is unknown if a killed call or another process did part of the work
    cost: dict[str, Any] = meter.read(len(stores)) if made == len(written) else {}
    for store in stores.values():
        require_shards(store, written)
        publish = partial(store.publish, shards=written, rows=int(data.stored.sum()), **cost)
        once(claims, f"{place}/{store.path.name}", lambda store=store: store.done, publish)  # type: ignore[misc]


def write_job(job: ShardJob) -> int:
    """Write the shard of `job` in every store that lacks it; return its number of utterances."""
    several = [job.missing]
    if max(job.samples) > _long(job.audio):  # one feature at a time, since only one fits into memory
        several = [{name: folder} for name, folder in job.missing.items()]
    for stores in several:
        try:
            _write(replace(job, stores=stores))
        except FileNotFoundError:
            if any(folder.is_dir() for folder in stores.values()):
                raise
    return len(job.utterances)


def _long(audio: Audio) -> int:
    """Number of samples above which an utterance is read in stretches."""
    return LONG * audio.rate


def _write(job: ShardJob) -> None:
    # the last digit of a matrix product depends on the number of threads, and threads only slow small products down
    with threadpool_limits(1), ExitStack() as files:
        taken = {name: files.enter_context(_shard(job, name)) for name in job.stores}
        for parts in _parts(job):
            for name, rows in parts.items():
                taken[name](rows)


def _shard(job: ShardJob, name: str) -> AbstractContextManager[Callable[[Any], None]]:
    """Open the shard of `job` in a feature's store; the context's value writes rows to it."""
    row, file = FEATURES[name], job.stores[name] / shards.name(job.number)
    kept = {"audio": asdict(job.audio), "version": row.version, **plain_settings(job.settings[name])}
    return writing_shard(file, name, kept, job.keys, job.rows, extremes=row.extremes, compress=job.compress)


def _parts(job: ShardJob) -> Iterator[dict[str, Any]]:
    """The rows of each utterance of `job` by feature; each file is read at most once."""
    opened: dict[Path, shards.Shard] = {}
    with closing(_Source(job)) as source:
        for utterance, key, samples in zip(job.utterances, job.keys, job.samples, strict=True):
            parts = {name: copied(job.known[name].get(key), opened) for name in job.stores}
            wanted = [name for name, rows in parts.items() if rows is None]
            yield parts | (source.rows(wanted, utterance, key, samples) if wanted else {})


class _Source:
    """Audio of a job's utterances. The last file stays open, since several utterances may be stretches of it."""

    def __init__(self, job: ShardJob) -> None:
        self._job = job
        self._open: audio.Recording | None = None
        self._digest = ""

    def rows(self, names: Sequence[str], utterance: Utterance, key: str, samples: int) -> dict[str, Any]:
        """Rows of features of an utterance, after a check that its file is still the one that was measured.

        Args:
            names: names of the features.
            utterance: the utterance.
            key: its key, the hash of its file and stretch.
            samples: its number of samples when it was measured.
        """
        recording = self._recording(utterance.file)
        if measure.content_key(self._digest, utterance) != key:
            raise PipelineError(
                f"{utterance.file} changed while it was read; run the same command again once nothing writes to it"
            )
        known = len(recording.notes)  # notes on the header, which were reported when the file was measured
        job = self._job
        long = [name for name in names if samples > _long(job.audio) and name in streamed.STREAMS]
        heard = partial(recording.mono, job.audio.rate, utterance.start, utterance.end)
        made = {name: streamed.rows(name, heard, samples, job.audio, job.settings[name]) for name in long}
        if len(long) < len(names):
            signal = recording.samples(job.audio.rate, utterance.start, utterance.end)
            if len(signal) != samples:
                raise PipelineError(f"{utterance.file} is truncated ({len(signal)} of {samples} samples are there)")
            made |= {
                name: FEATURES[name].rows(signal, job.audio, job.settings[name]) for name in names if name not in long
            }
        for note in recording.notes[known:]:
            log.warning("%s %s", utterance.file, note)
        return made

    def _recording(self, name: str) -> audio.Recording:
        if self._open is None or self._open.name != name:
            self.close()
            self._open = measure.opened(self._job.root, name)
            self._digest = self._open.digest()
        return self._open

    def close(self) -> None:
        """Close the last file."""
        if self._open:
            self._open.close()


def _jobs(
    data: Manifest, root: Path, config: Config, stores: Mapping[str, Entry], cache: Path, compress: bool
) -> list[ShardJob]:
    """One job for every shard that some store lacks."""
    found = []
    known = {name: known_rows(cache, stores[name]) for name in stores}
    for number, (first, last) in enumerate(shards.shard_bounds(data.stored)):
        here = {name: store for name, store in stores.items() if not (store.partial / shards.name(number)).exists()}
        if here:
            keys = data.keys[first:last]
            job = ShardJob(
                number,
                root,
                config.audio,
                data.utterances[first:last],
                keys,
                tuple(data.samples[first:last].tolist()),
                int(data.stored[first:last].sum()),
                {name: store.partial for name, store in here.items()},
                {name: getattr(config.features, FEATURES[name].table, None) for name in here},
                {name: {key: known[name][key] for key in keys if key in known[name]} for name in here},
                compress,
            )
            found.append(job)
    return found


def _run(parts: Parts[ShardJob], jobs: Sequence[ShardJob], processes: int, progress: Progress, total: int) -> int:
    """Write the shards of `jobs` that no other process writes, wait for the rest; return how many were written here.

    Args:
        parts: hands out `jobs`.
        jobs: jobs for the missing shards.
        processes: number of worker processes.
        progress: called with the number of utterances that are done, and the total.
        total: utterances of all shards.
    """
    done, made = total - sum(len(job.utterances) for job in jobs), 0
    progress(done, total)
    processes = max(1, min(processes, len(jobs)))  # after a killed call, only the index may be missing
    with _workers(jobs[0], processes) if processes > 1 else nullcontext() as workers, parts.sharing():
        results = handed(workers, write_job, parts, processes) if workers else handed_here(write_job, parts)
        for job, count in results:
            parts.end(job)
            done, made = done + count, made + 1
            progress(done, total)
    progress(total, total)
    return made


@contextmanager
def _workers(job: ShardJob, processes: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes for jobs like `job`, all of them started."""
    for name, settings in job.settings.items():  # compiles functions here once instead of in every worker
        FEATURES[name].rows(np.zeros(1, np.float32), job.audio, settings)
    workers = pool(processes)
    try:
        workers.submit(os.getpid).result()  # the workers are forked here, before this process has threads
        yield workers
    except BrokenProcessPool:
        raise PipelineError(
            "a worker process was killed, perhaps because memory ran out; finished work is kept: "
            "run the same command again, with --jobs 1 if it happens again"
        ) from None
    finally:
        workers.shutdown(cancel_futures=True)  # after an error or Ctrl-C, shards in progress are finished


def _processes(data: Manifest) -> int:
    """Number of processes that the amount of audio keeps busy."""
    return max(1, min(cores(), int(_seconds(data) // SECONDS_A_PROCESS)))


def _seconds(data: Manifest) -> float:
    return float(data.samples.sum() / data.audio.rate)
