"""`ser-pipeline predict`: a run and audio files to emotions."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from ser_pipeline.errors import PipelineError

from . import options
from .terminal import start_log


@click.command()
@click.argument("run", type=options.FOLDER)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--fold", "folds", multiple=True, help="Ask this fold alone; may be repeated.  [default: all, averaged]")
@click.option("--device", default="auto", show_default=True, help="cuda, mps, cpu; auto takes what is there.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, instead of a table.")
@options.quiet
def predict(
    run: Path, files: tuple[Path, ...], folds: tuple[str, ...], device: str, as_json: bool, quiet: bool
) -> None:
    """Predict the emotion of audio FILES with the models of RUN.

    Any format, rate and number of channels. The models of all folds are averaged; for a speaker who is in the
    corpus, name the fold that left the speaker out with --fold. Says where models had learned from a file, known by
    its name and length. A file that cannot be read is named, and the others are predicted.

    \b
    Examples:
      ser-pipeline predict runs/demo-speaker-full-s0-0a1b2c3d4e5f call.wav
      ser-pipeline predict runs/emodb-speaker-full-s0-0a1b2c3d4e5f *.wav --json
    """
    start_log(quiet)
    from ser_pipeline.device import pick_device
    from ser_pipeline.predict import open_run

    predictor = open_run(run, pick_device(device), folds)
    writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
    if not as_json:
        writer.writerow(["file", "emotion", *predictor.labels])
    failed = False
    learned: dict[str, str] = {}
    for file in files:
        try:
            found = predictor(file)
        except PipelineError as error:
            click.echo(f"error: {error}", err=True)
            failed = True
            continue
        if found.left_out_by:
            learned[file.name] = found.left_out_by
        if as_json:
            click.echo(json.dumps({"file": str(file), "emotion": found.emotion, "probabilities": found.probabilities}))
        else:
            writer.writerow([file, found.emotion, *(f"{value:.3f}" for value in found.probabilities.values())])
    if learned and not quiet:
        click.echo(_warning(learned), err=True)
    if failed:
        raise click.exceptions.Exit(1)


def _warning(learned: Mapping[str, str]) -> str:
    """That models were asked of files that they had learned from; `learned` has the folds that left them out."""
    from ser_pipeline.text import few

    name, fold = next(iter(learned.items()))
    files = few(list(learned), 1) + (" are files" if len(learned) > 1 else " is a file")
    return f"warning: {files} that models of this run learned from; --fold {fold} asks the one that left {name} out"
