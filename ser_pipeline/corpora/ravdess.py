"""RAVDESS: 24 actors speak and sing two English sentences in eight emotions; 1,440 spoken recordings.

Layout: `Actor_12/03-01-06-01-02-01-12.wav` (48 kHz, a few files stereo): modality, channel (01 speech, 02 song),
emotion, intensity (01 normal, 02 strong), statement, repetition, actor (odd numbers are men). Neutral has no strong
intensity. Speech is read unless `--subset` selects another part; `--classes neutral=neutral+calm,...` merges the two
quiet classes.

Source: Livingstone and Russo, "The Ryerson audio-visual database of emotional speech and song", PLOS ONE 13(5), 2018;
free from https://zenodo.org/records/1188976, which states the expected counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.corpora.layout import named

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""Emotions in the order of their codes, from 01."""

SPEECH, SONG = "01", "02"
NORMAL, STRONG = "01", "02"


def read(root: Path) -> Iterator[Utterance]:
    """Every recording, spoken and sung; `root` is the corpus, its parent or one actor's folder."""
    for file, match in named(root, r"03-0[12]-(0[1-8])-0[12]-(0[12])-0[12]-(\d\d)"):
        emotion, statement, actor = match.groups()
        yield Utterance(
            match[0],
            file,
            LABELS[int(emotion) - 1],
            actor,
            script=statement,
            language="en",
            gender="male" if int(actor) % 2 else "female",
        )


def _channel(utterance: Utterance) -> str:
    return utterance.id.split("-")[1]


def _intensity(utterance: Utterance) -> str:
    return utterance.id.split("-")[3]


RAVDESS = Corpus(
    name="ravdess",
    title="RAVDESS",
    read=read,
    classes={label: (label,) for label in LABELS},
    layout="Actor_01 .. Actor_24, each with files such as 03-01-06-01-02-01-12.wav",
    source="Livingstone and Russo 2018; https://zenodo.org/records/1188976",
    licence="CC BY-NC-SA 4.0",
    expected={label: 96 if label == "neutral" else 192 for label in LABELS},
    parts={f"{actor:02}": 60 for actor in range(1, 25)},
    subsets={
        "speech": lambda utterance: _channel(utterance) == SPEECH,
        "song": lambda utterance: _channel(utterance) == SONG,
        "normal": lambda utterance: _channel(utterance) == SPEECH and _intensity(utterance) == NORMAL,
        "strong": lambda utterance: _channel(utterance) == SPEECH and _intensity(utterance) == STRONG,
    },
    subset="speech",
)
