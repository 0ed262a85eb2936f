"""What a model makes of each class: recall, precision, F1 and support, and what it takes for what."""

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
    """The classes of one model."""

    name: str
    classes: Table
    confusion: Table


def classes(experiment: Experiment) -> Table | None:
    """Recall, precision and F1 of each class by the main model; None where there is no whole run."""
    if experiment.main is None:
        return None
    return _classes(*experiment.main, f"classes-{experiment.id}")


def of_models(experiment: Experiment) -> Iterator[OfModel]:
    """The classes of every model with a whole run, the main one first."""
    main = experiment.panel.main
    for group in sorted(experiment.panel.whole, key=lambda group: group is not main):
        result = experiment.results[group.name]
        part = experiment.id if group is main else f"{experiment.id}-{slug(group.name)}"
        confusion = _confusion(group, result, f"matrix-{part}")
        yield OfModel(group.name, _classes(group, result, f"classes-{part}"), confusion)


def _classes(group: Group, result: Result, name: str) -> Table:
    """Recall, precision and F1 of each class.

    Args:
        group: the model.
        result: of it.
        name: of the table.
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
        f"Always saying {most.name}, the largest class, gives {100 * most.support / result.utterances:.1f} % WA and "
        f"{100 * result.chance:.1f} % UA."
    )
    return Table(name, f"Each class by {group.name}, pooled", COLUMNS, tuple(rows), note=note)


def _confusion(group: Group, result: Result, name: str) -> Table:
    """What is taken for what, rows in percent.

    Args:
        group: the model.
        result: of it.
        name: of the table.
    """
    labels = group.header.labels
    shares = result.counts / np.maximum(result.counts.sum(1, keepdims=True), 1)
    rows = [
        (text(label, "strong"), *(_share(*pair) for pair in zip(shares[place], result.counts[place], strict=True)))
        for place, label in enumerate(labels)
    ]
    columns = (Column("is / taken for", number=False), *(Column(label) for label in labels))
    note = "Rows are the true classes and sum to 100 %, seeds together. Hover over a cell for its count."
    return Table(name, f"What {group.name} takes for what, %", columns, tuple(rows), note=note)


def _share(share: float, number: int) -> Cell:
    return Cell(f"{100 * share:.0f}", float(share), "heat", f"{number:,}", share=float(share))


RECALL = "Leave-one-out jackknife over what one model tests and holds the class, Student's t, on the logit."
"""What the interval of a class's recall is."""

COLUMNS = (
    Column("Class", number=False),
    Column("Support", hint="Test utterances of the class."),
    Column("Recall, %"),
    Column("95 % interval", hint=RECALL),
    Column("Precision, %", hint="Share of what was taken for the class that is of it; seeds pooled."),
    Column("F1, %"),
)
