"""Small corpora on disk with the published file names of each corpus."""

from __future__ import annotations

import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ser_pipeline.corpora.corpus import Utterance

RATE = 16_000
IEMOCAP_CLASSES = {"neu": 1708, "hap": 595, "exc": 1041, "ang": 1103, "sad": 1084}
IEMOCAP_SPEAKERS = dict(zip(("1F", "1M", "2F", "2M", "3F"), (528, 557, 481, 542, 522), strict=True)) | dict(
    zip(("3M", "4F", "4M", "5F", "5M"), (629, 528, 503, 590, 651), strict=True)
)
IEMOCAP_TURNS = 10_039  # including turns with other labels
IMPROVISED = 2943


def noise(seed: int, seconds: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).integers(-8000, 8000, int(seconds * RATE), dtype=np.int16)


def write_wav(file: Path, samples: np.ndarray, rate: int = RATE, channels: int = 1) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # it may be a link to a file of another tree
    with wave.open(str(file), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.astype("<i2").tobytes())


def touch(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def write(root: Path, file: str, *lines: str) -> None:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def iemocap_labels(root: Path, dialogue: str, turns: Iterable[tuple[str, str]]) -> None:
    """Write a label file as in the release: a header, the turns, and the annotators' labels below each."""
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for number, (turn, label) in enumerate(turns):
        lines += [f"[{number}.2901 - {number + 1}.2357]\t{turn}\t{label}\t[2.5000, 2.5000, 2.5000]"]
        lines += ["C-E2:\tNeutral;\t()", "C-F1:\tNeutral; Sadness;\t()", "A-E3:\tval 3; act 2; dom  2;\t()", ""]
    write(root, f"Session{dialogue[4]}/dialog/EmoEvaluation/{dialogue}.txt", *lines)


def turn_wav(root: Path, turn: str) -> Path:
    return root / f"Session{turn[4]}" / "sentences" / "wav" / turn.rpartition("_")[0] / f"{turn}.wav"


def small_iemocap(root: Path, sessions: int = 3) -> Path:
    """Write two speakers per session in two dialogues, each with every class; the marker letter is wrong for half."""
    seed = 0
    for session in range(1, sessions + 1):
        for scene in ("F_impro01", "M_script01_1"):
            dialogue = f"Ses{session:02}{scene}"
            turns = [
                (f"{dialogue}_{speaker}{number:03}", label)
                for number, label in enumerate(("neu", "hap", "exc", "ang", "sad", "fru", "xxx"))
                for speaker in "FM"
            ]
            iemocap_labels(root, dialogue, turns)
            for turn, _ in turns:
                write_wav(turn_wav(root, turn), noise(seed))
                seed += 1
    return root


def full_iemocap(root: Path) -> Path:
    """Write all 10,039 turns with the published counts of classes, speakers and improvised turns; four have audio."""
    rng = np.random.default_rng(0)
    labels = rng.permutation([label for label, count in IEMOCAP_CLASSES.items() for _ in range(count)]).tolist()
    improvised = rng.permutation(np.arange(len(labels)) < IMPROVISED).tolist()
    others = IEMOCAP_TURNS - len(labels)
    dialogues: dict[str, list[tuple[str, str]]] = {}
    row = 0
    for place, (speaker, count) in enumerate(IEMOCAP_SPEAKERS.items()):
        extra = others // 10 + (place < others % 10)
        for number in range(count + extra):
            label, kind = ("fru", number % 2 == 0) if number >= count else (labels[row], improvised[row])
            scene = f"impro{number % 8 + 1:02}" if kind else f"script{number % 3 + 1:02}_{number % 2 + 1}"
            dialogue = f"Ses0{speaker[0]}{'FM'[number // 7 % 2]}_{scene}"
            turn = f"{dialogue}_{speaker[1]}{number:03}"
            dialogues.setdefault(dialogue, []).append((turn, label))
            if number < count:
                write_wav(turn_wav(root, turn), noise(row, 0.15), RATE // 2)
                row += 1
    for dialogue, turns in dialogues.items():
        iemocap_labels(root, dialogue, turns)
    return root


def utterance(number: int, **values: str) -> Utterance:
    filled = {"id": f"u{number:03}", "file": f"u{number:03}.wav", "emotion": "ab"[number % 2], "speaker": "s1"} | values
    return Utterance(**filled)  # type: ignore[arg-type]


def people(speakers: int, turns: int = 6, dialogues: int = 0, sessions: bool = False) -> list[Utterance]:
    """Return `turns` utterances of every speaker, in dialogues of their own session, sorted by speaker."""
    made = []
    for speaker in range(speakers):
        session = f"Session{speaker // 2 + 1}" if sessions else ""
        for turn in range(turns):
            dialogue = f"{session}d{turn % dialogues}" if dialogues else ""
            name = f"p{speaker + 1}"
            values = {"speaker": name, "session": session, "dialogue": dialogue, "id": f"{name}_{turn}"}
            made.append(utterance(turn, **values))
    return made
