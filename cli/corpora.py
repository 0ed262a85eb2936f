"""`ser-pipeline corpora`: list the corpora that can be read, and write a table of one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ser_pipeline.corpora import CORPORA, audio_folder, find_corpus, read_corpus, table
from ser_pipeline.corpora.classes import parse_classes
from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.corpora.folder import PATTERNS, sorted_by_paths
from ser_pipeline.errors import PipelineError

from . import completion, judged, options
from .columns import aligned, reflowed, wrapped
from .terminal import start_log

HEADER = ("corpus", "title", "utterances", "classes", "licence")

LABEL = 11
"""Width of the left column in the description of a corpus."""

BY_MACHINE = f"{Corpus.preset} with a GPU; without one, frozen, or scratch if the speech encoder of frozen is missing"
"""The preset of a corpus that has none of its own."""


@click.command()
@click.argument("name", metavar="[CORPUS]", required=False, shell_complete=completion.CORPORA)
@click.argument("root", required=False, type=click.Path(path_type=Path))
@click.option("--init", is_flag=True, help="Print a CSV table of CORPUS in ROOT, which the corpus `table` reads.")
@options.classes()
@click.option("--subset", default="", help="Part of the corpus, such as improvised; all for everything.")
@click.option(
    "--emotion",
    default="",
    metavar="PATTERN",
    help=f"Part of the path that names the emotion, with `--init folder` or `--init table`: {PATTERNS}.",
)
@click.option("--speaker", default="", metavar="PATTERN", help="Part of the path that names the speaker.")
@options.quiet
def corpora(
    name: str | None,
    root: Path | None,
    init: bool,
    classes: str | None,
    subset: str,
    emotion: str,
    speaker: str,
    quiet: bool,
) -> None:
    """List the corpora, describe one, or write a table of one.

    The paths in a table are relative to the current folder, so save the table there. `--init folder` uses the name of
    a recording's folder as its emotion, and the name of the folder above as its speaker. For other layouts, a PATTERN
    selects the part of the path: parent, grandparent, or a regular expression with one group.

    \b
    Examples:
      ser-pipeline corpora
      ser-pipeline corpora iemocap
      ser-pipeline corpora --init emodb ~/corpora/emodb > my.csv
      ser-pipeline corpora --init folder calls > calls.csv
      ser-pipeline corpora --init folder calls \\
        --emotion '_(\\w+)\\.wav$' --speaker parent > calls.csv
      ser-pipeline corpora --init table labels.xls.csv \\
        --speaker '^(\\d+)_' > calls.csv
    """
    start_log(quiet)
    if name is not None:
        with judged.judged():
            find_corpus(name)
    if not init and (classes or subset or emotion or speaker):
        raise click.UsageError("--classes, --subset, --emotion and --speaker need --init")
    if init:
        if name is None or root is None:
            raise click.UsageError("--init needs CORPUS and ROOT: ser-pipeline corpora --init emodb ~/corpora/emodb")
        click.echo(_table(name, root, classes, subset, emotion, speaker), nl=False)
    elif name is not None:
        for line in _describe(find_corpus(name)):
            click.echo(line)
    else:
        for line in aligned([HEADER, *map(_row, CORPORA.values())], right=[2, 3]):
            click.echo(line)
        click.echo("\nser-pipeline corpora CORPUS describes its folder and says where to get it.")


def _row(corpus: Corpus) -> tuple[str, ...]:
    utterances = str(sum(corpus.expected.values())) if corpus.expected else "-"
    return corpus.name, corpus.title, utterances, str(len(corpus.classes) or "-"), corpus.licence


def _describe(corpus: Corpus) -> Iterator[str]:
    merged = [name if labels == (name,) else f"{name} ({'+'.join(labels)})" for name, labels in corpus.classes.items()]
    counts = [f"{name} {count}" for name, count in corpus.expected.items()]
    parts = [f"{name} {count}" for name, count in corpus.parts.items()]
    lines = {
        "title": corpus.title,
        "folder": corpus.layout,
        "classes": ", ".join(merged) or "every label that is found",
        "published": ", ".join(counts + parts),
        "subsets": ", ".join(_subsets(corpus)),
        "source": corpus.source,
        "licence": corpus.licence,
        "preset": BY_MACHINE if corpus.preset == Corpus.preset else corpus.preset,
    }
    for label, text in lines.items():
        if text:
            yield f"{label:{LABEL}}{wrapped(text, LABEL)}"
    yield ""
    yield reflowed((corpus.about or sys.modules[corpus.read.__module__].__doc__ or "").strip())


def _subsets(corpus: Corpus) -> Iterator[str]:
    for name in ("all", *corpus.subsets) if corpus.subsets else ():
        yield f"{name} (read by default)" if name == (corpus.subset or "all") else name


def _table(name: str, root: Path, classes: str | None, subset: str, emotion: str, speaker: str) -> str:
    if emotion or speaker:
        utterances = _by_paths(name, root, emotion, speaker)
    else:
        utterances = read_corpus(name, root, parse_classes(classes) if classes else None, subset)
    here = os.path.relpath(audio_folder(root))
    prefix = "" if here == "." else Path(here).as_posix() + "/"
    return table.write(utterances, prefix)


def _by_paths(name: str, root: Path, emotion: str, speaker: str) -> list[Utterance]:
    """Read the utterances of a folder or a table, with the emotion or the speaker from their paths."""
    if name == "table":
        return table.by_paths(root, emotion, speaker)
    if name != "folder":
        raise click.UsageError("--emotion and --speaker work only with `--init folder` and `--init table`")
    if not root.is_dir():
        raise PipelineError(f"{root} is not a folder")
    found = sorted_by_paths(root, emotion, speaker)
    if not found:
        raise PipelineError(f"{root} contains no audio")
    return found
