"""Stage 2 as one call: a corpus with features, a protocol and settings to the folders of runs."""

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
"""Settings that one line names before it says how many more there are."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """Runs that are planned and proven not to leak, ready to be trained."""

    corpus: str
    preset: str
    config: Config
    planned: tuple[PlannedRun, ...]
    sources: Sources
    device: torch.device
    options: QueueOptions
    world: World
    accepted: frozenset[str] = frozenset()  # names of the audit's errors that are taken as they are

    def statuses(self) -> list[Status]:
        """How far every fold is."""
        return statuses(self.planned)

    def train(self, progress: Progress = lambda statuses: None) -> list[Path]:
        """Train every fold that is missing; the folders of the runs.

        Raises:
            PipelineError: what stopped a fold, the others being kept for the next call to go on; or, with all runs
                kept, an error of the audit that was not accepted.
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
    """Runs of a corpus that has features, planned and proven not to leak; nothing is written.

    Args:
        corpus: which one, or several that are trained together, "emodb+savee"; by default the only one that has
            features.
        protocol: what is left out: "speaker", "session", "official", "corpus", "group-5", …; "final" for
            one model of everything; "matrix": each of several corpora trains alone, a run
            each, and all others together.
        test_corpus: another corpus to test on, in the classes that all have.
        target: what is learned: "class", "votes", "vad" or "vad+class"; by default as `train.target` says.
        classes: of several corpora, as "neutral,happy=happy+excited"; by default those that all have.
        folds: a published folds.json to take instead.
        selection: rows that choose the epoch: "validation", "test" or "reference".
        ablation: rows of the ablation table with commas between, or "all"; `config` may add rows of its own.
        seeds: how many, from that of the settings on.
        preset: named settings; by default those that its features were made with.
        config: TOML file of settings over the preset.
        overrides: `KEY=VALUE` pairs over both.
        device: where to train.
        jobs: folds at a time.
        jobs_per_gpu: folds at a time on every GPU.
        data: where the rows are kept: "resident", "stream", or what fits.
        micro_batch: segments computed at a time; 0: the whole batch.
        stack: whether all folds of a small head on stored features are trained at once.
        part: K and N: begin with share K of N, where several processes share the work.
        wait: for the folds of other shares that other processes hold, until all are whole.
        share_only: whether the folds of other shares are left to others.
        fresh: whether to start anew beside an unfinished run that had other settings.
        accept: names of the audit's errors that are taken as they are.
        log_to: where epochs and scores are logged beside the runs: "csv", "tensorboard", "mlflow", with commas between.
        cache: folder of the features, or its URL: shards are copied as they are read.
        runs: folder of the runs.

    Raises:
        PipelineError: features, settings, folds or a protocol that cannot be had, or an error in labels or folds.
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
    """The corpora that are trained, with + between."""
    return "+".join(one.corpus for one in sources.trained)


def _asked(**options: str | None) -> list[str]:
    """`KEY=VALUE` pairs of the settings of `train` that have options of their own; of None there is none."""
    return [f'train.{name}="{value}"' for name, value in options.items() if value]


def _consider(target: str, sources: Sources, micro_batch: int, world: World) -> None:
    """Log what a target takes of the utterances; refuse to compute a loss in parts that is of a whole batch.

    Args:
        target: its name.
        sources: the corpora.
        micro_batch: segments computed at a time; 0: all.
        world: the processes that share a batch.

    Raises:
        PipelineError: it would be computed in parts.
    """
    row = TARGETS[target]
    if row.attributes and (micro_batch or world.size > 1):
        how = "--micro-batch" if micro_batch else f"{world.size} processes that share a batch"
        raise PipelineError(f"the loss of --target {target} is of a whole batch ({row.loss}): leave out {how}")
    if line := targeted.told(read_manifest(sources), target):
        log.info("%s", line)


def _sources(cache: Path, corpus: str | None, test_corpus: str | None, classes: str | None) -> Sources:
    """The corpora that were asked for; of several it is logged what becomes of their classes.

    Args:
        cache: folder of the features.
        corpus: one, or several with + between them.
        test_corpus: another one to test on.
        classes: of several corpora; None: those that all have.
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
    """The protocol, or those of the cross-corpus matrix.

    Args:
        protocol: its name, or `MATRIX`.
        sources: the corpora.
        given: whether a file has the folds.
    """
    if protocol != MATRIX:
        return [protocol]
    if given or sources.tested:
        raise PipelineError(f"--protocol {MATRIX} makes folds of its own; leave out --folds and --test-corpus")
    return matrix_protocols([one.corpus for one in sources.sets])


def _about(trained: Sequence[FeatureSet]) -> dict[str, str | bool]:
    """What the corpora that are trained are called, and whether a program made one of them."""
    rows = [CORPORA.get(one.corpus) for one in trained]
    titles = [row.title if row else one.corpus for row, one in zip(rows, trained, strict=True)]
    return {"title": " + ".join(titles), "synthetic": any(row.synthetic for row in rows if row)}


def _as_made(source: FeatureSet, preset: str | None, file: Path | None) -> tuple[str, tuple[str, ...]]:
    """The preset, and the pairs over it that the features were made with: as they were, unless the user names one."""
    row = CORPORA.get(source.corpus)
    if preset or not source.preset:
        return preset or (row.preset if row else Corpus.preset), ()
    made = () if file else source.settings
    over = f" with {few(made, MOST_PAIRS)}" if made else ""
    log.info("preset %s%s, as the features of %s were made; --preset takes another", source.preset, over, source.corpus)
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
    """Train a fold for everything that is left out once; the folders of the runs. `prepare` takes more options.

    Args:
        corpus: which one; by default the only one that has features.
        protocol: what is left out.
        ablation: rows of the ablation table.
        seeds: how many.
        preset: named settings; by default those that its features were made with.
        config: TOML file of settings over the preset.
        overrides: `KEY=VALUE` pairs over both.
        device: where to train.
        jobs: folds at a time.
        cache: folder of the features.
        runs: folder of the runs.
        accept: names of the audit's errors that are taken as they are.
        progress: told where every fold stands.

    Raises:
        PipelineError: what cannot be had, or what stopped a fold; the others are kept, and the next call goes on.
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
