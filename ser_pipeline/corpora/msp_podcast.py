"""MSP-Podcast: stretches of English podcasts, rated by the crowd, with official speaker-independent partitions.

Layout: `Labels/labels_consensus.csv` and `Audios/MSP-PODCAST_0001_0008.wav` (16 kHz, mono): podcast, stretch, and
in later releases a part of it. Its `Split_Set` is Train, Development (Validation in early releases), Test1, Test2 or
Test3: `official` tests on Test1 and leaves Test2 and Test3 out. `O` (other) and `X` (no agreement) belong to no class;
`EmoAct`, `EmoVal` and `EmoDom` are means, 1 to 7. The optional `Labels/labels_detailed.csv` contains each worker's
answer on a line of its own, with `EmoClass_Major` (Happy, Other-amused) and the three attributes as columns, or, in
early releases, in `EmoDetail` ("WORKER1; Happy; Happy,Amused; A:5; V:4; D:4;"). The speaker of stretches without a
known speaker is `Unknown`. Counts differ from release to release, so none are expected.

Source: Lotfian and Busso, "Building naturalistic emotionally balanced speech corpus by retrieving emotional speech from
existing podcast recordings", IEEE Transactions on Affective Computing 10(4), 2019; on request from the MSP laboratory,
University of Texas at Dallas.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from ser_pipeline.corpora.corpus import Classes, Corpus, Utterance, gender_of
from ser_pipeline.corpora.layout import below, broken, inside, listed, ratings_in, table
from ser_pipeline.corpora.ratings import Ratings, Vad, counted, mean_of

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
"""Paths of the labels; releases up to 1.8 spell the name with a c."""

COLUMNS = ("FileName", "EmoClass", "SpkrID", "Split_Set")
ATTRIBUTES = ("EmoAct", "EmoVal", "EmoDom")
SCALE = (1.0, 7.0)

CATEGORIES = {
    "neutral": "N",
    "happy": "H",
    "sad": "S",
    "angry": "A",
    "surprise": "U",
    "fear": "F",
    "disgust": "D",
    "contempt": "C",
    "other": "O",
}
"""The workers' choices in lower case -> label; their own words follow `Other-`."""

_DETAIL = re.compile(r"[^;]*;\s*([^;]*);.*A:\s*([\d.]+);\s*V:\s*([\d.]+);\s*D:\s*([\d.]+)")

Judged = tuple[list[list[str]], list[Ratings]]
"""The workers' choices, and the attributes that they gave."""


def read(root: Path) -> Iterator[Utterance]:
    """Every labelled stretch; `root` is the release or its parent."""
    for file in listed(root, *LABEL_FILES)[:1]:
        release = file.parents[1] if file.parent.name == "Labels" else file.parent
        audio = below(release / "Audios", root)
        judged = _judged(file.parent)
        for line, row in table(file, COLUMNS):
            if row["EmoClass"] not in LABELS or row["Split_Set"] not in SPLITS or not row["FileName"]:
                found = ", ".join(row[name] for name in COLUMNS)
                raise broken(file, line, f"not a file, its label, its speaker and its part: {found}")
            name = row["FileName"].rpartition(".")[0]
            ballots, raters = judged.get(row["FileName"], ([], []))
            yield Utterance(
                id=name,
                file=f"{audio}/{inside(file, line, row['FileName'])}",
                emotion=row["EmoClass"],
                speaker=row["SpkrID"] or "Unknown",
                dialogue=_podcast(name),
                split=SPLITS[row["Split_Set"]],
                language="en",
                gender=gender_of(row.get("Gender", "").replace("Unknown", "")),
                votes=counted(ballots),
                vad=_mean(file, line, row, raters),
            )


def _mean(file: Path, line: int, row: Mapping[str, str], raters: list[Ratings]) -> Vad | None:
    """The attributes in a stretch's line, or the mean of its workers' if the line has none.

    Args:
        file: the table of consensus labels.
        line: number of the line.
        row: its columns.
        raters: attributes from each worker.
    """
    if not all(row.get(name) for name in ATTRIBUTES):
        return mean_of(raters, SCALE)
    return Vad(ratings_in(file, line, [row[name] for name in ATTRIBUTES]), SCALE, tuple(raters))


def _judged(folder: Path) -> Mapping[str, Judged]:
    """File -> each worker's answers; empty without the detailed table."""
    found: dict[str, Judged] = defaultdict(lambda: ([], []))
    for file in listed(folder, "labels_detailed.csv")[:1]:
        for line, row in table(file, ("FileName",)):
            ballots, raters = found[row["FileName"]]
            if detail := _DETAIL.match(row.get("EmoDetail", "")):
                choice, *texts = detail.groups()
            else:
                choice, texts = row.get("EmoClass_Major", ""), [row.get(name, "") for name in ATTRIBUTES]
            word = re.split(r"[-\s(]", choice.strip().lower())[0]
            if word:
                ballots.append([CATEGORIES.get(word, "O")])
            if all(texts):
                raters.append(ratings_in(file, line, texts))
    return found


def _podcast(name: str) -> str:
    """The podcast of a stretch: the first of its two or three numbers.

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
    splits=("train", "validation", "test"),
)
