"""The first screen of the page: score of the main model, its interval, and facts about the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ser_pipeline.findings import Finding
from ser_pipeline.report import experiment_tables as detail
from ser_pipeline.report import published, words
from ser_pipeline.report.compare import Versus
from ser_pipeline.report.contents import Experiment, Report
from ser_pipeline.report.groups import Group
from ser_pipeline.report.scores import Result
from ser_pipeline.report.tables import between, percent, scale, spanned, told
from ser_pipeline.text import plural

UNFINISHED = "No run is finished yet, so there is no score. The unfinished runs are listed below."
"""Text of the summary if there is no score."""


@dataclass(frozen=True)
class Tick:
    """A mark on the axis of the summary."""

    label: str
    value: float  # 0 to 1


@dataclass(frozen=True)
class Axis:
    """The axis for the score and its interval, scaled to them."""

    low: float
    high: float
    ticks: tuple[Tick, ...]

    def place(self, value: float) -> float:
        """Position of a value, in percent of the axis; values beyond it are moved to its ends."""
        return 100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def beyond(self, tick: Tick) -> str:
        """The end beyond which a mark lies: "left", "right" or ""."""
        return "left" if tick.value < self.low else "right" if tick.value > self.high else ""


def summary(report: Report) -> dict[str, Any]:
    """The most important facts of the first experiment."""
    if report.main is None:
        told = "No finished run predicts classes; scores against raters are below." if report.rated else UNFINISHED
        return {"score": None, "told": told, "warnings": _warnings(report)}
    group, result = report.main
    ua = result.scores["ua"]
    return {
        "score": percent(ua.pooled).text,
        "interval": _interval(group, result),
        "low": ua.interval.low,
        "value": ua.pooled,
        "high": ua.interval.high,
        "axis": _axis(group, result),
        "group": group,
        "beside": _beside(result),
        "facts": _facts(report, group, result),
        "doubtful": words.epoch("test"),
        "sentences": list(_sentences(report, report.experiments[0])),
        "warnings": _warnings(report),
    }


def _beside(result: Result) -> list[tuple[str, str]]:
    """The numbers below the score, in percent."""
    shares = {
        "Weighted accuracy": result.scores["wa"].pooled,
        "Macro F1": result.scores["macro_f1"].pooled,
        "Chance, UA": result.chance,
        "Largest class, WA": result.largest.support / result.utterances,
    }
    return [(name, percent(share).text) for name, share in shares.items()]


def _interval(group: Group, result: Result) -> str:
    """The interval of UA, and the clusters it is computed from."""
    interval = result.scores["ua"].interval
    if interval.why:
        return f"No interval: {interval.why}"
    made = words.clusters(group.header.protocol, interval.clusters, result.crossed)
    luck = "" if interval.training else "; it does not cover the randomness of training"
    return f"95 % interval {between(interval).text} %, from {made}{luck}"


def _axis(group: Group, result: Result) -> Axis:
    """An axis for the score and its interval, with reference values."""
    ua = result.scores["ua"]
    low, high, _ = scale([spanned(ua.pooled, ua.interval)], result.chance, least=0.2, far=True)
    return Axis(max(low, 0.0), min(high, 1.0), tuple(_ticks(group, result.chance)))


def _ticks(group: Group, chance: float) -> Iterator[Tick]:
    yield Tick(f"chance {100 * chance:.0f}", chance)
    for row in published.TABLE_1.get(group.header.protocol, ()):
        comparable = group.header.corpus == published.CORPUS and set(group.header.labels) == published.LABELS
        if row.name == published.PAPER and row.ua and comparable:
            yield Tick(f"paper {row.ua:.1f}", row.ua / 100)


def _facts(report: Report, group: Group, result: Result) -> list[tuple[str, str]]:
    """Facts about the runs and their data."""
    header = group.header
    ua, wa = result.scores["ua"], result.scores["wa"]
    folds = plural(len(header.fold_names), "fold")
    return [
        (
            "Protocol",
            words.protocol(header.protocol) + (f", tested on {header.test_corpus}" if header.test_corpus else ""),
        ),
        ("Data", f"{_coverage(group, result)} by {plural(result.speakers, 'speaker')}"),
        ("Classes", ", ".join(header.labels)),
        *([("Target", header.target.words)] if header.target.name != "class" else []),
        ("Trained", f"{folds}, {plural(len(group.runs), 'seed')}, preset {header.preset}"),
        ("Epoch", words.epoch(header.selection)),
        (
            "Mean over folds",
            f"UA {_spread(ua.fold_mean, ua.fold_deviation)}, WA {_spread(wa.fold_mean, wa.fold_deviation)}",
        ),
        *signed_by(report),
    ]


def signed_by(report: Report) -> list[tuple[str, str]]:
    """Dates of the runs, commits of their code, and author of the report, as far as known."""
    days = sorted({header.origin.ended[:10] for header in report.headers} - {""})
    made = [header.origin.made for header in report.headers]
    commits = dict.fromkeys(str(one)[:7] for facts in made for one in facts.get("commit", ()) if one)
    changed = any(one is True for facts in made for one in facts.get("modified", ()))
    said = [
        ("Date", " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))),
        ("Commit", ", ".join(commits) + (", with changes since" if commits and changed else "")),
        ("Author", report.choice.author),
    ]
    return [(name, value) for name, value in said if value]


def _coverage(group: Group, result: Result) -> str:
    """How many utterances were tested, of those that the corpus has."""
    there, tested = group.header.utterances, result.utterances
    return f"{tested} of {plural(there, 'utterance')}" if there > tested else plural(tested, "utterance")


def _spread(value: float, deviation: float | None) -> str:
    return f"{100 * value:.1f}" + (f" ± {100 * deviation:.1f}" if deviation is not None else "") + " %"


WHOLE_PROTOCOL = "The published code's protocol, which validates on the test fold and trains on all other speakers,"
"""The cause of a higher score if more than the epoch differs."""


def _sentences(report: Report, first: Experiment) -> Iterator[str]:
    """Comparisons of the main model, a sentence each."""
    group, result = first.main or (None, None)
    if group is None or result is None:
        return
    rows = [row for row in first.rows if row.versus]
    found = [row.versus for row in rows if row.versus]
    apart = [one for one in found if one.ua_corrected is not None and one.ua_corrected <= 0.05]
    if rows:
        yield f"{_apart(len(apart), len(rows))} significantly from it ({_power(found)})."
    for gap in report.gaps:
        if gap.honest is group:
            yield (
                f"{'Choosing the epoch on the test fold' if gap.alone else WHOLE_PROTOCOL} adds "
                f"{told(gap.versus.ua)}{': the leakage gap' if gap.alone else ''}."
            )
    printed = detail.printed(first)
    if printed and printed.ua is not None:
        points = 100 * result.scores["ua"].fold_mean - printed.ua
        where = "above" if points > 0 else "below"
        yield (
            f"The mean over folds is {abs(points):.1f} points {where} the paper’s {printed.ua:.2f} %. "
            "The paper chose its epoch on the test fold and gives no interval, so no test is possible."
        )


def _apart(apart: int, others: int) -> str:
    """How many of the other models differ.

    >>> _apart(0, 1), _apart(0, 3), _apart(2, 3)
    ('The other model does not differ', 'None of the 3 other models differs', '2 of the 3 other models differ')
    """
    if others == 1:
        return "The other model differs" if apart else "The other model does not differ"
    return f"{apart or 'None'} of the {others} other models {'differs' if apart <= 1 else 'differ'}"


def _power(found: Sequence[Versus]) -> str:
    """How many tests of UA there are, and what differences a single one could detect."""
    tested = [one.ua for one in found if one.ua.p is not None]
    if not tested:
        return "no test is possible"
    said = "5 % level" + (f" after Holm's correction for {len(tested)} tests" if len(tested) > 1 else "")
    known = sorted(one.detectable for one in tested if one.detectable is not None)
    if not known:
        return said
    sizes = " to ".join(dict.fromkeys(percent(size).text for size in (known[0], known[-1])))
    return f"{said}; a single test could detect {sizes} points"


def _warnings(report: Report) -> list[Finding]:
    return [one for one in report.findings if one.severity in ("error", "warning")]
