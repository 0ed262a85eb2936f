"""Names and wordings of the report."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ser_pipeline.inputs import INPUTS, PAPER
from ser_pipeline.runs.records import RunHeader
from ser_pipeline.splits.protocols import ONLY
from ser_pipeline.text import plural

PROTOCOLS = {
    "speaker": "leave one speaker out",
    "session": "leave one session out",
    "official": "official split",
    "official-shared": "official split, speakers shared",
    "cross": "across corpora",
    "corpus": "leave one corpus out",
    "own": "own folds",
    "final": "one model trained on everything, not tested",
}

EPOCHS = {
    "validation": "best on validation",
    "test": "best on the test fold",
    "reference": "by the published code's protocol",
    "last": "last",
}
"""Selection of the epoch -> its name."""

WAYS = {
    "log-probability": "mean log-probability",
    "probability": "mean probability",
    "vote": "majority of segments",
    "duration": "mean log-probability, weighted by length",
}

DIVISIONS = {
    "corpus": "Corpus",
    "gender": "Gender",
    "age": "Age",
    "language": "Language",
    "speaker": "Speaker",
    "session": "Session",
    "style": "Style",
    "duration": "Duration",
    "segments": "Segments",
}


def epoch(selection: str) -> str:
    """The name of a selection of the epoch.

    >>> epoch("last")
    'last'
    """
    return EPOCHS.get(selection, selection)


def protocol(name: str) -> str:
    """The name of a protocol in words.

    >>> protocol("speaker"), protocol("group-5"), protocol("only-emodb")
    ('leave one speaker out', '5 groups of speakers', 'trained only on emodb')
    """
    if name.startswith(ONLY):
        return f"trained only on {name.removeprefix(ONLY)}"
    group = re.fullmatch(r"group-(\d+)", name)
    return f"{group[1]} groups of speakers" if group else PROTOCOLS.get(name, name)


def clusters(name: str, number: int, crossed: bool) -> str:
    """The clusters that a protocol's intervals are computed from, in words.

    Args:
        name: of the protocol.
        number: of clusters.
        crossed: whether the intervals also cover seeds.

    >>> clusters("session", 5, False), clusters("official", 24, True)
    ('5 sessions', '24 speakers and the seeds')
    """
    if crossed:
        return f"{plural(number, 'speaker')} and the seeds"
    if name.startswith("group-"):
        return plural(number, "group") + " of speakers"
    return plural(number, name if name in ("speaker", "session") else "fold")


def inputs(names: Sequence[str]) -> str:
    """The inputs of a model as the paper names them.

    >>> inputs(("mfcc", "waveform")), inputs(("embedding", "logmel"))
    ('MFCC + W2E', 'log-mel + frozen W2E')
    """
    if set(names) == set(PAPER):
        return "all three"
    return " + ".join(map(input_name, sorted(names, key=input_place)))


LEGEND = {
    "full": "full: the complete model of its preset, with which others are compared.",
    "w2e": "w2e: the frames of a speech encoder (wav2vec 2.0 in the paper).",
    "mean": "-mean: these frames are averaged instead of weighted by co-attention.",
}
"""Meaning of parts of a model's name."""


def legend(names: Sequence[str]) -> str:
    """The meaning of the parts of the models' names.

    >>> legend(["mfcc", "w2e"])
    'w2e: the frames of a speech encoder (wav2vec 2.0 in the paper).'
    """
    parts = {part for name in names for part in name.split(" ")[0].split("-")}
    return " ".join(told for part, told in LEGEND.items() if part in parts)


def input_name(name: str) -> str:
    """The report's name of an input; an unknown input keeps its name."""
    return INPUTS[name].words if name in INPUTS else name


def input_place(name: str) -> tuple[int, str]:
    """Sort key of an input: those of the paper first, unknown ones last."""
    known = [*PAPER, *INPUTS]
    return known.index(name) if name in known else len(known), name


def experiment(header: RunHeader) -> str:
    """An experiment in words: protocol, test corpus, preset and target."""
    where = f", tested on {header.test_corpus}" if header.test_corpus else ""
    target = "" if header.target.name == "class" else f", target {header.target.name}"
    return f"{protocol(header.protocol)}{where}, preset {header.preset}{target}"


def slug(words: str) -> str:
    """Text as part of a link or of a file name.

    >>> slug("Leave one speaker out, preset paper")
    'leave-one-speaker-out-preset-paper'
    """
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
