"""The table of results: every model of every experiment, numbers first, and what is the same in all rows said once."""

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
from ser_pipeline.text import plural

COST = (
    "Of all cores, and for which a GPU was held, alone or shared: all folds and seeds trained and tested, and features "
    "made once where that is known."
)
"""What the columns of seconds are."""


WHOLE_GAP = "The published code's protocol validates on the test fold and trains on every other speaker; a gap is both."
"""What a gap is where more than the epoch differs."""


SAME = ("Protocol", "Epoch", "Seeds", "± seeds", "CPU", "GPU")
"""Columns that are said once where they are the same in all rows."""


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
        Column("Epoch", number=False, hint="Chosen on the test fold, scores read high."),
        Column("Seeds"),
        Column("CPU", group="Seconds", hint=COST),
        Column("GPU", group="Seconds", hint=COST),
    )
    return once(Table("results", "Results", columns, tuple(rows), tones, _note(report)), SAME)


CHANCE = "The dashed line is what guessing has; an arrow points to where it lies beyond the axis."

SPAN = 3
"""Which column is drawn."""


def _models(report: Report) -> Iterator[tuple[tuple[Cell, ...], str]]:
    """Cells and tone of every model's row."""
    for experiment in report.experiments:
        for group in experiment.panel.groups:
            tone = "test" if group.header.on_test else "main" if group is experiment.panel.main else ""
            yield _result(group, experiment.results.get(group.name), report), tone if group.runs else "incomplete"


def _note(report: Report) -> str:
    """What the scores are, what the names mean, and what is missing."""
    names = [group.name for one in report.experiments for group in one.panel.groups]
    note = "WA is the share of utterances that are right, UA the mean recall of the classes. Bold is for finding the "
    note += f"row and its UA, and no verdict. {words.legend(names)}"
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
        state = Cell(f"incomplete: {there} of {wanted} folds", tone="muted")
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
    """Whole runs, and how many more there will be."""
    done, wanted = len(group.runs), len(group.runs) + len(group.unfinished)
    if done == wanted:
        return count(done)
    return Cell(f"{done} of {wanted}", done, "muted", "The others are unfinished, and not averaged.")


def _seconds(group: Group) -> tuple[Cell, Cell]:
    """What the row took on processors and on GPUs; blank where an earlier version did not say."""
    cost = group.cost
    if cost is None:
        return Cell(), Cell()
    processor, device = cost.total("cpu_seconds"), cost.total("gpu_seconds")
    return Cell(f"{processor:,.0f}", processor), Cell(f"{device:,.0f}", device)


def _covered(experiment: Experiment) -> str:
    """How much of the corpus an experiment tests, where that is not all of it."""
    header = experiment.panel.header
    tested = max((result.utterances for result in experiment.results.values()), default=0)
    if not tested or tested >= header.utterances:
        return ""
    title = words.capital(words.protocol(header.protocol))
    return f"{title}: {tested} of the corpus's {header.utterances} utterances are tested."


def _gap_note(report: Report) -> str:
    """What the gaps are, and where there cannot be one."""
    note = ""
    if any(gap.alone for gap in report.gaps):
        note += " A leakage gap is what choosing the epoch on the test fold adds to a model trained on the same rows."
    if not all(gap.alone for gap in report.gaps):
        note += f" {WHOLE_GAP}"
    if report.gaps:
        note += f" {' '.join(map(_told, report.gaps))} {tests([gap.versus.ua.p for gap in report.gaps])}"
    last = {one.panel.header.preset for one in report.experiments if one.panel.header.selection == "last"}
    if last:
        note += f" With preset {' and '.join(sorted(last))} nothing chooses the epoch: there is no leakage gap."
    return note


def _told(gap: Gap) -> str:
    """What is known of a gap of UA, in words."""
    found = gap.versus.ua
    said = f"{words.capital(gap.name)}: {told(found)}"
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
        text("gap", "test", "Epoch of the test fold minus that of validation." if gap.alone else WHOLE_GAP),
        count(len(found.seeds)),
        Cell(),
        Cell(),
    )


def where(header: RunHeader, report: Report) -> Cell:
    """The protocol in a word, with the test corpus, and with preset and classes where they differ in the report."""
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
    """What chose the epoch, marked where it was the test fold."""
    return text(words.epoch(name), "test" if name in ON_TEST else "")
