"""Labels of a corpus for commands that need no features: from its folder, or from the cache of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ser_pipeline.cache import catalogue
from ser_pipeline.corpora import CORPORA, audio_folder, find_corpus, read_corpus
from ser_pipeline.corpora.classes import parse_classes
from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.corpora.table import TABLE

from .judged import judged


@dataclass(frozen=True)
class Labels:
    """The utterances of a corpus."""

    title: str
    utterances: Sequence[Utterance]
    folder: Path  # their files are relative to it
    published: Corpus | None  # the corpus whose counts they should have; None with other classes


def labels(
    corpus: str | None, root: Path | None, classes: str | None, subset: str, cache: Path, rated: bool = False
) -> Labels:
    """Return the utterances of `corpus` in `root`, or, if `root` is None, those that have features in `cache`.

    Args:
        corpus: its name, or None.
        root: its folder, or None.
        classes: classes and merges, as in `--classes`; None for the corpus's own.
        subset: part of the corpus.
        cache: folder of the features.
        rated: whether to keep rated utterances without a class.
    """
    if root is not None and corpus is not None:
        with judged():
            row = find_corpus(corpus, _command())
        chosen = parse_classes(classes) if classes else None
        found = read_corpus(corpus, root, chosen, subset, check_audio=False, rated=rated)
        title = f"{row.title}, {root.name}," if row is TABLE else row.title
        return Labels(title, found, audio_folder(root), None if chosen else row)
    if classes or subset:
        raise click.UsageError("--classes and --subset need the corpus's folder: name CORPUS and ROOT")
    return _kept(corpus, cache, rated)


def _command() -> str:
    """Name of the command that runs, for messages."""
    return click.get_current_context().info_name or "features"


def _kept(corpus: str | None, cache: Path, rated: bool) -> Labels:
    from ser_pipeline.cache.targeted import targeted
    from ser_pipeline.features.stores import on_disk, read_manifest

    sources = catalogue.Sources(catalogue.find_together(cache, corpus, _command()))
    source, data = sources.sets[0], read_manifest(sources)
    data = data if rated else targeted(data, "class")
    if sources.together:
        return Labels(data.corpus, on_disk(data.utterances, sources), source.root, None)
    row = CORPORA.get(data.corpus)
    published = row if row and dict(row.classes) == dict(data.classes) else None
    return Labels(row.title if row else data.corpus, data.utterances, source.root, published)
