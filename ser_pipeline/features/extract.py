"""Stage 1: a corpus folder to stores of features, one shard a job, in parallel.

Each job reads the audio files of its shard once, makes every feature that is missing, and writes its own files;
nothing but names travels between processes. Rows that an earlier store of the same settings already has are copied
from there, so that a changed file costs its own extraction alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ser_pipeline import audio
from ser_pipeline.cache import shards
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import Audio, Config, require_valid
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.cost import Meter
from ser_pipeline.entry import Entry
from ser_pipeline.errors import PipelineError
from ser_pipeline.features import measure, streamed
from ser_pipeline.features.acoustic import FEATURES
from ser_pipeline.features.stores import Place, copied, known_rows, plain_settings, store_entry
from ser_pipeline.inputs import PAPER
from ser_pipeline.processes import cores, pool

DEFAULT_FEATURES = PAPER
SECONDS_A_PROCESS = 60
"""Audio for which another process is worth its start: a tenth of a second of work."""

LONG = 900
"""Seconds of an utterance from which on it is not held in memory at once."""

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ShardJob:
    """One shard of every store that misses it."""

    number: int
    root: Path
    audio: Audio
    utterances: tuple[Utterance, ...]
    keys: tuple[str, ...]
    samples: tuple[int, ...]
    stores: Mapping[str, Path]  # feature -> the `.partial` folder of its store
    settings: Mapping[str, Any]  # feature -> its settings
    known: Mapping[str, Mapping[str, Place]]  # feature -> key -> where its rows already are
    compress: bool


def wanted_features(config: Config) -> tuple[str, ...]:
    """What is made where nothing else is asked for: what the model reads, and what the paper's rows would read."""
    return config.model.reads if config.model.whole else (*DEFAULT_FEATURES, *config.model.reads)


def extract(
    data: Manifest,
    root: Path,
    config: Config,
    cache: Path,
    *,
    names: Sequence[str] = DEFAULT_FEATURES,
    jobs: int | None = None,
    compress: bool = False,
    progress: Progress = lambda done, total: None,
) -> Path:
    """The folder in `cache` with the manifest and a whole store of each feature in `names`.

    Args:
        data: what to extract, measured from `root`.
        root: the corpus folder.
        config: `audio` and `features` are used.
        cache: folder of all features.
        names: keys of `FEATURES`.
        jobs: processes; by default as many as there are cores and audio to keep them busy.
        compress: whether new shards are packed: half the bytes, slower to read.
        progress: called with the utterances done and wanted.

    Raises:
        PipelineError: broken or changed audio, a full disk, or a killed worker; what is finished is kept.
    """
    require_valid(config)
    entry = data.entry(cache)
    if compress:
        shards.compression()
    stores = {name: store_entry(entry.path, name, config) for name in names}
    whole = entry.done and all(store.done for store in stores.values())
    with entry.lock(reading=whole):
        if not entry.done:
            data.write(entry.partial)
            entry.publish(labels=list(data.labels), rows=int(data.stored.sum()), seconds=_seconds(data))
        with suppress(OSError, PipelineError):  # a cache that may only be read keeps what it knows of the speakers
            data.update(entry.path)
        missing = {name: store for name, store in stores.items() if not store.done}
        if not missing:
            log.info("nothing to do: every feature is there")
            return entry.path
        for store in missing.values():
            store.partial.mkdir(parents=True, exist_ok=True)
        for whole in (False, True):
            kind = {name: store for name, store in missing.items() if (FEATURES[name].kind == "utterance") == whole}
            if kind:
                _make(data.whole if whole else data, root, config, kind, cache, jobs, compress, progress)
    return entry.path


def _make(
    data: Manifest,
    root: Path,
    config: Config,
    stores: Mapping[str, Entry],
    cache: Path,
    jobs: int | None,
    compress: bool,
    progress: Progress,
) -> None:
    """Write the shards that `stores` miss, whose rows are the segments of `data`, and give them their names."""
    work, meter = _jobs(data, root, config, stores, cache, compress), Meter()
    _run(work, jobs or _processes(data), progress, len(data.utterances))
    written = [shards.name(number) for number, _ in enumerate(shards.shard_bounds(data.stored))]
    begun = len(work) < len(written)  # by a call that was killed, whose cost is not known
    cost: dict[str, Any] = {} if begun else meter.read(len(stores))
    for store in stores.values():
        store.publish(shards=written, rows=int(data.stored.sum()), **cost)


