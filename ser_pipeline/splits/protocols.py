"""Protocols: which utterances each fold tests, and where its validation rows come from.

A protocol is a function of a corpus's columns and a row of `PROTOCOLS`. It depends only on the utterances (there is no
seed), so the same corpus has the same folds on every machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.errors import PipelineError
from ser_pipeline.names import unknown
from ser_pipeline.splits.ways_out import ways_out
from ser_pipeline.text import few, natural

Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

SHARED = "official-shared"
"""Name of the protocol, and of its fold, that accepts the leaks of an official split."""

ORDERS = 64
"""Orders of speakers that are tried to form groups, until every fold trains on all classes."""

FINAL = "final"
"""Name of the protocol, and of its fold, without test rows: one model of the whole corpus."""

ONLY = "only-"
"""Prefix of the protocols in which one corpus trains alone; the corpus follows."""

OWN = "own"
"""Name for the protocol of folds from a file that match no protocol."""

DRAWS = 64
"""Random tenths that are compared; the one whose classes and sessions are closest to the whole is held out."""


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of U utterances as integer codes, which number a column's values in natural order."""

    utterances: tuple[Utterance, ...]
    known: dict[str, tuple[tuple[str, ...], Codes]] = field(default_factory=dict, repr=False)

    def codes(self, column: str) -> tuple[tuple[str, ...], Codes]:
        """The values of `column`, and the code of each utterance's value: (U,), -1 if it is empty.

        `dialogue|speaker` is the dialogue of utterances that have one, and the speaker of the others.
        """
        if column not in self.known:
            values = [_value(utterance, column) for utterance in self.utterances]
            names = tuple(sorted(set(values) - {""}, key=natural))
            place = {name: code for code, name in enumerate(names)} | {"": -1}
            self.known[column] = names, np.array([place[value] for value in values], np.int64)
        return self.known[column]

    def shared(self, column: str, one: Codes, other: Codes) -> list[str]:
        """Nonempty values of `column` that occur both in rows `one` and in rows `other`, in natural order.

        Args:
            column: name of the column.
            one: rows.
            other: rows.
        """
        names, codes = self.codes(column)
        return [names[code] for code in np.intersect1d(codes[one], codes[other]).tolist() if code >= 0]


def _value(utterance: Utterance, column: str) -> str:
    return next(filter(None, (str(getattr(utterance, name)) for name in column.split("|"))), "")


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one fold according to a protocol.

    Among `choices`, the first that leaves training rows and splits no dialogue between training and validation is used.
    """

    name: str
    test: Mask  # (U,)
    pool: Mask  # (U,) rows that may be used for training
    choices: tuple[Callable[[], Mask], ...]  # masks (U,) of validation rows, best first
    identity: bool = False  # whether to use the validation rows even if they share dialogues with training
    shared: bool = False  # whether speakers and dialogues may be in several parts, by request

    def validation(self, columns: Columns) -> Mask:
        """Mask (U,) of the validation rows.

        Raises:
            PipelineError: none of the choices is possible.
        """
        _, dialogue = columns.codes("dialogue")
        for choice in self.choices:
            rows = choice()
            train = self.pool & ~rows
            shared = np.isin(dialogue[rows & (dialogue >= 0)], dialogue[train]).any()
            if rows.any() and train.any() and (self.identity or not shared):
                return rows
        raise PipelineError(f"fold {self.name} has too few utterances to train and to validate; add data or speakers")


def by_speaker(columns: Columns, count: int = 0) -> list[Split]:
    """Leave one speaker out; the session partner validates, otherwise the next speaker."""
    names, speaker = columns.codes("speaker")
    _require_several(columns, "speaker", names)
    _, session = columns.codes("session")
    splits = []
    for code, name in enumerate(_folder_names(names)):
        test = speaker == code
        partners = np.setdiff1d(speaker[np.isin(session, session[test & (session >= 0)])], [code])
        near = [partial(np.isin, speaker, codes) for codes in (partners, [(code + 1) % len(names)])]
        splits.append(Split(name, test, ~test, (*near, *tenths(columns, ~test, "dialogue", "script", "id"))))
    return splits


def by_session(columns: Columns, count: int = 0) -> list[Split]:
    """Leave one session out; a tenth of the other sessions' dialogues validates, otherwise whole speakers."""
    return _each_out(columns, "session", "dialogue")


def by_group(columns: Columns, count: int) -> list[Split]:
    """Leave one of `count` balanced groups of speakers out; the next group validates."""
    group = _groups(columns, count)
    splits = []
    for code in range(count):
        test = group == code
        held = tenths(columns, ~test, "dialogue", "speaker", "script", "id")
        splits.append(Split(f"group-{code + 1}", test, ~test, (partial(np.equal, group, (code + 1) % count), *held)))
    return splits


