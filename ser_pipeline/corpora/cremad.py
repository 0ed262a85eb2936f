"""CREMA-D: 91 actors speak twelve English sentences in six emotions; 7,442 recordings rated by the crowd.

Layout: `AudioWAV/1001_DFA_ANG_XX.wav` (16 kHz, mono): actor, sentence, intended emotion, intended intensity (LO, MD,
HI, or XX for unspecified). `processedResults/summaryTable.csv` contains the votes of listeners who heard only the
voice; `A:D` is a tie. The optional `processedResults/tabulatedVotes.csv` has the number of votes for each emotion, in
rows whose number begins with 1 for voice only (2: face, 3: both). The optional `VideoDemographics.csv` has the actors'
sex and age. Two corpora are defined: `cremad` uses the listeners' majority (a tie has no class), `cremad-intended` the
intended emotion, which most publications use.

Source: Cao et al., "CREMA-D: crowd-sourced emotional multimodal actors dataset", IEEE Transactions on Affective
Computing 5(4), 2014; free from https://github.com/CheyneyComputerScience/CREMA-D. The expected counts are those of
the file names there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ser_pipeline.corpora.corpus import Classes, Corpus, Subsets, Utterance, gender_of
from ser_pipeline.corpora.layout import age_in, broken, listed, named, table
from ser_pipeline.corpora.ratings import Votes, merged
from ser_pipeline.errors import PipelineError

NAMES = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
ACTORS = tuple(str(number) for number in range(1001, 1092))
DEMOGRAPHICS = "VideoDemographics.csv"
VOTES = "processedResults/summaryTable.csv"
TABULATED = "processedResults/tabulatedVotes.csv"
VOICE = "1"
"""First digit of the row numbers of listeners who saw no face."""


def read_intended(root: Path) -> Iterator[Utterance]:
    """Every recording with the intended emotion; `root` is the corpus, its parent or its `AudioWAV`."""
    actors = {
        row["ActorID"]: (gender_of(row["Sex"]), age_in(found, line, row["Age"]))
        for found in listed(root, DEMOGRAPHICS)[:1]
        for line, row in table(found, ("ActorID", "Age", "Sex"))
    }
    tabulated = _tabulated(root)
    for file, match in named(root, r"(1\d{3})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX|X)"):
        if "AudioMP3/" not in file:  # the same recordings in another format
            gender, age = actors.get(match[1], ("", None))
            yield Utterance(
                match[0],
                file,
                match[3],
                match[1],
                script=match[2],
                language="en",
                gender=gender,
                age=age,
                votes=tabulated.get(match[0], ()),
            )


def read(root: Path) -> Iterator[Utterance]:
    """Every recording with the emotion that most listeners heard; `root` is the corpus or its parent."""
    recordings = list(read_intended(root))
    if not recordings:
        return
    votes, letters = _votes(root), {code: code[0] for code in NAMES}
    for recording in recordings:
        if recording.id in votes:
            yield replace(recording, emotion=votes[recording.id], votes=merged(recording.votes, letters))


def _tabulated(root: Path) -> dict[str, Votes]:
    """Recording -> number of voice-only listeners who chose each emotion; empty without the table."""
    found: dict[str, Votes] = {}
    for file in listed(root, TABULATED, f"data/InfoAndStats/{TABULATED}", "tabulatedVotes.csv")[:1]:
        for line, row in table(file, ("", "fileName", *(code[0] for code in NAMES))):
            counts = [(code, row[code[0]]) for code in NAMES]
            if not all(count.isdecimal() for _, count in counts):
                raise broken(file, line, f"not counts of votes: {', '.join(count for _, count in counts)}")
            if row[""].startswith(VOICE):
                found[row["fileName"]] = tuple((code, float(count)) for code, count in counts if count != "0")
    return found


def _votes(root: Path) -> dict[str, str]:
    files = listed(root, VOTES, f"data/InfoAndStats/{VOTES}", "summaryTable.csv")
    if not files:
        raise PipelineError(
            f"{root} has no {VOTES}, the listeners' votes; copy it from the repository, "
            "or use the corpus cremad-intended, which has the intended emotions"
        )
    votes = {}
    for line, row in table(files[0], ("FileName", "VoiceVote")):
        if not set(row["VoiceVote"]) <= set("ADFHNS:") or not row["VoiceVote"]:
            raise broken(files[0], line, f"not a vote: '{row['VoiceVote']}'")
        votes[row["FileName"]] = row["VoiceVote"]
    return votes


def _classes(length: int) -> Classes:
    return {name: (code[:length],) for code, name in NAMES.items()}


SUBSETS: Subsets = {
    "low": lambda utterance: utterance.id.endswith("_LO"),
    "medium": lambda utterance: utterance.id.endswith("_MD"),
    "high": lambda utterance: utterance.id.endswith("_HI"),
}

CREMAD = Corpus(
    name="cremad",
    title="CREMA-D",
    read=read,
    classes=_classes(1),
    layout=f"AudioWAV/1001_DFA_ANG_XX.wav and {VOTES}",
    source="Cao et al. 2014; https://github.com/CheyneyComputerScience/CREMA-D",
    licence="Open Database License",
    speakers=ACTORS,
    subsets=SUBSETS,
)

CREMAD_INTENDED = Corpus(
    name="cremad-intended",
    title="CREMA-D, intended",
    read=read_intended,
    classes=_classes(3),
    layout="AudioWAV/1001_DFA_ANG_XX.wav: actor, sentence, emotion, intensity",
    source=CREMAD.source,
    licence=CREMAD.licence,
    speakers=ACTORS,
    expected={name: 1087 if name == "neutral" else 1271 for name in NAMES.values()},
    subsets=SUBSETS,
)
