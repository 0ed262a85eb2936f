"""Which figures a report has, and the data behind each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ser_pipeline.arrays import Ints
from ser_pipeline.errors import PipelineError
from ser_pipeline.report import figures, matrix, rated_figures
from ser_pipeline.report.contents import Experiment, Report
from ser_pipeline.report.drawing import Picture, Plan, render
from ser_pipeline.report.groups import FULL, Group
from ser_pipeline.report.matrix import Matrix
from ser_pipeline.report.tsne import planes, utterance_means
from ser_pipeline.runs import layout
from ser_pipeline.runs.records import FoldResult, UtteranceTable

WITHOUT = "full-mean"
"""The ablation that is the full model without co-attention."""

FOLDS = 20
"""Learning curves are drawn of this many folds at most."""

SEEDS = 5
"""Learning curves are drawn of this many seeds at most."""

EXAMPLES = 6
"""Utterances whose attention is drawn."""

log = logging.getLogger(__name__)


def pictures(report: Report, folder: Path) -> dict[str, list[Picture]]:
    """The figures of each experiment by its id, drawn into `folder`; the first experiment has all kinds."""
    found: dict[str, list[Picture]] = {}
    for place, experiment in enumerate(report.experiments):
        plans = [_confusions(experiment)]
        if place == 0:
            plans += [
                _reliability(experiment),
                _curves(experiment),
                _embeddings(experiment),
                _attention(experiment, report.roll),
            ]
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
    caption = f"Pooled UA in % of what trains (rows) on what is tested (columns); {found.about}."
    panels = [figures.heat("UA across corpora", values, names, found.corpora)]
    return Plan(f"heat-{found.id}", "What carries over to another corpus", caption, alt, panels, (4.2, 3.6))


def _pair(experiment: Experiment) -> Iterator[tuple[str, Group]]:
    """The full model without and with co-attention, as far as they have whole runs; else the main model.

    Each by what it does: where the full model itself has no co-attention, it is called by its name.
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
    caption = "Rows are the true classes and sum to 100 %, seeds together. Hover over a cell for its count."
    size = (3.2, 3.2) if len(labels) < 6 else (4.2, 4.2)
    return Plan(f"confusion-{experiment.id}", "What is taken for what", caption, alt, panels, size)


def _confusion_words(name: str, counts: Ints, labels: tuple[str, ...]) -> str:
    rows = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    recalls = ", ".join(f"{label} {100 * rows[place, place]:.0f} %" for place, label in enumerate(labels))
    np.fill_diagonal(rows, 0)
    i, j = np.unravel_index(rows.argmax(), rows.shape)
    return f"{name}: found {recalls}; most often {labels[i]} is taken for {labels[j]}, {100 * rows[i, j]:.0f} %"


def _reliability(experiment: Experiment) -> Plan | None:
    if experiment.main is None:
        return None
    group, result = experiment.main
    error = result.calibration.errors["ece"]
    ece = 100 * error.value
    alt = f"Accuracy by confidence of {group.name}; expected calibration error {ece:.1f} percentage points."
    corrected = "" if error.corrected is None else f", {100 * error.corrected:.1f} without the luck of few utterances"
    caption = (
        f"Expected calibration error {ece:.1f} points ({len(result.calibration.count)} bins){corrected}. "
        "Below the dashed line the model is surer than it should be. A dot's area is its share of the utterances."
    )
    return Plan(
        "calibration",
        "Can its confidence be believed?",
        caption,
        alt,
        [figures.reliability(group.name, result.calibration)],
    )


def _curves(experiment: Experiment) -> Plan | None:
    main = experiment.panel.main
    if main is None:
        return None
    runs = main.runs[:SEEDS]
    panels, losses = [], []
    try:
        histories = [[fold.history() for fold in run.folds[:FOLDS]] for run in runs]
    except PipelineError as error:
        log.warning("no learning curves: %s", error)
        return None
    losses = [
        line[name]
        for folds in histories
        for lines in folds
        for line in lines
        for name in ("loss", "validation_loss")
        if name in line
    ]
    if not losses or all(len(lines) < 2 for folds in histories for lines in folds):
        return None
    limits = (0.0, float(np.nanpercentile(losses, 99)) * 1.08)
    for place, folds in enumerate(zip(*(run.folds[:FOLDS] for run in runs), strict=True)):
        lines = [history[place] for history in histories]
        panels.append(figures.curves(f"fold {folds[0].name}", lines, [fold.best_epoch for fold in folds], limits))
    caption = f"Cross-entropy of {main.name}, a panel a fold and a line a seed" + (
        f", {FOLDS} folds of {len(main.runs[0].folds)}." if len(main.runs[0].folds) > FOLDS else "."
    )
    alt = f"Training and validation loss by epoch in {len(panels)} folds."
    return Plan("curves", "Learning", caption, alt, panels, (2.1, 1.7), figures.CURVE_KEYS, columns=5)


