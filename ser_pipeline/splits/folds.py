"""Folds: training rows, validation rows that select the epoch, and test rows, with checks that they do not leak.

`make_folds` applies a protocol; `folds_json` writes a split in a form that can be published, and `read_folds` reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ser_pipeline.arrays import Rows
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.entry import read_as
from ser_pipeline.errors import PipelineError
from ser_pipeline.file_names import path_name
from ser_pipeline.names import unknown
from ser_pipeline.settings import ON_TEST, SELECTIONS
from ser_pipeline.splits.matrix import splits_of
from ser_pipeline.splits.protocols import FINAL, OWN, SHARED, Columns, Split
from ser_pipeline.splits.ways_out import ways_out
from ser_pipeline.text import few

if TYPE_CHECKING:
    from ser_pipeline.cache.manifest import Manifest


PARTS = ("train", "validation", "test")

UNDECIDED = "undecided"
"""The part of rated utterances without a class, which a fold would test if they had one."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Sorted rows of the training, validation and test utterances, and of undecided ones next to the test rows."""

    name: str
    train: Rows
    validation: Rows
    test: Rows
    shared: bool = False  # whether the protocol explicitly allows speakers and dialogues in several parts
    undecided: Rows = field(default_factory=lambda: np.empty(0, np.int64))  # no class: only tested against raters

    @classmethod
    def checked(
        cls,
        name: str,
        columns: Columns,
        parts: Mapping[str, Iterable[int] | Rows],
        selection: str = "validation",
        *,
        shared: bool = False,
        sharing: bool = False,
        tested: bool = True,
    ) -> Fold:
        """Build the fold of `parts` after checking that it does not leak.

        Args:
            name: a valid folder name.
            columns: columns of the utterances to which the rows refer.
            parts: rows of each of `PARTS`, and of `UNDECIDED` if there are any.
            selection: a selection in `ON_TEST` uses the test rows as validation rows, by request.
            shared: whether the protocol explicitly allows speakers and dialogues in several parts.
            sharing: whether to accept these as leaks that `leaks` reports.
            tested: whether there must be test rows.

        Raises:
            PipelineError: an empty part, a row in two parts, a test speaker in another part, or a dialogue in both
                train and validation.
        """
        fold = cls(name, *_rows_of(parts), shared, np.unique(np.asarray(parts.get(UNDECIDED, ()), np.int64)))
        for part in PARTS:
            if not len(getattr(fold, part)) and (tested or part != "test"):
                raise PipelineError(f"fold {name} has no {part} utterances; {ways_out(columns.utterances)}")
        if classed := [columns.utterances[row] for row in fold.undecided if columns.utterances[row].emotion]:
            raise PipelineError(f"fold {name}: {classed[0].id} has a class, so it belongs to test, not {UNDECIDED}")
        apart = ("id",) if shared or sharing else ("id", "speaker")
        for part in ("test", UNDECIDED):
            _require_apart(fold, columns, "train", part, apart)
        if selection in ON_TEST:
            if not np.array_equal(fold.validation, fold.test):
                raise PipelineError(f"fold {name} is selected on test, but validates on other utterances")
            return fold
        _require_apart(fold, columns, "validation", "test", apart)
        _require_apart(fold, columns, "train", "validation", ("id",) if shared or sharing else ("id", "dialogue"))
        return fold


def _rows_of(parts: Mapping[str, Iterable[int] | Rows]) -> tuple[Rows, Rows, Rows]:
    """Sorted rows of each of `PARTS`."""
    train, validation, test = (np.unique(np.asarray(parts[part], np.int64)) for part in PARTS)
    return train, validation, test


def _require_apart(fold: Fold, columns: Columns, one: str, other: str, names: tuple[str, ...]) -> None:
    for column in names:
        shared = columns.shared(column, getattr(fold, one), getattr(fold, other))
        if shared:
            mend = f"--protocol {SHARED} accepts it" if fold.name == "official" else ways_out(columns.utterances)
            raise PipelineError(
                f"fold {fold.name} leaks: {column} {few(shared, 1)} is in {one} and in {other}; "
                f"correct the corpus's columns, or {mend}"
            )


def make_folds(manifest: Manifest, protocol: str, selection: str = "validation") -> tuple[Fold, ...]:
    """The folds of a corpus, in the natural order of their names.

    Args:
        manifest: the utterances.
        protocol: `speaker`, `session`, `official`, `official-shared`, `group-K` such as `group-5`, or `final`, whose
            one fold has no test rows; for joined corpora also `corpus` or `cross`.
        selection: one of `SELECTIONS`; with `test` and `reference`, the test rows select the epoch.

    Raises:
        PipelineError: an unknown protocol, one that the corpus does not support, or a fold that would leak.
    """
    return folds_of(manifest.utterances, protocol, selection)


def folds_of(utterances: Sequence[Utterance], protocol: str, selection: str = "validation") -> tuple[Fold, ...]:
    """`make_folds` for utterances whose audio was not measured; they are sorted by speaker and id.

    Args:
        utterances: sorted by speaker and id.
        protocol: name of the protocol, such as "speaker" or "group-2".
        selection: one of `SELECTIONS`: which rows select the epoch.
    """
    if selection not in SELECTIONS:
        raise PipelineError(unknown("selection", selection, SELECTIONS))
    columns = Columns(tuple(utterances))
    return tuple(_fold(columns, split, selection) for split in splits_of(columns, protocol))


