"""EmoTale: 18 speakers enact five Danish sentences in five emotions, 14 of them in English as well; 800 recordings.

Layout: `DK_004_A_5.wav` (48 kHz): language (DK or EN), speaker, emotion, sentence. A speaker has one number in both
languages; the English sentences translate the Danish ones. `--subset danish|english` reads one language.

Source: Hjuler et al., "EmoTale: an enacted speech-emotion dataset in Danish", ASRU 2025; see
https://github.com/snehadas/EmoTale. The expected counts are those of its annotations.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.corpora.layout import named

CODES = {"A": "anger", "B": "boredom", "H": "happiness", "N": "neutral", "S": "sadness"}
LANGUAGES = {"DK": "da", "EN": "en"}


def read(root: Path) -> Iterator[Utterance]:
    """Every recording; `root` is the corpus or its parent."""
    for file, match in named(root, r"(DK|EN)_(\d{3})_([ABHNS])_([1-5])"):
        language, speaker, emotion, sentence = match.groups()
        script = f"{language}_{sentence}"
        yield Utterance(match[0], file, CODES[emotion], speaker, script=script, language=LANGUAGES[language])


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
