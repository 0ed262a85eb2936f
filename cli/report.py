"""`ser-pipeline report`: turn runs into tables, figures and a page."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ser_pipeline.errors import PipelineError

from . import completion, options
from .columns import aligned, wrapped
from .terminal import bar, say, start_log

if TYPE_CHECKING:
    from ser_pipeline.report import Choice, Report


@click.command()
@options.corpus("The corpus.  [default: every corpus that has runs, with one page each]", completion.REPORTED)
@click.option("--protocol", shell_complete=completion.PROTOCOLS, help="The protocol.  [default: all]")
@click.option(
    "--runs",
    "patterns",
    metavar="PATTERN",
    multiple=True,
    help="An ablation or folder name, with * and ?; may be repeated.",
)
@click.option("--compare", nargs=2, metavar="A B", help="Compare two ablations or runs by paired tests.")
@click.option("--author", default="", envvar="SER_PIPELINE_AUTHOR", help="Author of the page.  [default: none]")
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--reports", type=options.FOLDER, default=Path("reports"), show_default=True, help="Folder of the reports."
)
@options.runs
@options.quiet
def report(
    corpus: str | None,
    protocol: str | None,
    patterns: tuple[str, ...],
    compare: tuple[str, str] | None,
    author: str,
    show: bool,
    reports: Path,
    runs_root: Path,
    quiet: bool,
) -> None:
    """Report on every run of a corpus on one page.

    The page has scores with intervals, ablations, errors and figures. Prints the table of results and the page's path.
    The page needs no network and no server. The same results are written next to it as results.json, .csv, .md and
    .tex.

    \b
    Examples:
      ser-pipeline report
      ser-pipeline report --corpus iemocap --protocol session --open
      ser-pipeline report --runs full --runs 'mfcc*'
      ser-pipeline report --compare full full-mean
    """
    start_log(quiet)
    from ser_pipeline.report import Choice, corpora

    refused: list[PipelineError] = []
    names = [corpus] if corpus else corpora(runs_root)
    for name in names:
        choice = Choice(name, protocol, patterns, compare or None, author)
        try:
            page = _report(choice, runs_root, reports, quiet)
        except PipelineError as error:
            refused.append(error)
            continue
        if show:
            webbrowser.open(page.absolute().as_uri())
    if len(refused) == len(names):
        raise refused[0]
    for reason in refused:
        say(f"no page: {reason}")


def _report(choice: Choice, runs_root: Path, reports: Path, quiet: bool) -> Path:
    """Report on one corpus and print its results; return the page's path."""
    from ser_pipeline.report import make_report, write

    with bar("report", "runs", quiet) as progress:
        made = make_report(runs_root, choice, progress)
    for line in _lines(made):
        click.echo(line)
    for line in [] if quiet else _remarks(made):
        say(line)
    if not quiet:
        say("drawing the page")
    page = write(made, reports / made.choice.slug)
    click.echo(page)
    return page


SPARED = "Mean over folds WA"
"""The column that a narrow terminal does without."""


def _lines(made: Report) -> Iterator[str]:
    """Yield the tables of results and of the comparison, and the errors, which make their numbers wrong."""
    from ser_pipeline.report import compared, matrix, rated_tables, results_table

    yield made.title
    results = [results_table.results(made)] if made.experiments else []
    rated = map(rated_tables.brief, made.rated)
    for table in (*results, *rated, *map(matrix.table, matrix.matrices(made)), *compared.comparison(made)):
        shown = [place for place in table.printed if table.columns[place].title not in ("F1", "± seeds", "CPU", "GPU")]
        heads = [f"{table.columns[place].group.split(',')[0]} {table.columns[place].title}".strip() for place in shown]
        rows = [[row[place].text for place in shown] for row in table.rows]
        right = [number for number, place in enumerate(shown) if table.columns[place].number]
        spared = [number for number, head in enumerate(heads) if head == SPARED]
        yield ""
        yield from [table.caption] * (table.caption != "Results")
        yield from aligned([heads, *rows], right, spared=spared)
        yield from (wrapped(said, 0) for said in (table.same, made.accepted) if said)
    yield ""
    for finding in made.findings:
        if finding.severity == "error":
            yield f"error: {finding.message}"


def _remarks(made: Report) -> Iterator[str]:
    """Yield the warnings, which make numbers doubtful, what a comparison omits, and the runs that were left out."""
    from ser_pipeline.report.compared import unpaired

    for finding in made.findings:
        if finding.severity == "warning":
            yield f"{finding.severity}: {finding.message}"
    if made.comparison and (seeds := unpaired(made.comparison)):
        yield f"note: {seeds.strip()}"
    for one in made.left_out:
        yield f"left out: {one.name}: {one.reason}"
