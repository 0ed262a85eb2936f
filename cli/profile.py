"""`ser-pipeline profile`: measure the time and memory of a run's models."""

from __future__ import annotations

import json
from pathlib import Path

import click

from . import completion, options
from .columns import listed
from .terminal import say, start_log


@click.command()
@click.argument("run", type=options.FOLDER, shell_complete=completion.RUNS)
@click.option("--fold", "folds", multiple=True, help="Use only this fold's model; may be repeated.  [default: all]")
@options.device("cuda, mps or cpu; auto: the first available.")
@click.option(
    "--onnx",
    type=click.Path(path_type=Path, dir_okay=False),
    help="An ONNX graph to time as well.  [default: that of a model folder]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@options.quiet
def profile(run: Path, folds: tuple[str, ...], device: str, onnx: Path | None, as_json: bool, quiet: bool) -> None:
    """Measure the size, time and memory of a run's models.

    RUN is the folder of a run, or a model folder. Prints the number of parameters, total and trained; the operations
    and time for a segment of audio (median and 95th percentile), alone and in the largest batch that fits, for the
    front end and the whole model; file sizes, memory, and the time from the start of the command to the first
    prediction. The results of a run are stored in its profile.json, for its report and its model card.

    \b
    Examples:
      ser-pipeline profile runs/emodb-speaker-full-s0-0a1b2c3d4e5f --fold 03
      ser-pipeline profile emotions --onnx emotions/model.onnx --device cpu --json
    """
    start_log(quiet)
    from ser_pipeline.device import pick_device
    from ser_pipeline.export.profile import profile as measure
    from ser_pipeline.export.profile import table
    from ser_pipeline.runs.layout import PROFILE, RUN
    from ser_pipeline.runs.profiled import keep

    def told(what: str, number: int, count: int) -> None:
        if not quiet:
            say(f"measuring {number}/{count}: {what}")

    place = pick_device(device)
    found = measure(run, place, folds, onnx, told)
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(listed(table(found))))
    if (run / RUN).is_file():
        keep(run, place.type, found)
        if not quiet:
            say(f"saved in {run / PROFILE}, for the report and the model card")
