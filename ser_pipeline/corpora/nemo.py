"""nEMO: nine actors speak 90 Polish sentences in six emotions; 4,481 recordings.

Layout: `data.tsv` (labels and texts) next to `samples/WR0_surprised_64.wav` (24 kHz, mono): speaker, emotion, sentence.

Source: Christop, "nEMO: dataset of emotional speech in Polish", LREC-COLING 2024; free from
https://github.com/amu-cai/nEMO. The expected counts are the paper's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.corpora.corpus import Classes, Corpus, Utterance, gender_of
from ser_pipeline.corpora.layout import age_in, below, broken, inside, listed, table

CLASSES: Classes = {
    "anger": ("anger",),
    "fear": ("fear",),
    "happiness": ("happiness",),
    "sadness": ("sadness",),
    "surprise": ("surprised",),
    "neutral": ("neutral",),
}


def read(root: Path) -> Iterator[Utterance]:
    """Every row of `data.tsv`; `root` is the corpus or its parent."""
    labels = {label for merged in CLASSES.values() for label in merged}
    for file in listed(root, "data.tsv")[:1]:
        for line, row in table(file, ("file_id", "emotion", "speaker_id", "normalized_text")):
            if row["emotion"] not in labels or not row["file_id"] or not row["speaker_id"]:
                raise broken(file, line, f"not a recording and its label: {row['file_id']} {row['emotion']}")
            yield Utterance(
                id=row["file_id"].removesuffix(".wav"),
                file=below(file.parent / "samples" / inside(file, line, row["file_id"]), root),
                emotion=row["emotion"],
                speaker=row["speaker_id"],
                script=row["normalized_text"],
                language="pl",
                gender=gender_of(row.get("gender", "")),
                age=age_in(file, line, row.get("age", "")),
            )


NEMO = Corpus(
    name="nemo",
    title="nEMO",
    read=read,
    classes=CLASSES,
    layout="data.tsv beside samples/WR0_surprised_64.wav: speaker, emotion, sentence",
    source="Christop 2024; https://github.com/amu-cai/nEMO",
    licence="CC BY-NC-SA 4.0",
    speakers=("EB0", "IC0", "KD0", "KS0", "MK0", "MP0", "SM0", "TP0", "WR0"),
    expected={"anger": 749, "fear": 736, "happiness": 749, "sadness": 769, "surprise": 669, "neutral": 809},
)
