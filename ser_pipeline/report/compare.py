"""Comparisons of groups: ablations, the leakage gap, and two models that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Ints
from ser_pipeline.evaluation.intervals import Difference, difference
from ser_pipeline.evaluation.significance import holm, mcnemar
from ser_pipeline.report.fold_check import trained_alike
from ser_pipeline.report.groups import Group, Panel, clusters, distance, flatten, shared
from ser_pipeline.report.published import CORPUS, LABELS, TABLE_2, TABLE_2_NAMES, TABLE_2_PROTOCOL, Published
from ser_pipeline.runs.records import Run, RunHeader

TEST = "test"
"""The selection that differs from a run with validation only in the choice of the epoch."""

SELECTION = "train.selection"
"""Name of the setting in which the two differ."""


@dataclass(frozen=True)
class Versus:
    """The difference between two groups, over the seeds and utterances that both have."""

    seeds: tuple[int, ...]
    utterances: int
    wa: Difference
    ua: Difference
    crossed: bool  # whether one model per seed tests every cluster
    ua_corrected: float | None = None  # p of UA after Holm's correction over its table; None without a test
    wa_corrected: float | None = None  # p of WA after the same correction, if the table tests it


@dataclass(frozen=True)
class Row:
    """A row of the ablation table."""

    group: Group
    done: int  # number of finished folds
    wanted: int  # number of folds times the seeds of the row
    published: Published | None
    versus: Versus | None  # difference to the full model; None for that model, or if they cannot be compared

    @property
    def whole(self) -> bool:
        """Whether the row is complete, so that it can be averaged."""
        return bool(self.group.runs) and self.done == self.wanted


@dataclass(frozen=True)
class Gap:
    """How much higher the scores of a model are if its epoch is chosen on the test fold.

    It is the leakage gap if both models are trained on the same utterances. With the published code's protocol, the
    validation rows are trained on as well, and the gap is the total effect of that protocol.
    """

    honest: Group
    leaked: Group
    versus: Versus  # leaked minus honest
    alone: bool  # whether both are trained on the same utterances, so that only the choice of the epoch differs

    @property
    def name(self) -> str:
        """The name of the gap."""
        return f"{'leakage gap' if self.alone else 'published protocol'} of {self.honest.name}"


@dataclass(frozen=True)
class RunPair:
    """Two runs on the same utterances, with the same seed if possible."""

    seeds: tuple[int, int]
    only_one: int  # utterances that only the first run got right
    only_other: int  # utterances that only the other run got right
    p: float  # of McNemar's exact test, which assumes independent utterances
    corrected: float | None = None  # p after Holm's correction over all pairs


@dataclass(frozen=True)
class Comparison:
    """Two groups that the user named."""

    one: Group
    other: Group
    versus: Versus
    pairs: tuple[RunPair, ...]


def versus(one: Group, other: Group, speaker: Ints) -> Versus | None:
    """Return `one` minus `other`; None if they share no seed or no utterance.

    Args:
        one: a group.
        other: the group that is subtracted.
        speaker: number of each utterance's speaker (U,).
    """
    both = shared(one, other)
    return _versus(*both, speaker) if both else None


def _versus(first: Group, second: Group, mask: NDArray[np.bool_], speaker: Ints) -> Versus:
    found = clusters(speaker, first, second)
    counts = [group.counts(found.of, mask) for group in (first, second)]
    return Versus(
        seeds=first.seeds,
        utterances=int(mask.sum()),
        wa=difference(counts[0], counts[1], "wa", crossed=found.crossed),
        ua=difference(counts[0], counts[1], "ua", crossed=found.crossed),
        crossed=found.crossed,
    )


def ablation(panel: Panel, speaker: Ints) -> tuple[Row, ...]:
    """Return the rows of a panel, and compare each complete one with the full model of the most similar settings."""
    rows = [_row(group, panel, speaker) for group in panel.groups]
    corrected = iter(holm([row.versus.ua.p for row in rows if row.versus]))
    return tuple(
        replace(row, versus=replace(row.versus, ua_corrected=next(corrected))) if row.versus else row for row in rows
    )


def gaps(panels: Sequence[Panel], speaker: Ints) -> tuple[Gap, ...]:
    """Return the gaps of all models that were trained with both honest and test-based selection."""
    found = []
    for honest in panels:
        for leaked in panels:
            if honest.key[:-1] == leaked.key[:-1] and leaked.header.on_test and not honest.header.on_test:
                found += [_gap(group, leaked, speaker) for group in honest.whole]
    there = [gap for gap in found if gap]
    corrected = holm([gap.versus.ua.p for gap in there])
    return tuple(
        replace(gap, versus=replace(gap.versus, ua_corrected=p)) for gap, p in zip(there, corrected, strict=True)
    )


def compare(one: Group, other: Group, speaker: Ints) -> Comparison | None:
    """Compare two groups, paired by seed, or two single runs; None if they share no seed or no utterance.

    Args:
        one: a group.
        other: another group.
        speaker: number of each utterance's speaker (U,).
    """
    both = shared(one, other, any_seed=len(one.runs) == len(other.runs) == 1)
    if both is None:
        return None
    pairs = [
        RunPair((first.header.seed, second.header.seed), *mcnemar(*_right(first, second)))
        for first, second in zip(both[0].runs, both[1].runs, strict=True)
    ]
    both_scores = _versus(*both, speaker)
    ua, wa = holm([both_scores.ua.p, both_scores.wa.p])
    corrected = holm([pair.p for pair in pairs])
    return Comparison(
        one,
        other,
        replace(both_scores, ua_corrected=ua, wa_corrected=wa),
        tuple(replace(pair, corrected=p) for pair, p in zip(pairs, corrected, strict=True)),
    )


def published_row(header: RunHeader, group: Group) -> Published | None:
    """Return the paper's scores for a group, or None."""
    comparable = header.corpus == CORPUS and set(header.labels) == LABELS and not header.test_corpus
    if not comparable or header.protocol != TABLE_2_PROTOCOL or group.variant:
        return None
    row = TABLE_2.get((frozenset(group.inputs), group.co_attention))
    return row if group.header.ablation in TABLE_2_NAMES else None


