"""Classes: parse them from the command line, find them in a corpus, merge them over several corpora."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ser_pipeline.corpora.corpus import Classes, Utterance
from ser_pipeline.errors import PipelineError
from ser_pipeline.names import guess
from ser_pipeline.text import few


def parse_classes(text: str) -> Classes:
    """Parse classes from `NAME` or `NAME=LABEL+LABEL`, separated by commas.

    >>> parse_classes("neutral,happy=hap+exc")
    {'neutral': ('neutral',), 'happy': ('hap', 'exc')}

    Raises:
        PipelineError: an empty or repeated name, a label in two classes, or fewer than two classes.
    """
    classes: dict[str, tuple[str, ...]] = {}
    for part in text.split(","):
        name, equals, merged = (piece.strip() for piece in part.partition("="))
        labels = tuple(label.strip() for label in merged.split("+")) if equals else (name,)
        if not name or not all(labels) or name in classes:
            raise PipelineError(f"cannot read the classes at '{part}'; write them as neutral,happy=hap+exc,sad")
        classes[name] = labels
    twice = [label for label, count in Counter(sum(classes.values(), ())).items() if count > 1]
    if twice:
        raise PipelineError(f"label '{twice[0]}' belongs to two classes; name each label once")
    if len(classes) < 2:
        raise PipelineError(f"'{text}' is one class; name at least two, such as neutral,happy=hap+exc,sad")
    return classes


def found_classes(utterances: Iterable[Utterance]) -> Classes:
    """One class for each label that occurs, sorted by name."""
    return {label: (label,) for label in sorted({utterance.emotion for utterance in utterances} - {""})}


Merged = Mapping[str, Mapping[str, str]]
"""Corpus -> its label -> the class in the joined corpora; labels without a class are left out."""


def shared_classes(labels: Mapping[str, Sequence[str]]) -> Merged:
    """The classes that all corpora have, by the meanings of their labels, with the first corpus's names and order.

    >>> shared_classes({"one": ("neutral", "angry"), "other": ("anger", "boredom", "neutral")})
    {'one': {'neutral': 'neutral', 'angry': 'angry'}, 'other': {'anger': 'angry', 'neutral': 'neutral'}}

    Args:
        labels: labels of each corpus.

    Raises:
        PipelineError: the corpora have fewer than two meanings in common.
    """
    common = set.intersection(*({_meaning(label) for label in own} for own in labels.values()))
    names: dict[str, str] = {}
    for label in next(iter(labels.values())):
        if _meaning(label) in common:
            names.setdefault(_meaning(label), label)
    if len(names) < 2:
        listed = "; ".join(", ".join(own) for own in labels.values())
        raise PipelineError(f"the corpora share {len(names)} classes ({listed}); name shared ones with --classes")
    return {
        corpus: {label: names[_meaning(label)] for label in own if _meaning(label) in names}
        for corpus, own in labels.items()
    }


def chosen_classes(labels: Mapping[str, Sequence[str]], classes: Classes) -> Merged:
    """Apply `classes`, whose labels stand for all labels with the same meaning; not every corpus needs every class.

    >>> chosen_classes({"one": ("joy", "bored"), "other": ("happy", "calm")}, {"happy": ("happy",), "low": ("bored",)})
    {'one': {'joy': 'happy', 'bored': 'low'}, 'other': {'happy': 'happy'}}

    Args:
        labels: labels of each corpus.
        classes: class -> labels that belong to it.

    Raises:
        PipelineError: a label that no corpus has, a label that fits two classes, or a corpus without any of them.
    """
    known = {label for own in labels.values() for label in own}
    listed = few(sorted(known), 20)
    exact = {label: name for name, merged in classes.items() for label in merged}
    for label in exact:
        if not any(label == other or _meaning(label) == _meaning(other) for other in known):
            raise PipelineError(f"--classes: no corpus has '{label}'; {guess(label, known)}known: {listed}")
    merged = {
        corpus: {label: name for label in own if (name := _class_of(label, exact))} for corpus, own in labels.items()
    }
    if empty := [corpus for corpus, names in merged.items() if not names]:
        raise PipelineError(f"--classes leaves nothing of {empty[0]}, whose classes are {', '.join(labels[empty[0]])}")
    return merged


def _class_of(label: str, exact: Mapping[str, str]) -> str:
    """The class of `label`, by its name or else by its meaning; "" if there is none."""
    if label in exact:
        return exact[label]
    alike = sorted({name for other, name in exact.items() if _meaning(other) == _meaning(label)})
    if len(alike) > 1:
        raise PipelineError(f"--classes: '{label}' could be {' or '.join(alike)}; write {alike[0]}={label}+… for one")
    return alike[0] if alike else ""


def is_emotion(name: str) -> bool:
    """Whether `name` is a word that corpora use for an emotion.

    >>> is_emotion("Happy"), is_emotion("Actor_01")
    (True, False)
    """
    return name.strip().lower() in WORDS


def _meaning(label: str) -> str:
    return SYNONYMS.get(label.lower(), label.lower())


SYNONYMS = {
    **dict.fromkeys(("angry", "ang", "wut"), "anger"),
    **dict.fromkeys(("happy", "hap", "joy", "joyful"), "happiness"),
    **dict.fromkeys(("sad",), "sadness"),
    **dict.fromkeys(("neu",), "neutral"),
    **dict.fromkeys(("fearful", "fea", "anxiety"), "fear"),
    **dict.fromkeys(("disgusted", "dis"), "disgust"),
    **dict.fromkeys(("surprised", "sur", "pleasant surprise"), "surprise"),
    **dict.fromkeys(("bored",), "boredom"),
}
"""Label -> a word for its meaning."""

WORDS = {*SYNONYMS, *SYNONYMS.values()} | {
    *("calm", "contempt", "confusion", "excited", "excitement", "exc", "frustrated", "frustration", "fru", "laughter"),
    *("freude", "trauer", "angst", "ekel", "langeweile", "ärger", "neutralität", "überraschung", "love", "stress"),
    *(
        "positive",
        "negative",
        "other",
        "unhappy",
        "anxious",
        "relaxed",
        "sarcasm",
        "pride",
        "shame",
        "sleepy",
        "amused",
    ),
}
"""Lower-case words that identify a folder as an emotion's."""
