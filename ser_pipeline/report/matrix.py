"""The cross-corpus matrix of a report: scores of each corpus's model on every corpus, with intervals by speaker."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Ints
from ser_pipeline.evaluation.intervals import Interval, link, share_interval
from ser_pipeline.evaluation.metrics import METRICS
from ser_pipeline.report import tables, words
from ser_pipeline.report.contents import Experiment, Report
from ser_pipeline.report.divisions import DIVISIONS
from ser_pipeline.report.groups import Group, speakers
from ser_pipeline.report.tables import Cell, Column, Table
from ser_pipeline.splits.protocols import ONLY
from ser_pipeline.text import plural

PICTURES = "matrix"
"""The key of its figures among those of the experiments."""


@dataclass(frozen=True)
class Place:
    """A model on one corpus."""

    corpus: str  # test corpus
    ua: float  # pooled over its utterances, the mean over seeds
    wa: float
    utterances: int
    speakers: int
    interval: Interval  # of `ua`


@dataclass(frozen=True)
class Trained:
    """A row of the matrix."""

    corpus: str  # training corpus; "": all except the test corpus
    model: str  # name of the group
    places: dict[str, Place] = field(default_factory=dict)  # by test corpus


@dataclass(frozen=True)
class Matrix:
    """The rows of one preset and selection."""

    id: str
    about: str  # preset and selection of the epoch, in words
    corpora: tuple[str, ...]
    rows: tuple[Trained, ...]


def matrices(report: Report) -> list[Matrix]:
    """The matrix of each preset, selection and list of classes for which models were trained on single corpora."""
    speaker = speakers(report.roll)[1]
    found: dict[tuple[str, ...], list[Experiment]] = defaultdict(list)
    for one in report.experiments:
        header = one.panel.header
        if one.panel.main and (header.protocol.startswith(ONLY) or header.protocol == "corpus"):
            found[header.corpus, header.preset, header.selection, *header.labels].append(one)
    made: list[Matrix] = []
    for key, several in found.items():
        corpora = tuple(key[0].split("+"))
        rows = {(row := _trained(one, report, speaker)).corpus: row for one in several}
        if any(rows):
            about = f"preset {key[1]}, epoch: {words.epoch(key[2])}"
            ordered = tuple(rows[name] for name in (*corpora, "") if name in rows)
            made.append(Matrix(f"matrix-{len(made) + 1}", about, corpora, ordered))
    return made


def _trained(experiment: Experiment, report: Report, speaker: Ints) -> Trained:
    group = experiment.panel.main
    assert group is not None
    protocol = group.header.protocol
    names = DIVISIONS["corpus"](report.roll, group.header)[group.rows]
    places = {name: _place(group, name, names == name, speaker) for name in sorted(set(names.tolist()) - {""})}
    return Trained(protocol.removeprefix(ONLY) if protocol.startswith(ONLY) else "", group.name, places)


def _place(group: Group, corpus: str, chosen: NDArray[np.bool_], speaker: Ints) -> Place:
    """The scores of the utterances `chosen` (U,) of a group.

    A speaker is one observation; with several folds, folds that share a speaker are one, as in `groups.clusters`.
    """
    rows, folds = group.rows[chosen], group.fold[chosen]
    crossed = len(np.unique(folds)) == 1
    of = np.full(len(speaker), -1, np.int64)
    of[rows] = link(speaker[rows]) if crossed else link(speaker[rows], folds)
    counts = group.counts(of, of >= 0)
    pooled = counts.sum(1)
    ua, wa = (float(METRICS[name](pooled).mean()) for name in ("ua", "wa"))
    interval = share_interval(counts, "ua", crossed=crossed)
    return Place(corpus, ua, wa, len(rows), len(np.unique(speaker[rows])), interval)


def table(matrix: Matrix) -> Table:
    """The matrix as a table: a row per training corpus, two columns per test corpus."""
    columns = [Column("Trained on", number=False)]
    for name in matrix.corpora:
        columns += [Column("UA", group=name, hint=tables.POOLED), Column("95 % interval", group=name)]
    rows = []
    for row in matrix.rows:
        cells: list[Cell] = [tables.text(row.corpus or "all others")]
        for name in matrix.corpora:
            place = row.places.get(name)
            if place is None:
                cells += [tables.ABSENT, tables.ABSENT]
                continue
            known = f"{plural(place.utterances, 'utterance')}, {plural(place.speakers, 'speaker')}"
            cells += [
                Cell(f"{100 * place.ua:.1f}", place.ua, "strong" if row.corpus == name else "", known),
                tables.between(place.interval),
            ]
        rows.append(tuple(cells))
    note = (
        "UA in %, pooled over the utterances of the corpus in the column. Within a corpus, each group of speakers is "
        "tested by a model trained on the other groups; on other corpora, the model was trained on the whole corpus. "
        f"Intervals are by speaker; {matrix.about}."
    )
    found = [place.interval for row in matrix.rows for place in row.places.values()]
    return Table(matrix.id, "Across corpora", tuple(columns), tuple(rows), (), note + tables.luck(found))
