"""IEMOCAP: ten actors in five sessions of two, improvised and scripted dialogues, 12 hours of English.

Layout: `Session1` .. `Session5`, each with `dialog/EmoEvaluation/DIALOGUE.txt` (labels) and
`sentences/wav/DIALOGUE/TURN.wav` (16 kHz, mono). In a turn `Ses01F_impro01_M003`, the letter before the final number is
the speaker; the `F` or `M` after the session's number says who wore the motion-capture markers. The lines below a turn
contain the categories that each of three or four listeners chose (`C-E1: Anger; Frustration;`, where several categories
share one vote), and the valence, activation and dominance that listeners gave (`A-E1: val 2; act 4; dom  4;`), 1 to 5;
the turn's own line has their mean. The actors' judgements of themselves (`C-F1`, `A-M1`) are ignored, as they are in
the turn's own label. A copy with the table `iemocap_full_dataset.csv` in place of the label files can also be read,
without ratings.

Source: Busso et al., "IEMOCAP: interactive emotional dyadic motion capture database", Language Resources and
Evaluation 42, 2008; on request from the SAIL laboratory, University of Southern California. The expected counts are
those of the common four-class task: happy and excited are one class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ser_pipeline.corpora.corpus import Classes, Corpus, Subsets, Utterance
from ser_pipeline.corpora.layout import below, broken, inside, lines, listed, ratings_in, table
from ser_pipeline.corpora.ratings import Ratings, Vad, Votes, counted
from ser_pipeline.errors import PipelineError

LABELS = ("neu", "hap", "exc", "ang", "sad", "fru", "sur", "fea", "dis", "oth", "xxx")
"""The corpus's own labels; `xxx` is a turn without agreement."""

CLASSES: Classes = {"neutral": ("neu",), "happy": ("hap", "exc"), "angry": ("ang",), "sad": ("sad",)}

LABEL_FILES = ("Session*/dialog/EmoEvaluation/*.txt", "dialog/EmoEvaluation/*.txt")
TABLE = "iemocap_full_dataset.csv"

CATEGORIES = {
    "neutral": "neu",
    "neutral state": "neu",
    "happiness": "hap",
    "excited": "exc",
    "anger": "ang",
    "sadness": "sad",
    "frustration": "fru",
    "surprise": "sur",
    "surprised": "sur",
    "fear": "fea",
    "disgust": "dis",
    "other": "oth",
}
"""The listeners' choices in lower case -> label."""

SCALE = (1.0, 5.0)
"""Ends of valence, activation and dominance."""

ORDER = ("valence", "arousal", "dominance")
"""The order of the three in a line; the corpus calls arousal activation."""

_LINE = re.compile(r"\[\d+\.\d+ - \d+\.\d+\]\t(\w+)\t(\w+)\t\[([^\]]+)\]")
_CATEGORIES = re.compile(r"C-E\d+:\s*([^()]*)")
_ATTRIBUTES = re.compile(r"A-E\d+:\s*val\s+([\d.]+)\s*;\s*act\s+([\d.]+)\s*;\s*dom\s+([\d.]+)\s*;")
_TURN = re.compile(r"(Ses(\d\d)[FM]_(impro|script)\w*)_([FM])\w*\d+")
_SCENE = re.compile(r"script\d+(_\d+)?")


def read(root: Path) -> Iterator[Utterance]:
    """Every labelled turn; `root` is the release, its parent or one session."""
    files = listed(root, *LABEL_FILES)
    if not files and listed(root, TABLE):
        yield from _kaggle(root)
        return
    for file in files:
        yield from _dialogue(file, root)
    _require_labels(root)


def _kaggle(root: Path) -> Iterator[Utterance]:
    """The turns of a copy that has one table in place of the annotators' files."""
    for file in listed(root, TABLE)[:1]:
        for number, row in table(file, ("emotion", "path")):
            folder, _, name = row["path"].rpartition("/sentences/")
            turn = _TURN.fullmatch(name.rpartition("/")[2].removesuffix(".wav"))
            if not turn or row["emotion"] not in LABELS:
                raise broken(file, number, f"not a turn and its label: {row['path']} {row['emotion']}")
            yield _utterance(below(file.parent / inside(file, number, folder), root) + "/", turn, row["emotion"])


