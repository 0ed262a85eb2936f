"""The definition of a corpus: plain records, and one pure function that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ser_pipeline.corpora.ratings import ELSEWHERE, Vad, Votes, merged, votes_for_classes
from ser_pipeline.text import parse_float

Classes = Mapping[str, tuple[str, ...]]
"""Class name -> the corpus's own labels that belong to it; its order is the class order everywhere."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One labelled stretch of speech."""

    id: str  # unique in the corpus
    file: str  # path below the corpus folder, with forward slashes
    emotion: str  # the corpus's own label, or a class after `choose`; "" for a rated utterance without a class
    speaker: str
    session: str = ""  # a recording session; "" if the corpus has none
    dialogue: str = ""  # one recording of a conversation; "" if the corpus has none
    script: str = ""  # the text that was acted: a sentence or a scripted scene; "" if improvised
    split: str = ""  # "train", "validation" or "test" if the corpus has an official split
    language: str = ""  # ISO 639-1 code
    start: float | None = None  # seconds into the file; None for its beginning
    end: float | None = None  # seconds into the file; None for its end
    gender: str = ""  # of the speaker: "female", "male" or another word; "" if unknown
    age: int | None = None  # of the speaker, in years; None if unknown
    corpus: str = ""  # name of its corpus if several are joined; "" for a single corpus
    votes: Votes = ()  # votes of raters for labels, or for classes after `choose`; () if unknown
    vad: Vad | None = None  # arousal, valence and dominance; None if unknown


PERSONAL = ("gender", "age")
"""Fields of an utterance by which scores are broken down; no feature and no training depends on them."""

RATED = ("votes", "vad")
"""Fields of an utterance from which targets may be computed; no feature depends on them."""


def gender_of(text: str) -> str:
    """Normalise a gender.

    >>> gender_of("F"), gender_of("man"), gender_of("non-binary")
    ('female', 'male', 'non-binary')
    """
    word = text.strip().lower()
    return {"f": "female", "woman": "female", "m": "male", "man": "male"}.get(word, word)


def age_of(text: str) -> int | None:
    """An age in whole years; None for an empty text.

    >>> age_of("31"), age_of(" ")
    (31, None)

    Raises:
        ValueError: not a number from 0 to 150.
    """
    if not text.strip():
        return None
    years = parse_float(text)
    if not 0 <= years <= 150:
        raise ValueError(f"'{text}' is not an age")
    return int(years)


Subsets = Mapping[str, Callable[[Utterance], bool]]


@dataclass(frozen=True)
class Corpus:
    """A corpus: how to read it, what to cite, and which counts to expect."""

    name: str
    title: str
    read: Callable[[Path], Iterator[Utterance]]  # every labelled utterance, with the corpus's own labels
    classes: Classes  # empty: every label that is found, sorted
    layout: str  # description of its folder, for errors and `ser-pipeline corpora`
    source: str  # where to get it, and what to cite
    licence: str
    expected: Mapping[str, int] = field(default_factory=dict)  # class -> utterances, as published
    parts: Mapping[str, int] = field(default_factory=dict)  # session, speaker or split -> utterances, as published
    speakers: tuple[str, ...] = ()  # all speakers, if published and not listed in `parts`
    splits: tuple[str, ...] = ()  # parts of the official split, if not listed in `parts`
    subsets: Subsets = field(default_factory=dict)  # name -> which utterances `--subset` keeps
    subset: str = ""  # the default subset; "" reads everything
    preset: str = "paper"  # preset that suits it
    synthetic: bool = False  # whether it was synthesised
    about: str = ""  # description; by default the documentation of the module of `read`

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in their order."""
        return tuple(self.classes)


def choose(utterances: Iterable[Utterance], classes: Classes, rated: bool = False) -> Iterator[Utterance]:
    """Utterances whose label belongs to a class, with classes in place of labels, also in their votes.

    Args:
        utterances: utterances with the corpus's labels.
        classes: class -> labels.
        rated: whether to keep utterances without a class (emotion "") that have votes for a class, or attributes.

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
