"""MELD: 13,708 turns of the TV series Friends in seven emotions, with an official split that shares its speakers.

Layout: `train_sent_emo.csv`, `dev_sent_emo.csv` and `test_sent_emo.csv` (labels), and the turns `dia0_utt0` in
`train_splits`, `dev_splits_complete` and `output_repeated_splits_test`. The release is video, whose sound ffmpeg reads
if it is installed. Sound that was extracted next to it is preferred, and is read faster:
`for f in */dia*.mp4; do ffmpeg -i "$f" -vn -ac 1 -ar 16000 "${f%.mp4}.wav"; done`. Two turns have no sound: the video
of `dia125_utt3` in train is broken, and `dia110_utt7` in dev is missing. They are left out unless sound is found; the
broken video is not read.

Source: Poria et al., "MELD: a multimodal multi-party dataset for emotion recognition in conversations", ACL 2019; free
from https://affective-meld.github.io. The expected counts are the paper's, over the three parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ser_pipeline.containers import ffmpeg
from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.corpora.layout import AUDIO, below, broken, listed, named, table

LABELS = ("neutral", "joy", "sadness", "anger", "surprise", "fear", "disgust")
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
SPLITS = {"train": "train", "dev": "validation", "test": "test"}
VIDEO = (".mp4",)
ABSENT = ("train_dia125_utt3", "dev_dia110_utt7")
COLUMNS = ("Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")


def read(root: Path) -> Iterator[Utterance]:
    """Every labelled turn of the available parts; `root` is the release or its parent."""
    tables = {part: listed(root, f"{part}_sent_emo.csv", f"*/{part}_sent_emo.csv")[:1] for part in FOLDERS}
    if not any(tables.values()):
        return
    audio = _audio(root)
    for part, files in tables.items():
        for file in files:
            for line, row in table(file, COLUMNS):
                utterance = _utterance(part, row, audio, file, root, line)
                if utterance.id in audio or utterance.id not in ABSENT:
                    yield utterance


def _audio(root: Path) -> dict[str, str]:
    """Path of every turn with audio or video that can be decoded; its part is the nearest folder that names one."""
    paths: dict[str, str] = {}
    for endings in (AUDIO, VIDEO if ffmpeg.there() else ()):
        for file, match in named(root, r"dia\d+_utt\d+", endings):
            parts = re.findall(r"train|dev|test", file.rpartition("/")[0])
            name = f"{parts[-1]}_{match[0]}" if parts else ""
            if parts and (endings == AUDIO or name not in {*paths, *ABSENT}):
                paths[name] = file
    return paths


def _utterance(
    part: str, row: Mapping[str, str], audio: Mapping[str, str], file: Path, root: Path, line: int
) -> Utterance:
    dialogue, number = row["Dialogue_ID"], row["Utterance_ID"]
    if row["Emotion"] not in LABELS or not dialogue.isdigit() or not number.isdigit() or not row["Speaker"]:
        raise broken(file, line, f"not a turn and its label: dia{dialogue}_utt{number} {row['Emotion']}")
    name = f"dia{dialogue}_utt{number}"
    place = below(file.parent / FOLDERS[part] / f"{name}.wav", root)
    return Utterance(
        id=f"{part}_{name}",
        file=audio.get(f"{part}_{name}", place),
        emotion=row["Emotion"],
        speaker=row["Speaker"],
        dialogue=f"{part}_dia{dialogue}",
        split=SPLITS[part],
        language="en",
    )


PARTS = {"train": 9989, "validation": 1109, "test": 2610}
SPEAKERS = {"Joey": 2070, "Ross": 2048, "Rachel": 1955, "Phoebe": 1797, "Monica": 1782, "Chandler": 1763}
"""Turns of the six most frequent speakers, of 304 names in all."""

MELD = Corpus(
    name="meld",
    title="MELD",
    read=read,
    classes={label: (label,) for label in LABELS},
    layout="train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv and dia0_utt0.wav in train_splits, ...",
    source="Poria et al. 2019; https://affective-meld.github.io",
    licence="GPL 3.0 (labels; the video is not)",
    expected={
        "neutral": 6436,
        "joy": 2308,
        "sadness": 1002,
        "anger": 1607,
        "surprise": 1636,
        "fear": 358,
        "disgust": 361,
    },
    parts=PARTS | SPEAKERS,
)
