"""`ser-pipeline export`: a run to a model folder that other tools load."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .terminal import start_log


@click.command()
@click.argument("run", type=options.FOLDER)
@click.argument("folder", metavar="DIR", type=options.FOLDER)
@click.option("--fold", "folds", multiple=True, help="Take this fold's model alone; may be repeated.  [default: all]")
@click.option("--encoder", is_flag=True, help="The pre-trained speech encoder alone, as a folder of transformers.")
@options.quiet
def export(run: Path, folder: Path, folds: tuple[str, ...], encoder: bool, quiet: bool) -> None:
    """Write the models of RUN as the folder DIR, which loads without the run, the corpus or a network.

    DIR holds model.safetensors, config.json, preprocessor_config.json, a model card (README.md) and the code that
    transformers wants. The models of all folds are averaged; what they share, as a frozen encoder, stands there once.
    `ser-pipeline predict DIR FILE` answers as RUN does. Prints the folder.

    \b
    Examples:
      ser-pipeline export runs/emodb-speaker-full-s0-0a1b2c3d4e5f emotions
      ser-pipeline export runs/emodb-speaker-full-s0-0a1b2c3d4e5f emotions --fold 03
      ser-pipeline export runs/emodb-speaker-full-s0-0a1b2c3d4e5f encoder --fold 03 --encoder
    """
    start_log(quiet)
    from ser_pipeline.export.encoder import export_encoder
    from ser_pipeline.export.writing import export as write

    click.echo((export_encoder if encoder else write)(run, folder, folds))
