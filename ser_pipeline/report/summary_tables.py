"""The tables over all experiments of a report."""

from __future__ import annotations

from collections.abc import Iterator

from ser_pipeline.report import compared, matrix, published, rated_tables, words
from ser_pipeline.report import experiment_tables as detail
from ser_pipeline.report.compare import Gap
from ser_pipeline.report.contents import WORST, Experiment, Report
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
    percent,
    scale,
    signed,
    spanned,
    tests,
    text,
    theirs,
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


def results(report: Report) -> Table:
    """Every model of every experiment, and the leakage gaps."""
    rows: list[tuple[Cell, ...]] = []
    tones: list[str] = []
    for experiment in report.experiments:
        main = experiment.panel.main
        for group in experiment.panel.groups:
            rows.append(_result(group, experiment.results.get(group.name), report))
            test = "test" if group.header.on_test else ""
            tones.append(test if group.runs else "incomplete")
            if group is main and not test:
                tones[-1] = "main"
    for gap in report.gaps:
        rows.append(_gap(gap, report))
        tones.append("gap")
    mark = report.experiments[0].chance if report.experiments else 0.0
    spans = [row[-1] for row, tone in zip(rows, tones, strict=True) if tone != "gap"]
    columns = (
        Column("Model", number=False),
        Column("Protocol", number=False),
        Column("Epoch", number=False, hint="Chosen on the test fold, scores read high."),
        Column("Seeds"),
        Column("WA", group="Mean over folds, %", hint=FOLDS),
        Column("UA", group="Mean over folds, %", hint=FOLDS),
        Column("WA", group="Pooled, %", hint=POOLED),
        Column("UA", group="Pooled, %", hint=POOLED),
        Column("95 % interval", group="Pooled, %", hint=INTERVAL),
        Column("± seeds", group="Pooled, %", hint="Deviation of the pooled UA over seeds."),
        Column("F1", hint="Macro F1, pooled, %."),
        Column("CPU", group="Seconds", hint=COST),
        Column("GPU", group="Seconds", hint=COST),
        Column("UA and its interval", scale=scale(spans, mark)),
    )
    note = "WA is the share of utterances that are right, UA the mean recall of the classes."
    note += "".join(f" {covered}" for covered in dict.fromkeys(_covered(one) for one in report.experiments) if covered)
    note += _gap_note(report)
    found = [result.scores["ua"].interval for one in report.experiments for result in one.results.values()]
    note += luck([*found, *(gap.versus.ua.interval for gap in report.gaps)])
    return Table("results", "Results", columns, tuple(rows), tuple(tones), note)


def literature(report: Report) -> Table | None:
    """Published results beside ours, for each protocol that has both; None where nothing can be compared."""
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
        Column("WA, %", hint=FOLDS),
        Column("UA, %", hint=FOLDS),
        Column("Epoch", number=False),
        Column("Remark", number=False),
    )
    note = "Theirs as printed. Four classes, 5,531 utterances."
    return Table("literature", "Beside published results", columns, tuple(rows), tuple(tones), note) if rows else None


def worst(report: Report) -> Table:
    """The utterances that the main model got most wrong."""
    columns = (
        Column("Utterance", number=False),
        Column("Speaker", number=False),
        Column("Seconds"),
        Column("Is", number=False),
        Column("Taken for", number=False),
        Column("Belief in the truth, %", hint="Probability of the true class, the mean over seeds."),
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
    """Every run that is shown, and whether it is whole."""
    columns = (
        Column("Run", number=False),
        Column("Folds"),
        Column("Epoch", number=False),
        Column("WA, %", hint=POOLED),
        Column("UA, %", hint=POOLED),
        Column("Device", number=False),
        Column("Started, UTC", number=False),
        Column("Minutes", hint="From the start of its first command to the end of its last, pauses included."),
    )
    rows: list[tuple[Cell, ...]] = []
    tones: list[str] = []
    for panel in report.panels:
        for group in panel.groups:
            for run in (*group.runs, *group.unfinished):
                header = run.header
                told = run.whole and header.target.classes
                total = sum((fold.confusion() for fold in run.folds[1:]), run.folds[0].confusion()) if told else None
                rows.append(
                    (
                        text(header.path.name),
                        Cell(f"{len(run.folds)} of {len(header.fold_names)}", len(run.folds)),
                        selection(header.selection),
                        percent(total.wa if total else None),
                        percent(total.ua if total else None),
                        text(header.device),
                        text(header.origin.started[:16].replace("T", " ")),
                        minutes(header.origin.seconds),
                    )
                )
                tones.append("incomplete" if not run.whole else "test" if header.on_test else "")
    return Table("runs", "Runs", columns, tuple(rows), tuple(tones))


def minutes(seconds: float) -> Cell:
    """A length of time in minutes; nothing where it is not known."""
    return Cell(f"{seconds / 60:.1f}", seconds) if seconds else Cell()


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


def _result(group: Group, result: Result | None, report: Report) -> tuple[Cell, ...]:
    header = group.header
    head = (text(group.name, "strong"), where(header, report), selection(header.selection))
    if result is None:
        there = sum(len(run.folds) for run in group.unfinished)
        wanted = sum(len(run.header.fold_names) for run in group.unfinished)
        state = Cell(f"incomplete: {there} of {wanted} folds", tone="muted")
        return (
            *head[:1],
            head[1],
            head[2],
            count(0),
            *[ABSENT] * 4,
            state,
            *[ABSENT] * 5,
        )
    wa, ua, f1 = (result.scores[name] for name in ("wa", "ua", "macro_f1"))
    return (
        *head,
        _seeds(group),
        deviating(wa.fold_mean, wa.fold_deviation),
        deviating(ua.fold_mean, ua.fold_deviation),
        percent(wa.pooled),
        percent(ua.pooled, tone="strong"),
        between(ua.interval),
        percent(ua.seed_deviation),
        percent(f1.pooled),
        *_seconds(group),
        spanned(ua.pooled, ua.interval),
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
        where(gap.honest.header, report),
        text("gap", "test", "Epoch of the test fold minus that of validation." if gap.alone else WHOLE_GAP),
        count(len(found.seeds)),
        ABSENT,
        ABSENT,
        signed(found.wa.value),
        signed(found.ua.value, "strong"),
        between(found.ua.interval, sign=True),
        ABSENT,
        ABSENT,
        Cell(),
        Cell(),
        Cell(),
    )


def _ours(experiment: Experiment) -> tuple[tuple[Cell, ...], str] | None:
    if experiment.main is None or experiment.panel.header.test_corpus:
        return None
    group, result = experiment.main
    scores = (result.scores["wa"], result.scores["ua"])
    test = group.header.on_test
    remark = f"{plural(len(group.runs), 'seed')}, preset {group.header.preset}"
    cells = (
        text(f"ours: {group.name}", "strong"),
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
    """Every table of a report under its heading, for the forms that only list them."""
    if report.experiments:
        yield "Results", [results(report)]
    crossed = [matrix.table(one) for one in matrix.matrices(report)]
    if crossed:
        yield "Across corpora", crossed
    if report.comparison:
        yield "Comparison", compared.comparison(report)
    for experiment in report.experiments:
        header = experiment.panel.header
        high = ", which reads high" if header.on_test else ""
        classes = plural(len(header.labels), "class")
        title = f"{words.experiment(header)}, {classes}, epoch: {words.epoch(header.selection)}{high}"
        yield words.capital(title), list(detail.tables(experiment))
    for one in report.rated:
        yield f"Against raters: {one.title}", rated_tables.tables(one)
    printed = literature(report)
    if printed:
        yield "Published results", [printed]
