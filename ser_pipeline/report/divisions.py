"""Divisions of the utterances of a corpus into parts with scores of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.runs.records import RunHeader, UtteranceTable

SECONDS = (2.0, 5.0, 8.0)
"""Limits of the ranges of duration in seconds, in addition to the length of a segment."""

YEARS = (0, 18, 30, 45, 60)
"""Lower limits of the ranges of age in years."""

MANY_SEGMENTS = 4
"""Utterances with at least so many segments form one part."""

Divide = Callable[[UtteranceTable, RunHeader], NDArray[np.str_]]


def _column(name: str) -> Divide:
    return lambda roll, header: roll.column(name)


def _corpus(roll: UtteranceTable, header: RunHeader) -> NDArray[np.str_]:
    """Return the corpus of each utterance; "" if there is only one, or a separate one to test on."""
    several = [] if header.test_corpus else header.corpus.split("+")
    names = [one.partition(":")[0] for one in roll.ids]
    return np.array([name if len(several) > 1 and name in several else "" for name in names])


def _style(roll: UtteranceTable, header: RunHeader) -> NDArray[np.str_]:
    """Return "improvised" or "scripted" for each utterance; "" if the corpus has only one of them."""
    names = np.where(roll.column("script") == "", "improvised", "scripted")
    return names if len(np.unique(names)) > 1 else np.full(len(names), "")


def _duration(roll: UtteranceTable, header: RunHeader) -> NDArray[np.str_]:
    limits = [0.0, *sorted({*SECONDS, header.audio.seconds})]
    places = np.searchsorted(limits, roll.numbers("seconds"), side="right") - 1
    titles = [f"{place}|{low:.4g} to {high:.4g} s" for place, (low, high) in enumerate(itertools.pairwise(limits))]
    titles.append(f"{len(titles) + 1}|{limits[-1]:.4g} s or more")
    return np.array(titles)[places]


def _segments(roll: UtteranceTable, header: RunHeader) -> NDArray[np.str_]:
    count = np.minimum(roll.numbers("segments").astype(np.int64), MANY_SEGMENTS)
    titles = [f"{n}|{n}" for n in range(MANY_SEGMENTS)] + [f"{MANY_SEGMENTS}|{MANY_SEGMENTS} or more"]
    return np.array(titles)[count]


def _age(roll: UtteranceTable, header: RunHeader) -> NDArray[np.str_]:
    """Return the range of age of each utterance's speaker; "" if unknown."""
    titles = [f"{place}|{low} to {high - 1}" for place, (low, high) in enumerate(itertools.pairwise(YEARS))]
    titles.append(f"{len(titles)}|{YEARS[-1]} or more")
    ages = [int(float(text)) if text else -1 for text in roll.column("age").tolist()]
    return np.array(["" if age < 0 else titles[int(np.searchsorted(YEARS, age, side="right")) - 1] for age in ages])


GROUPS = ("corpus", "gender", "age", "language")
"""Divisions for which the gap between the best and the worst part is reported: groups of speakers, and corpora."""

DIVISIONS: dict[str, Divide] = {
    "corpus": _corpus,
    "gender": _column("gender"),
    "age": _age,
    "language": _column("language"),
    "speaker": _column("speaker"),
    "session": _column("session"),
    "style": _style,
    "duration": _duration,
    "segments": _segments,
}
"""Functions that return the name of each utterance's part by row of the table; a prefix before | is for sorting."""