def _fold(columns: Columns, split: Split, selection: str) -> Fold:
    if split.name == FINAL and selection in ON_TEST:
        raise PipelineError("a final model has no test rows that could select its epoch; add --selection validation")
    held = split.test if selection == "reference" else split.validation(columns)
    validation = split.test if selection in ON_TEST else held
    known = np.array([bool(utterance.emotion) for utterance in columns.utterances])
    masks = {"train": split.pool & ~held, "validation": validation & known, "test": split.test & known}
    masks[UNDECIDED] = split.test & ~known
    parts = {part: np.flatnonzero(mask) for part, mask in masks.items()}
    return Fold.checked(split.name, columns, parts, selection, shared=split.shared, tested=split.name != FINAL)


def folds_json(
    folds: Iterable[Fold], utterances: Sequence[Utterance], protocol: str, selection: str = "validation"
) -> dict[str, Any]:
    """Folds as ids, in a form that can be published and read by `read_folds`.

    Args:
        folds: rows of `utterances`.
        utterances: utterances of the corpus.
        protocol: protocol of the folds.
        selection: one of `SELECTIONS`: which rows select the epoch.
    """
    return {
        "protocol": protocol,
        "selection": selection,
        "folds": [{"name": fold.name, **_members(fold, utterances)} for fold in folds],
    }


def _members(fold: Fold, utterances: Sequence[Utterance]) -> dict[str, list[str]]:
    """The ids of each part; undecided utterances only if there are any."""
    parts = (*PARTS, UNDECIDED) if len(fold.undecided) else PARTS
    return {part: [utterances[row].id for row in getattr(fold, part)] for part in parts}


def read_folds(
    file: Path, utterances: Sequence[Utterance], check: bool = True, sharing: bool = False
) -> tuple[tuple[Fold, ...], str, str]:
    """Read the folds of a `folds.json`, their protocol and their selection.

    The protocol is the one that the file names if it makes exactly these folds of the corpus, otherwise `own`: a file
    cannot disable checks by naming a protocol. Without `check`, folds may leak, and `audit.leaks` reports how.

    Args:
        file: a `folds.json`.
        utterances: utterances of the corpus.
        check: whether to refuse folds that leak.
        sharing: whether to accept speakers and dialogues in several parts.

    Raises:
        PipelineError: an invalid file, an id that is not in the corpus, a duplicate id or name, an utterance that two
            folds test, or a leak.
    """
    named, protocol, selection = _parse(file)
    columns = Columns(tuple(utterances))
    row = {utterance.id: number for number, utterance in enumerate(utterances)}
    read = dict[str, dict[str, list[int]]]()
    for name, parts in named.items():
        _require_known(file, name, parts, row)
        read[name] = {part: sorted(row[known] for known in ids) for part, ids in parts.items()}
    if not _makes(protocol, columns, selection, read):
        protocol = OWN
    shared = protocol == SHARED
    if not check:
        return tuple(Fold(name, *_rows_of(parts), shared) for name, parts in read.items()), protocol, selection
    times = Counter(one for rows in read.values() for one in (*rows["test"], *rows[UNDECIDED]))
    twice = [utterances[one].id for one, count in times.items() if count > 1]
    if twice:
        raise PipelineError(f"{file}: {few(twice, 1)} is tested by two folds; keep it in one")
    checked = (
        Fold.checked(name, columns, rows, selection, shared=shared, sharing=sharing) for name, rows in read.items()
    )
    return tuple(checked), protocol, selection


def _makes(protocol: str, columns: Columns, selection: str, read: Mapping[str, Mapping[str, list[int]]]) -> bool:
    """Whether `protocol` makes exactly the folds that were read, whatever their names."""
    try:
        made = [_fold(columns, split, selection) for split in splits_of(columns, protocol)]
    except (PipelineError, IndexError):
        return False
    theirs = sorted([rows[part] for part in PARTS] for rows in read.values())
    return theirs == sorted([getattr(fold, part).tolist() for part in PARTS] for fold in made)


@dataclass(frozen=True)
class _Members:
    """The ids of a fold."""

    name: str
    train: list[str]
    validation: list[str]
    test: list[str]
    undecided: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    """The contents of a file of folds."""

    protocol: str
    selection: str
    folds: list[_Members]


def _parse(file: Path) -> tuple[dict[str, dict[str, list[str]]], str, str]:
    said = read_as(file, _File, "`ser-pipeline folds --json` shows the form of a file of folds")
    folds = [(fold.name, {part: getattr(fold, part) for part in (*PARTS, UNDECIDED)}) for fold in said.folds]
    names = [name for name, _ in folds]
    if not folds or len({name.lower() for name in names}) < len(names):
        raise PipelineError(f"{file} must name each of its folds once; it has {names}")
    for name in names:
        path_name(name, f"{file}: a fold")
    if said.selection not in SELECTIONS:
        raise PipelineError(f"{file}: {unknown('selection', said.selection, SELECTIONS)}")
    return dict(folds), said.protocol, said.selection


def _require_known(file: Path, name: str, parts: Mapping[str, list[str]], known: Mapping[str, int]) -> None:
    for part, ids in parts.items():
        unknown = [one for one in ids if one not in known]
        if unknown:
            what = f"{len(unknown)} {part} ids are not in the corpus, such as {unknown[0]}"
            raise PipelineError(f"{file}, fold {name}: {what}; read the corpus that it was made for")
        ((most, times),) = Counter(ids).most_common(1) or [("", 1)]
        if times > 1:
            raise PipelineError(f"{file}, fold {name}: {most} is in {part} twice; name it once")