def _embeddings(experiment: Experiment) -> Plan | None:
    """The paper's Fig. 2: embeddings of one fold's test utterances, which one model made."""
    main = experiment.panel.main
    if main is None:
        return None
    chosen = _middle(main)
    folds = {name: _same(chosen, group) for name, group in _pair(experiment)}
    labels = experiment.panel.header.labels
    found = [
        (f"{title}, {name}", fold.target, means)
        for array, title in (("w2e", "W2E"), ("fused", "final feature"))
        for name, fold in folds.items()
        if fold and (means := utterance_means(fold, array)) is not None
    ]
    if not found:
        return None
    points = planes([means for _, _, means in found])
    panels = [figures.scatter(found[place][0], plane, found[place][1], labels) for place, plane in enumerate(points)]
    caption = (
        f"t-SNE of the {len(chosen.rows)} test utterances of fold {chosen.name}, the one in the middle by UA; "
        "an utterance is the mean of its segments."
    )
    alt = f"{len(panels)} scatter plots of utterances by class."
    return Plan("embeddings", "What the model sees", caption, alt, panels, (2.4, 2.55), figures.class_keys(labels))


def _middle(group: Group) -> FoldResult:
    """The fold of the first seed whose UA is the median."""
    folds = sorted(group.runs[0].folds, key=lambda fold: fold.confusion().ua)
    return folds[len(folds) // 2]


def _same(fold: FoldResult, group: Group) -> FoldResult | None:
    """The fold of that name in the first run of a group, if it was tested on as many utterances."""
    return next((own for own in group.runs[0].folds if own.name == fold.name and len(own.rows) == len(fold.rows)), None)


def _attention(experiment: Experiment, roll: UtteranceTable) -> Plan | None:
    """Weights over time of a few utterances, as far as a fold kept their spectrograms."""
    main = experiment.panel.main
    fold = _with_examples(main) if main else None
    if main is None or fold is None:
        return None
    try:
        stored = fold.examples()
    except PipelineError as error:
        log.warning("no attention: %s", error)
        return None
    header, labels, seconds = main.header, main.header.labels, roll.numbers("seconds")
    hertz = header.spectrogram.bin_hertz(header.audio.rate)
    linear = "spectrogram" in header.reads  # any other image has the bands of hearing
    panels, said = [], []
    for picture, weights, place in list(
        zip(stored["spectrogram"], stored["attention"], stored["utterance"], strict=True)
    )[:EXAMPLES]:
        true, taken = labels[fold.target[place]], labels[fold.prediction[place]]
        title = f"{true}, right" if true == taken else f"{true}, taken for {taken}"
        said.append(title)
        panels.append(
            figures.attention(
                title,
                picture,
                weights.astype(np.float64),
                seconds=float(seconds[fold.rows[place]]),
                frame=1 / header.audio.frame_rate,
                top=len(picture) * hertz / 1000 if linear else len(picture),
                unit="kHz" if linear else "band",
            )
        )
    caption = (
        f"Co-attention over the first segment of test utterances of fold {fold.name}, "
        "each scaled to its largest weight; a dotted line ends the speech."
    )
    alt = f"Attention over spectrograms of {len(panels)} utterances: {'; '.join(said)}."
    return Plan("attention", "Where it listens", caption, alt, panels, (3.2, 2.3), figures.ATTENTION_KEYS, columns=3)


def _with_examples(group: Group) -> FoldResult | None:
    """The fold in the middle if it kept examples, else the first that did."""
    folds = [_middle(group), *group.runs[0].folds]
    return next((fold for fold in folds if (fold.path / layout.EXAMPLES).is_file()), None)