def by_corpus(columns: Columns, count: int = 0) -> list[Split]:
    """Leave one of several joined corpora out; a tenth of the others' dialogues (or else speakers) validates."""
    if not columns.codes("corpus")[0]:
        raise PipelineError("--protocol corpus needs several corpora: --corpus A+B")
    return _each_out(columns, "corpus", "dialogue|speaker")


def _each_out(columns: Columns, column: str, held: str) -> list[Split]:
    """Leave each value of a column out; a tenth of the others validates, in whole values of `held` if possible."""
    names, codes = columns.codes(column)
    _require_several(columns, column, names)
    splits = []
    for code, name in enumerate(_folder_names(names)):
        test = codes == code
        splits.append(Split(name, test, ~test, tenths(columns, ~test, held, "speaker", "script", "id")))
    return splits


def official(columns: Columns, count: int = 0) -> list[Split]:
    """The corpus's own split; if it has no validation rows, a tenth of its training dialogues or speakers validates."""
    split = np.array([utterance.split for utterance in columns.utterances])
    if not {"train", "test"} <= set(split.tolist()):
        raise PipelineError(f"the corpus has no official split; {ways_out(columns.utterances)}")
    names, corpus = columns.codes("corpus")
    without = [name for code, name in enumerate(names) if not set(split[corpus == code].tolist()) - {""}]
    if without:
        raise PipelineError(f"{without[0]} has no official split; {ways_out(columns.utterances)}, or --protocol corpus")
    train, validation = split == "train", split == "validation"
    choices = tenths(columns, train, "dialogue", "speaker", "script", "id")
    if validation.any():
        choices = (lambda: validation,)
    return [Split("official", split == "test", train, choices, identity=bool(validation.any()))]


def official_shared(columns: Columns, count: int = 0) -> list[Split]:
    """The corpus's own split, accepted even if train and test share speakers or dialogues."""
    (split,) = official(columns)
    return [replace(split, name=SHARED, identity=True, shared=True)]


def cross(columns: Columns, count: int = 0) -> list[Split]:
    """Corpora that `joining.join` has marked as training corpora train, and the marked test corpus tests."""
    (split,) = official(columns)
    row = int(np.flatnonzero(split.test)[0])
    (name,) = _folder_names((columns.utterances[row].corpus,))
    return [replace(split, name=name)]


def final(columns: Columns, count: int = 0) -> list[Split]:
    """One fold without test rows; about a tenth validates, in whole speakers, or else in sessions, if possible."""
    every = np.ones(len(columns.utterances), np.bool_)
    return [Split(FINAL, ~every, every, tenths(columns, every, "speaker", "session", "dialogue", "script", "id"))]


def _groups(columns: Columns, count: int) -> Codes:
    """The group of each utterance: whole sessions if there are enough, otherwise whole speakers."""
    names, unit = columns.codes("session")
    pairs = {(utterance.speaker, utterance.session) for utterance in columns.utterances}
    if len(names) < count or (unit < 0).any() or len(pairs) > len(columns.codes("speaker")[0]):
        names, unit = columns.codes("speaker")
    if len(names) < count:
        there = "is 1" if len(names) == 1 else f"are {len(names)}"
        raise PipelineError(f"group-{count} needs {count} speakers, and there {there}; {ways_out(columns.utterances)}")
    labels, emotion = columns.codes("emotion")
    sizes, held = np.bincount(unit, minlength=len(names)), np.zeros((len(names), len(labels)), bool)
    held[unit[emotion >= 0], emotion[emotion >= 0]] = True
    group = _arranged(sizes, held, count)
    if group is None:
        others = [k for k in range(3, min(len(names), 20) + 1) if _arranged(sizes, held, k) is not None]
        if others:
            listed = few([f"group-{k}" for k in others])
            raise PipelineError(f"group-{count} leaves a class out of training in some fold; {listed} keep all of them")
        group = next(_arrangements(sizes, count))
    return np.asarray(group[unit])


def _arranged(sizes: Codes, held: NDArray[np.bool_], count: int) -> Codes | None:
    """Assign speakers to groups such that every fold trains on all classes; None if no such groups are found.

    Args:
        sizes: utterances of each speaker.
        held: (speakers, classes) whether a speaker has utterances of a class.
        count: number of groups.
    """
    for group in _arrangements(sizes, count):
        classes = np.zeros((count, held.shape[1]), bool)
        np.logical_or.at(classes, group, held)
        trained = [np.delete(classes, [code, (code + 1) % count], axis=0).any(axis=0).all() for code in range(count)]
        if count < 3 or all(trained):
            return group
    return None


