"""`ser-pipeline features`: audio to stores of features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ser_pipeline.cache import catalogue
from ser_pipeline.errors import PipelineError
from ser_pipeline.text import plural

from . import options
from .terminal import bar, start_log

if TYPE_CHECKING:
    from ser_pipeline.cache.manifest import Manifest
    from ser_pipeline.config import Config


@click.command()
@click.argument("corpus", default="demo")
@click.argument("root", required=False, type=click.Path(path_type=Path))
@click.option("--classes", metavar="LIST", help="Classes and merges, such as neutral=neu,happy=hap+exc.")
@click.option("--subset", default="", help="Part of the corpus, such as improvised (see `ser-pipeline corpora`).")
@click.option("--feature", "names", multiple=True, help="A feature to make; may be repeated.  [default: all inputs]")
@click.option("--device", default="auto", show_default=True, help="Where a frozen speech encoder makes embeddings.")
@click.option("--jobs", type=options.WORKERS, help="Processes.  [default: as many as the audio keeps busy]")
@click.option("--compress", is_flag=True, help="Half the disk space, slower to read; needs hdf5plugin.")
@click.option("--skip-bad", is_flag=True, help="Leave out audio that cannot be read, and list it.")
@options.settings
@options.cache
@options.quiet
def features(
    corpus: str,
    root: Path | None,
    classes: str | None,
    subset: str,
    names: tuple[str, ...],
    device: str,
    jobs: int | None,
    compress: bool,
    skip_bad: bool,
    preset: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    cache: Path,
    quiet: bool,
) -> None:
    """Extract features of CORPUS in ROOT into HDF5 shards, in parallel.

    Prints the folder of the features. With no corpus named, makes and uses `demo`, a small corpus of synthetic
    speech. What is finished is kept and never done again; `ser-pipeline corpora` lists the corpora.

    \b
    Examples:
      ser-pipeline features
      ser-pipeline features emodb ~/corpora/emodb
      ser-pipeline features iemocap ~/IEMOCAP_full_release --jobs 8
      ser-pipeline features iemocap ~/IEMOCAP_full_release --feature embedding
    """
    start_log(quiet)
    from ser_pipeline import config as settings
    from ser_pipeline.corpora import audio_folder, class_table, find_corpus, read_corpus
    from ser_pipeline.corpora.classes import parse_classes
    from ser_pipeline.features.extract import extract, wanted_features
    from ser_pipeline.features.measure import measure
    from ser_pipeline.features.stores import FROZEN

    row = find_corpus(corpus)
    chosen = settings.load(preset or row.preset, config, overrides)
    made = list(dict.fromkeys(names or wanted_features(chosen)))
    for name in made:
        if name not in settings.INPUTS:
            raise PipelineError(f"unknown feature '{name}'; there are {', '.join(settings.INPUTS)}")
    place = root or _demo(corpus, cache, quiet)
    wanted = parse_classes(classes) if classes else None
    utterances = read_corpus(corpus, place, wanted, subset, check_audio=not skip_bad)
    labels = class_table(row, utterances, wanted)
    left_out: list[str] = []
    audio_root = audio_folder(place)
    data = measure(
        place.stem if corpus == "table" else corpus,
        labels,
        utterances,
        audio_root,
        chosen.audio,
        memory=catalogue.features_root(cache),
        skip_bad=skip_bad,
        bad=left_out.append,
    )
    frozen = [name for name in made if name in FROZEN]
    if frozen:  # which are made of the waveforms
        made = [name for name in made if name not in (*FROZEN, "waveform")] + ["waveform"]
    with bar("features", "utterances", quiet) as progress:
        folder = extract(
            data,
            audio_root,
            chosen,
            catalogue.features_root(cache),
            names=made,
            jobs=jobs,
            compress=compress,
            progress=progress,
        )
    before = catalogue.register(cache, catalogue.FeatureSet(data.corpus, folder, audio_root))
    for name in frozen:
        _embed(folder, chosen, name, device, compress, quiet)
    for message in left_out:
        click.echo(f"left out: {message}", err=True)
    if before and not quiet:
        was = f"it was {before.folder.name}, of {before.root}"
        click.echo(f"{data.corpus} is {folder.name} from now on; {was}", err=True)
    if not quiet:
        click.echo(_told(data), err=True)
    click.echo(folder)


def _told(data: Manifest) -> str:
    """What the features are of."""
    speakers = {utterance.speaker for utterance in data.utterances} - {""}
    numbers = {"utterance": data.utterances, "speaker": speakers, "class": data.labels, "segment": data.segments}
    parts = [plural(len(those), noun) for noun, those in numbers.items()]
    return f"{data.corpus}: {', '.join(parts)} of {data.audio.segment / data.audio.rate:g} s"


def _embed(folder: Path, config: Config, name: str, device: str, compress: bool, quiet: bool) -> None:
    """Make the store of a frozen encoder's feature beside the others."""
    from ser_pipeline.device import pick_device
    from ser_pipeline.features.frozen import embed

    with bar(name, "utterances", quiet) as progress:
        embed(folder, config, name, device=pick_device(device), compress=compress, progress=progress)


def _demo(corpus: str, cache: Path, quiet: bool) -> Path:
    """The folder of the demo corpus, made now if it is not there."""
    from ser_pipeline.corpora import demo
    from ser_pipeline.entry import Entry

    if corpus != "demo":
        raise PipelineError(f"name the folder of {corpus}: ser-pipeline features {corpus} ROOT")
    place = cache / "corpora" / "demo"
    with Entry(place, {}).lock(), bar("synthetic speech", "utterances", quiet) as progress:
        demo.write(place, progress=progress)
    return place
