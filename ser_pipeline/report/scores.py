"""Scores of a group of runs, as far as the report shows them, as plain records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats, Ints
from ser_pipeline.errors import PipelineError
from ser_pipeline.evaluation.calibration import Error, errors, reliability
from ser_pipeline.evaluation.components import Components, components
from ser_pipeline.evaluation.intervals import Interval, difference, group_difference, recall_intervals, share_interval
from ser_pipeline.evaluation.jackknife import LEVEL
from ser_pipeline.evaluation.metrics import (
    METRICS,
    SCORES,
    WEIGHTED,
    Confusion,
    probabilities,
    utterance_scores,
)
from ser_pipeline.evaluation.significance import cluster_counts, holm
from ser_pipeline.report import words
from ser_pipeline.report.divisions import DIVISIONS, GROUPS
from ser_pipeline.report.groups import Clusters, Group, clusters
from ser_pipeline.runs.records import FoldResult, Run, UtteranceTable
from ser_pipeline.text import natural


@dataclass(frozen=True)
class Score:
    """A score of a group, 0 to 1."""

    fold_mean: float  # mean over folds, each the mean over seeds
    fold_deviation: float | None  # over folds; None with one fold
    pooled: float  # over all utterances, the mean over seeds
    seed_deviation: float | None  # of the pooled score over seeds; None with one seed
    interval: Interval  # of the pooled score, by the jackknife over clusters


@dataclass(frozen=True)
class Part:
    """Scores of a part of the utterances, the mean over seeds."""

    name: str
    utterances: int
    wa: float
    ua: float
    interval: Interval | None = None  # of UA, by the clusters with the part's utterances; None: not requested
    speakers: int = 0  # 0: not requested


@dataclass(frozen=True)
class GroupGap:
    """How much worse a model is for the worst group of speakers than for the best."""

    division: str
    best: str
    worst: str
    value: float  # UA of the best minus that of the worst
    interval: Interval  # 95 % simultaneously for all pairs of groups
    p: float | None  # two-sided, corrected for all pairs of groups and all divisions; None: no test
    detectable: float | None  # smallest true gap of two groups that such a test detects in four of five cases


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class."""

    name: str
    support: int  # test utterances of the class
    recall: float  # 0 to 1, the mean over seeds; NaN without utterances
    interval: Interval  # of the recall
    precision: float | None  # 0 to 1, seeds pooled; None if the class was never predicted
    f1: float | None  # seeds pooled; None if the class neither occurs nor was predicted


@dataclass(frozen=True)
class Calibration:
    """Calibration of the confidence."""

    errors: dict[str, Error]  # by the names of `LOSSES`
    count: Ints  # (bins,), seeds pooled, like the next two
    confidence: Floats  # (bins,)
    accuracy: Floats  # (bins,)


@dataclass(frozen=True)
class Probe:
    """Importance of an input for a trained model: the model's score with that input disturbed."""

    input: str
    kind: str  # "shuffled" over the test utterances, or "zeroed"
    ua: float
    loss: float  # undisturbed minus disturbed UA
    interval: Interval
    p: float | None  # two-sided, not corrected; None: no test is possible
    detectable: float | None  # smallest true loss that such a test detects in four of five cases
    corrected: float | None = None  # p after Holm's correction for all probes of the model


@dataclass(frozen=True)
class Result:
    """All scores of a group."""

    scores: dict[str, Score]  # by METRICS
    counts: Ints  # (C, C), summed over seeds
    recalls: Floats  # (C,), the mean over seeds
    classes: tuple[ClassScore, ...]  # (C,)
    speakers: int
    clusters: int  # observations from which the intervals are computed
    crossed: bool  # whether one model per seed is tested on every cluster
    utterances: int
    folds: tuple[Part, ...]
    parts: dict[str, tuple[Part, ...]]  # name of a division of the utterances -> its parts
    gaps: tuple[GroupGap, ...]  # between groups of speakers, if there are several
    calibration: Calibration
    sources: Components  # of the variation of UA between speakers and seeds
    ways: tuple[Part, ...]  # ways to score an utterance from its segments; the first is the model's own
    probes: tuple[Probe, ...]
    faults: tuple[str, ...]  # files that could not be read

    @property
    def chance(self) -> float:
        """UA of guessing: 1 over the number of classes in the test utterances."""
        return 1 / max(1, int((self.counts.sum(1) > 0).sum()))

    @property
    def largest(self) -> ClassScore:
        """The class with the most test utterances."""
        return max(self.classes, key=lambda one: one.support)


