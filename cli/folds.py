"""`ser-pipeline folds`: print the training, validation and test rows of each fold."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ser_pipeline.settings import SELECTIONS
from ser_pipeline.text import plural

from . import completion, judged, options
from .columns import aligned


@click.command()
@click.argument("corpus", required=False, shell_complete=completion.CORPORA)
@click.argument("root", required=False, type=click.Path(path_type=Path))
@click.option(
    "--protocol",
    callback=judged.checked(judged.folds_protocol),
    shell_complete=completion.PROTOCOLS,
    default="speaker",
    show_default=True,
    help="speaker, session, official, group-5, …",
)
@click.option(
    "--selection",
    type=click.Choice(SELECTIONS),
    default="validation",
    show_default=True,
    help="Rows that select the epoch: validation, test or reference.",
)
@click.option("--folds", "file", type=click.Path(path_type=Path), help="Read the folds from this file and check them.")
@options.classes()
@click.option("--subset", default="", help="Part of the corpus, such as improvised.")
@click.option("--json", "as_json", is_flag=True, help="Print every id as JSON that `--folds` reads.")
@options.cache
def folds(
    corpus: str | None,
    root: Path | None,
    protocol: str,
    selection: str,
    file: Path | None,
    classes: str | None,
    subset: str,
    as_json: bool,
    cache: Path,
) -> None:
    """Print the folds of a corpus.

    The corpus is CORPUS in ROOT, or one that has features. Folds depend only on the labels, so they are the same on
    every machine. No audio is read.

    \b
    Examples:
      ser-pipeline folds emodb ~/corpora/emodb
      ser-pipeline folds iemocap ~/IEMOCAP_full_release --protocol session
      ser-pipeline folds emodb ~/corpora/emodb --json > folds.json
      ser-pipeline folds emodb ~/corpora/emodb --folds folds.json
    """
    from ser_pipeline.splits.folds import PARTS, folds_json, folds_of, read_folds

    from .reading import labels

    utterances = labels(corpus, root, classes, subset, cache).utterances
    if file is not None:
        made, protocol, selection = read_folds(file, utterances)
    else:
        made = folds_of(utterances, protocol, selection)
    if as_json:
        click.echo(json.dumps(folds_json(made, utterances, protocol, selection), indent=1, ensure_ascii=False))
        return
    rows: list[tuple[str, ...]] = [("fold", *PARTS, "who validates", "who tests")]
    for fold in made:
        sizes = [str(len(getattr(fold, part))) for part in PARTS]
        who = [sorted({utterances[row].speaker for row in part.tolist()}) for part in (fold.validation, fold.test)]
        rows.append((fold.name, *sizes, *map(_few, who)))
    for line in aligned(rows, right=[1, 2, 3]):
        click.echo(line)


def _few(names: list[str], most: int = 4) -> str:
    return " ".join(names) if len(names) <= most else plural(len(names), "speaker")
