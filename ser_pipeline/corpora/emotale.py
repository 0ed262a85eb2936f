"""EmoTale: 18 speakers enact five Danish sentences in five emotions, 14 of them in English as well; 800 recordings.

Layout: `DK_004_A_5.wav` (48 kHz): language (DK or EN), speaker, emotion, sentence. A speaker has one number in both
languages; the English sentences translate the Danish ones. `--subset danish|english` reads one language.
`speaker_info.csv`, where it is there, has the speakers' gender and age.

Source: Hjuler et al., "EmoTale: an enacted speech-emotion dataset in Danish", ASRU 2025; see
https://github.com/snehadas/EmoTale. The expected counts are those of its annotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.corpora.corpus import Corpus, Utterance, gender_of
from ser_pipeline.corpora.layout import age_in, listed, named, table

CODES = {"A": "anger", "B": "boredom", "H": "happiness", "N": "neutral", "S": "sadness"}
LANGUAGES = {"DK": "da", "EN": "en"}


def read(root: Path) -> Iterator[Utterance]:
    """Every recording; `root` is the corpus or its parent."""
    known = _speakers(root)
    for file, match in named(root, r"(DK|EN)_(\d{3})_([ABHNS])_([1-5])"):
        language, speaker, emotion, sentence = match.groups()
        script = f"{language}_{sentence}"
        gender, age = known.get(int(speaker), ("", None))
        yield Utterance(
            match[0],
            file,
            CODES[emotion],
            speaker,
            script=script,
            language=LANGUAGES[language],
            gender=gender,
            age=age,
        )


def _speakers(root: Path) -> dict[int, tuple[str, int | None]]:
    """Gender and age of each speaker, by `speaker_info.csv`; its first column numbers them. Empty without the file."""
    found: dict[int, tuple[str, int | None]] = {}
    for file in listed(root, "speaker_info.csv")[:1]:
        for line, row in table(file, ()):
            values = {name.lower(): text for name, text in row.items()}
            number = re.search(r"\d+", next(iter(row.values())))
            if number:
                age = age_in(file, line, values.get("age", ""))
                found[int(number[0])] = gender_of(values.get("gender", "")), age
    return found


EMOTALE = Corpus(
    name="emotale",
    title="EmoTale",
    read=read,
    classes={name: (name,) for name in CODES.values()},
    layout="DK_004_A_5.wav: language, speaker, emotion, sentence",
    source="Hjuler et al. 2025; https://github.com/snehadas/EmoTale",
    licence="on request, see its datasheet",
    expected=dict.fromkeys(CODES.values(), 160),
    subsets={
        "danish": lambda utterance: utterance.language == "da",
        "english": lambda utterance: utterance.language == "en",
    },
)
