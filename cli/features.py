"""`ser-pipeline features`: audio to stores of features."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ser_pipeline.text import plural

from . import completion, options
from .elsewhere import Elsewhere, elsewhere
from .terminal import bar, start_log

if TYPE_CHECKING:
    from ser_pipeline.cache.manifest import Manifest


@click.command()
@click.argument("corpus", default="demo", shell_complete=completion.CORPORA)
@click.argument("root", required=False, type=options.ROOT)
@click.option("--classes", metavar="LIST", help="Classes and merges, such as neutral=neu,happy=hap+exc.")
@click.option("--subset", default="", help="Part of the corpus, such as improvised (see `ser-pipeline corpora`).")
@click.option(
    "--feature",
    "names",
    multiple=True,
    shell_complete=completion.FEATURES,
    help="A feature to make; may be repeated.  [default: all inputs]",
)
@click.option("--device", default="auto", show_default=True, help="Where a frozen speech encoder makes embeddings.")
@click.option("--jobs", type=options.WORKERS, help="Processes.  [default: as many as the audio keeps busy]")
@options.part
@click.option("--compress", is_flag=True, help="Half the disk space, slower to read; needs hdf5plugin.")
@click.option("--skip-bad", is_flag=True, help="Leave out audio that cannot be read, and list it.")
@click.option("--rated", is_flag=True, help="Keep turns of no class that raters voted on, for `train --target`.")
@options.store
@options.settings
@options.cache
@options.quiet
@elsewhere
def features(
    corpus: str, root: Path | str | None, names: tuple[str, ...], quiet: bool, elsewhere: Elsewhere, **chosen: Any
) -> None:
    """Extract features of CORPUS in ROOT into HDF5 shards, in parallel.

    Prints the folder of the features. With no corpus named, makes and uses `demo`, a small corpus of synthetic
    speech. What is finished is kept and never done again; `ser-pipeline corpora` lists the corpora.

    \b
    Examples:
      ser-pipeline features
      ser-pipeline features emodb ~/corpora/emodb
      ser-pipeline features iemocap ~/IEMOCAP_full_release --jobs 8
      ser-pipeline features iemocap s3://bucket/IEMOCAP_full_release
      ser-pipeline features iemocap ~/IEMOCAP_full_release --feature embedding
    """
    start_log(quiet)
    from ser_pipeline.features.stage import extract, shard_count

    shown = partial(bar, quiet=quiet)
    if elsewhere:
        count = shard_count(corpus, root, features=names, bars=shown, **chosen)
        elsewhere.hand_out(count, "shard", chosen["cache"], quiet)
        return
    made = extract(corpus, root, features=names, bars=shown, **chosen)
    for message in made.left_out:
        click.echo(f"left out: {message}", err=True)
    if made.replaced and not quiet:
        was = f"it was {made.replaced.folder.name}, of {made.replaced.root}"
        click.echo(f"{made.manifest.corpus} is {made.folder.name} from now on; {was}", err=True)
    if not quiet:
        click.echo(_told(made.manifest), err=True)
    click.echo(made.folder)


def _told(data: Manifest) -> str:
    """What the features are of."""
    speakers = {utterance.speaker for utterance in data.utterances} - {""}
    numbers = {"utterance": data.utterances, "speaker": speakers, "class": data.labels, "segment": data.segments}
    parts = [plural(len(those), noun) for noun, those in numbers.items()]
    if unclassed := sum(not utterance.emotion for utterance in data.utterances):
        parts[0] += f" ({unclassed} of no class)"
    return f"{data.corpus}: {', '.join(parts)} of {data.audio.segment / data.audio.rate:g} s"
