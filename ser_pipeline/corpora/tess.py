"""TESS: two Canadian actresses, 26 and 64 years old, say 200 words in seven emotions; 2,800 recordings.

Layout: `OAF_angry/OAF_back_angry.wav` (24.4 kHz, mono): actress, word, emotion (`ps` is pleasant surprise). One file of
the release is named `OA_bite_neutral.wav`; its speaker is OAF.

Source: Pichora-Fuller and Dupuis, "Toronto emotional speech set (TESS)", 2020; free from
https://doi.org/10.5683/SP2/E8H2MF, which states the expected counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.corpora.corpus import Classes, Corpus, Utterance
from ser_pipeline.corpora.layout import named

CLASSES: Classes = {
    "neutral": ("neutral",),
    "happy": ("happy",),
    "sad": ("sad",),
    "angry": ("angry",),
    "fear": ("fear",),
    "disgust": ("disgust",),
    "surprise": ("ps",),
}


def read(root: Path) -> Iterator[Utterance]:
    """Every recording; `root` is the corpus, its parent or one of its folders."""
    for file, match in named(root, r"(OA|YA)F?_(\w+)_(angry|disgust|fear|happy|neutral|ps|sad)"):
        speaker, word, emotion = match.groups()
        name, age = f"{speaker}F", 64 if speaker == "OA" else 26
        yield Utterance(
            f"{name}_{word}_{emotion}", file, emotion, name, script=word, language="en", gender="female", age=age
        )


TESS = Corpus(
    name="tess",
    title="TESS",
    read=read,
    classes=CLASSES,
    layout="OAF_angry/OAF_back_angry.wav: actress, word, emotion",
    source="Pichora-Fuller and Dupuis 2020; https://doi.org/10.5683/SP2/E8H2MF",
    licence="CC BY-NC-ND 4.0",
    expected=dict.fromkeys(CLASSES, 400),
    parts={"OAF": 1400, "YAF": 1400},
)
