"""Tables of the comparison of two models that the user named."""

from __future__ import annotations

from ser_pipeline.report.compare import Comparison
from ser_pipeline.report.contents import Report
from ser_pipeline.report.tables import (
    CORRECTED,
    DETECTABLE,
    DIFFERENCE,
    TEST,
    Column,
    Table,
    between,
    chance,
    count,
    luck,
    percent,
    signed,
    tests,
    text,
)
from ser_pipeline.text import plural


def comparison(report: Report) -> list[Table]:
    """Return the tables of the comparison; [] without one."""
    return [_scores(report.comparison), _mcnemar(report.comparison)] if report.comparison else []


def _scores(found: Comparison) -> Table:
    """Return the table of differences in UA and WA."""
    columns = (
        Column("Score", number=False),
        Column("Difference", hint="Percentage points, the first minus the second."),
        Column("95 % interval", hint=DIFFERENCE),
        Column("p", hint=TEST),
        Column("corrected", hint=CORRECTED),
        Column("detectable", hint=DETECTABLE),
    )
    scores = (("UA", found.versus.ua, found.versus.ua_corrected), ("WA", found.versus.wa, found.versus.wa_corrected))
    rows = [
        (
            text(name),
            signed(one.value),
            between(one.interval, sign=True),
            chance(one.p),
            chance(corrected),
            percent(one.detectable),
        )
        for name, one, corrected in scores
    ]
    note = (
        f"{plural(found.versus.utterances, 'utterance')}, {plural(len(found.pairs), 'pair')} of runs. {unpaired(found)}"
    )
    note += tests([one.p for _, one, _ in scores]) + luck([found.versus.ua.interval])
    return Table("compare", f"{found.one.name} against {found.other.name}", columns, tuple(rows), note=note)


def unpaired(found: Comparison) -> str:
    """Return which seeds are compared if a model has others, which its own scores include; otherwise ""."""
    seeds = sorted({*found.one.seeds, *found.other.seeds} - set(found.versus.seeds))
    if not seeds or found.one.seeds[1:] == found.other.seeds[1:] == ():
        return ""
    compared = ", ".join(map(str, found.versus.seeds))
    return f"Only the seeds that both models have are compared: {compared}. "


def _mcnemar(found: Comparison) -> Table:
    """Return the table of McNemar's tests, with one row per pair of runs."""
    pairs = [
        (
            text(f"{pair.seeds[0]} / {pair.seeds[1]}"),
            count(pair.only_one),
            count(pair.only_other),
            chance(pair.p),
            chance(pair.corrected),
        )
        for pair in found.pairs
    ]
    heads = (
        Column("Seeds", number=False),
        Column("Only the first correct"),
        Column("Only the second correct"),
        Column("p"),
        Column("corrected", hint=CORRECTED),
    )
    remark = (
        "McNemar's test assumes independent utterances, but those of one speaker are not: its p-values are too small. "
        f"{tests([pair.p for pair in found.pairs], detectable=False)}"
    )
    return Table("mcnemar", "McNemar's test of each pair of runs", heads, tuple(pairs), note=remark)
