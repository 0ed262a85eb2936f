"""The cross-corpus matrix: each of several joined corpora trains a model that is tested on itself and on all others."""

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
"""Name that stands for all protocols of the matrix."""

GROUPS = 5
"""Maximum number of speaker groups for training and testing on the same corpus."""


def matrix_protocols(corpora: Sequence[str]) -> list[str]:
    """The protocols of the rows of the matrix: each corpus alone, and for three or more corpora all others together.

    >>> matrix_protocols(["a", "b", "c"])
    ['only-a', 'only-b', 'only-c', 'corpus']

    Raises:
        PipelineError: there is only one corpus.
    """
    if len(corpora) < 2:
        raise PipelineError(f"--protocol {MATRIX} needs several corpora: --corpus A+B")
    return [*(f"{ONLY}{name}" for name in corpora), *(["corpus"] if len(corpora) > 2 else [])]


def splits_of(columns: Columns, protocol: str) -> list[Split]:
    """The splits of a protocol, one for each fold.

    Args:
        columns: columns of the utterances.
        protocol: name of the protocol, such as "group-5".
    """
    name, count = find_protocol(protocol)
    return by_only(columns, protocol.removeprefix(ONLY)) if name == ONLY else PROTOCOLS[name](columns, count)


def by_only(columns: Columns, corpus: str) -> list[Split]:
    """One corpus trains: all of it for the others, which are one fold, and by groups of speakers for itself.

    With a single speaker, it is not tested on itself.

    Args:
        columns: columns of joined corpora.
        corpus: the training corpus.
    """
    names, code = columns.codes("corpus")
    if corpus not in names or len(names) < 2:
        there = few(names) if names else "no joined corpora"
        raise PipelineError(f"--protocol {ONLY}{corpus} needs {corpus} and others (known: {there}): --corpus A+B")
    own = code == names.index(corpus)
    held = tenths(columns, own, "dialogue|speaker", "speaker", "script", "id")
    return [Split("others", ~own, own, held), *_within(columns, np.flatnonzero(own))]


def _within(columns: Columns, rows: Codes) -> list[Split]:
    """Speaker groups of the corpus in `rows`, as many as keep every class in training; none for a single speaker."""
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
    """Convert a mask over `rows` to a mask over all `count` utterances."""
    found = np.zeros(count, np.bool_)
    found[rows[mask]] = True
    return found


def _chosen(whole: Callable[[Mask], Mask], choice: Callable[[], Mask]) -> Mask:
    return whole(choice())
