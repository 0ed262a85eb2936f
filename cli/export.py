"""`ser-pipeline export`: write a run as a model folder that other tools load."""

from __future__ import annotations

from pathlib import Path

import click

from . import completion, options
from .terminal import say, start_log


@click.command()
@click.argument("run", type=options.FOLDER, shell_complete=completion.RUNS)
@click.argument("folder", metavar="DIR", type=options.FOLDER)
@click.option("--fold", "folds", multiple=True, help="Use only this fold's model; may be repeated.  [default: all]")
@click.option("--encoder", is_flag=True, help="Write only the speech encoder, as a model folder of transformers.")
@click.option("--onnx", is_flag=True, help="Also write model.onnx: waveforms in, probabilities out.")
@click.option("--int8", is_flag=True, help="Also write model.int8.onnx, with 8-bit matrix products.")
@options.quiet
def export(run: Path, folder: Path, folds: tuple[str, ...], encoder: bool, onnx: bool, int8: bool, quiet: bool) -> None:
    """Write the models of RUN as DIR, a folder that other tools load.

    DIR loads without the run, the corpus or a network. It contains model.safetensors, config.json,
    preprocessor_config.json, a model card (README.md) and the code that transformers needs. The predictions of all
    folds' models are averaged; weights that they share, such as a frozen encoder, are stored once. `ser-pipeline
    predict DIR FILE` gives the same answers as RUN, without the notes on files of its training set. Prints the folder.
    An ONNX graph includes the front end; it is checked on recordings of the run, and its agreement is printed.

    \b
    Examples:
      ser-pipeline export runs/emodb-speaker-full-s0-0a1b2c3d4e5f emotions
      ser-pipeline export runs/emodb-speaker-* emotions --fold 03 --onnx --int8
      ser-pipeline export runs/emodb-speaker-* encoder --fold 03 --encoder
    """
    start_log(quiet)
    if encoder and (onnx or int8):
        raise click.UsageError("--encoder writes only the encoder: leave out --onnx and --int8")
    from ser_pipeline.export.names import require_new
    from ser_pipeline.predict.heading import finished_folds

    require_new(folder)
    finished_folds(run, folds)
    from ser_pipeline.export.encoder import export_encoder
    from ser_pipeline.export.writing import export as write

    if encoder:
        click.echo(export_encoder(run, folder, folds))
    else:
        tell = (lambda line: None) if quiet else say
        click.echo(write(run, folder, folds, onnx=onnx, int8=int8, say=tell))
