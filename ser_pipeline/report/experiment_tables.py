"""The tables of an experiment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ser_pipeline.report import quality_tables as quality
from ser_pipeline.report import words
from ser_pipeline.report.class_tables import classes
from ser_pipeline.report.compare import Row, Versus
from ser_pipeline.report.contents import Experiment
from ser_pipeline.report.published import TABLE_2, TABLE_2_NAMES, Published
from ser_pipeline.report.scores import GroupGap, Part
from ser_pipeline.report.tables import (
    ABSENT,
    CORRECTED,
    DETECTABLE,
    DIFFERENCE,
    FOLDS,
    INTERVAL,
    POOLED,
    TEST,
    Cell,
    Column,
    Table,
    between,
    chance,
    count,
    luck,
    percent,
    scale,
    select,
    signed,
    spanned,
    tests,
    text,
    theirs,
)
from ser_pipeline.text import capital, natural


def ablations(experiment: Experiment) -> Table:
    """Every model of an experiment, compared with the full one."""
    rows = [_ablation(row, experiment) for row in experiment.rows]
    tones = [
        "incomplete" if not row.whole else "main" if row.group is experiment.panel.full else ""
        for row in experiment.rows
    ]
    difference, published = "Difference to full", "Published, mean over folds, %"
    columns = [
        Column("Model", number=False),
        Column("UA", group="Pooled, %", hint=POOLED),
        Column("WA", group="Pooled, %", hint=POOLED),
        Column("UA", group=difference, hint="Percentage points of pooled UA, same utterances and seeds."),
        Column("95 % interval", group=difference, hint=DIFFERENCE),
        Column("UA and its interval", group=difference, scale=scale([row[SPAN] for row in rows], 0.0)),
        Column("p", group=difference, hint=TEST),
        Column("corrected", group=difference, hint=CORRECTED),
        Column("detectable", group=difference, hint=DETECTABLE),
        Column("UA", group=published, hint="From the paper, which chose its epoch on the test fold."),
        Column("WA", group=published, hint="From the paper, which chose its epoch on the test fold."),
        Column("Inputs", number=False),
        Column("Co-att.", number=False, hint="Whether frames are weighted by co-attention or averaged."),
    ]
    differences = [row.versus.ua for row in experiment.rows if row.versus]
    published_rows = any(row.published for row in experiment.rows)
    note = (
        "Scores are pooled over all test utterances. "
        f"{'Published scores are means over folds. ' if published_rows else ''}"
        "Differences are row minus full model, in pooled UA over the seeds that both have; bold ones have a corrected "
        f"p of at most 0.05. Incomplete rows are not averaged. {_seeds(experiment.rows)}"
        f"{tests([one.p for one in differences])} {words.legend([row.group.name for row in experiment.rows])}"
        f"{luck([one.interval for one in differences])}"
    )
    table = Table(f"ablation-{experiment.id}", "Ablation", tuple(columns), tuple(rows), tuple(tones), note)
    return table if published_rows else select(table, lambda column: not column.group.startswith("Published"))


def _seeds(rows: Sequence[Row]) -> str:
    """Return the number of seeds of each row if they differ."""
    seeds = {row.group.name: len(row.group.seeds) for row in rows if row.whole}
    if len(set(seeds.values())) < 2:
        return ""
    return (
        f"The rows have different numbers of seeds: {', '.join(f'{name} {count}' for name, count in seeds.items())}. "
    )


def grid(experiment: Experiment) -> Table | None:
    """The paper's table 2: inputs, without and with co-attention; None if there is only one model."""
    found = {
        (frozenset(row.group.inputs), row.group.co_attention): row
        for row in reversed(experiment.rows)
        if row.group.header.ablation in TABLE_2_NAMES and not row.group.variant
    }
    order = dict.fromkeys(inputs for inputs, _ in TABLE_2)
    shown = [inputs for inputs in order if any((inputs, co) in found for co in (False, True))]
    if len(found) < 2:
        return None
    heads = ("Without co-attention, %", "With co-attention, %")
    columns = [Column("Inputs", number=False)]
    columns += [Column(title, group=head, hint=HINTS[title]) for head in heads for title in ("WA", "UA", "Published")]
    rows = [
        (
            text(words.inputs(tuple(inputs))),
            *(cell for co in (False, True) for cell in _pair(found.get((inputs, co)), experiment)),
        )
        for inputs in shown
    ]
    note = (
        "Means over folds (each the mean over seeds), as in the paper; the ablation table has pooled scores. W2E are "
        "the frames of a speech encoder (wav2vec 2.0 in the paper). Without co-attention they are averaged."
    )
    table = Table(f"grid-{experiment.id}", "Inputs and co-attention", tuple(columns), tuple(rows), note=note)
    if any(row.published for row in experiment.rows):
        return table
    return select(table, lambda column: column.title != "Published")


