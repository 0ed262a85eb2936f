"""Malformed tables and label files of corpora: changed bytes, cells and columns."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from ser_pipeline.corpora import CORPORA, read_corpus
from support import trees
from support.fuzz_targets import other_bytes

CELLS = ("", " ", '"', "a,b", "a;b", "\ufeff", "\x00", "\u2028", "\x85", "../x", "/etc/passwd", "1e308", "-1", "nan")
CELLS += ("9" * 400, "A" * 5_000, "é", "Happy", "happy", "\t", "\r", "C:\\a\\b.wav", "=1+1")
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-16", "cp1252", "utf-8-sig")

FILES = tuple(f"{number}.wav" for number in range(6))
TABLE = [f"{file},{'sad' if number % 2 else 'happy'},{number % 3},0,1" for number, file in enumerate(FILES)]
LABELS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "table": {
        "my.csv": ("file,emotion,speaker,start,end", *TABLE),
        "my.tsv": tuple(line.replace(",", "\t") for line in ("file,emotion,speaker,start,end", *TABLE)),
        "my.jsonl": tuple(json.dumps({"file": file, "emotion": "sad", "speaker": file[0]}) for file in FILES),
    },
    "nemo": {
        "data.tsv": (
            "file_id\temotion\tspeaker_id\tnormalized_text\tgender\tage",
            "WR0_surprised_38.wav\tsurprised\tWR0\tala ma kota\tfemale\t30",
            "KD0_fear_2.wav\tfear\tKD0\tkot\tmale\t24",
        )
    },
    "msp-podcast": {
        "Labels/labels_consensus.csv": (
            "FileName,EmoClass,SpkrID,Split_Set",
            "MSP-PODCAST_0001_0008.wav,N,12,Train",
            "MSP-PODCAST_0002_0003.wav,A,,Test1",
        )
    },
    "meld": {
        f"{part}_sent_emo.csv": ("Speaker,Emotion,Dialogue_ID,Utterance_ID", "Joey,joy,0,0", "Ross,anger,0,1")
        for part in ("train", "dev", "test")
    },
    "cremad": {
        "summaryTable.csv": ("FileName,VoiceVote", "1001_DFA_ANG_XX,A", "1040_ITH_SAD_X,N:S"),
        "VideoDemographics.csv": ("ActorID,Age,Sex,Race", "1001,51,Male,x", "1040,23,Female,x"),
    },
    "emotale": {"speaker_info.csv": ("speaker,gender,age", "4,F,23")},
    "iemocap": {
        "iemocap_full_dataset.csv": (
            "session,method,gender,emotion,n_annotators,agreement,path",
            "1,impro,M,neu,3,2,Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav",
        )
    },
}
"""Corpus -> its label files, as lines."""

AUDIO: Mapping[str, tuple[str, ...]] = {
    "table": FILES,
    "nemo": ("samples/WR0_surprised_38.wav", "samples/KD0_fear_2.wav"),
    "msp-podcast": ("Audios/MSP-PODCAST_0001_0008.wav", "Audios/MSP-PODCAST_0002_0003.wav"),
    "meld": tuple(f"{part}_splits/dia0_utt{number}.wav" for part in ("train", "dev", "test") for number in (0, 1)),
    "cremad": ("AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1040_ITH_SAD_X.wav"),
    "emotale": ("audio/DK_004_A_5.wav", "audio/EN_004_B_1.wav"),
    "iemocap": ("Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav",),
}

NAMES = (
    "03a01Fa.wav",
    "03-01-06-01-02-01-12.wav",
    "1001_DFA_ANG_XX.wav",
    "OAF_back_angry.wav",
    "DC_a01.wav",
    "DK_004_A_5.wav",
    "SM1_F10_A010.wav",
    "0001_000351.wav",
    "dia0_utt0.wav",
)
"""File names of corpora whose labels are in the names."""


def other_lines(lines: tuple[str, ...], suffix: str, rng: random.Random) -> bytes:
    """Return a table's lines with some removed, repeated, longer, or with an odd cell, in one of several encodings."""
    found = list(lines)
    mark = "\t" if suffix == ".tsv" else ","
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(found)) if found else 0
        kind = rng.randrange(6)
        if kind == 0 and found:
            del found[place]
        elif kind == 1 and found:
            found.insert(place, found[place])
        elif kind == 2 and found:
            found[place] += mark + rng.choice(CELLS)
        elif kind == 3:
            found = [line.replace(mark, rng.choice((";", "|", "\t"))) for line in found]
        elif found:
            cells = found[place].split(mark)
            cells[rng.randrange(len(cells))] = rng.choice(CELLS)
            found[place] = mark.join(cells)
    text = rng.choice(("\n", "\n", "\r\n", "\r")).join(found) + "\n"
    data = text.encode(rng.choice(ENCODINGS), "replace")
    return other_bytes(data, rng) if rng.random() < 0.4 else data


def of_labels(folder: Path) -> Callable[[random.Random], None]:
    """Feed tables and the label files of every corpus that has any."""
    for corpus, files in LABELS.items():
        trees.touch(folder / corpus, *AUDIO[corpus])
        for file, lines in files.items():
            trees.write(folder / corpus, file, *lines)
    _iemocap(folder / "turns")

    def feed(rng: random.Random) -> None:
        corpus = rng.choice([*LABELS, "turns"])
        name = corpus if corpus != "turns" else "iemocap"
        kept = {path.relative_to(folder / corpus): path for path in (folder / corpus).rglob("*") if path.stat().st_size}
        choices = LABELS.get(corpus) or {TURNS: tuple((folder / "turns.txt").read_text(encoding="utf-8").split("\n"))}
        file = rng.choice(list(choices))
        assert Path(file) in kept
        place = folder / corpus / file
        good = place.read_bytes()
        place.write_bytes(other_lines(choices[file], place.suffix, rng) or b"\n")
        try:
            read_corpus(name, place if name == "table" else folder / corpus, check_audio=rng.random() < 0.5)
        finally:
            place.write_bytes(good)

    return feed


TURNS = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"


def _iemocap(root: Path) -> None:
    """Write a dialogue of IEMOCAP with its label file, and a copy of the label file next to `root`."""
    turns = [(f"Ses01F_impro01_{speaker}{number:03}", "neu") for number in range(3) for speaker in "FM"]
    trees.iemocap_labels(root, "Ses01F_impro01", turns)
    trees.touch(root, *(str(trees.turn_wav(root, turn).relative_to(root)) for turn, _ in turns))
    (root.parent / "turns.txt").write_bytes((root / TURNS).read_bytes())


def of_names(folder: Path) -> Callable[[random.Random], None]:
    """Feed recordings with almost the names of a corpus whose labels are in the names."""
    readers = sorted(set(CORPORA) - set(LABELS) - {"demo"} | {"cremad-intended", "meld", "folder"})

    def feed(rng: random.Random) -> None:
        room = folder / str(rng.randrange(1 << 40))
        for _ in range(rng.choice((1, 3))):
            name = other_bytes(rng.choice(NAMES).encode(), rng)[:200].replace(b"\x00", b"0").replace(b"/", b"-")
            file = Path(str(room / rng.choice(("", "wav", "Angry", "AudioData/DC")))) / (name or b"0").decode(
                "utf-8", "surrogateescape"
            )
            if file.name in (".", "..") or not file.name:
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                file.touch()
        room.mkdir(exist_ok=True)
        try:
            read_corpus(rng.choice(readers), room)
        finally:
            shutil.rmtree(room)

    return feed
