"""Figures of embeddings: test utterances in two dimensions, with the silhouette of their classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ser_pipeline.arrays import Floats
from ser_pipeline.report import figures
from ser_pipeline.report.contents import Experiment
from ser_pipeline.report.drawing import Drawn, Plan
from ser_pipeline.report.groups import Group
from ser_pipeline.report.tables import MINUS
from ser_pipeline.report.tsne import planes, silhouettes, utterance_means
from ser_pipeline.runs.records import FoldResult
from ser_pipeline.text import plural

ARRAYS = {"w2e": "W2E", "fused": "final feature"}
"""Titles of stored embeddings, by name."""

MOST = 20
"""Largest number of folds whose embeddings are drawn."""

SILHOUETTE = (
    "Silhouette: 1 if classes are well separated, 0 if they overlap, negative if utterances are closer to other "
    "classes; computed on the embedding, not on the plot"
)

FRAME, SMALL = (2.4, 2.7), (1.8, 2.1)
"""Inches of a panel, and of one of many."""

Named = tuple[str, FoldResult, Floats]
"""Title of a panel, the fold, and the means (U, D) of its utterances."""


def plans(experiment: Experiment, pair: Sequence[tuple[str, Group]]) -> Iterator[Plan]:
    """Yield the paper's Fig. 2 for the fold with the median UA, and the main model's final feature in every fold.

    Args:
        experiment: experiment of the models.
        pair: models to show next to each other, with their titles.
    """
    main = experiment.panel.main
    if main is None:
        return
    fold = middle(main)
    of_folds = {(array, group.name): list(_of_folds(group, array)) for _, array, group in _every(pair)}
    beside = [
        (title, own, means)
        for title, array, group in _every(pair)
        for own, means in of_folds[array, group.name]
        if own.name == fold.name and len(own.rows) == len(fold.rows)
    ]
    if beside:
        kept = [(title, of_folds[array, group.name]) for title, array, group in _every(pair)]
        over = "; ".join(f"{title} {_over(folds)}" for title, folds in kept if folds)
        speech = " W2E: the frames of the speech encoder, weighted or averaged." * ("W2E" in over)
        caption = (
            f"t-SNE of the {plural(len(fold.rows), 'test utterance')} of fold {fold.name}, the one with the median UA; "
            f"an utterance is the mean of its segments. {SILHOUETTE}. Over all folds: {over}.{speech}"
        )
        yield _plan("embeddings", "Embeddings (t-SNE)", caption, beside, experiment)
    folds = [(f"fold {one.name}", one, means) for one, means in of_folds.get(("fused", main.name), [])]
    if len(folds) > 1:
        caption = (
            f"t-SNE of the final feature of {main.name}, all test utterances, each in the fold that tests it. Every "
            f"fold is another model, so the axes cannot be compared. {SILHOUETTE}."
        )
        yield _plan("folds", "Embeddings by fold (t-SNE)", caption, folds[:MOST], experiment, SMALL)


def middle(group: Group) -> FoldResult:
    """Return the fold of the first seed with the median UA."""
    folds = sorted(group.runs[0].folds, key=lambda fold: fold.confusion().ua)
    return folds[len(folds) // 2]


def _every(pair: Sequence[tuple[str, Group]]) -> Iterator[tuple[str, str, Group]]:
    """Yield the title, stored array and model of every panel of the paper's figure."""
    for array, title in ARRAYS.items():
        for name, group in pair:
            yield f"{title}, {name}", array, group


def _of_folds(group: Group, array: str) -> Iterator[tuple[FoldResult, Floats]]:
    """Yield the means of utterances of every fold of the first seed that stored them."""
    for fold in group.runs[0].folds:
        means = utterance_means(fold, array)
        if means is not None:
            yield fold, means


def _over(folds: Sequence[tuple[FoldResult, Floats]]) -> str:
    """Return the mean silhouette of all test utterances, in words."""
    found = [silhouettes(means, fold.target) for fold, means in folds]
    every = np.concatenate([one for one in found if one is not None] or [np.empty(0)])
    return _told(every) if len(every) else "not known"


def _told(silhouette: Floats) -> str:
    """The mean of silhouettes (U,) with two digits.

    >>> _told(np.array([-0.004])), _told(np.array([-0.3, -0.1]))
    ('0.00', '−0.20')
    """
    return f"{round(float(silhouette.mean()), 2) + 0.0:.2f}".replace("-", MINUS)


def _plan(
    name: str,
    title: str,
    caption: str,
    shown: Sequence[Named],
    experiment: Experiment,
    size: tuple[float, float] = FRAME,
) -> Plan:
    """Return a figure with a panel for each of `shown`.

    Args:
        name: name of the figure.
        title: its title.
        caption: its caption.
        shown: contents of the panels.
        experiment: has the classes.
        size: size of a panel in inches.
    """
    labels, points = experiment.panel.header.labels, planes([means for *_, means in shown])
    panels = [_panel(one, plane, labels) for one, plane in zip(shown, points, strict=True)]
    alt = f"{plural(len(panels), 'scatter plot')} of utterances by class: " + ", ".join(title for title, *_ in shown)
    return Plan(name, title, caption, alt, panels, size, figures.class_keys(labels), 5 if size == SMALL else 4, True)


def _panel(one: Named, plane: Floats, labels: Sequence[str]) -> Drawn:
    title, fold, means = one
    found = silhouettes(means, fold.target)
    below = "" if found is None else f"silhouette {_told(found)}"
    return figures.scatter(title, plane, fold.target, labels, below)
