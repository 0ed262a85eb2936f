"""EMO-DB: ten German actors speak ten sentences in seven emotions, 535 recordings.

Layout: `wav/03a01Fa.wav` (16 kHz, mono): speaker, sentence, emotion by its German initial, take.

Source: Burkhardt et al., "A database of German emotional speech", Interspeech 2005; free from
http://emodb.bilderbar.info/. The expected counts are those of the published archive.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.corpora.layout import named

CODES = {
    "W": "anger",  # Ärger, Wut
    "L": "boredom",  # Langeweile
    "E": "disgust",  # Ekel
    "A": "fear",  # Angst
    "F": "happiness",  # Freude
    "T": "sadness",  # Trauer
    "N": "neutral",
}


KNOWN = {
    "03": ("male", 31),
    "08": ("female", 34),
    "09": ("female", 21),
    "10": ("male", 32),
    "11": ("male", 26),
    "12": ("male", 30),
    "13": ("female", 32),
    "14": ("female", 35),
    "15": ("male", 25),
    "16": ("female", 31),
}
"""Gender and age of each speaker, from the corpus's page."""


def read(root: Path) -> Iterator[Utterance]:
    """Every recording; `root` is the corpus, its parent or its `wav`."""
    for file, match in named(root, r"(\d\d)([ab]\d\d)([WLEAFTN])[a-f]?"):
        gender, age = KNOWN.get(match[1], ("", None))
        yield Utterance(
            match[0], file, CODES[match[3]], match[1], script=match[2], language="de", gender=gender, age=age
        )


# fmt: off
COUNTS = {
    "anger": 127, "boredom": 81, "disgust": 46, "fear": 69, "happiness": 71, "sadness": 62, "neutral": 79,
}
SPEAKERS = {
    "03": 49, "08": 58, "09": 43, "10": 38, "11": 55, "12": 35, "13": 61, "14": 69, "15": 56, "16": 71,
}
# fmt: on

EMODB = Corpus(
    name="emodb",
    title="EMO-DB",
    read=read,
    classes={name: (name,) for name in CODES.values()},
    layout="wav/03a01Fa.wav: speaker, sentence, emotion, take",
    source="Burkhardt et al. 2005; http://emodb.bilderbar.info/",
    licence="free to use, cite the paper",
    expected=COUNTS,
    parts=SPEAKERS,
)
