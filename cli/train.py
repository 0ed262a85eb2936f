"""`ser-pipeline train`: features to runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ser_pipeline.limits import MOST
from ser_pipeline.processes import prepare as warm_up
from ser_pipeline.settings import SELECTIONS
from ser_pipeline.targets import TARGETS
from ser_pipeline.text import plural
from ser_pipeline.training.ablations import BASELINES, ablation_names

from . import completion, judged, options
from .elsewhere import Elsewhere, elsewhere
from .progress import shown
from .terminal import say, start_log

if TYPE_CHECKING:
    from ser_pipeline.training.stage import Prepared
    from ser_pipeline.training.statuses import Status


@click.command()
@options.corpus("The corpus, or several to train on together: A+B.  [default: the one that has features]")
@click.option(
    "--protocol",
    callback=judged.checked(judged.protocol),
    shell_complete=completion.PROTOCOLS,
    help="What each fold holds out: speaker, session, corpus, …  [default: speaker]",
)
@click.option(
    "--final", is_flag=True, help="Train one model for use on all data: nothing is held out, nothing is tested."
)
@options.test_corpus
@click.option(
    "--target",
    type=click.Choice([*TARGETS]),
    help="What to predict: the label, the raters' votes, or arousal, valence and dominance.  [default: class]",
)
@options.classes("Classes of several corpora, such as neutral,happy=happy+excited.  [default: those all of them have]")
@click.option("--folds", type=click.Path(path_type=Path, dir_okay=False), help="Use the folds of a folds.json file.")
@click.option("--selection", type=click.Choice(SELECTIONS), help="Rows that select the epoch.")
@click.option(
    "--ablation",
    shell_complete=completion.ABLATIONS,
    default="full",
    show_default=True,
    help="An ablation, a list with commas between, or all.",
)
@click.option(
    "--baseline",
    multiple=True,
    type=click.Choice([*BASELINES]),
    metavar="NAME",
    help=f"Also train a baseline classifier: {', '.join(BASELINES)}; may be repeated.",
)
@click.option(
    "--seeds",
    type=options.IntRange(1, MOST["seeds"]),
    default=1,
    show_default=True,
    help="Number of seeds, counted from 0, with one run each.",
)
@options.device("cuda, cuda:1, mps or cpu; auto: the first available.")
@click.option(
    "--jobs", type=options.WORKERS, help="Folds trained in parallel.  [default: one per core, or one per GPU]"
)
@options.part
@click.option("--share-only", is_flag=True, help="Train only the share of --part, without helping with others.")
@click.option("--no-wait", is_flag=True, help="Do not wait for folds of other shares that other processes train.")
@click.option("--jobs-per-gpu", type=options.WORKERS, help="Folds trained in parallel on each GPU.")
@click.option(
    "--data",
    type=click.Choice(["auto", "resident", "stream"]),
    default="auto",
    help="Keep all rows on the device, or stream them to it.",
)
@click.option(
    "--micro-batch",
    type=options.IntRange(1, MOST["micro_batch"]),
    default=None,
    help="Segments computed at once, to save memory.",
)
@click.option("--one-by-one", is_flag=True, help="Train small heads fold by fold instead of all folds at once.")
@click.option(
    "--accept",
    metavar="FINDING",
    multiple=True,
    help="Train despite this error of the audit, given by name; the report shows it. May be repeated.",
)
@click.option(
    "--log",
    "log_to",
    callback=judged.checked(judged.trackers),
    default="",
    metavar="LIST",
    help="Also log every epoch and the scores to csv, tensorboard or mlflow; several with commas.  [default: none]",
)
@click.option("--fresh", is_flag=True, help="Start a new run despite an unfinished one with other settings.")
@click.option("--dry-run", is_flag=True, help="List the folds and their state without training.")
@options.store
@options.settings
@options.far_cache
@options.runs
@options.quiet
@elsewhere
def train(
    protocol: str | None,
    final: bool,
    ablation: str,
    baseline: tuple[str, ...],
    micro_batch: int | None,
    one_by_one: bool,
    no_wait: bool,
    dry_run: bool,
    runs_root: Path,
    quiet: bool,
    elsewhere: Elsewhere,
    **chosen: Any,
) -> None:
    """Train models by cross-validation, or one model on all data.

    A fold of the co-attention model is trained for each speaker, session or corpus that is held out. Prints the folder
    of each run. A stopped run resumes where it stopped; finished folds are never trained again. If an unfinished run
    has other settings, the command lists the differences and stops, unless --fresh is given.

    \b
    Examples:
      ser-pipeline train --protocol speaker
      ser-pipeline train --corpus emodb --preset scratch --seeds 3
      ser-pipeline train --corpus iemocap --protocol session --set train.lr=2e-5
      ser-pipeline train --corpus emodb+savee+ravdess --protocol corpus
      ser-pipeline train --dask tcp://10.0.0.1:8786
      ser-pipeline train --slurm --slurm-set "gpus=1 time=8:00:00" --submit
      ser-pipeline train --corpus iemocap --target vad --set train.monitor=ccc
      ser-pipeline train --final
      ser-pipeline train --corpus emodb --log csv,tensorboard
    """
    _require_usage(ablation, final, protocol, chosen)
    start_log(quiet)
    if chosen["jobs"] != 1 and not (dry_run or elsewhere) and "WORLD_SIZE" not in os.environ:
        warm_up("ser_pipeline.training.workers")
    from ser_pipeline.training.stage import prepare

    prepared = prepare(
        protocol="final" if final else protocol or "speaker",
        ablation=",".join([ablation, *baseline]),
        micro_batch=micro_batch or 0,
        stack=not one_by_one,
        wait=not no_wait,
        runs=runs_root,
        **chosen,
    )
    if elsewhere and not dry_run:
        missing = sum(not status.done for status in prepared.statuses())
        elsewhere.hand_out(missing, "fold", runs_root, quiet)
        return
    _train(prepared, quiet or not prepared.world.is_main, dry_run)


def _require_usage(ablation: str, final: bool, protocol: str | None, chosen: Mapping[str, Any]) -> None:
    """Check options together, as far as no file is needed.

    Args:
        ablation: names of ablations.
        final: whether nothing is held out.
        protocol: name of the protocol.
        chosen: the other options.
    """
    if final and (protocol or chosen["folds"] or chosen["test_corpus"]):
        raise click.UsageError("--final holds nothing out: use it without --protocol, --folds and --test-corpus")
    if chosen["config"] is None:  # a file of settings may define more ablations
        with judged.judged():
            ablation_names(ablation)


def _train(prepared: Prepared, quiet: bool, dry_run: bool) -> None:
    """Train, or list the folds with `dry_run`; print the folders of the finished runs, even after an error.

    Args:
        prepared: the runs.
        quiet: whether to hide progress.
        dry_run: whether to list the folds without training.
    """
    statuses = prepared.statuses()
    from ser_pipeline.training.estimate import advice, estimated

    estimate = estimated(prepared.planned, statuses, prepared.device, prepared.options)
    if not quiet:
        for line in (_headline(prepared, statuses), *advice(prepared, estimate)):
            say(line)
    if dry_run:
        click.echo("\n".join(map(_state, statuses)))
        return
    try:
        with shown(statuses, prepared.config.train.epochs, quiet, estimate) as progress:
            prepared.train(progress)
    finally:
        whole = [str(run.entry.path) for run in prepared.planned if run.entry.done]
        if whole and prepared.world.is_main:
            click.echo("\n".join(whole))


def _headline(prepared: Prepared, statuses: Sequence[Status]) -> str:
    """Describe what will be trained: the corpus, its classes, the folds, and how many were trained or begun before."""
    labels = plural(len(prepared.planned[0].about["labels"]), "class")
    done = sum(status.done for status in statuses)
    begun = sum(status.epoch > 0 for status in statuses) - done
    parts = [f"{done} of them done before" if done else "", f"{begun} begun" if begun else ""]
    folds = ", ".join([plural(len(statuses), "fold"), *filter(None, parts)])
    return f"{prepared.corpus}, {labels}, preset {prepared.preset}, {folds}, on {prepared.device}"


def _state(status: Status) -> str:
    """Return a fold's line of `--dry-run`: its run, its name and its state."""
    state = "done" if status.done else f"at epoch {status.epoch}" if status.epoch else "to do"
    return f"{status.run}\t{status.fold}\t{state}"