def write_job(job: ShardJob) -> int:
    """Write the shard of `job` in every store that misses it; returns its number of utterances."""
    several = [job]
    if max(job.samples) > _long(job.audio):  # a feature at a time, which is all that fits into memory
        several = [replace(job, stores={name: folder}) for name, folder in job.stores.items()]
    for part in several:
        _write(part)
    return len(job.utterances)


def _long(audio: Audio) -> int:
    """Samples of an utterance from which on it is heard a stretch at a time."""
    return LONG * audio.rate


def _write(job: ShardJob) -> None:
    with threadpool_limits(1):  # the last digit of a product depends on its threads, and small ones only lose by them
        parts = _parts(job)
    for name, folder in job.stores.items():
        kept = {"audio": asdict(job.audio), "version": FEATURES[name].version, **plain_settings(job.settings[name])}
        file = folder / shards.name(job.number)
        extremes = FEATURES[name].extremes
        shards.write_shard(file, name, kept, list(job.keys), parts[name], extremes=extremes, compress=job.compress)


def _parts(job: ShardJob) -> dict[str, list[Any]]:
    """The rows of every utterance of `job`, a list a feature; each file is read once at most."""
    parts: dict[str, list[Any]] = {name: [] for name in job.stores}
    opened: dict[Path, shards.Shard] = {}
    source = _Source(job)
    for utterance, key, samples in zip(job.utterances, job.keys, job.samples, strict=True):
        wanted = []
        for name in job.stores:
            part = copied(job.known[name].get(key), opened)
            parts[name].append(part)
            wanted += [name] * (part is None)
        made = source.rows(wanted, utterance, key, samples) if wanted else {}
        for name, rows in made.items():
            parts[name][-1] = rows
    source.close()
    return parts


class _Source:
    """Audio of a job's utterances; keeps the last file open, of which several may be stretches."""

    def __init__(self, job: ShardJob) -> None:
        self._job = job
        self._open: audio.Recording | None = None
        self._digest = ""

    def rows(self, names: Sequence[str], utterance: Utterance, key: str, samples: int) -> dict[str, Any]:
        """The rows of features of an utterance, if its file is still the one that was measured.

        Args:
            names: of the features.
            utterance: which.
            key: what its file and stretch hashed to.
            samples: how many it had.
        """
        recording = self._recording(utterance.file)
        if measure.content_key(self._digest, utterance) != key:
            raise PipelineError(
                f"{utterance.file} changed while it was read; run the same command again once nothing writes to it"
            )
        known = len(recording.notes)  # from its header, and said when it was measured
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
    """A job for every shard that some store misses."""
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
                {name: store.partial for name, store in here.items()},
                {name: getattr(config.features, name, None) for name in here},
                {name: {key: known[name][key] for key in keys if key in known[name]} for name in here},
                compress,
            )
            found.append(job)
    return found


def _run(jobs: list[ShardJob], processes: int, progress: Progress, total: int) -> None:
    done = total - sum(len(job.utterances) for job in jobs)
    progress(done, total)
    processes = max(1, min(processes, len(jobs)))  # a killed call may have left nothing but the index to write
    for count in map(write_job, jobs) if processes == 1 else _in_processes(jobs, processes):
        done += count
        progress(done, total)


def _in_processes(jobs: list[ShardJob], processes: int) -> Iterator[int]:
    """What `write_job` returns for each of `jobs`, as they are done."""
    for name, settings in jobs[0].settings.items():  # so that what is compiled on first use is not compiled by each
        FEATURES[name].rows(np.zeros(1, np.float32), jobs[0].audio, settings)
    workers = pool(processes)
    try:
        for done in as_completed([workers.submit(write_job, job) for job in jobs]):
            yield done.result()
    except BrokenProcessPool:
        raise PipelineError(
            "a worker process was killed, perhaps for want of memory; what is finished is kept: "
            "run the same command again, with --jobs 1 if it happens again"
        ) from None
    finally:
        workers.shutdown(cancel_futures=True)  # after a mistake or Ctrl-C, the shards in work are finished


def _processes(data: Manifest) -> int:
    """Processes that the audio keeps busy."""
    return max(1, min(cores(), int(_seconds(data) // SECONDS_A_PROCESS)))


def _seconds(data: Manifest) -> float:
    return float(data.samples.sum() / data.audio.rate)
