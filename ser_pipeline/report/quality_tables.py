"""Tables of the calibration of probabilities, and of the sources of variation of scores."""

from __future__ import annotations

from math import log

from ser_pipeline.evaluation.calibration import Error
from ser_pipeline.report.contents import Experiment
from ser_pipeline.report.tables import Cell, Column, Table, between, luck, percent, text


def calibrations(experiment: Experiment) -> Table | None:
    """Calibration of every model."""
    heads = (("Brier", "brier"), ("Log loss, nats", "log_loss"), ("ECE, %", "ece"))
    columns = [Column("Model", number=False)]
    for title, name in heads:
        columns.append(Column(title, hint=LOSS_HINTS[name]))
        if name == "ece":
            columns.append(Column("corrected", hint=LOSS_HINTS["corrected"]))
        columns.append(Column("95 % interval", hint=LOSS_INTERVALS.get(name, LOSS_INTERVAL)))
    rows = []
    for group in experiment.panel.whole:
        cells = [text(group.name)]
        for _, name in heads:
            error = experiment.results[group.name].calibration.errors[name]
            cells.append(_loss(error.value, name))
            cells += [percent(error.corrected)] if name == "ece" else []
            cells.append(_loss_interval(error, name))
        rows.append(tuple(cells))
    note = (
        "Smaller is better. A model that gives every class the same probability has a Brier score of "
        f"{1 - experiment.chance:.2f} and a log loss of {log(1 / experiment.chance):.2f}. With few "
        "utterances ECE is too high on average; the corrected value is not, and the interval is that of the corrected "
        "value. If the interval begins at 0, there may be no error."
    )
    found = [experiment.results[group.name].calibration.errors["brier"] for group in experiment.panel.whole]
    note += luck([error.interval for error in found])
    return Table(f"calibration-{experiment.id}", "Calibration", tuple(columns), tuple(rows), note=note)


def sources(experiment: Experiment) -> Table | None:
    """How much UA varies between speakers and seeds; None if no model has several speakers."""
    columns = (
        Column("Model", number=False),
        Column("Speakers", hint="Deviation of UA between speakers."),
        Column("Seeds", hint="Deviation of UA between trainings; needs several seeds."),
        Column("Rest", hint="Deviation of UA that neither explains: their interaction, and few utterances."),
    )
    rows = []
    for group in experiment.panel.whole:
        found = experiment.results[group.name].sources
        if found.speaker is not None:
            rows.append((text(group.name), *(percent(one) for one in (found.speaker, found.seed, found.rest))))
    note = (
        "Standard deviations in points, by analysis of variance of UA by speaker and training. With one seed, "
        "that between speakers includes the rest."
    )
    title = "Deviation of UA by speaker and by seed"
    return Table(f"sources-{experiment.id}", title, columns, tuple(rows), note=note) if rows else None


LOSS_HINTS = {
    "brier": "Squared distance between the probabilities and the true class, summed over classes: 0 to 2.",
    "log_loss": "Negative natural logarithm of the true class's probability.",
    "ece": "Expected calibration error: mean distance between confidence and accuracy over 15 bins.",
    "corrected": "Without the distance that few utterances add on average by chance.",
}
LOSS_INTERVAL = "Leave-one-out jackknife over the test sets of single models, Student's t, on the logarithm."
LOSS_INTERVALS = {
    "ece": "Of the corrected error: leave-one-out jackknife over the test sets of single models, Student's t, upper "
    "end on the square root; begins at 0 if a calibrated model could have the same error.",
}


def _loss(value: float, name: str) -> Cell:
    return percent(value) if name == "ece" else Cell(f"{value:.3f}", value)


def _loss_interval(error: Error, name: str) -> Cell:
    interval = error.interval
    if interval.why:
        return between(interval)
    ends = (_loss(end, name).text for end in (interval.low, interval.high))
    return Cell(" to ".join(ends), interval.low)