def evaluate(group: Group, roll: UtteranceTable, speaker: Ints) -> Result:
    """The result of a group with whole runs.

    Args:
        group: with whole runs.
        roll: the utterances of all runs.
        speaker: number of each utterance's speaker, by row of the utterance table.
    """
    found = clusters(speaker, group)
    counts = group.counts(found.of)
    pooled = counts.sum(1)
    ways, probes, faults = _from_segments(group, found)
    divided = {title: divide(roll, group.header)[group.rows] for title, divide in DIVISIONS.items()}
    return Result(
        scores={name: _score(group, counts, name, found.crossed) for name in METRICS},
        counts=pooled.sum(0),
        recalls=np.mean([Confusion(seed).recalls for seed in pooled], axis=0),
        classes=tuple(_classes(group, counts, found.crossed)),
        speakers=len(np.unique(speaker[group.rows])),
        clusters=counts.shape[1],
        crossed=found.crossed,
        utterances=len(group.rows),
        folds=tuple(_fold_parts(group)),
        parts={title: tuple(_parts(group, names, found, speaker, title in GROUPS)) for title, names in divided.items()},
        gaps=tuple(_gaps(group, divided, found, speaker)),
        calibration=_calibration(group, found),
        sources=components(METRICS["ua"](group.counts(speaker))),
        ways=tuple(ways),
        probes=tuple(probes),
        faults=tuple(faults),
    )


def _score(group: Group, counts: Ints, name: str, crossed: bool) -> Score:
    """The score `name` of a group with confusion matrices `counts` (R, K, C, C)."""
    metric = METRICS[name]
    folds = np.array([[metric(fold.confusion().counts) for fold in run.folds] for run in group.runs]).mean(0)
    pooled = metric(counts.sum(1))
    return Score(
        fold_mean=float(folds.mean()),
        fold_deviation=float(folds.std(ddof=1)) if len(folds) > 1 else None,
        pooled=float(pooled.mean()),
        seed_deviation=float(pooled.std(ddof=1)) if len(pooled) > 1 else None,
        interval=share_interval(counts, name, crossed=crossed),
    )


def _fold_parts(group: Group) -> Iterator[Part]:
    for folds in zip(*(run.folds for run in group.runs), strict=True):
        matrices = [fold.confusion() for fold in folds]
        yield Part(folds[0].name, matrices[0].total, *_means(matrices))


def _parts(
    group: Group, names: NDArray[np.str_], found: Clusters, speaker: Ints, with_intervals: bool
) -> Iterator[Part]:
    """A part for each of the distinct `names` (U,), sorted; utterances named "" belong to none."""
    classes = len(group.header.labels)
    for name in _several(names):
        chosen = names == name
        matrices = [Confusion.of(group.target[chosen], row[chosen], classes) for row in group.predictions]
        part = Part(name.split("|")[-1], int(chosen.sum()), *_means(matrices))
        if with_intervals:
            interval = share_interval(_counts(group, chosen, found), "ua", crossed=found.crossed)
            part = replace(part, interval=interval, speakers=len(np.unique(speaker[group.rows[chosen]])))
        yield part


def _several(names: NDArray[np.str_]) -> list[str]:
    """The different `names` (U,), numbers in them by size; "" is none."""
    return sorted(set(names.tolist()) - {""}, key=natural)


def _counts(group: Group, chosen: NDArray[np.bool_], found: Clusters) -> Ints:
    """Confusion matrices (R, K, C, C) of the chosen utterances (U,) of a group."""
    keep = np.zeros(len(found.of), dtype=bool)
    keep[group.rows[chosen]] = True
    return group.counts(found.of, keep)


def _gaps(group: Group, divided: dict[str, NDArray[np.str_]], found: Clusters, speaker: Ints) -> Iterator[GroupGap]:
    """The gap of every division into groups, with Holm's correction of p over all of them."""
    gaps = [gap for title in GROUPS if (gap := _gap(group, title, divided[title], found, speaker)) is not None]
    for gap, p in zip(gaps, holm([gap.p for gap in gaps]), strict=True):
        yield replace(gap, p=p)


def _gap(group: Group, title: str, names: NDArray[np.str_], found: Clusters, speaker: Ints) -> GroupGap | None:
    """The gap between the best and the worst of the groups `names` (U,); None if there is only one group.

    These two are picked by their scores, so interval, p and detectable size are corrected for all pairs.
    """
    parts = list(_parts(group, names, found, speaker, with_intervals=False))
    several = _several(names)
    if len(several) < 2:
        return None
    order = np.argsort([part.ua for part in parts], kind="stable")
    best, worst = int(order[-1]), int(order[0])
    cluster = np.unique(found.of[group.rows], return_inverse=True)[1]
    both = []
    for place in (best, worst):
        rows = names == several[place]
        target, said = group.target[rows], group.predictions[:, rows]
        both.append(cluster_counts(target, said, cluster[rows], int(cluster.max()) + 1, len(group.header.labels)))
    pairs = len(several) * (len(several) - 1) // 2
    gap = group_difference(both[0], both[1], crossed=found.crossed, level=1 - (1 - LEVEL) / pairs)
    p = None if gap.p is None else min(1.0, pairs * gap.p)
    return GroupGap(title, parts[best].name, parts[worst].name, gap.value, gap.interval, p, gap.detectable)


