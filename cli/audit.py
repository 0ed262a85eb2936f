"""`ser-pipeline audit`: find what is wrong with a corpus or its folds, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ser_pipeline.errors import PipelineError

from . import completion, judged, options
from .columns import aligned, wrapped
from .terminal import bar, start_log

if TYPE_CHECKING:
    from ser_pipeline.audit.corpus import Finding
    from ser_pipeline.corpora.corpus import Utterance
    from ser_pipeline.splits.folds import Fold

MOST_SPEAKERS = 40
"""Largest number of speakers for which the table of classes per speaker is printed."""


@click.command()
@click.argument("corpus", required=False, shell_complete=completion.CORPORA)
@click.argument("root", required=False, type=click.Path(path_type=Path))
@click.option(
    "--protocol",
    callback=judged.checked(judged.folds_protocol),
    shell_complete=completion.PROTOCOLS,
    help="Protocol whose folds are audited.  [default: official if the corpus has one, else speaker]",
)
@click.option("--folds", "file", type=click.Path(path_type=Path), help="Audit the folds of this file instead.")
@options.classes()
@click.option("--subset", default="", help="Part of the corpus, such as improvised.")
@click.option("--jobs", type=options.WORKERS, help="Threads that decode audio.  [default: one per core]")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, with every row.")
@options.cache
@options.quiet
def audit(
    corpus: str | None,
    root: Path | None,
    protocol: str | None,
    file: Path | None,
    classes: str | None,
    subset: str,
    jobs: int | None,
    as_json: bool,
    cache: Path,
    quiet: bool,
) -> None:
    """Find errors in a corpus and in its folds.

    Checks counts, speakers, audio, copies and leaks of CORPUS in ROOT, or of a corpus that has features. The exit
    status is 1 if a finding is an error.

    \b
    Examples:
      ser-pipeline audit emodb ~/corpora/emodb
      ser-pipeline audit iemocap ~/IEMOCAP_full_release --protocol session
      ser-pipeline audit table my.csv --folds folds.json
    """
    start_log(quiet)
    from ser_pipeline.audit import corpus as auditing
    from ser_pipeline.audit.raters import audit_raters

    from .reading import labels

    opened = labels(corpus, root, classes, subset, cache, rated=True)
    classed = [utterance for utterance in opened.utterances if utterance.emotion]
    folds, unmade = _folds(classed, protocol, file)
    with bar("listening", "utterances", quiet) as progress:
        findings = auditing.audit(
            classed, opened.folder, corpus=opened.published, folds=folds, jobs=jobs, progress=progress
        )
    findings = auditing.ordered([*findings, *unmade, *audit_raters(opened.utterances)])
    if as_json:
        click.echo(json.dumps(auditing.to_json(findings, classed), indent=1, ensure_ascii=False))
    else:
        click.echo(f"{opened.title} in {opened.folder}\n")
        for line in (*_table(findings), "", *_speakers(classed), _total(findings)):
            click.echo(line)
    if any(finding.severity == "error" for finding in findings):
        raise click.exceptions.Exit(1)


def _folds(
    utterances: Sequence[Utterance], protocol: str | None, file: Path | None
) -> tuple[Sequence[Fold], list[Finding]]:
    """Return the folds to audit, or a finding if they cannot be made: an error if `train` would make them too."""
    from ser_pipeline.audit.corpus import Finding
    from ser_pipeline.splits.folds import folds_of, read_folds
    from ser_pipeline.splits.protocols import find_protocol

    if file is not None:
        return read_folds(file, utterances, check=False)[0], []
    find_protocol(protocol or "speaker")
    parts = {utterance.split for utterance in utterances}
    name = protocol or ("official" if {"train", "test"} <= parts else "speaker")
    try:
        return folds_of(utterances, name), []
    except PipelineError as error:
        severity = "error" if protocol or name == "speaker" else "warning"
        return (), [Finding(severity, "protocol", str(error), f"--protocol {name} cannot be used")]


def _table(findings: Sequence[Finding]) -> Iterator[str]:
    from ser_pipeline.text import few

    width = max(len(finding.name) for finding in findings) + 2
    indent = 9 + width
    for finding in findings:
        yield f"{finding.severity:9}{finding.name:{width}}{wrapped(finding.message, indent)}"
        if finding.cost:
            yield " " * indent + wrapped(f"cost: {finding.cost}", indent)
        if finding.rows and finding.severity != "note":
            yield " " * indent + wrapped(f"rows: {few(finding.rows)}", indent)


def _speakers(utterances: Sequence[Utterance]) -> Iterator[str]:
    from ser_pipeline.audit.corpus import count_classes
    from ser_pipeline.text import natural

    counts = count_classes(utterances)
    if len(counts) > MOST_SPEAKERS:
        return
    labels = sorted({utterance.emotion for utterance in utterances})
    rows = [("speaker", *labels, "all")]
    for speaker in sorted(counts, key=natural):
        each = [counts[speaker][label] for label in labels]
        rows.append((speaker, *map(str, each), str(sum(each))))
    yield from aligned(rows, right=range(1, len(labels) + 2))
    yield ""


def _total(findings: Sequence[Finding]) -> str:
    numbers = {name: sum(finding.severity == name for finding in findings) for name in ("error", "warning", "note")}
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in numbers.items())
