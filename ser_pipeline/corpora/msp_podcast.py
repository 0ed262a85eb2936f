"""MSP-Podcast: stretches of English podcasts, rated by the crowd, with official speaker-independent partitions.

Layout: `Labels/labels_consensus.csv` and `Audios/MSP-PODCAST_0001_0008.wav` (16 kHz, mono): podcast, stretch, and
in later releases a part of it. Its
`Split_Set` is Train, Development (Validation in early releases), Test1, Test2 or Test3: `official` tests on Test1 and
leaves Test2 and Test3 out. `O` (other) and `X` (no agreement) belong to no class. Stretches without a known speaker are
said to be spoken by `Unknown`. Counts differ from release to release, so none are expected.

Source: Lotfian and Busso, "Building naturalistic emotionally balanced speech corpus by retrieving emotional speech from
existing podcast recordings", IEEE Transactions on Affective Computing 10(4), 2019; on request from the MSP laboratory,
University of Texas at Dallas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.corpora.corpus import Classes, Corpus, Utterance
from ser_pipeline.corpora.layout import below, broken, listed, table

CLASSES: Classes = {
    "neutral": ("N",),
    "happiness": ("H",),
    "sadness": ("S",),
    "anger": ("A",),
    "surprise": ("U",),
    "fear": ("F",),
    "disgust": ("D",),
    "contempt": ("C",),
}
LABELS = ("N", "H", "S", "A", "U", "F", "D", "C", "O", "X")
SPLITS = {
    "Train": "train",
    "Development": "validation",
    "Validation": "validation",
    "Test1": "test",
    "Test2": "",
    "Test3": "",
}
LABEL_FILES = tuple(
    folder + name for name in ("labels_consensus.csv", "labels_concensus.csv") for folder in ("Labels/", "")
)
"""Where the labels are; releases up to 1.8 spell the name with a c."""

COLUMNS = ("FileName", "EmoClass", "SpkrID", "Split_Set")


def read(root: Path) -> Iterator[Utterance]:
    """Every labelled stretch; `root` is the release or its parent."""
    for file in listed(root, *LABEL_FILES)[:1]:
        release = file.parents[1] if file.parent.name == "Labels" else file.parent
        audio = below(release / "Audios", root)
        for line, row in table(file, COLUMNS):
            if row["EmoClass"] not in LABELS or row["Split_Set"] not in SPLITS or not row["FileName"]:
                found = ", ".join(row[name] for name in COLUMNS)
                raise broken(file, line, f"not a file, its label, its speaker and its part: {found}")
            name = row["FileName"].rpartition(".")[0]
            yield Utterance(
                id=name,
                file=f"{audio}/{row['FileName']}",
                emotion=row["EmoClass"],
                speaker=row["SpkrID"] or "Unknown",
                dialogue=_podcast(name),
                split=SPLITS[row["Split_Set"]],
                language="en",
            )


def _podcast(name: str) -> str:
    """The podcast that a stretch is of: the first of its two or three numbers.

    >>> _podcast("MSP-PODCAST_0001_0008"), _podcast("MSP-PODCAST_1023_0018_0003")
    ('MSP-PODCAST_0001', 'MSP-PODCAST_1023')
    """
    match = re.match(r".*?_\d+(?=_)", name)
    return match[0] if match else name


MSP_PODCAST = Corpus(
    name="msp-podcast",
    title="MSP-Podcast",
    read=read,
    classes=CLASSES,
    layout="Labels/labels_consensus.csv and Audios/MSP-PODCAST_0001_0008.wav",
    source="Lotfian and Busso 2019; on request: https://www.lab-msp.com/MSP/MSP-Podcast.html",
    licence="academic licence, signed agreement",
)