def _arrangements(sizes: Codes, count: int) -> Iterator[Codes]:
    """Yield groups of similar size: with the largest speakers first, then with other orders."""
    orders = (np.random.default_rng(seed).permutation(len(sizes)) for seed in range(ORDERS))
    for order in chain([np.argsort(-sizes, kind="stable")], orders):
        group, filled = np.zeros(len(sizes), np.int64), np.zeros(count, np.int64)
        for code in order:
            group[code] = np.argmin(filled)
            filled[group[code]] += sizes[code]
        yield group


def _require_several(columns: Columns, column: str, names: Sequence[str]) -> None:
    if not names:
        raise PipelineError(f"the corpus names no {column}s; {ways_out(columns.utterances)}")
    without = [utterance.id for utterance in columns.utterances if not getattr(utterance, column)]
    if without:
        raise PipelineError(
            f"utterance {without[0]} has no {column}; fill the column, or {ways_out(columns.utterances)}"
        )
    if len(names) < 2:
        raise PipelineError(
            f"--protocol {column} needs several {column}s, and there is one, {names[0]}; {ways_out(columns.utterances)}"
        )


def tenths(columns: Columns, pool: Mask, *units: str) -> tuple[Callable[[], Mask], ...]:
    """Functions that draw a tenth of `pool` (U,), each in whole values of one column of `units`."""
    return tuple(partial(_tenth, columns, pool, unit) for unit in units)


def _tenth(columns: Columns, pool: Mask, unit: str) -> Mask:
    """Mask (U,) of a tenth of `pool`: whole values of column `unit`, with representative classes and sessions."""
    names, code = columns.codes(unit)
    sizes = np.bincount(code[pool & (code >= 0)], minlength=len(names))
    there = np.flatnonzero(sizes)
    if len(there) < 2:
        return np.zeros(len(columns.utterances), np.bool_)
    strata = (columns.codes("emotion")[1], columns.codes("session")[1])
    draws = (np.isin(code, _draw(names, sizes, there, salt)) & pool for salt in range(DRAWS))
    return min(draws, key=lambda mask: _distance(mask, pool, strata))


def _draw(names: Sequence[str], sizes: Codes, there: Codes, salt: int) -> Codes:
    """Codes of up to a tenth of all rows, in an order that depends only on their names and `salt`."""
    digests = [hashlib.sha256(f"{salt}:{names[code]}".encode()).digest() for code in there]
    order = there[sorted(range(len(there)), key=digests.__getitem__)]
    taken = np.cumsum(sizes[order])
    return order[: int(np.searchsorted(taken * 10, taken[-1])) + 1]


def _distance(mask: Mask, pool: Mask, strata: Iterable[Codes]) -> int:
    """Distance of size and shares from a tenth of the whole; integer arithmetic, so that every machine agrees."""
    part, whole = int(mask.sum()), int(pool.sum())
    far = abs(part * 10 - whole) * whole
    for codes in strata:
        length = int(codes.max()) + 2
        inside, everywhere = (np.bincount(codes[rows] + 1, minlength=length) for rows in (mask, pool))
        far += 10 * int(np.abs(inside * whole - everywhere * part).sum())
    return far


def _folder_names(names: Iterable[str]) -> list[str]:
    """Valid folder names; a number is added if two would be equal, ignoring case."""
    plain: list[str] = []
    for name in names:
        stem = re.sub(r"[^\w.-]+", "_", name).strip(".") or "_"
        taken = {other.lower() for other in plain}
        free = (f"{stem}_{number}" if number > 1 else stem for number in range(1, len(taken) + 2))
        plain.append(next(option for option in free if option.lower() not in taken))
    return plain


Protocol = Callable[[Columns, int], list[Split]]

PROTOCOLS: dict[str, Protocol] = {
    "speaker": by_speaker,
    "session": by_session,
    "group": by_group,
    "corpus": by_corpus,
    "official": official,
    SHARED: official_shared,
    "cross": cross,
    FINAL: final,
}
"""Protocol -> function that returns the splits of a corpus; the number is K of `group-K`."""


def find_protocol(text: str) -> tuple[str, int]:
    """The row of `PROTOCOLS` that `text` names, and its number (0 if none); `ONLY` if one corpus trains alone.

    >>> find_protocol("group-5")
    ('group', 5)

    Raises:
        PipelineError: there is no such protocol.
    """
    match = re.fullmatch(r"(group)-([0-9]{1,6})", text)
    if match and int(match[2]) > 1:
        return match[1], int(match[2])
    if text.startswith(ONLY):
        return ONLY, 0
    if text == "group" or text not in PROTOCOLS:
        listed = f"speaker, session, official, {SHARED}, corpus, group-K (group-5) and {FINAL}"
        known = [name for name in PROTOCOLS if name != "group"]
        raise PipelineError(unknown("protocol", text, known, listed))
    return text, 0
