"""The CSV files of a report for spreadsheets: results.csv, classes.csv, speakers.csv.

Shares are 0 to 1, and missing values are empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import Any

from ser_pipeline.evaluation.calibration import LOSSES
from ser_pipeline.evaluation.metrics import METRICS
from ser_pipeline.report.contents import Experiment, Report
from ser_pipeline.report.groups import Group
from ser_pipeline.text import guarded

ABOUT = (
    "corpus",
    "test_corpus",
    "protocol",
    "selection",
    "preset",
    "ablation",
    "variant",
    "inputs",
    "co_attention",
    "seeds",
)
"""Columns that identify a model, the first ones of every file."""

SPENT = ("cpu_seconds", "gpu_seconds")

STATE = ("folds_done", "folds_wanted", *SPENT)
"""Columns about how much of a model is finished, and its cost."""

SIZE = ("speakers", "clusters", "utterances", "corpus_utterances", "accepted")

SPREAD = ("fold_mean", "fold_deviation", "pooled", "seed_deviation", "low", "high")
"""Columns of each score."""

LOSS = ("pooled", "seed_deviation", "low", "high")

SOURCES = ("ua_deviation_speaker", "ua_deviation_seed", "ua_deviation_rest")


def to_csv(report: Report) -> str:
    """Return results.csv, with one line per model."""
    labels = list(dict.fromkeys(label for header in report.headers for label in header.labels))
    columns = [*ABOUT, *STATE, *SIZE, *(f"{metric}_{part}" for metric in METRICS for part in SPREAD)]
    columns += [f"recall_{label}" for label in labels]
    columns += [*(f"{name}_{part}" for name in LOSSES for part in LOSS), "ece_corrected", *SOURCES]
    lines = []
    for experiment in report.experiments:
        for row in experiment.rows:
            cost = [str(row.group.cost.total(name)) if row.group.cost else "" for name in SPENT]
            line = [*_about(row.group), row.done, row.wanted, *cost, *_numbers(experiment, row.group, labels)]
            lines.append([*line, *[""] * (len(columns) - len(line))])
    return _written(columns, lines)


def classes_csv(report: Report) -> str:
    """Return classes.csv, with one line per model and class."""
    columns = (*ABOUT, "class", "support", "recall", "recall_low", "recall_high", "precision", "f1", "accepted")
    return _written(columns, _class_lines(report))


def speakers_csv(report: Report) -> str:
    """Return speakers.csv, with one line per model and speaker, and scores averaged over seeds."""
    lines = [
        [*_about(group), part.name, part.utterances, part.wa, part.ua, _accepted(group)]
        for experiment in report.experiments
        for group in experiment.panel.whole
        for part in experiment.results[group.name].parts["speaker"]
    ]
    return _written((*ABOUT, "speaker", "utterances", "wa", "ua", "accepted"), lines)


def _class_lines(report: Report) -> Iterator[list[Any]]:
    for experiment in report.experiments:
        for group in experiment.panel.whole:
            for one in experiment.results[group.name].classes:
                said = [one.name, one.support, one.recall, one.interval.low, one.interval.high, one.precision, one.f1]
                yield [*_about(group), *said, _accepted(group)]


def _about(group: Group) -> list[str]:
    """Return the columns `ABOUT` of a model."""
    header = group.header
    said = [header.corpus, header.test_corpus, header.protocol, header.selection, header.preset, header.ablation]
    co_attention = str(group.co_attention).lower()
    return [*said, group.variant, "+".join(group.inputs), co_attention, " ".join(map(str, group.seeds))]


def _accepted(group: Group) -> str:
    return " ".join(group.header.accepted)


def _numbers(experiment: Experiment, group: Group, labels: Iterable[str]) -> list[Any]:
    """Return the scores of a line of results.csv."""
    result = experiment.results.get(group.name)
    if result is None:
        return []
    header = group.header
    found: list[Any] = [result.speakers, result.clusters, result.utterances, header.utterances or None]
    found.append(_accepted(group))
    for score in result.scores.values():
        spread = (score.fold_mean, score.fold_deviation, score.pooled, score.seed_deviation)
        found += [*spread, score.interval.low, score.interval.high]
    recall = {one.name: one.recall for one in result.classes}
    found += [recall.get(label) for label in labels]
    for error in result.calibration.errors.values():
        found += [error.value, error.seed_deviation, error.interval.low, error.interval.high]
    found.append(result.calibration.errors["ece"].corrected)
    return [*found, result.sources.speaker, result.sources.seed, result.sources.rest]


def _written(columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for line in lines:
        writer.writerow([guarded(_cell(value)) for value in line])
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Format a cell: numbers with six decimals; missing and infinite ones are empty."""
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return ""
    return f"{value:.6f}" if isinstance(value, float) else value