def _dialogue(file: Path, root: Path) -> Iterator[Utterance]:
    folder = below(file.parents[2], root)
    prefix = "" if folder == "." else f"{folder}/"
    text = lines(file)
    places = [place for place, line in enumerate(text) if line.startswith("[") or "\tSes" in line]
    for place, end in pairwise([*places, len(text)]):
        match = _LINE.fullmatch(text[place].rstrip())
        turn = match and _TURN.fullmatch(match[1])
        if not match or not turn or match[2] not in LABELS:
            raise broken(file, place + 1, f"not a turn and its label: {text[place].strip()[:60]!r}")
        votes, raters = _judged(file, place + 1, text[place + 1 : end])
        vad = Vad(ratings_in(file, place + 1, match[3].split(","), ORDER), SCALE, raters)
        yield replace(_utterance(prefix, turn, match[2]), votes=votes, vad=vad)


def _judged(file: Path, first: int, judgements: Sequence[str]) -> tuple[Votes, tuple[Ratings, ...]]:
    """The listeners' votes, and the attributes of each listener who gave all three.

    Args:
        file: the label file.
        first: number of lines before the judgements.
        judgements: the lines below a turn.
    """
    ballots, raters = list[list[str]](), list[Ratings]()
    for number, line in enumerate(judgements, first + 1):
        if chosen := _CATEGORIES.match(line):
            names = [name.strip().lower() for name in chosen[1].split(";") if name.strip()]
            if unknown := [name for name in names if name not in CATEGORIES]:
                raise broken(file, number, f"'{unknown[0]}' is not a category of IEMOCAP")
            ballots += [[CATEGORIES[name] for name in names]] if names else []
        elif given := _ATTRIBUTES.match(line):
            raters.append(ratings_in(file, number, given.groups(), ORDER))
    return counted(ballots), tuple(raters)


def _utterance(prefix: str, turn: re.Match[str], label: str) -> Utterance:
    dialogue, session = turn[1], int(turn[2])
    scene = _SCENE.search(dialogue)
    return Utterance(
        id=turn[0],
        file=f"{prefix}sentences/wav/{dialogue}/{turn[0]}.wav",
        emotion=label,
        speaker=f"{session}{turn[4]}",
        session=f"Session{session}",
        dialogue=dialogue,
        script=scene[0] if scene else "",
        language="en",
        gender={"F": "female", "M": "male"}[turn[4]],
    )


def _require_labels(root: Path) -> None:
    for folder in listed(root, "Session*/sentences/wav/Ses*", "sentences/wav/Ses*"):
        labels = folder.parents[2] / "dialog" / "EmoEvaluation" / f"{folder.name}.txt"
        if not labels.is_file():
            raise PipelineError(f"{labels} is missing, but its turns are in {folder}; copy it from the release")


SUBSETS: Subsets = {
    "improvised": lambda utterance: not utterance.script,
    "scripted": lambda utterance: bool(utterance.script),
}

# fmt: off
PARTS = {
    "Session1": 1085, "Session2": 1023, "Session3": 1151, "Session4": 1031, "Session5": 1241,
    "1F": 528, "1M": 557, "2F": 481, "2M": 542, "3F": 522, "3M": 629, "4F": 528, "4M": 503, "5F": 590, "5M": 651,
}
# fmt: on

IEMOCAP = Corpus(
    name="iemocap",
    title="IEMOCAP",
    read=read,
    classes=CLASSES,
    layout="Session1 .. Session5, each with dialog/EmoEvaluation/*.txt and sentences/wav/*/*.wav",
    source="Busso et al. 2008; on request from USC: https://sail.usc.edu/iemocap/",
    licence="academic research, signed release form",
    expected={"neutral": 1708, "happy": 1636, "angry": 1103, "sad": 1084},
    parts=PARTS,
    subsets=SUBSETS,
)

DEMO = Corpus(
    name="demo",
    title="demo (synthetic)",
    read=read,
    classes=CLASSES,
    layout=IEMOCAP.layout,
    source="written by `ser-pipeline features`; synthetic speech in IEMOCAP's layout",
    licence="MIT, as this project",
    subsets=SUBSETS,
    preset="demo",
    synthetic=True,
    about="""The demo: ten synthetic voices in five sessions of two speak 240 utterances in four emotions.

It serves first runs and tests without downloads. Its scores show that the pipeline works, and say nothing about human
speech.

Layout: that of IEMOCAP, with label files of the same form; a few additional turns belong to none of the four classes.

Source: `ser-pipeline features` generates it, the same on every machine; `ser_pipeline/corpora/demo.py` cites the
studies of the acoustic cues.
""",
)
