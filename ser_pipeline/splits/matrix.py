"""The cross-corpus matrix: each of several joined corpora trains alone, and is tested on itself and on every other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ser_pipeline.errors import PipelineError
from ser_pipeline.splits.protocols import (
    ONLY,
    PROTOCOLS,
    Codes,
    Columns,
    Mask,
    Split,
    by_group,
    find_protocol,
    tenths,
)
from ser_pipeline.text import few

MATRIX = "matrix"
"""What stands for all protocols of the matrix."""

GROUPS = 5
"""Groups of speakers, at most, in which a corpus is trained and tested on itself."""


def matrix_protocols(corpora: Sequence[str]) -> list[str]:
    """The protocols of the rows of the matrix: each corpus alone, and of three or more all others together.

    >>> matrix_protocols(["a", "b", "c"])
    ['only-a', 'only-b', 'only-c', 'corpus']

    Raises:
        PipelineError: there is one corpus.
    """
    if len(corpora) < 2:
        raise PipelineError(f"--protocol {MATRIX} needs several corpora: --corpus A+B")
    return [*(f"{ONLY}{name}" for name in corpora), *(["corpus"] if len(corpora) > 2 else [])]


def splits_of(columns: Columns, protocol: str) -> list[Split]:
    """What a protocol says of each fold.

    Args:
        columns: of the utterances.
        protocol: its name, such as "group-5".
    """
    name, count = find_protocol(protocol)
    return by_only(columns, protocol.removeprefix(ONLY)) if name == ONLY else PROTOCOLS[name](columns, count)


def by_only(columns: Columns, corpus: str) -> list[Split]:
    """One corpus trains: all of it for the others, which one fold tests, and by groups of speakers for itself.

    Without several speakers it is not tested on itself.

    Args:
        columns: of joined corpora.
        corpus: the one that trains.
    """
    names, code = columns.codes("corpus")
    if corpus not in names or len(names) < 2:
        there = few(names) if names else "no joined corpora"
        raise PipelineError(f"--protocol {ONLY}{corpus} needs {corpus} and others (there are {there}): --corpus A+B")
    own = code == names.index(corpus)
    held = tenths(columns, own, "dialogue|speaker", "speaker", "script", "id")
    return [Split("others", ~own, own, held), *_within(columns, np.flatnonzero(own))]


def _within(columns: Columns, rows: Codes) -> list[Split]:
    """Groups of speakers of the corpus in `rows`, as many as leave every class in training; none of one speaker."""
    part = Columns(tuple(columns.utterances[row] for row in rows.tolist()))
    whole = partial(_whole, rows, len(columns.utterances))
    for count in range(min(GROUPS, len(part.codes("speaker")[0])), 1, -1):
        try:
            splits = by_group(part, count)
        except PipelineError:
            continue
        return [
            replace(
                one,
                test=whole(one.test),
                pool=whole(one.pool),
                choices=tuple(partial(_chosen, whole, choice) for choice in one.choices),
            )
            for one in splits
        ]
    return []


def _whole(rows: Codes, count: int, mask: Mask) -> Mask:
    """A mask over `rows` as one over all `count` utterances."""
    found = np.zeros(count, np.bool_)
    found[rows[mask]] = True
    return found


def _chosen(whole: Callable[[Mask], Mask], choice: Callable[[], Mask]) -> Mask:
    return whole(choice())
