"""Groups of runs that differ only in the seed, and the experiments that they belong to."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Ints
from ser_pipeline.evaluation.intervals import link
from ser_pipeline.evaluation.significance import cluster_counts
from ser_pipeline.inputs import INPUTS
from ser_pipeline.runs.records import LeftOut, Run, RunHeader, UtteranceTable
from ser_pipeline.settings import SELECTIONS, Model
from ser_pipeline.text import natural, portable

FULL = "full"
"""The ablation with which others are compared."""


@dataclass(frozen=True)
class Cost:
    """The computing time of a row: training and testing all folds of its whole runs."""

    cpu_seconds: float  # of all cores
    gpu_seconds: float  # for which a fold held a GPU, alone or with others
    features: Mapping[str, float]  # both for making its features, once for all runs; {}: unknown

    def total(self, name: str) -> float:
        """`cpu_seconds` or `gpu_seconds`, with those of the features if they are known."""
        return float(getattr(self, name)) + self.features.get(name, 0.0)


@dataclass(frozen=True)
class Group:
    """A row of the tables: the runs of one model, one per seed. R seeds, U utterances, K speakers, C classes."""

    header: RunHeader  # of the first run; holds for all, except for its seed and path
    runs: tuple[Run, ...]  # whole, by seed, with the same utterances
    unfinished: tuple[Run, ...]
    variant: str = ""  # settings that differ from others of the same ablation

    @property
    def name(self) -> str:
        """Its ablation, with the variant if there are several."""
        return f"{self.header.ablation} ({self.variant})" if self.variant else self.header.ablation

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs that reach the classifier."""
        return tuple(self.header.settings.get("model", {}).get("inputs", ()))

    @property
    def co_attention(self) -> bool:
        """Whether frames are weighted instead of averaged."""
        model = self.header.settings.get("model", {})
        asked = model.get("co_attention", False) and model.get("pooling", "co-attention") == "co-attention"
        return bool(asked) and any(name not in INPUTS or INPUTS[name].kind == "speech" for name in self.inputs)

    @property
    def utterance_score(self) -> str:
        """How an utterance is scored by its segments: a key of `SCORES`."""
        return str(self.header.settings.get("model", {}).get("utterance_score", Model().utterance_score))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the whole runs."""
        return tuple(run.header.seed for run in self.runs)

    @cached_property
    def rows(self) -> Ints:
        """(U,) rows of the utterance table, in the order of `predictions`."""
        return np.asarray(np.sort(self.runs[0].concatenated("rows")))

    @cached_property
    def fold(self) -> Ints:
        """(U,) the fold whose model tested each utterance, in the order of `rows`."""
        run = self.runs[0]
        place = np.repeat(np.arange(len(run.folds)), [len(fold.rows) for fold in run.folds])
        return np.asarray(place[np.argsort(run.concatenated("rows"), kind="stable")])

    @cached_property
    def target(self) -> Ints:
        """(U,) true classes, in the order of `rows`."""
        return _in_order(self.runs[0], "target")

    @cached_property
    def predictions(self) -> Ints:
        """The predicted classes (R, U) of every run."""
        return np.stack([_in_order(run, "prediction") for run in self.runs])

    @cached_property
    def log_prob(self) -> NDArray[np.float32]:
        """(R, U, C) mean log-probabilities."""
        return np.stack([_in_order(run, "log_prob") for run in self.runs])

    @property
    def cost(self) -> Cost | None:
        """Computing time of its whole runs; None if one of them is of a version that did not record it."""
        folds = [fold for run in self.runs for fold in run.folds]
        processor = [fold.cpu_seconds for fold in folds if fold.cpu_seconds is not None]
        device = [fold.gpu_seconds for fold in folds if fold.gpu_seconds is not None]
        if not folds or not len(processor) == len(device) == len(folds):
            return None
        return Cost(round(sum(processor), 3), round(sum(device), 3), self.header.features_cost)

    def with_seeds(self, seeds: Iterable[int]) -> Group:
        """The group with only the runs of `seeds`."""
        chosen = set(seeds)
        return replace(self, runs=tuple(run for run in self.runs if run.header.seed in chosen))

    def counts(self, cluster: Ints, keep: NDArray[np.bool_] | None = None) -> Ints:
        """Confusion matrices (R, K, C, C) of the clusters on which it was tested.

        Args:
            cluster: each utterance's cluster, by row of the utterance table.
            keep: the utterances that count, by row of the utterance table; None: all.
        """
        rows = self.rows
        chosen = np.ones(len(rows), dtype=bool) if keep is None else keep[rows]
        found, own = np.unique(cluster[rows[chosen]], return_inverse=True)
        classes = len(self.header.labels)
        return cluster_counts(self.target[chosen], self.predictions[:, chosen], own, len(found), classes)


@dataclass(frozen=True, eq=False)
class Clusters:
    """What counts as one observation: the test utterances of one trained model, or one speaker of them."""

    of: Ints  # (rows of the utterance table,) each utterance's cluster; -1 if not tested
    crossed: bool  # whether one model per seed is tested on every cluster


@dataclass(frozen=True)
class Panel:
    """An experiment: the models of one corpus, protocol, selection and preset."""

    header: RunHeader  # of its first group
    groups: tuple[Group, ...]  # the full model first; includes those without a whole run

    @property
    def whole(self) -> tuple[Group, ...]:
        """The groups with a whole run."""
        return tuple(group for group in self.groups if group.runs)

    @property
    def full(self) -> Group | None:
        """The model with which the others are compared, if it has a whole run."""
        return next((group for group in self.whole if group.header.ablation == FULL), None)

    @property
    def main(self) -> Group | None:
        """The full model, otherwise the first with a whole run."""
        return self.full or next(iter(self.whole), None)

    @property
    def key(self) -> tuple[str, ...]:
        """Identifies the panel."""
        return panel_key(self.header)

    @property
    def utterance_score(self) -> str:
        """How an utterance is scored by its segments: a key of `SCORES`."""
        return str(self.header.settings.get("model", {}).get("utterance_score", Model().utterance_score))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds for which some group has a whole run."""
        return tuple(sorted({seed for group in self.whole for seed in group.seeds}))


