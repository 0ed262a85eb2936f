"""`ser-pipeline verify`: check that a run is as `train` wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import completion, options
from .terminal import bar, start_log

if TYPE_CHECKING:
    from ser_pipeline.runs.verifying import RunCheck


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False), shell_complete=completion.RUNS)
@click.option("--predictions", is_flag=True, help="Recompute every prediction from the weights and the features.")
@options.device("Device for --predictions: cuda, cuda:1, mps or cpu.")
@options.cache
@options.quiet
def verify(run: Path, predictions: bool, device: str, cache: Path, quiet: bool) -> None:
    """Check that RUN, the folder of a finished run, is unchanged.

    Checks its key, its settings, the hash of every file, and its scores. Prints one line per check; the exit status is
    1 if one fails. The hashes are stored in the run's own index.json, so a change to a file and to the index together
    is found only by comparison with a copy of the index kept elsewhere.

    \b
    Examples:
      ser-pipeline verify runs/demo-speaker-full-s0-0123456789ab
      ser-pipeline verify runs/demo-speaker-full-s0-0123456789ab --predictions
    """
    start_log(quiet)
    failed = False
    for check in _checks(run, predictions, device, cache, quiet):
        failed = failed or bool(check.fault)
        state = "failed" if check.fault else "ok" if check.made else "-"
        click.echo(f"{state:8}{check.name}" + (f": {said}" if (said := check.fault or check.note) else ""))
    if failed:
        raise click.exceptions.Exit(1)


def _checks(run: Path, predictions: bool, device: str, cache: Path, quiet: bool) -> Iterator[RunCheck]:
    """Yield the checks.

    Args:
        run: folder of the run.
        predictions: whether to recompute the predictions.
        device: the device of the models.
        cache: folder of the features.
        quiet: whether to hide progress.
    """
    from ser_pipeline.runs.verifying import RunCheck, checks, require_finished, tests_nothing

    require_finished(run)
    run = run.resolve()
    yield from checks(run)
    if tests_nothing(run):
        return
    if predictions:
        from ser_pipeline.predict.again import predicted_again

        with bar("predictions", "folds", quiet) as progress:
            check = predicted_again(run, cache, device, progress)
        yield check
    else:
        yield RunCheck("predictions from the weights", note="use --predictions to check them", made=False)
