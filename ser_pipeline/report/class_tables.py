"""Tables of the classes of a model: recall, precision, F1 and support, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ser_pipeline.report.contents import Experiment
from ser_pipeline.report.groups import Group
from ser_pipeline.report.scores import Result
from ser_pipeline.report.tables import Cell, Column, Table, between, count, percent, text
from ser_pipeline.report.words import slug


@dataclass(frozen=True)
class OfModel:
    """The tables of classes of one model."""

    name: str
    classes: Table
    confusion: Table


def classes(experiment: Experiment) -> Table | None:
    """Return recall, precision and F1 of each class by the main model; None without a finished run."""
    if experiment.main is None:
        return None
    return _classes(*experiment.main, f"classes-{experiment.id}")


def of_models(experiment: Experiment) -> Iterator[OfModel]:
    """Yield the tables of classes of every model with a finished run, the main model first."""
    main = experiment.panel.main
    for group in sorted(experiment.panel.whole, key=lambda group: group is not main):
        result = experiment.results[group.name]
        part = experiment.id if group is main else f"{experiment.id}-{slug(group.name)}"
        confusion = _confusion(group, result, f"matrix-{part}")
        yield OfModel(group.name, _classes(group, result, f"classes-{part}"), confusion)


def _classes(group: Group, result: Result, name: str) -> Table:
    """Return recall, precision and F1 of each class.

    Args:
        group: the model.
        result: its result.
        name: name of the table.
    """
    rows = [
        (
            text(one.name, "strong"),
            count(one.support),
            percent(one.recall, bar=True),
            between(one.interval),
            percent(one.precision),
            percent(one.f1),
        )
        for one in result.classes
    ]
    most = result.largest
    note = (
        f"Always predicting {most.name}, the largest class, gives {100 * most.support / result.utterances:.1f} % WA "
        f"and {100 * result.chance:.1f} % UA."
    )
    return Table(name, f"Classes by {group.name}, pooled", COLUMNS, tuple(rows), note=note)


def _confusion(group: Group, result: Result, name: str) -> Table:
    """The confusion matrix, rows in percent.

    Args:
        group: the model.
        result: its result.
        name: name of the table.
    """
    labels = group.header.labels
    shares = result.counts / np.maximum(result.counts.sum(1, keepdims=True), 1)
    rows = [
        (text(label, "strong"), *(_share(*pair) for pair in zip(shares[place], result.counts[place], strict=True)))
        for place, label in enumerate(labels)
    ]
    columns = (Column("true / predicted", number=False), *(Column(label) for label in labels))
    note = "Rows are the true classes and sum to 100 %, over all seeds. Hover over a cell for its count."
    return Table(name, f"Confusion matrix of {group.name}, %", columns, tuple(rows), note=note)


def _share(share: float, number: int) -> Cell:
    return Cell(f"{100 * share:.0f}", float(share), "heat", f"{number:,}", share=float(share))


RECALL = "Jackknife over the clusters that contain the class, with Student's t on the logit."
"""Explanation of the interval of a class's recall."""

COLUMNS = (
    Column("Class", number=False),
    Column("Support", hint="Test utterances of the class."),
    Column("Recall, %"),
    Column("95 % interval", hint=RECALL),
    Column("Precision, %", hint="Share of correct predictions among all predictions of the class, pooled over seeds."),
    Column("F1, %"),
)