def panel_key(header: RunHeader) -> tuple[str, ...]:
    """What runs of one panel share."""
    return (
        header.corpus,
        header.test_corpus,
        ",".join(header.labels),
        header.protocol,
        header.preset,
        header.target.name,
        header.selection,
    )


def panels(runs: Iterable[Run]) -> tuple[list[Panel], list[LeftOut]]:
    """The experiments of `runs`, honest selections first; and the runs that another one replaces."""
    by_panel: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        by_panel[panel_key(run.header)].append(run)
    found, left_out = [], []
    for key in sorted(by_panel, key=lambda key: (*key[:-1], SELECTIONS.index(key[-1]) if key[-1] in SELECTIONS else 0)):
        groups, extra = _groups(by_panel[key])
        left_out += extra
        found.append(Panel(groups[0].header, tuple(groups)))
    return found, left_out


def shared(one: Group, other: Group, any_seed: bool = False) -> tuple[Group, Group, NDArray[np.bool_]] | None:
    """Two groups with their common seeds, and a mask of the utterances (rows of the table) that both were tested on.

    None if they have nothing in common. With `any_seed`, groups without a common seed keep all their runs.

    Args:
        one: a group.
        other: another group.
        any_seed: whether runs of different seeds may be paired.
    """
    seeds = set(one.seeds) & set(other.seeds)
    if not seeds and not any_seed:
        return None
    common = np.intersect1d(one.rows, other.rows)
    if not len(common):
        return None
    mask = np.zeros(int(max(one.rows.max(), other.rows.max())) + 1, dtype=bool)
    mask[common] = True
    return (one.with_seeds(seeds), other.with_seeds(seeds), mask) if seeds else (one, other, mask)


def clusters(speaker: Ints, *groups: Group) -> Clusters:
    """The clusters of the utterances on which all of `groups` were tested.

    With several folds a cluster is a fold's test set; folds that share a test speaker are one cluster. With one fold
    it is the speaker, and all of them share the randomness of one training.

    Args:
        speaker: each utterance's speaker, by row of the utterance table.
        groups: with whole runs.
    """
    rows = groups[0].rows
    for group in groups[1:]:
        rows = np.intersect1d(rows, group.rows)
    folds = [group.fold[np.searchsorted(group.rows, rows)] for group in groups if len(group.runs[0].folds) > 1]
    of = np.full(len(speaker), -1, dtype=np.int64)
    of[rows] = link(speaker[rows], *folds)
    return Clusters(of, len(folds) < len(groups))


