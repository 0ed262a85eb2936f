"""SAVEE: four British men speak 15 sentences per emotion (30 neutral) in seven emotions; 480 recordings.

Layout: `AudioData/DC/a01.wav` (44.1 kHz, mono): the folder is the speaker, the letters are the emotion, the number is
the sentence; or all files in one folder as `DC_a01.wav`.

Source: Haq and Jackson, "Multimodal emotion recognition", in: Machine Audition, IGI Global, 2010; on request from
http://kahlan.eps.surrey.ac.uk/savee/, which states the expected counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.corpora.layout import named

SPEAKERS = ("DC", "JE", "JK", "KL")
CODES = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}


def read(root: Path) -> Iterator[Utterance]:
    """Every recording; `root` is the corpus, its parent or one speaker's folder."""
    for file, match in named(root, r"(?:(DC|JE|JK|KL)_)?(sa|su|[adfhn])(\d\d)"):
        speaker = match[1] or (root / file).parent.name
        if speaker in SPEAKERS:
            sentence = f"{match[2]}{match[3]}"
            yield Utterance(
                f"{speaker}_{sentence}", file, CODES[match[2]], speaker, script=sentence, language="en", gender="male"
            )


SAVEE = Corpus(
    name="savee",
    title="SAVEE",
    read=read,
    classes={name: (name,) for name in CODES.values()},
    layout="DC/a01.wav, or DC_a01.wav: speaker (DC, JE, JK, KL), emotion, sentence",
    source="Haq and Jackson 2010; http://kahlan.eps.surrey.ac.uk/savee/",
    licence="free for research, registration",
    expected={name: 120 if name == "neutral" else 60 for name in CODES.values()},
    parts=dict.fromkeys(SPEAKERS, 120),
)
