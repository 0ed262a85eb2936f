"""The figures of a report, and the data behind each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ser_pipeline.arrays import Ints
from ser_pipeline.errors import PipelineError
from ser_pipeline.report import embedded, figures, listening, matrix, rated_figures
from ser_pipeline.report.contents import Experiment, Report
from ser_pipeline.report.drawing import Drawn, Picture, Plan, render
from ser_pipeline.report.groups import FULL, Group
from ser_pipeline.report.matrix import Matrix
from ser_pipeline.runs.records import Run
from ser_pipeline.text import plural

WITHOUT = "full-mean"
"""The ablation that is the full model without co-attention."""

FOLDS = 20
"""Learning curves are drawn for at most this many folds."""

SEEDS = 5
"""Learning curves are drawn for at most this many seeds."""

log = logging.getLogger(__name__)


def pictures(report: Report, folder: Path) -> dict[str, list[Picture]]:
    """Draw the figures of each experiment, by its id, into `folder`; only the first experiment has all kinds."""
    found: dict[str, list[Picture]] = {}
    for place, experiment in enumerate(report.experiments):
        plans = [_confusions(experiment)]
        if place == 0:
            plans += [
                _reliability(experiment),
                *_curves(experiment),
                *embedded.plans(experiment, list(_pair(experiment))),
            ]
            plans += [listening.attention(experiment, report.roll)]
        found[experiment.id] = [render(plan, folder) for plan in plans if plan]
    crossed = [render(_heat(one), folder) for one in matrix.matrices(report)]
    rated = {one.id: [render(plan, folder) for plan in rated_figures.plans(one)] for one in report.rated}
    return found | rated | ({matrix.PICTURES: crossed} if crossed else {})


def _heat(found: Matrix) -> Plan:
    names = [row.corpus or "all others" for row in found.rows]
    values = np.array(
        [[row.places[name].ua if name in row.places else np.nan for name in found.corpora] for row in found.rows]
    )
    alt = "; ".join(
        f"trained on {name}: " + ", ".join(f"{place.corpus} {100 * place.ua:.0f} %" for place in row.places.values())
        for name, row in zip(names, found.rows, strict=True)
    )
    caption = f"Pooled UA in %: trained on the rows, tested on the columns; {found.about}."
    panels = [figures.heat("UA across corpora", values, names, found.corpora)]
    return Plan(f"heat-{found.id}", "Transfer to other corpora", caption, alt, panels, (4.2, 3.6))


def _pair(experiment: Experiment) -> Iterator[tuple[str, Group]]:
    """The full model without and with co-attention, if they have whole runs; otherwise the main model.

    They are titled by what they do; a full model that itself has no co-attention goes by its name.
    """
    whole = experiment.panel.whole
    named = {name: next((g for g in whole if g.header.ablation == name), None) for name in (WITHOUT, FULL)}
    there = [group for group in named.values() if group]
    told = len(there) < 2 or there[0].co_attention == there[1].co_attention
    titles = {True: "with co-attention", False: "without co-attention"}
    pairs = [(group.name if told and not group.co_attention else titles[group.co_attention], group) for group in there]
    main = experiment.panel.main
    if main and all(group is not main for _, group in pairs):
        pairs = [(main.name, main)]
    yield from pairs


def _confusions(experiment: Experiment) -> Plan | None:
    labels = experiment.panel.header.labels
    panels = [
        figures.confusion(name, experiment.results[group.name].counts, labels) for name, group in _pair(experiment)
    ]
    if not panels:
        return None
    alt = "; ".join(
        _confusion_words(name, experiment.results[group.name].counts, labels) for name, group in _pair(experiment)
    )
    caption = "Rows are the true classes and sum to 100 %, over all seeds. Hover over a cell for its count."
    size = (3.2, 3.2) if len(labels) < 8 else (4.2, 4.2)
    return Plan(
        f"confusion-{experiment.id}",
        "Confusion matrices" if len(panels) > 1 else "Confusion matrix",
        caption,
        alt,
        panels,
        size,
        alike=True,
    )


def _confusion_words(name: str, counts: Ints, labels: tuple[str, ...]) -> str:
    rows = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    recalls = ", ".join(f"{label} {100 * rows[place, place]:.0f} %" for place, label in enumerate(labels))
    np.fill_diagonal(rows, 0)
    i, j = np.unravel_index(rows.argmax(), rows.shape)
    return f"{name}: recall {recalls}; most often {labels[i]} is predicted as {labels[j]}, {100 * rows[i, j]:.0f} %"


def _reliability(experiment: Experiment) -> Plan | None:
    if experiment.main is None:
        return None
    group, result = experiment.main
    error = result.calibration.errors["ece"]
    ece = 100 * error.value
    alt = f"Accuracy by confidence of {group.name}; expected calibration error {ece:.1f} percentage points."
    corrected = "" if error.corrected is None else f", {100 * error.corrected:.1f} when corrected for few utterances"
    caption = (
        f"Expected calibration error {ece:.1f} points ({len(result.calibration.count)} bins){corrected}. "
        "Below the dashed line the model is overconfident. The area of a dot shows its share of the utterances."
    )
    return Plan(
        "calibration",
        "Reliability diagram",
        caption,
        alt,
        [figures.reliability(group.name, result.calibration)],
    )


def _curves(experiment: Experiment) -> Iterator[Plan]:
    """Losses and validation UA of the main model by epoch, a panel per fold; nothing if no fold has two epochs."""
    main = experiment.panel.main
    runs = main.runs[:SEEDS] if main else ()
    try:
        histories = [[fold.history() for fold in run.folds[:FOLDS]] for run in runs]
    except PipelineError as error:
        log.warning("no learning curves: %s", error)
        return
    every = [line for folds in histories for lines in folds for line in lines]
    losses = [line[name] for line in every for name in figures.LOSSES if name in line]
    if main is None or not losses or all(len(lines) < 2 for folds in histories for lines in folds):
        return
    several = f", {FOLDS} folds of {len(main.runs[0].folds)}." if len(main.runs[0].folds) > FOLDS else "."
    said = f"of {main.name} by epoch: a panel for each fold, a line for each seed{several}"
    top = float(np.nanpercentile(losses, 99)) * 1.08
    loss = figures.Course(figures.LOSSES, "validation_loss", (0.0, top))
    panels = list(_courses(runs, histories, loss))
    alt = f"Training and validation loss by epoch in {plural(len(panels), 'fold')}."
    yield Plan("curves", "Learning curves: loss", f"Loss {said}", alt, panels, SMALL, figures.CURVE_KEYS, 5, True)
    if all("ua" in line for line in every):
        ua = figures.Course({"ua": figures.LOSSES["validation_loss"]}, "ua", (0.0, 102.0), 0.01)
        panels = list(_courses(runs, histories, ua))
        alt = f"Validation UA by epoch in {plural(len(panels), 'fold')}."
        yield Plan(
            "scores",
            "Learning curves: UA",
            f"UA on the validation speakers {said}",
            alt,
            panels,
            SMALL,
            figures.UA_KEYS,
            5,
            True,
        )


SMALL = (1.8, 1.5)
"""Inches of a panel of learning curves."""


def _courses(runs: Sequence[Run], histories: Sequence[Sequence[History]], course: figures.Course) -> Iterator[Drawn]:
    """A panel for each fold.

    Args:
        runs: one per seed.
        histories: of every fold of each run.
        course: what is drawn.
    """
    for place, lines in enumerate(zip(*histories, strict=True)):
        folds = [run.folds[place] for run in runs]
        yield figures.curves(f"fold {folds[0].name}", lines, [fold.best_epoch for fold in folds], course)


History = list[dict[str, float]]
