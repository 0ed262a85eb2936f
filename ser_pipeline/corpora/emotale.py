"""EmoTale: 18 speakers enact five Danish sentences in five emotions, 14 of them in English as well; 800 recordings.

Layout: `DK_004_A_5.wav` (48 kHz): language (DK or EN), speaker, emotion, sentence. A speaker has the same number in
both languages; the English sentences translate the Danish ones. `--subset danish|english` reads one language. The
optional `speaker_info.csv` has the speakers' gender and age. The optional `annotations.csv` has the judgements of three
raters on each recording: arousal, valence and dominance (`a1_A`, `a1_V`, `a1_D`, 1 to 5) and an emotion (`a1_cat`).

Source: Hjuler et al., "EmoTale: an enacted speech-emotion dataset in Danish", ASRU 2025; see
https://github.com/snehadas/EmoTale. The expected counts are those of its annotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.corpora.corpus import Corpus, Utterance, gender_of
from ser_pipeline.corpora.layout import age_in, broken, listed, named, ratings_in, table
from ser_pipeline.corpora.ratings import Vad, Votes, counted, mean_of

CODES = {"A": "anger", "B": "boredom", "H": "happiness", "N": "neutral", "S": "sadness"}
LANGUAGES = {"DK": "da", "EN": "en"}
RATERS = ("a1", "a2", "a3")
SCALE = (1.0, 5.0)


def read(root: Path) -> Iterator[Utterance]:
    """Every recording; `root` is the corpus or its parent."""
    known, rated = _speakers(root), dict(_annotations(root))
    for file, match in named(root, r"(DK|EN)_(\d{3})_([ABHNS])_([1-5])"):
        language, speaker, emotion, sentence = match.groups()
        script = f"{language}_{sentence}"
        gender, age = known.get(int(speaker), ("", None))
        votes, vad = rated.get(match[0], ((), None))
        yield Utterance(
            match[0],
            file,
            CODES[emotion],
            speaker,
            script=script,
            language=LANGUAGES[language],
            gender=gender,
            age=age,
            votes=votes,
            vad=vad,
        )


def _annotations(root: Path) -> Iterator[tuple[str, tuple[Votes, Vad | None]]]:
    """Recording and its ratings from `annotations.csv`; nothing without the file."""
    for file in listed(root, "annotations.csv")[:1]:
        for line, row in table(file, ("file", *(f"{one}_{what}" for one in RATERS for what in ("A", "V", "D", "cat")))):
            chosen = [row[f"{one}_cat"] for one in RATERS]
            if unknown := set(chosen) - {"", *CODES}:
                raise broken(file, line, f"'{min(unknown)}' is not one of {', '.join(CODES)}")
            raters = [
                ratings_in(file, line, [row[f"{one}_{what}"] for what in "AVD"]) for one in RATERS if row[f"{one}_A"]
            ]
            votes = counted([CODES[code]] for code in chosen if code)
            yield row["file"].removesuffix(".wav"), (votes, mean_of(raters, SCALE))


def _speakers(root: Path) -> dict[int, tuple[str, int | None]]:
    """Gender and age of each speaker from `speaker_info.csv`, numbered in its first column; empty without the file."""
    found: dict[int, tuple[str, int | None]] = {}
    for file in listed(root, "speaker_info.csv")[:1]:
        for line, row in table(file, ()):
            values = {name.lower(): text for name, text in row.items()}
            number = re.search(r"\d+", next(iter(row.values())))
            if number:
                age = age_in(file, line, values.get("age", ""))
                found[int(number[0])] = gender_of(values.get("gender", "")), age
    return found


BOTH = (1, *range(3, 14), 16, 17)
"""Numbers of the speakers who speak both languages."""

DANISH = (14, 15, 18, 19)
"""Numbers of the speakers who speak only Danish."""

EMOTALE = Corpus(
    name="emotale",
    title="EmoTale",
    read=read,
    classes={name: (name,) for name in CODES.values()},
    layout="DK_004_A_5.wav: language, speaker, emotion, sentence",
    source="Hjuler et al. 2025; https://github.com/snehadas/EmoTale",
    licence="on request, see its datasheet",
    expected=dict.fromkeys(CODES.values(), 160),
    parts={f"{number:03}": 50 if number in BOTH else 25 for number in sorted((*BOTH, *DANISH))},
    subsets={
        "danish": lambda utterance: utterance.language == "da",
        "english": lambda utterance: utterance.language == "en",
    },
)
