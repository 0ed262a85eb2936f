"""`ser-pipeline train`: features to runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ser_pipeline.limits import MOST
from ser_pipeline.processes import prepare as warm_up
from ser_pipeline.settings import SELECTIONS
from ser_pipeline.targets import TARGETS
from ser_pipeline.text import plural
from ser_pipeline.training.ablations import BASELINES

from . import completion, options
from .elsewhere import Elsewhere, elsewhere
from .progress import shown
from .terminal import say, start_log

if TYPE_CHECKING:
    from ser_pipeline.training.stage import Prepared
    from ser_pipeline.training.statuses import Status


@click.command()
@options.corpus("Which corpus, or several to train on together: A+B.  [default: the one that has features]")
@click.option(
    "--protocol",
    shell_complete=completion.PROTOCOLS,
    help="What is left out: speaker, session, corpus, …  [default: speaker]",
)
@click.option(
    "--final", is_flag=True, help="One model of everything, to be used: nothing is left out, nothing is tested."
)
@options.test_corpus
@click.option(
    "--target",
    type=click.Choice([*TARGETS]),
    help="What is learned: the label, the raters' votes, or arousal, valence and dominance.  [default: class]",
)
@click.option(
    "--classes",
    metavar="LIST",
    help="Of several corpora, such as neutral,happy=happy+excited.  [default: those all have]",
)
@click.option("--folds", type=click.Path(path_type=Path, dir_okay=False), help="Published folds.json to take instead.")
@click.option("--selection", type=click.Choice(SELECTIONS), help="Rows that choose the epoch.")
@click.option(
    "--ablation",
    shell_complete=completion.ABLATIONS,
    default="full",
    show_default=True,
    help="Row of the ablation table, a list of them, or all.",
)
@click.option(
    "--baseline",
    multiple=True,
    type=click.Choice([*BASELINES]),
    metavar="NAME",
    help=f"A plain classifier as a row of its own, {', '.join(BASELINES)}; may be repeated.",
)
@click.option(
    "--seeds",
    type=options.IntRange(1, MOST["seeds"]),
    default=1,
    show_default=True,
    help="Seeds from 0 on, a run each.",
)
@click.option("--device", default="auto", show_default=True, help="cuda, cuda:1, mps, cpu; auto takes what is there.")
@click.option("--jobs", type=options.WORKERS, help="Folds at a time.  [default: one a core, or one a GPU]")
@options.part
@click.option("--share-only", is_flag=True, help="Train the share of --part alone, and help with no other.")
@click.option("--no-wait", is_flag=True, help="End when other processes hold all that is left of the other shares.")
@click.option("--jobs-per-gpu", type=options.WORKERS, help="Folds at a time on every GPU.")
@click.option(
    "--data", type=click.Choice(["auto", "resident", "stream"]), default="auto", help="Where the rows are kept."
)
@click.option(
    "--micro-batch",
    type=options.IntRange(1, MOST["micro_batch"]),
    default=None,
    help="Segments computed at a time, to save memory.",
)
@click.option("--one-by-one", is_flag=True, help="Train small heads fold by fold, not all folds at once.")
@click.option(
    "--accept",
    metavar="FINDING",
    multiple=True,
    help="An error of the audit, by its name, that is taken as it is; the report says so. May be repeated.",
)
@click.option(
    "--log",
    "log_to",
    default="",
    metavar="LIST",
    help="Also log every epoch, and the scores: csv, tensorboard, mlflow, with commas between.  [default: none]",
)
@click.option("--fresh", is_flag=True, help="Start anew beside an unfinished run that had other settings.")
@click.option("--dry-run", is_flag=True, help="List the folds and what is left to do, and do nothing.")
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
    """Train the co-attention model, a fold for everything that is left out once.

    Prints the folder of each run. A run that was stopped goes on where it was; finished folds are never redone.
    Where it was stopped with other settings, says which, and does nothing unless told to start --fresh.

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
    if final and protocol:
        raise click.UsageError("--final leaves nothing out: give it without --protocol")
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


def _train(prepared: Prepared, quiet: bool, dry_run: bool) -> None:
    """Train, or with `dry_run` say what would be; prints the folders of the runs that are whole, whatever stops it.

    Args:
        prepared: the runs.
        quiet: whether to show no progress.
        dry_run: whether to train nothing.
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
        with shown(statuses, prepared.config.train.epochs, quiet, estimate.seconds if estimate else None) as progress:
            prepared.train(progress)
    finally:
        whole = [str(run.entry.path) for run in prepared.planned if run.entry.done]
        if whole and prepared.world.is_main:
            click.echo("\n".join(whole))


def _headline(prepared: Prepared, statuses: Sequence[Status]) -> str:
    """What will be trained: the corpus, its classes, the folds and what is left of an earlier command."""
    labels = plural(len(prepared.planned[0].about["labels"]), "class")
    done = sum(status.done for status in statuses)
    begun = sum(status.epoch > 0 for status in statuses) - done
    parts = [f"{done} of them done before" if done else "", f"{begun} begun" if begun else ""]
    folds = ", ".join([plural(len(statuses), "fold"), *filter(None, parts)])
    return f"{prepared.corpus}, {labels}, preset {prepared.preset}, {folds}, on {prepared.device}"


def _state(status: Status) -> str:
    """A fold as `--dry-run` lists it: its run, its name, and how far it is."""
    state = "done" if status.done else f"at epoch {status.epoch}" if status.epoch else "to do"
    return f"{status.run}\t{status.fold}\t{state}"
