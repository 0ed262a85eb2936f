"""What a corpus is: plain records, and one pure function that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ser_pipeline.corpora.ratings import ELSEWHERE, Vad, Votes, merged, votes_for_classes
from ser_pipeline.text import parse_float

Classes = Mapping[str, tuple[str, ...]]
"""Class name -> the corpus's own labels that it merges; its order is the class order everywhere."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One labelled stretch of speech."""

    id: str  # unique in the corpus
    file: str  # path below the corpus folder, with forward slashes
    emotion: str  # the corpus's own label, or a class after `choose`; "" of one that was rated, but has no class
    speaker: str
    session: str = ""  # a recording session; "" where the corpus has none
    dialogue: str = ""  # one recording of a conversation; "" where the corpus has none
    script: str = ""  # the text that was acted: a sentence or a scripted scene; "" when improvised
    split: str = ""  # "train", "validation" or "test" where the corpus has an official split
    language: str = ""  # ISO 639-1 code
    start: float | None = None  # seconds into the file; None: from its beginning
    end: float | None = None  # seconds into the file; None: to its end
    gender: str = ""  # of the speaker: "female", "male" or another word; "" where it is not known
    age: int | None = None  # years of the speaker; None where it is not known
    corpus: str = ""  # which one it is of where several are joined; "" in a corpus by itself
    votes: Votes = ()  # of raters for labels, or for classes after `choose`; () where it is not known
    vad: Vad | None = None  # arousal, valence and dominance; None where it is not known


PERSONAL = ("gender", "age")
"""Fields of an utterance that scores are told apart by, and on which no feature and no training depends."""

RATED = ("votes", "vad")
"""Fields of an utterance that a target may be made of, and on which no feature depends."""


def gender_of(text: str) -> str:
    """A gender as records have it.

    >>> gender_of("F"), gender_of("man"), gender_of("non-binary")
    ('female', 'male', 'non-binary')
    """
    word = text.strip().lower()
    return {"f": "female", "woman": "female", "m": "male", "man": "male"}.get(word, word)


def age_of(text: str) -> int | None:
    """An age in whole years; None of an empty text.

    >>> age_of("31"), age_of(" ")
    (31, None)

    Raises:
        ValueError: not a number of 0 to 150 years.
    """
    if not text.strip():
        return None
    years = parse_float(text)
    if not 0 <= years <= 150:
        raise ValueError(f"'{text}' is no age")
    return int(years)


Subsets = Mapping[str, Callable[[Utterance], bool]]


@dataclass(frozen=True)
class Corpus:
    """A corpus: how to read it, what to cite, and what to expect."""

    name: str
    title: str
    read: Callable[[Path], Iterator[Utterance]]  # every labelled utterance, with the corpus's own labels
    classes: Classes  # empty: every label that is found, sorted
    layout: str  # what lies below its folder, for errors and `ser-pipeline corpora`
    source: str  # where it can be had, and what to cite
    licence: str
    expected: Mapping[str, int] = field(default_factory=dict)  # class -> utterances, as published
    parts: Mapping[str, int] = field(default_factory=dict)  # session, speaker or split -> utterances, as published
    speakers: tuple[str, ...] = ()  # who speaks, where it is published and `parts` does not say it
    splits: tuple[str, ...] = ()  # of the official split, where `parts` does not say it
    subsets: Subsets = field(default_factory=dict)  # name -> which utterances `--subset` keeps
    subset: str = ""  # the one that is read unless another is asked for; "": everything
    preset: str = "paper"  # settings that suit it
    synthetic: bool = False  # True: no human spoke it

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in their order."""
        return tuple(self.classes)


def choose(utterances: Iterable[Utterance], classes: Classes, rated: bool = False) -> Iterator[Utterance]:
    """The utterances whose label belongs to a class, with the class as their emotion and in the place of their votes.

    Args:
        utterances: with the corpus's labels.
        classes: class -> labels.
        rated: whether those of no class are kept, with "" for it, that have votes for a class, or attributes.

    >>> one = Utterance("a", "a.wav", "exc", "1F")
    >>> [u.emotion for u in choose([one], {"happy": ("hap", "exc")})]
    ['happy']
    """
    to_class = {label: name for name, merged in classes.items() for label in merged}
    for utterance in utterances:
        votes = merged(utterance.votes, to_class)
        name = to_class.get(utterance.emotion, ELSEWHERE)
        if name or (rated and (votes_for_classes(votes) or utterance.vad)):
            yield replace(utterance, emotion=name, votes=votes)
