"""URDU: 400 stretches of Urdu talk shows, spoken by 18 men and 11 women, in four emotions.

Layout: `Angry/SM1_F10_A010.wav`: speaker, the speaker's file number, emotion and number. There are no scripts, since
it is spontaneous speech, and the show of each stretch is not published.

Source: Latif et al., "Cross lingual speech emotion recognition: Urdu vs. western languages", FIT 2018; free from
https://github.com/siddiquelatif/URDU-Dataset, which states the expected counts. Its description
counts 27 men; the release contains stretches of 18 of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.corpora.layout import named

CODES = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}


def read(root: Path) -> Iterator[Utterance]:
    """Every stretch; `root` is the corpus, its parent or one emotion's folder."""
    for file, match in named(root, r"(S[MF]\d+)_F\d+_([AHNS])\d+"):
        gender = "female" if match[1].startswith("SF") else "male"
        yield Utterance(match[0], file, CODES[match[2]], speaker=match[1], language="ur", gender=gender)


# fmt: off
SPEAKERS = {
    "SF1": 12, "SF2": 2, "SF3": 2, "SF4": 4, "SF5": 4, "SF6": 14, "SF7": 6, "SF8": 2, "SF9": 4, "SF10": 2,
    "SF11": 4, "SM1": 22, "SM2": 28, "SM3": 12, "SM4": 48, "SM5": 80, "SM6": 14, "SM7": 28, "SM17": 2, "SM18": 2,
    "SM19": 2, "SM20": 10, "SM21": 4, "SM22": 2, "SM23": 6, "SM24": 38, "SM25": 40, "SM26": 2, "SM27": 4,
}
# fmt: on
"""Speaker -> number of stretches in the release."""

URDU = Corpus(
    name="urdu",
    title="URDU",
    read=read,
    classes={name: (name,) for name in CODES.values()},
    layout="Angry, Happy, Neutral, Sad, each with files such as SM1_F10_A010.wav",
    source="Latif et al. 2018; https://github.com/siddiquelatif/URDU-Dataset",
    licence="research only",
    expected=dict.fromkeys(CODES.values(), 100),
    parts=SPEAKERS,
)