def _row(group: Group, panel: Panel, speaker: Ints) -> Row:
    runs = (*group.runs, *group.unfinished)
    done, wanted = sum(len(run.folds) for run in runs), len(runs) * len(group.header.fold_names)
    base = _base(group, panel)
    compared = versus(group, base, speaker) if base and base is not group and group.runs and done == wanted else None
    return Row(group, done, wanted, published_row(panel.header, group), compared)


def _base(group: Group, panel: Panel) -> Group | None:
    """Return the full model with the settings most similar to the group's."""
    if panel.full is None or group is panel.full:
        return None
    rivals = [
        other for other in panel.whole if other.header.ablation == panel.full.header.ablation and other is not group
    ]
    return min(rivals, key=lambda other: distance(group.header, other.header), default=None)


def _gap(group: Group, leaked: Panel, speaker: Ints) -> Gap | None:
    same = [other for other in leaked.whole if other.header.ablation == group.header.ablation]
    if leaked.header.selection == TEST:
        same = [other for other in same if _chosen_alike(group.header, other.header)]
    other = min(same, key=lambda other: distance(group.header, other.header), default=None)
    found = versus(other, group, speaker) if other else None
    return Gap(group, other, found, trained_alike(group.runs[0], other.runs[0])) if other and found else None


def _chosen_alike(one: RunHeader, other: RunHeader) -> bool:
    """Whether two runs have the same features and settings, except for the rows that choose the epoch."""
    first, second = (flatten(header.settings) | {SELECTION: ""} for header in (one, other))
    return first == second and one.features == other.features


def _right(one: Run, other: Run) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which utterances each run got right, of those that both were tested on."""
    _, first, second = np.intersect1d(one.concatenated("rows"), other.concatenated("rows"), return_indices=True)
    right = [run.concatenated("prediction") == run.concatenated("target") for run in (one, other)]
    return right[0][first], right[1][second]
