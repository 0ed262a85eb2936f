"""The table of results: every model of every experiment, with equal columns moved to the note."""

from __future__ import annotations

from collections.abc import Iterator

from ser_pipeline.report import words
from ser_pipeline.report.compare import Gap
from ser_pipeline.report.contents import Experiment, Report
from ser_pipeline.report.groups import Group
from ser_pipeline.report.scores import Result
from ser_pipeline.report.tables import (
    ABSENT,
    FOLDS,
    INTERVAL,
    POOLED,
    Cell,
    Column,
    Table,
    between,
    chance,
    count,
    deviating,
    luck,
    once,
    percent,
    scale,
    signed,
    spanned,
    tests,
    text,
    told,
)
from ser_pipeline.runs.records import RunHeader
from ser_pipeline.settings import ON_TEST
from ser_pipeline.text import capital, plural

COST = (
    "CPU: of all cores. GPU: time for which one was held, alone or shared. For training and testing all folds and "
    "seeds, and for making the features once, if known."
)
"""Explanation of the columns of seconds."""


WHOLE_GAP = (
    "The published code's protocol validates on the test fold and trains on all other speakers; the gap includes both."
)
"""Explanation of a gap if more than the epoch differs."""


SAME = ("Protocol", "Epoch", "Seeds", "± seeds", "CPU", "GPU")
"""Columns that move to the note if they are the same in all rows."""


def results(report: Report) -> Table:
    """Every model of every experiment, and the leakage gaps."""
    found = [*_models(report), *((_gap(gap, report), "gap") for gap in report.gaps)]
    rows, tones = [row for row, _ in found], tuple(tone for _, tone in found)
    mark = report.experiments[0].chance if report.experiments else 0.0
    spans = [row[SPAN] for row, tone in found if tone != "gap"]
    pooled = "Pooled, %"
    columns = (
        Column("Model", number=False),
        Column("UA", group=pooled, hint=POOLED),
        Column("95 % interval", group=pooled, hint=INTERVAL),
        Column("UA and its interval", group=pooled, hint=CHANCE, scale=scale(spans, mark, far=True)),
        Column("WA", group=pooled, hint=POOLED),
        Column("F1", group=pooled, hint="Macro F1, pooled, %."),
        Column("± seeds", group=pooled, hint="Deviation of the pooled UA over seeds."),
        Column("UA", group="Mean over folds, %", hint=FOLDS),
        Column("WA", group="Mean over folds, %", hint=FOLDS),
        Column("Protocol", number=False),
        Column("Epoch", number=False, hint="If it was chosen on the test fold, scores are too high."),
        Column("Seeds"),
        Column("CPU", group="Seconds", hint=COST),
        Column("GPU", group="Seconds", hint=COST),
    )
    return once(Table("results", "Results", columns, tuple(rows), tones, _note(report)), SAME)


CHANCE = "The dashed line is the score of guessing; if it lies beyond the axis, an arrow points to it."

SPAN = 3
"""Index of the drawn column."""


def _models(report: Report) -> Iterator[tuple[tuple[Cell, ...], str]]:
    """Cells and tone of every model's row."""
    for experiment in report.experiments:
        for group in experiment.panel.groups:
            tone = "test" if group.header.on_test else "main" if group is experiment.panel.main else ""
            yield _result(group, experiment.results.get(group.name), report), tone if group.runs else "incomplete"


def _note(report: Report) -> str:
    """Explanation of the scores and names, and what is missing."""
    names = [group.name for one in report.experiments for group in one.panel.groups]
    note = (
        "WA is the share of correct predictions, UA the mean recall of the classes. Bold marks the column UA, not the "
        "best row. " + words.legend(names)
    )
    if any(not group.runs for one in report.experiments for group in one.panel.groups):
        note += " A row that shows a number of folds is incomplete and not averaged."
    note += "".join(f" {covered}" for covered in dict.fromkeys(_covered(one) for one in report.experiments) if covered)
    note += _gap_note(report)
    found = [result.scores["ua"].interval for one in report.experiments for result in one.results.values()]
    return note.rstrip() + luck([*found, *(gap.versus.ua.interval for gap in report.gaps)])


