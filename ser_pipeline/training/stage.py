"""Stage 2 as one function: train the runs of a corpus that has features."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ser_pipeline import config as settings
from ser_pipeline.cache import catalogue, manifest, targeted
from ser_pipeline.cache.catalogue import FeatureSet, Sources
from ser_pipeline.cache.mirror import local_cache
from ser_pipeline.config import Config
from ser_pipeline.corpora import CORPORA
from ser_pipeline.corpora.classes import parse_classes
from ser_pipeline.corpora.corpus import Corpus
from ser_pipeline.device import gpu_jobs, pick_device
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.stores import read_manifest
from ser_pipeline.limits import require_counts
from ser_pipeline.splits.joining import told
from ser_pipeline.splits.matrix import MATRIX, matrix_protocols
from ser_pipeline.targets import TARGETS
from ser_pipeline.text import few
from ser_pipeline.training.ablations import ablation_names, own_ablations
from ser_pipeline.training.distributed import World, join_world
from ser_pipeline.training.plan import PlannedRun, plan_runs
from ser_pipeline.training.queue import run_queue
from ser_pipeline.training.statuses import Progress, Status, statuses
from ser_pipeline.training.trackers import chosen as chosen_trackers
from ser_pipeline.training.unfinished import require_repeated
from ser_pipeline.training.workers import QueueOptions

MOST_PAIRS = 3
"""Largest number of settings that a log line lists."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """Runs that are planned, checked for leaks and ready to be trained."""

    corpus: str
    preset: str
    config: Config
    planned: tuple[PlannedRun, ...]
    sources: Sources
    device: torch.device
    options: QueueOptions
    world: World
    accepted: frozenset[str] = frozenset()  # names of the audit's errors that the user accepts

    def statuses(self) -> list[Status]:
        """Return the state of every fold."""
        return statuses(self.planned)

    def train(self, progress: Progress = lambda statuses: None) -> list[Path]:
        """Train every missing fold, and return the folders of the finished runs.

        Raises:
            PipelineError: an error stopped a fold (finished folds are kept, and another call resumes), or the audit
                found an error that was not accepted (all runs are kept).
        """
        return run_queue(
            self.planned,
            self.sources,
            device=self.device,
            options=self.options,
            progress=progress,
            world=self.world,
            accepted=self.accepted,
        )


def prepare(
    corpus: str | None = None,
    *,
    protocol: str = "speaker",
    test_corpus: str | None = None,
    target: str | None = None,
    classes: str | None = None,
    folds: Path | str | None = None,
    selection: str | None = None,
    ablation: str = "full",
    seeds: int = 1,
    preset: str | None = None,
    config: Path | str | None = None,
    overrides: Iterable[str] = (),
    device: str = "auto",
    jobs: int | None = None,
    jobs_per_gpu: int | None = None,
    data: str = "auto",
    micro_batch: int = 0,
    stack: bool = True,
    part: tuple[int, int] | None = None,
    wait: bool = True,
    share_only: bool = False,
    fresh: bool = False,
    accept: Collection[str] = (),
    log_to: str = "",
    cache: Path | str = "cache",
    runs: Path | str = "runs",
) -> Prepared:
    """Plan the runs of a corpus that has features, and check their folds for leaks; nothing is written.

    Args:
        corpus: name of the corpus, or of several to train on together, "emodb+savee"; by default the only one that has
            features.
        protocol: what each fold holds out: "speaker", "session", "official", "corpus", "group-5", …; "final" for one
            model trained on everything; "matrix" for a run per corpus that trains on it alone and, with three or more
            corpora, a run that holds out each corpus once.
        test_corpus: another corpus to test on, on the classes that all corpora have.
        target: what to predict: "class", "votes", "vad" or "vad+class"; by default the value of `train.target`.
        classes: classes of several corpora, such as "neutral,happy=happy+excited"; by default those all of them have.
        folds: a folds.json file with the folds to use.
        selection: rows that choose the epoch: "validation", "test" or "reference".
        ablation: names of ablations with commas between, or "all"; `config` may define more of them.
        seeds: number of seeds, counted from `seed` of the settings.
        preset: named settings; by default those of the features.
        config: TOML file that overrides the preset.
        overrides: `KEY=VALUE` pairs that override both.
        device: the device of training.
        jobs: folds trained in parallel.
        jobs_per_gpu: folds trained in parallel on each GPU.
        data: where the rows are kept: "resident" on the device, "stream" from disk, or "auto" by size.
        micro_batch: segments computed at once; 0 for the whole batch.
        stack: whether to train all folds of a small head on stored features at once.
        part: K and N, to start with share K of N if several processes share the work.
        wait: whether to wait for folds of other shares that other processes train.
        share_only: whether to train only the folds of this share.
        fresh: whether to start a new run despite an unfinished one with other settings.
        accept: names of the audit's errors to accept.
        log_to: trackers that also log epochs and scores: "csv", "tensorboard", "mlflow", with commas between.
        cache: folder of the features, or its URL; shards are then copied when they are read.
        runs: folder of the runs.

    Raises:
        PipelineError: features, settings, folds or a protocol are missing or invalid, or labels or folds have an error.
    """
    require_counts(seeds=seeds, jobs=jobs, jobs_per_gpu=jobs_per_gpu, micro_batch=micro_batch or None)
    cache, file, trackers = local_cache(cache), Path(config) if config else None, chosen_trackers(log_to)
    sources = _sources(cache, corpus, test_corpus, classes)
    name, made = _as_made(sources.trained[0], preset, file)
    chosen = settings.load(name, file, [*made, *overrides, *_asked(selection=selection, target=target)])
    own = own_ablations(file)
    world = join_world(device)
    _consider(chosen.train.target, sources, micro_batch, world)
    place = pick_device(world.device(device))
    planned = [
        run
        for one in _protocols(protocol, sources, given=bool(folds))
        for run in plan_runs(
            sources,
            Path(runs),
            chosen,
            protocol=one,
            file=Path(folds) if folds else None,
            ablations=ablation_names(ablation, own),
            own=own,
            seeds=range(chosen.seed, chosen.seed + seeds),
            device=place,
            about={**_about(sources.trained), "preset": name, "device": str(place)},
            accepted=accept,
        )
    ]
    if not fresh:
        require_repeated(planned)
    at_once = jobs or gpu_jobs(place, jobs_per_gpu)
    options = QueueOptions(at_once, data, micro_batch, stack, part, wait, share_only, trackers)
    return Prepared(_joined(sources), name, chosen, tuple(planned), sources, place, options, world, frozenset(accept))


def _joined(sources: Sources) -> str:
    """Return the names of the corpora to train on, with + between."""
    return "+".join(one.corpus for one in sources.trained)


def _asked(**options: str | None) -> list[str]:
    """Return `KEY=VALUE` pairs of the settings of `train` that have options of their own, except for None."""
    return [f'train.{name}="{value}"' for name, value in options.items() if value]


def _consider(target: str, sources: Sources, micro_batch: int, world: World) -> None:
    """Log which utterances have the target, and refuse to compute a loss of whole batches in parts.

    Args:
        target: name of the target.
        sources: the corpora.
        micro_batch: segments computed at once; 0 for the whole batch.
        world: the processes that share a batch.

    Raises:
        PipelineError: the loss would be computed in parts.
    """
    row = TARGETS[target]
    if row.attributes and (micro_batch or world.size > 1):
        how = "--micro-batch" if micro_batch else f"{world.size} processes that share a batch"
        raise PipelineError(f"the loss of --target {target} needs a whole batch ({row.loss}): leave out {how}")
    if line := targeted.told(read_manifest(sources), target):
        log.info("%s", line)


def _sources(cache: Path, corpus: str | None, test_corpus: str | None, classes: str | None) -> Sources:
    """Find the requested corpora; for several of them, log how their classes are joined.

    Args:
        cache: folder of the features.
        corpus: name of one corpus, or of several with + between.
        test_corpus: another corpus to test on.
        classes: classes of several corpora; None for those that all have.
    """
    found = catalogue.find_together(cache, corpus)
    if test_corpus:
        found = (*found, catalogue.find(cache, test_corpus))
    chosen = parse_classes(classes) if classes else {}
    if len(found) > 1:
        for line in told([manifest.read(one.folder) for one in found], chosen):
            log.info("%s", line)
    return Sources(found, bool(test_corpus), tuple(chosen.items()))


def _protocols(protocol: str, sources: Sources, given: bool) -> list[str]:
    """Return the protocol, or those of the cross-corpus matrix.

    Args:
        protocol: name of the protocol, or `MATRIX`.
        sources: the corpora.
        given: whether a file defines the folds.
    """
    if protocol != MATRIX:
        return [protocol]
    if given or sources.tested:
        raise PipelineError(f"--protocol {MATRIX} makes folds of its own; leave out --folds and --test-corpus")
    return matrix_protocols([one.corpus for one in sources.sets])


def _about(trained: Sequence[FeatureSet]) -> dict[str, str | bool]:
    """Return the title of the corpora to train on, and whether one of them is synthetic."""
    rows = [CORPORA.get(one.corpus) for one in trained]
    titles = [row.title if row else one.corpus for row, one in zip(rows, trained, strict=True)]
    return {"title": " + ".join(titles), "synthetic": any(row.synthetic for row in rows if row)}


def _as_made(source: FeatureSet, preset: str | None, file: Path | None) -> tuple[str, tuple[str, ...]]:
    """Return the preset, and the pairs that override it; both are those of the features unless the user chose one."""
    row = CORPORA.get(source.corpus)
    if preset or not source.preset:
        return preset or (row.preset if row else Corpus.preset), ()
    made = () if file else source.settings
    over = f" with {few(made, MOST_PAIRS)}" if made else ""
    log.info("preset %s%s, from the features of %s; --preset chooses another", source.preset, over, source.corpus)
    return source.preset, made


def train(
    corpus: str | None = None,
    *,
    protocol: str = "speaker",
    ablation: str = "full",
    seeds: int = 1,
    preset: str | None = None,
    config: Path | str | None = None,
    overrides: Iterable[str] = (),
    device: str = "auto",
    jobs: int | None = None,
    cache: Path | str = "cache",
    runs: Path | str = "runs",
    accept: Collection[str] = (),
    progress: Progress = lambda statuses: None,
) -> list[Path]:
    """Train all folds of a protocol, and return the folders of the runs. `prepare` has more options.

    Args:
        corpus: name of the corpus; by default the only one that has features.
        protocol: what each fold holds out.
        ablation: names of ablations with commas between, or "all".
        seeds: number of seeds.
        preset: named settings; by default those of the features.
        config: TOML file that overrides the preset.
        overrides: `KEY=VALUE` pairs that override both.
        device: the device of training.
        jobs: folds trained in parallel.
        cache: folder of the features.
        runs: folder of the runs.
        accept: names of the audit's errors to accept.
        progress: called with the states of all folds.

    Raises:
        PipelineError: something is missing or invalid, or an error stopped a fold; finished folds are kept, and
            another call resumes.
    """
    prepared = prepare(
        corpus,
        protocol=protocol,
        ablation=ablation,
        seeds=seeds,
        preset=preset,
        config=config,
        overrides=overrides,
        device=device,
        jobs=jobs,
        cache=cache,
        runs=runs,
        accept=accept,
    )
    return prepared.train(progress)
