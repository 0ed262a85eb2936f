"""IEMOCAP: ten actors in five sessions of two, improvised and scripted dialogues, 12 hours of English.

Layout: `Session1` .. `Session5`, each with `dialog/EmoEvaluation/DIALOGUE.txt` (labels) and
`sentences/wav/DIALOGUE/TURN.wav` (16 kHz, mono). In a turn `Ses01F_impro01_M003` the letter before the final number
is the speaker; the `F` or `M` after the session's number is who wore the motion-capture markers. A copy that has the
table `iemocap_full_dataset.csv` in the place of the label files is read as well.

Source: Busso et al., "IEMOCAP: interactive emotional dyadic motion capture database", Language Resources and
Evaluation 42, 2008; on request from the SAIL laboratory, University of Southern California. The expected counts are
those of the four-class task that the literature shares: happy and excited are one class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.corpora.corpus import Classes, Corpus, Subsets, Utterance
from ser_pipeline.corpora.layout import below, broken, lines, listed, table
from ser_pipeline.errors import PipelineError

LABELS = ("neu", "hap", "exc", "ang", "sad", "fru", "sur", "fea", "dis", "oth", "xxx")
"""The corpus's own labels; `xxx` is a turn without agreement."""

CLASSES: Classes = {"neutral": ("neu",), "happy": ("hap", "exc"), "angry": ("ang",), "sad": ("sad",)}

LABEL_FILES = ("Session*/dialog/EmoEvaluation/*.txt", "dialog/EmoEvaluation/*.txt")
TABLE = "iemocap_full_dataset.csv"

_LINE = re.compile(r"\[\d+\.\d+ - \d+\.\d+\]\t(\w+)\t(\w+)\t\[[^\]]+\]")
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
    """The turns of the copy that has one table in the place of the annotators' files."""
    for file in listed(root, TABLE)[:1]:
        for number, row in table(file, ("emotion", "path")):
            folder, _, name = row["path"].rpartition("/sentences/")
            turn = _TURN.fullmatch(name.rpartition("/")[2].removesuffix(".wav"))
            if not turn or row["emotion"] not in LABELS:
                raise broken(file, number, f"not a turn and its label: {row['path']} {row['emotion']}")
            yield _utterance(below(file.parent / folder, root) + "/", turn, row["emotion"])


def _dialogue(file: Path, root: Path) -> Iterator[Utterance]:
    folder = below(file.parents[2], root)
    prefix = "" if folder == "." else f"{folder}/"
    for number, line in enumerate(lines(file), 1):
        if not (line.startswith("[") or "\tSes" in line):
            continue  # the annotators' single judgements
        match = _LINE.fullmatch(line.rstrip())
        turn = match and _TURN.fullmatch(match[1])
        if not match or not turn or match[2] not in LABELS:
            raise broken(file, number, f"not a turn and its label: {line.strip()[:60]!r}")
        yield _utterance(prefix, turn, match[2])


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
)