def _means(matrices: list[Confusion]) -> tuple[float, float]:
    return float(np.mean([one.wa for one in matrices])), float(np.mean([one.ua for one in matrices]))


def _classes(group: Group, counts: Ints, crossed: bool) -> Iterator[ClassScore]:
    """Every class of a group with confusion matrices `counts` (R, K, C, C)."""
    pooled = counts.sum(1)
    recalls = np.mean([Confusion(seed).recalls for seed in pooled], axis=0)
    matrix = pooled.sum(0)
    intervals = recall_intervals(counts, crossed=crossed)
    for place, name in enumerate(group.header.labels):
        right, there, said = int(matrix[place, place]), int(matrix[place].sum()), int(matrix[:, place].sum())
        precision = right / said if said else None
        f1 = 2 * right / (there + said) if there + said else None
        yield ClassScore(name, there // len(pooled), float(recalls[place]), intervals[place], precision, f1)


def _calibration(group: Group, found: Clusters) -> Calibration:
    chances = probabilities(group.log_prob)
    bins = reliability(chances.max(-1).ravel(), (group.predictions == group.target).ravel())
    cluster = np.unique(found.of[group.rows], return_inverse=True)[1]
    losses = errors(group.log_prob, group.target, cluster, crossed=found.crossed)
    return Calibration(losses, bins.count, bins.confidence, bins.accuracy)


def _from_segments(group: Group, found: Clusters) -> tuple[list[Part], list[Probe], list[str]]:
    """Results from the scores of segments: ways to score an utterance, probes, and messages on damaged files."""
    try:
        stored = [[fold.segments(_wanted(group)) for fold in run.folds] for run in group.runs]
        known = all("samples" in kept for folds in stored for kept in folds)
        own = group.utterance_score
        others = [how for how in SCORES if how != own and (known or how not in WEIGHTED)]
        ways = [_way(group, stored, how) for how in (own, *others)]
        names = [name for name in stored[0][0] if ":" in name]
        probes = [_probe(group, stored, name, found) for name in names if all(name in f for r in stored for f in r)]
    except PipelineError as error:
        return [], [], [str(error)]
    except (KeyError, ValueError, IndexError, TypeError) as error:
        return [], [], [f"a segments.npz of {group.name} contradicts its predictions ({error})"]
    corrected = holm([probe.p for probe in probes])
    return ways, [replace(probe, corrected=p) for probe, p in zip(probes, corrected, strict=True)], []


def _wanted(group: Group) -> tuple[str, ...]:
    inputs = sorted(group.header.settings["model"]["inputs"], key=words.input_place)
    return (
        "utterance",
        "samples",
        "log_prob",
        *(f"{kind}:{name}" for name in inputs for kind in ("shuffled", "zeroed")),
    )


Stored = list[list[dict[str, NDArray[np.generic]]]]


def _way(group: Group, stored: Stored, how: str) -> Part:
    classes = len(group.header.labels)
    matrices = []
    for run, folds in zip(group.runs, stored, strict=True):
        parts = [_rescored(fold, kept, "log_prob", how) for fold, kept in zip(run.folds, folds, strict=True)]
        matrices.append(Confusion.of(run.concatenated("target"), np.concatenate(parts), classes))
    return Part(how, matrices[0].total, *_means(matrices))


def _probe(group: Group, stored: Stored, name: str, found: Clusters) -> Probe:
    """The group with an input disturbed, compared with itself undisturbed."""
    kind, _, disturbed = name.partition(":")
    runs = [
        Run(
            run.header,
            tuple(
                _disturbed(fold, kept, name, group.utterance_score) for fold, kept in zip(run.folds, folds, strict=True)
            ),
        )
        for run, folds in zip(group.runs, stored, strict=True)
    ]
    other = Group(group.header, tuple(runs), ())
    counts = other.counts(found.of)
    loss = difference(group.counts(found.of), counts, crossed=found.crossed)
    ua = float(np.mean(METRICS["ua"](counts.sum(1))))
    return Probe(disturbed, kind, ua, loss.value, loss.interval, loss.p, loss.detectable)


def _disturbed(fold: FoldResult, kept: dict[str, NDArray[np.generic]], name: str, how: str) -> FoldResult:
    """The fold with the predictions of a probe; `how` is a key of `SCORES`."""
    prediction = _rescored(fold, kept, name, how)
    return FoldResult(**{**vars(fold), "prediction": prediction})


def _rescored(fold: FoldResult, kept: dict[str, NDArray[np.generic]], name: str, how: str) -> Ints:
    """Predictions (U,) of a fold from the scores `name` of its segments."""
    samples = kept["samples"].astype(np.int64) if how in WEIGHTED else None
    utterance = kept["utterance"].astype(np.int64)
    scores = utterance_scores(kept[name].astype(np.float64), utterance, len(fold.rows), how, samples)
    if len(scores) != len(fold.rows) or not np.isfinite(scores).all():
        raise PipelineError(f"segments.npz of fold {fold.name} does not cover its predictions")
    return np.asarray(scores.argmax(1))
