"""ESD: ten Mandarin and ten English speakers say 350 sentences in five emotions; 35,000 recordings.

Layout: `0001/Angry/0001_000351.wav` (16 kHz, mono), in some copies with the parts `train`, `evaluation` and `test` as
folders below the emotion. The number determines emotion, sentence and part: 1 to 350 neutral, then angry, happy, sad
and surprise; of each 350, the first 20 are for evaluation, the next 30 for test, and the others for training. All
speakers of a language say the same sentences, and the parts of the official split share speakers. Speakers 0001 to 0010
speak Mandarin.

Source: Zhou et al., "Emotional voice conversion: theory, databases and ESD", Speech Communication 137, 2022; free from
https://github.com/HLTSingapore/Emotional-Speech-Data. The expected counts are the paper's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.corpora.layout import named

LABELS = ("neutral", "angry", "happy", "sad", "surprise")
"""Emotions in the order of the file numbers."""

SENTENCES = 350  # per emotion
VALIDATION, TEST = 20, 50  # the first sentences of an emotion, up to these numbers
MANDARIN = 10  # number of the last Mandarin speaker
WOMEN = (1, 2, 3, 7, 9, 15, 16, 17, 18, 19)
"""Numbers of the speakers whom the corpus's description calls female; the others are male."""


def read(root: Path) -> Iterator[Utterance]:
    """Every recording; `root` is the corpus, its parent or one speaker's folder."""
    for file, match in named(root, r"(00[012]\d)_(\d{6})"):
        emotion, sentence = divmod(int(match[2]) - 1, SENTENCES)
        if not 0 <= emotion < len(LABELS):
            continue
        language = "zh" if int(match[1]) <= MANDARIN else "en"
        yield Utterance(
            id=match[0],
            file=file,
            emotion=LABELS[emotion],
            speaker=match[1],
            script=f"{language}-{sentence + 1:03}",
            split="validation" if sentence < VALIDATION else "test" if sentence < TEST else "train",
            language=language,
            gender="female" if int(match[1]) in WOMEN else "male",
        )


ESD = Corpus(
    name="esd",
    title="ESD",
    read=read,
    classes={label: (label,) for label in LABELS},
    layout="0001 .. 0020, each with Angry/0001_000351.wav and so on",
    source="Zhou et al. 2022; https://github.com/HLTSingapore/Emotional-Speech-Data",
    licence="research only, signed licence",
    expected=dict.fromkeys(LABELS, 7000),
    parts={f"{speaker:04}": 1750 for speaker in range(1, 21)},
    subsets={
        "english": lambda utterance: utterance.language == "en",
        "mandarin": lambda utterance: utterance.language == "zh",
    },
)
