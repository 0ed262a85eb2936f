"""Ways to divide the utterances of a corpus into parts, of which scores are told apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.runs.records import RunHeader, UtteranceTable

SECONDS = (2.0, 5.0, 8.0)
"""Limits of the classes of duration, beside the length of a segment."""

YEARS = (0, 18, 30, 45, 60)
"""Lower limits of the classes of age."""

MANY_SEGMENTS = 4
"""Utterances of this many segments or more are one class."""

Divide = Callable[[UtteranceTable, RunHeader], NDArray[np.str_]]


def _column(name: str) -> Divide:
    return lambda roll, header: roll.column(name)


def _corpus(roll: UtteranceTable, header: RunHeader) -> NDArray[np.str_]:
    """Which of several joined corpora an utterance is of; "" for all where there is one, or one that tests."""
    several = [] if header.test_corpus else header.corpus.split("+")
    names = [one.partition(":")[0] for one in roll.ids]
    return np.array([name if len(several) > 1 and name in several else "" for name in names])


def _style(roll: UtteranceTable, header: RunHeader) -> NDArray[np.str_]:
    """Improvised or scripted; "" for all where the corpus has but one of them."""
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
    """Classes of years; "" where the age is not known."""
    titles = [f"{place}|{low} to {high - 1}" for place, (low, high) in enumerate(itertools.pairwise(YEARS))]
    titles.append(f"{len(titles)}|{YEARS[-1]} or more")
    ages = [int(float(text)) if text else -1 for text in roll.column("age").tolist()]
    return np.array(["" if age < 0 else titles[int(np.searchsorted(YEARS, age, side="right")) - 1] for age in ages])


GROUPS = ("corpus", "gender", "age", "language")
"""Divisions into groups of speakers, with corpora that are joined, of which the gap between best and worst is told."""

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
"""Ways to divide the utterances: the part's name of each, by row of the roll; what stands before | only sorts."""
