"""Class tables: parsed from the command line, found in a corpus, shared by two corpora."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ser_pipeline.corpora.corpus import Classes, Utterance
from ser_pipeline.errors import PipelineError


def parse_classes(text: str) -> Classes:
    """Classes from `NAME` or `NAME=LABEL+LABEL`, separated by commas.

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
    """A class for each label that occurs, sorted by name."""
    return {label: (label,) for label in sorted({utterance.emotion for utterance in utterances})}


def shared_classes(first: Sequence[str], second: Sequence[str]) -> dict[str, str]:
    """Label of `second` -> the label of `first` with the same meaning, in the order of `first`.

    >>> shared_classes(("neutral", "angry"), ("anger", "boredom", "neutral"))
    {'neutral': 'neutral', 'anger': 'angry'}

    Raises:
        PipelineError: fewer than two classes have the same meaning.
    """
    meaning = {_meaning(label): label for label in second}
    shared = {meaning[_meaning(label)]: label for label in first if _meaning(label) in meaning}
    if len(shared) < 2:
        raise PipelineError(
            f"the corpora share {len(shared)} classes ({', '.join(first)}; {', '.join(second)}); "
            "name shared ones with --classes"
        )
    return shared


def is_emotion(name: str) -> bool:
    """Whether `name` is a word for an emotion that corpora have.

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
"""Label -> one word for its meaning."""

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
"""Words by which a folder is known to be an emotion's, in small letters."""