def printed(experiment: Experiment) -> Published | None:
    """The paper's number for the main model, if it has one."""
    return next((row.published for row in experiment.rows if row.group is experiment.panel.main), None)


def recalls(experiment: Experiment) -> Table:
    """Recall of every class by every model."""
    labels = experiment.panel.header.labels
    columns = [Column("Model", number=False), *(Column(label) for label in labels)]
    rows: list[tuple[Cell, ...]] = []
    tones: list[str] = []
    for group in experiment.panel.whole:
        cells = [percent(float(recall), bar=True) for recall in experiment.results[group.name].recalls]
        rows.append((text(group.name), *cells))
        tones.append("main" if group is experiment.panel.main else "")
    return Table(
        f"recalls-{experiment.id}", "Recall of each class, pooled, %", tuple(columns), tuple(rows), tuple(tones)
    )


def by_speaker(experiment: Experiment) -> Table | None:
    """UA of every model by speaker; None if there is only one model or one speaker."""
    groups = experiment.panel.whole
    found = {
        group.name: {part.name: part.ua for part in experiment.results[group.name].parts["speaker"]} for group in groups
    }
    speakers = sorted({name for scores in found.values() for name in scores}, key=natural)
    if len(groups) < 2 or len(speakers) < 2:
        return None
    columns = (Column("Speaker", number=False), *(Column(group.name) for group in groups))
    rows = [(text(name), *(percent(found[group.name].get(name)) for group in groups)) for name in speakers]
    return Table(f"speakers-{experiment.id}", "UA of every model by speaker, pooled, %", columns, tuple(rows))


def parts(experiment: Experiment) -> list[Table]:
    """The main model's scores by fold, speaker, session, style, duration and number of segments."""
    if experiment.main is None:
        return []
    _, result = experiment.main
    divided = {"fold": result.folds, **result.parts}
    same = [name for name in ("speaker", "session") if divided[name] == result.folds]
    return [_parts(experiment, name, found) for name, found in divided.items() if len(found) > 1 and name not in same]


def ways(experiment: Experiment) -> Table | None:
    """Ways to score an utterance from its segments."""
    if experiment.main is None or not experiment.main[1].ways:
        return None
    found = experiment.main[1].ways
    columns = (Column("Utterance score", number=False), Column("WA, %", hint=POOLED), Column("UA, %", hint=POOLED))
    rows = [
        (text(words.WAYS[way.name] + (", used here" if way is found[0] else "")), percent(way.wa), percent(way.ua))
        for way in found
    ]
    tones = ("main", *[""] * (len(rows) - 1))
    note = "All are measured on the test utterances, so picking the best one would be selection on the test set."
    return Table(f"ways-{experiment.id}", "From segments to utterances", columns, tuple(rows), tones, note)


def probes(experiment: Experiment) -> Table | None:
    """How much the trained main model loses without each input."""
    if experiment.main is None or not experiment.main[1].probes:
        return None
    columns = (
        Column("Input", number=False),
        Column("Replaced by", number=False),
        Column("UA, pooled, %"),
        Column("Loss", hint="Percentage points of UA."),
        Column("95 % interval", hint=DIFFERENCE),
        Column("p", hint=TEST),
        Column("corrected", hint=CORRECTED),
        Column("detectable", hint=DETECTABLE),
        Column("Loss of UA", scale=(0, 0, 0)),
    )
    kinds = {"shuffled": "another utterance's", "zeroed": "silence"}
    rows = [
        (
            text(words.inputs([probe.input])),
            text(kinds[probe.kind]),
            percent(probe.ua),
            signed(probe.loss),
            between(probe.interval, sign=True),
            chance(probe.p),
            chance(probe.corrected),
            percent(probe.detectable),
            spanned(probe.loss, probe.interval),
        )
        for probe in experiment.main[1].probes
    ]
    columns = (*columns[:-1], Column("Loss of UA", scale=scale([row[-1] for row in rows], 0.0)))
    found = experiment.main[1].probes
    note = (
        "UA that the trained model loses where one input is replaced. A loss near 0 means that the input is hardly "
        "used, but only as precisely as its interval says. "
        f"{tests([probe.p for probe in found])}{luck([probe.interval for probe in found])}"
    )
    return Table(f"probes-{experiment.id}", "Importance of each input", columns, tuple(rows), note=note)


SPAN = 5
"""Index of the drawn column of the ablation table."""


