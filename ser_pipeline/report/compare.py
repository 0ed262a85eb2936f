"""One group against another: ablation rows, the leakage gap, and two models that the user names."""

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
"""The selection whose gap to an honest run is the choice of the epoch alone."""

SELECTION = "train.selection"
"""The setting in which the two differ."""


@dataclass(frozen=True)
class Versus:
    """One group minus another, over the seeds and utterances that both have."""

    seeds: tuple[int, ...]
    utterances: int
    wa: Difference
    ua: Difference
    crossed: bool  # one model of each seed tests every cluster
    ua_corrected: float | None = None  # p of UA after Holm, over all tests of its table; None where there is no test
    wa_corrected: float | None = None  # the same of WA, where the table tests it


@dataclass(frozen=True)
class Row:
    """A row of the ablation table."""

    group: Group
    done: int  # folds that are there
    wanted: int  # folds times seeds of the table's grid
    published: Published | None
    versus: Versus | None  # None: it is the full model, incomplete, or shares nothing with it

    @property
    def whole(self) -> bool:
        """Whether the row may be averaged."""
        return bool(self.group.runs) and self.done == self.wanted


@dataclass(frozen=True)
class Gap:
    """How much higher a model reads whose epoch was chosen on the test fold.

    It is the leakage gap where both train on the same utterances. Under the published code's protocol the rows that
    validate otherwise train as well: then it is what that protocol adds in all.
    """

    honest: Group
    leaked: Group
    versus: Versus  # leaked minus honest
    alone: bool  # both train on the same utterances, so that choosing the epoch is all that differs

    @property
    def name(self) -> str:
        """What it is the gap of."""
        return f"{'leakage gap' if self.alone else 'published protocol'} of {self.honest.name}"


@dataclass(frozen=True)
class RunPair:
    """Two runs, of one seed as far as there is a choice, on the same utterances."""

    seeds: tuple[int, int]
    only_one: int  # utterances that only the first got right
    only_other: int
    p: float  # McNemar, exact; takes utterances for independent
    corrected: float | None = None  # after Holm, over all pairs


@dataclass(frozen=True)
class Comparison:
    """Two groups that the user named."""

    one: Group
    other: Group
    versus: Versus
    pairs: tuple[RunPair, ...]


def versus(one: Group, other: Group, speaker: Ints) -> Versus | None:
    """`one` minus `other`; None where they share no seed or no utterance.

    Args:
        one: a group.
        other: the group that it is measured against.
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
    """The rows of a panel, each whole one against the full model with the fewest other settings."""
    rows = [_row(group, panel, speaker) for group in panel.groups]
    corrected = iter(holm([row.versus.ua.p for row in rows if row.versus]))
    return tuple(
        replace(row, versus=replace(row.versus, ua_corrected=next(corrected))) if row.versus else row for row in rows
    )


def gaps(panels: Sequence[Panel], speaker: Ints) -> tuple[Gap, ...]:
    """What choosing on the test rows adds to every model that was run in both ways."""
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
    """Two groups, paired by seed, or one run each; None where they share no seed or no utterance.

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
    """The paper's number for a group, where the paper has one."""
    comparable = header.corpus == CORPUS and set(header.labels) == LABELS and not header.test_corpus
    if not comparable or header.protocol != TABLE_2_PROTOCOL or group.variant:
        return None
    row = TABLE_2.get((frozenset(group.inputs), group.co_attention))
    return row if group.header.ablation in TABLE_2_NAMES else None


def _row(group: Group, panel: Panel, speaker: Ints) -> Row:
    seeds = set(panel.seeds) | {run.header.seed for run in group.unfinished}
    done = sum(len(run.folds) for run in (*group.runs, *group.unfinished))
    wanted = len(seeds) * len(group.header.fold_names)
    base = _base(group, panel)
    compared = versus(group, base, speaker) if base and base is not group and group.runs and done == wanted else None
    return Row(group, done, wanted, published_row(panel.header, group), compared)


def _base(group: Group, panel: Panel) -> Group | None:
    """The full model whose settings are nearest to the group's."""
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
    """Whether two runs have the same features and settings but for the rows that choose the epoch."""
    first, second = (flatten(header.settings) | {SELECTION: ""} for header in (one, other))
    return first == second and one.features == other.features


def _right(one: Run, other: Run) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of the utterances that both runs were tested on each got right."""
    _, first, second = np.intersect1d(one.concatenated("rows"), other.concatenated("rows"), return_indices=True)
    right = [run.concatenated("prediction") == run.concatenated("target") for run in (one, other)]
    return right[0][first], right[1][second]