def _result(group: Group, result: Result | None, report: Report) -> tuple[Cell, ...]:
    header = group.header
    about = (where(header, report), selection(header.selection))
    if result is None:
        there = sum(len(run.folds) for run in group.unfinished)
        wanted = sum(len(run.header.fold_names) for run in group.unfinished)
        state = Cell(f"{there} of {wanted} folds", tone="muted", hint="Incomplete: not averaged.")
        return (text(group.name, "strong"), ABSENT, state, Cell(), *[ABSENT] * 5, *about, count(0), *[ABSENT] * 2)
    wa, ua, f1 = (result.scores[name] for name in ("wa", "ua", "macro_f1"))
    return (
        text(group.name, "strong"),
        percent(ua.pooled, tone="strong"),
        between(ua.interval),
        spanned(ua.pooled, ua.interval),
        percent(wa.pooled),
        percent(f1.pooled),
        percent(ua.seed_deviation),
        deviating(ua.fold_mean, ua.fold_deviation),
        deviating(wa.fold_mean, wa.fold_deviation),
        *about,
        _seeds(group),
        *_seconds(group),
    )


def _seeds(group: Group) -> Cell:
    """Number of whole runs, and of all."""
    done, wanted = len(group.runs), len(group.runs) + len(group.unfinished)
    if done == wanted:
        return count(done)
    return Cell(f"{done} of {wanted}", done, "muted", "The others are unfinished and not averaged.")


def _seconds(group: Group) -> tuple[Cell, Cell]:
    """CPU and GPU seconds of the row; blank if an earlier version did not record them."""
    cost = group.cost
    if cost is None:
        return Cell(), Cell()
    processor, device = cost.total("cpu_seconds"), cost.total("gpu_seconds")
    return Cell(f"{processor:,.0f}", processor), Cell(f"{device:,.0f}", device)


def _covered(experiment: Experiment) -> str:
    """How much of the corpus an experiment tests; "" if all of it."""
    header = experiment.panel.header
    tested = max((result.utterances for result in experiment.results.values()), default=0)
    if not tested or tested >= header.utterances:
        return ""
    title = capital(words.protocol(header.protocol))
    return f"{title}: {tested} of the corpus's {header.utterances} utterances are tested."


def _gap_note(report: Report) -> str:
    """Explanation of the gaps, and of why there cannot be one."""
    note = ""
    if any(gap.alone for gap in report.gaps):
        note += (
            " A leakage gap is how much choosing the epoch on the test fold adds to the score of a model trained on "
            "the same rows."
        )
    if not all(gap.alone for gap in report.gaps):
        note += f" {WHOLE_GAP}"
    if report.gaps:
        note += f" {' '.join(map(_told, report.gaps))} {tests([gap.versus.ua.p for gap in report.gaps])}"
    last = {one.panel.header.preset for one in report.experiments if one.panel.header.selection == "last"}
    if last:
        note += f" With preset {' and '.join(sorted(last))} the epoch is not chosen, so there is no leakage gap."
    return note


def _told(gap: Gap) -> str:
    """A gap of UA as a sentence."""
    found = gap.versus.ua
    said = f"{capital(gap.name)}: {told(found)}"
    if found.p is not None:
        said += f", p {chance(found.p).text}, corrected {chance(gap.versus.ua_corrected).text}"
    return f"{said}."


def _gap(gap: Gap, report: Report) -> tuple[Cell, ...]:
    found = gap.versus
    return (
        text(gap.name, "strong"),
        signed(found.ua.value, "strong"),
        between(found.ua.interval, sign=True),
        Cell(),
        signed(found.wa.value),
        *[ABSENT] * 4,
        where(gap.honest.header, report),
        text(
            "gap", "test", "Epoch chosen on the test fold minus epoch chosen on validation." if gap.alone else WHOLE_GAP
        ),
        count(len(found.seeds)),
        Cell(),
        Cell(),
    )


def where(header: RunHeader, report: Report) -> Cell:
    """The protocol and test corpus; also target, preset and number of classes where they are needed."""
    others = [experiment.panel.header for experiment in report.experiments]
    parts = [
        header.protocol,
        f"tested on {header.test_corpus}" if header.test_corpus else "",
        f"target {header.target.name}" if header.target.name != "class" else "",
        f"preset {header.preset}" if len({other.preset for other in others}) > 1 else "",
        plural(len(header.labels), "class") if len({other.labels for other in others}) > 1 else "",
    ]
    hint = f"{words.protocol(header.protocol)}, preset {header.preset}, classes {', '.join(header.labels)}"
    return text(", ".join(filter(None, parts)), hint=hint)


def selection(name: str) -> Cell:
    """How the epoch was chosen, marked if on the test fold."""
    return text(words.epoch(name), "test" if name in ON_TEST else "")