def _ablation(row: Row, experiment: Experiment) -> tuple[Cell, ...]:
    group, printed = row.group, row.published
    published = (theirs(printed.ua if printed else None), theirs(printed.wa if printed else None))
    made = (text(words.inputs(group.inputs)), text("yes" if group.co_attention else "no"))
    pooled = Cell(f"{row.done} of {row.wanted} folds", tone="muted", hint="Incomplete: not averaged."), ABSENT
    if row.whole:
        scores = experiment.results[group.name].scores
        pooled = percent(scores["ua"].pooled), percent(scores["wa"].pooled)
    return (text(group.name, "strong"), *pooled, *_difference(row.versus if row.whole else None), *published, *made)


def _difference(versus: Versus | None) -> tuple[Cell, ...]:
    if versus is None:
        return (ABSENT, ABSENT, Cell(), *[ABSENT] * 3)
    found = versus.ua
    tone = "" if versus.ua_corrected is None or versus.ua_corrected > 0.05 else "good" if found.value > 0 else "bad"
    return (
        signed(found.value, tone),
        between(found.interval, sign=True),
        spanned(found.value, found.interval),
        chance(found.p),
        chance(versus.ua_corrected),
        percent(found.detectable),
    )


def _pair(row: Row | None, experiment: Experiment) -> tuple[Cell, ...]:
    """WA, UA and the published pair for one model of table 2."""
    if row is None:
        return tuple(ABSENT for _ in range(3))
    printed = row.published
    beside = Cell(f"{printed.wa:.2f} / {printed.ua:.2f}", printed.ua or "") if printed else ABSENT
    if not row.whole:
        return (Cell(f"{row.done}/{row.wanted} folds", tone="muted"), ABSENT, beside)
    scores = experiment.results[row.group.name].scores
    return (percent(scores["wa"].fold_mean), percent(scores["ua"].fold_mean), beside)


def _parts(experiment: Experiment, name: str, found: Sequence[Part]) -> Table:
    title = words.DIVISIONS.get(name, capital(name))
    columns = [
        Column(title, number=False),
        Column("Utterances"),
        Column("WA, %", hint=POOLED_PART),
        Column("UA, %", hint=OF_PART),
    ]
    rows = [
        [Cell(part.name, place), count(part.utterances), percent(part.wa), percent(part.ua, bar=True)]
        for place, part in enumerate(found)
    ]
    if all(part.interval for part in found):
        columns += [Column("95 % interval", hint=INTERVAL), Column("Speakers")]
        for row, part in zip(rows, found, strict=True):
            row += [between(part.interval) if part.interval else ABSENT, count(part.speakers)]
    gaps = experiment.main[1].gaps if experiment.main else ()
    note = " ".join(_gap(gap) for gap in gaps if gap.division == name)
    return Table(f"{name}-{experiment.id}", title, tuple(columns), tuple(map(tuple, rows)), note=note)


def _gap(gap: GroupGap) -> str:
    """The gap between the best and the worst group as a sentence."""
    said = f"Worst-group gap: {gap.worst} are {100 * gap.value:.1f} points of UA below {gap.best}"
    if gap.interval.why:
        return f"{said}; no interval: {gap.interval.why}."
    said += f" (interval {between(gap.interval, sign=True).text}"
    if gap.p is None or gap.detectable is None:
        return f"{said}; no test). {PICKED}"
    detectable = f"{100 * gap.detectable:.1f}"
    return f"{said}; p {chance(gap.p).text}; a gap of {detectable} points could be detected). {PICKED}"


HINTS = {"WA": FOLDS, "UA": FOLDS, "Published": "WA / UA from the paper, which chose its epoch on the test fold."}
"""Hints for the columns of the paper's table 2."""

POOLED_PART = "Pooled over the utterances of the part, the mean over seeds."
OF_PART = f"{POOLED_PART} Mean recall of the classes in the part, which may be fewer than in the corpus."
"""What UA means for a part of the utterances."""

PICKED = (
    "Best and worst are picked by their scores, so the gap is too high; the interval and the detectable size are "
    "corrected for all pairs, p for all divisions too."
)
"""Note on how to read a gap between groups."""


def tables(experiment: Experiment) -> Iterator[Table]:
    """All tables of an experiment that have rows, in reading order."""
    found = [grid(experiment), ablations(experiment), classes(experiment), recalls(experiment)]
    found += [by_speaker(experiment), quality.sources(experiment), quality.calibrations(experiment)]
    found += [ways(experiment), probes(experiment)]
    found += parts(experiment)
    yield from (table for table in found if table and table.rows)
