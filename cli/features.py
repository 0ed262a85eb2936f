"""`ser-pipeline features`: extract features from audio."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ser_pipeline.corpora import require_root
from ser_pipeline.text import plural

from . import completion, judged, options
from .elsewhere import Elsewhere, elsewhere
from .terminal import bar, say, start_log

if TYPE_CHECKING:
    from ser_pipeline.cache.manifest import Manifest


@click.command()
@click.argument("corpus", default="demo", shell_complete=completion.CORPORA)
@click.argument("root", required=False, type=options.ROOT)
@options.classes()
@click.option("--subset", default="", help="Part of the corpus, such as improvised (see `ser-pipeline corpora`).")
@click.option(
    "--feature",
    "names",
    multiple=True,
    callback=judged.checked(judged.feature),
    shell_complete=completion.FEATURES,
    help="A feature to extract; may be repeated.  [default: all inputs]",
)
@options.device("Device of a frozen speech encoder.")
@click.option("--jobs", type=options.WORKERS, help="Processes.  [default: as many as the audio keeps busy]")
@options.part
@click.option("--compress", is_flag=True, help="Use half the disk space, but read more slowly; needs hdf5plugin.")
@click.option("--skip-bad", is_flag=True, help="Leave out audio that cannot be read, and list it.")
@click.option("--rated", is_flag=True, help="Keep rated utterances without a class, for `train --target`.")
@options.store
@options.settings
@options.cache
@options.quiet
@elsewhere
def features(
    corpus: str, root: Path | str | None, names: tuple[str, ...], quiet: bool, elsewhere: Elsewhere, **chosen: Any
) -> None:
    """Extract the features of CORPUS in ROOT.

    Writes HDF5 shards in parallel, and prints the folder of the features. Without CORPUS, the command generates and
    uses `demo`, a small corpus of synthetic speech. Finished features are never extracted again. `ser-pipeline corpora`
    lists the corpora.

    \b
    Examples:
      ser-pipeline features
      ser-pipeline features emodb ~/corpora/emodb
      ser-pipeline features iemocap ~/IEMOCAP_full_release --jobs 8
      ser-pipeline features iemocap s3://bucket/IEMOCAP_full_release
      ser-pipeline features iemocap ~/IEMOCAP_full_release --feature embedding
    """
    start_log(quiet)
    with judged.judged():
        require_root(corpus, root)
    from ser_pipeline.features.stage import extract, shard_count

    shown = partial(bar, quiet=quiet)
    if elsewhere:
        count = shard_count(corpus, root, features=names, bars=shown, **chosen)
        elsewhere.hand_out(count, "shard", chosen["cache"], quiet)
        return
    made = extract(corpus, root, features=names, bars=shown, **chosen)
    for message in made.left_out:
        say(f"left out: {message}")
    if made.left_out:
        say(f"{plural(len(made.left_out), 'recording')} left out, {len(made.manifest.utterances):,} kept")
    if made.replaced and not quiet:
        was = f"before it was {made.replaced.folder.name}, from {made.replaced.root}"
        say(f"{made.manifest.corpus} now refers to {made.folder.name}; {was}")
    if not quiet:
        say(_told(made.manifest))
    click.echo(made.folder)


def _told(data: Manifest) -> str:
    """Summarise the features: utterances, speakers, classes and segments."""
    speakers = {utterance.speaker for utterance in data.utterances} - {""}
    numbers = {"utterance": data.utterances, "speaker": speakers, "class": data.labels, "segment": data.segments}
    parts = [plural(len(those), noun) for noun, those in numbers.items()]
    if unclassed := sum(not utterance.emotion for utterance in data.utterances):
        parts[0] += f" ({unclassed} without a class)"
    return f"{data.corpus}: {', '.join(parts)} of {data.audio.segment / data.audio.rate:g} s"
