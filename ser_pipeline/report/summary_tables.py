"""Tables that cover all experiments of a report."""

from __future__ import annotations

from collections.abc import Iterator

from ser_pipeline.report import compared, matrix, published, rated_tables, words
from ser_pipeline.report import experiment_tables as detail
from ser_pipeline.report.contents import WORST, Experiment, Report
from ser_pipeline.report.origins import pooled
from ser_pipeline.report.results_table import results, selection
from ser_pipeline.report.tables import (
    FOLDS,
    POOLED,
    Cell,
    Column,
    Table,
    count,
    deviating,
    percent,
    text,
    theirs,
)
from ser_pipeline.text import capital, plural


def literature(report: Report) -> Table | None:
    """Published results next to ours, for each protocol that has both; None if there is nothing to compare."""
    header = report.headers[0]
    if header.corpus != published.CORPUS or set(header.labels) != published.LABELS:
        return None
    rows: list[tuple[Cell, ...]] = []
    tones: list[str] = []
    for protocol, found in published.TABLE_1.items():
        ours = [_ours(experiment) for experiment in report.experiments if experiment.panel.header.protocol == protocol]
        own = [row for row in ours if row]
        rows += [row for row, _ in own] + [_printed(row, protocol) for row in (*found, *published.ANY_PROTOCOL) if own]
        tones += [tone for _, tone in own] + [""] * (len(rows) - len(tones) - len(own))
    columns = (
        Column("Model", number=False),
        Column("Protocol", number=False),
        Column("WA", group="Mean over folds, %", hint=FOLDS),
        Column("UA", group="Mean over folds, %", hint=FOLDS),
        Column("Epoch", number=False),
        Column("Remark", number=False),
    )
    note = "Other results are as published, means over folds as far as stated. Four classes, 5,531 utterances."
    return Table("literature", "Published results", columns, tuple(rows), tuple(tones), note) if rows else None


def worst(report: Report) -> Table:
    """The main model's worst mistakes."""
    columns = (
        Column("Utterance", number=False),
        Column("Speaker", number=False),
        Column("Seconds"),
        Column("True", number=False),
        Column("Predicted", number=False),
        Column("P(true), %", hint="Probability of the true class, the mean over seeds."),
        Column("Seeds wrong"),
    )
    rows = [
        (
            text(one.id),
            text(one.speaker),
            Cell(f"{one.seconds:.1f}", one.seconds),
            text(one.target),
            text(one.prediction),
            percent(one.probability),
            count(one.wrong),
        )
        for one in report.worst[:WORST]
    ]
    return Table("worst", "Worst utterances", columns, tuple(rows))


def runs(report: Report) -> Table:
    """All shown runs, and whether they are whole."""
    columns = (
        Column("Run", number=False),
        Column("Folds"),
        Column("Epoch", number=False),
        Column("WA", group="Pooled, %", hint=POOLED),
        Column("UA", group="Pooled, %", hint=POOLED),
        Column("Device", number=False),
        Column("Started, UTC", number=False),
        Column("Minutes", hint="From the start of its first command to the end of its last, pauses included."),
    )
    rows: list[tuple[Cell, ...]] = []
    tones: list[str] = []
    for run in report.runs:
        header, scores = run.header, pooled(run)
        rows.append(
            (
                text(header.path.name),
                Cell(f"{len(run.folds)} of {len(header.fold_names)}", len(run.folds)),
                selection(header.selection),
                percent(scores["wa"]),
                percent(scores["ua"]),
                text(header.device),
                text(header.origin.started[:16].replace("T", " ")),
                minutes(header.origin.seconds),
            )
        )
        tones.append("incomplete" if not run.whole else "test" if header.on_test else "")
    return Table("runs", "Runs", columns, tuple(rows), tuple(tones))


def minutes(seconds: float) -> Cell:
    """A duration in minutes; an empty cell if it is unknown."""
    return Cell(f"{seconds / 60:.1f}", seconds) if seconds else Cell()


def _ours(experiment: Experiment) -> tuple[tuple[Cell, ...], str] | None:
    if experiment.main is None or experiment.panel.header.test_corpus:
        return None
    group, result = experiment.main
    scores = (result.scores["wa"], result.scores["ua"])
    test = group.header.on_test
    remark = f"{plural(len(group.runs), 'seed')}, preset {group.header.preset}"
    cells = (
        text(f"this report: {group.name}", "strong"),
        text(words.protocol(group.header.protocol)),
        *(deviating(score.fold_mean, score.fold_deviation, "strong") for score in scores),
        selection(group.header.selection),
        text(remark),
    )
    return cells, "test" if test else "main"


def _printed(row: published.Published, protocol: str) -> tuple[Cell, ...]:
    scores = (theirs(row.wa), theirs(row.ua))
    return (text(row.name), text(words.protocol(protocol)), *scores, selection(row.selection), text(""))


def sections(report: Report) -> Iterator[tuple[str, list[Table]]]:
    """Every table of a report under its heading, for output formats that only list them."""
    if report.experiments:
        yield "Results", [results(report)]
    crossed = [matrix.table(one) for one in matrix.matrices(report)]
    if crossed:
        yield "Across corpora", crossed
    if report.comparison:
        yield "Comparison", compared.comparison(report)
    for experiment in report.experiments:
        header = experiment.panel.header
        high = " (scores are too high)" if header.on_test else ""
        classes = plural(len(header.labels), "class")
        title = f"{words.experiment(header)}, {classes}, epoch: {words.epoch(header.selection)}{high}"
        yield capital(title), list(detail.tables(experiment))
    for one in report.rated:
        yield f"Against raters: {one.title}", rated_tables.tables(one)
    printed = literature(report)
    if printed:
        yield "Published results", [printed]