def distance(one: RunHeader, other: RunHeader) -> int:
    """Number of settings in which two runs differ."""
    first, second = flatten(one.settings), flatten(other.settings)
    return sum(first.get(name) != second.get(name) for name in first.keys() | second.keys())


def flatten(settings: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as `a.b` -> text.

    >>> flatten({"train": {"lr": 1e-05}})
    {'train.lr': '1e-05'}
    """
    return {name: str(value) for name, value in leaves(settings).items()}


def leaves(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `a.b` -> value.

    Args:
        settings: tables in tables.
        prefix: what stands before every name.
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def speakers(roll: UtteranceTable) -> tuple[list[str], Ints]:
    """Sorted names of the speakers, and each utterance's index into them."""
    names, places = np.unique(roll.column("speaker"), return_inverse=True)
    return [str(name) for name in names], places.astype(np.int64)


def _groups(runs: Sequence[Run]) -> tuple[list[Group], list[LeftOut]]:
    """The groups of a panel, the full model first, then by inputs and name."""
    by_settings: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        header = run.header
        by_settings[header.ablation, json.dumps([header.settings, header.features], sort_keys=True)].append(run)
    groups, left_out = [], []
    for members in by_settings.values():
        group, extra = _group(members)
        groups.append(group)
        left_out += extra
    named = [_named(group, groups) for group in groups]
    named.sort(key=lambda one: (one.header.ablation != FULL, -len(one.inputs), natural(one.name), not one.co_attention))
    return named, left_out


def _group(members: Sequence[Run]) -> tuple[Group, list[LeftOut]]:
    """One run per seed: a whole one rather than an unfinished one, then the newest."""
    chosen: dict[int, Run] = {}
    left_out = []
    for run in sorted(members, key=lambda run: (not run.whole, -run.header.path.stat().st_mtime)):
        if run.header.seed in chosen:
            other = chosen[run.header.seed].header.path.name
            left_out.append(
                LeftOut(run.header.path.name, f"{other} has the same settings and seed, and is newer or whole")
            )
        else:
            chosen[run.header.seed] = run
    ordered = [chosen[seed] for seed in sorted(chosen)]
    whole = [run for run in ordered if run.whole]
    odd = [run for run in whole if set(run.concatenated("rows")) != set(whole[0].concatenated("rows"))]
    left_out += [
        LeftOut(run.header.path.name, "its test utterances differ from those of the other seeds") for run in odd
    ]
    whole = [run for run in whole if run not in odd]
    return Group(ordered[0].header, tuple(whole), tuple(run for run in ordered if not run.whole)), left_out


def _named(group: Group, groups: Sequence[Group]) -> Group:
    """The group with its variant: the settings in which the groups of its ablation differ."""
    rivals = [other for other in groups if other.header.ablation == group.header.ablation]
    if len(rivals) == 1:
        return group
    tables = [flatten(other.header.settings) | {"features": other.header.features} for other in rivals]
    own = tables[rivals.index(group)]
    differ = sorted(name for name in own if any(table.get(name) != own[name] for table in tables))
    told = [f"{name} = {_shown(own[name], [table.get(name, '') for table in tables])}" for name in differ[:3]]
    return replace(group, variant=", ".join(told) + " …" * (len(differ) > 3))


def _shown(value: str, values: Iterable[str]) -> str:
    """A setting's value; for a path its last component, with a number if another of `values` has the same.

    >>> _shown("/a/x.pth", ["/a/x.pth", "/b/x.pth", "/c/y.pth"]), _shown("/c/y.pth", ["/a/x.pth", "/c/y.pth"])
    ('x.pth [1]', 'y.pth')
    """
    shown = portable(value)
    twins = sorted({other for other in values if portable(other) == shown})
    return f"{shown} [{twins.index(value) + 1}]" if len(twins) > 1 else str(shown)


def _in_order(run: Run, name: str) -> NDArray[Any]:
    """The array `name` of all folds in the order of the utterance table's rows."""
    return np.asarray(run.concatenated(name)[np.argsort(run.concatenated("rows"), kind="stable")])
