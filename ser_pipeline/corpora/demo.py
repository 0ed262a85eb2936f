"""A synthetic corpus of ten speakers and four emotions, written in IEMOCAP's folders and label files.

It serves first runs and tests without downloads. Emotions change pitch, loudness, pace, voice quality and articulation
in the directions on which listeners and actors agree. Each utterance expresses its emotion more or less strongly, and
each speaker has a voice and a microphone.

Source: directions of the cues, Scherer (2003), Speech Communication 40; Juslin and Laukka (2003), Psychological
Bulletin 129; for the smile, Tartter (1980), Perception and Psychophysics 27. The sizes are ours, chosen so that classes
overlap about as much as in recorded speech.
"""

from __future__ import annotations

import shutil
import wave
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from itertools import chain, groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ser_pipeline import __version__
from ser_pipeline.corpora.voice import SAMPLE_RATE, Style, Voice, speak
from ser_pipeline.errors import PipelineError

SESSIONS = 5
DIALOGUES = ("F_impro01", "M_impro01", "F_script01_1", "M_script01_1", "F_impro04", "M_impro06")
"""Who wears the markers, and the scene; both speakers of a session talk in each dialogue."""

COUNTED = ("neu", "ang", "sad", "hap", "neu", "exc")
"""Labels of the four classes with their relative frequencies in IEMOCAP; `hap` and `exc` are one class."""

FEWEST = 4
"""Minimum utterances for a speaker to have each of the four classes, in the order above."""

LEFT_OUT = ("xxx", "fru")
"""Labels outside the four classes, of a few additional turns: no agreement, and frustration."""

# fmt: off
EMOTIONS = {
    #           pitch  span  final  loudness  rate  tilt  breath  rough.  smile  slack  pause
    "neu": Style( 0.0,  2.2,  -2.0,      0.0,  0.0,  0.0,    0.0,    0.0,   0.0,   0.2,   0.0),
    "ang": Style( 3.0,  4.0,  -3.0,      6.0,  0.1,  1.3,   -5.0,    1.5, -0.03,   0.0,  -0.4),
    "sad": Style(-1.0,  0.8,  -1.5,     -5.0, -0.3, -0.9,    7.0,    0.6, -0.01,   0.4,   0.8),
    "hap": Style( 3.5,  4.5,   2.0,      2.0,  0.1,  0.3,    1.0,    0.0,  0.08,   0.1,  -0.1),
    "exc": Style( 5.5,  6.0,   1.5,      5.0,  0.2,  0.5,    0.0,    0.2,  0.07,   0.0,  -0.5),
    "fru": Style( 1.0,  2.5,  -3.0,      2.0, -0.1,  0.5,   -1.0,    0.6, -0.02,   0.2,   0.3),
    "xxx": Style( 1.0,  2.5,   0.0,      1.0,  0.0,  0.2,    1.0,    0.3,  0.01,   0.2,   0.0),
}
SPREAD = Style(   1.0,  0.7,   1.1,      1.8, 0.11, 0.30,    1.8,    0.4,  0.02,   0.1,   0.3)
# fmt: on
"""Style of each emotion at full strength, and the standard deviation of utterances around it."""

STRENGTH = (0.6, 1.3)
"""Smallest and largest strength of an emotion in one utterance, 1 for the values above."""

AFFECT = {
    "neu": (3.0, 2.5, 2.5),
    "ang": (1.9, 3.7, 4.0),
    "sad": (2.2, 2.2, 2.6),
    "hap": (4.0, 3.0, 3.0),
    "exc": (4.1, 3.8, 3.3),
    "fru": (2.3, 2.9, 3.1),
    "xxx": (2.8, 2.8, 2.9),
}
"""Mean valence, activation and dominance, 1 to 5."""

RATERS = 2
"""Number of annotators who rate these three attributes; three choose a label."""

RATER_SPREAD = 0.6
"""Standard deviation of an annotator around a turn's own value."""

FAINT = 0.4
"""Strength up to which the third annotator never agrees with the other two."""

NAMES = {
    "neu": "Neutral state",
    "ang": "Anger",
    "sad": "Sadness",
    "hap": "Happiness",
    "exc": "Excited",
    "fru": "Frustration",
}
"""The annotators' name for each label."""

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
README = """\
Synthetic speech, made by ser-pipeline {version} from seed {seed}.

No person speaks here. Pulses and noise through moving filters imitate voices without words, and simple rules colour
them by emotion. The folders and label files are laid out as in IEMOCAP, so that the same reader reads them.

The corpus shows that software runs. Results on it are no evidence about people, about emotion, or about how well a
method works on recorded speech.
"""


@dataclass(frozen=True)
class Turn:
    """One utterance to be spoken."""

    session: int  # from 1
    dialogue: str  # one of DIALOGUES
    speaker: str  # F or M
    number: int  # among the speaker's turns in the dialogue, from 0
    index: int  # among the speaker's turns in the corpus, from 0
    emotion: str

    @property
    def recording(self) -> str:
        """The name of the dialogue in file names."""
        return f"Ses{self.session:02}{self.dialogue}"

    @property
    def name(self) -> str:
        """The name of the turn in file names."""
        return f"{self.recording}_{self.speaker}{self.number:03}"


def write(
    root: Path,
    seed: int = 0,
    utterances_per_speaker: int = 24,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the corpus to `root`, which is complete or absent; an existing corpus is not changed.

    Args:
        root: the folder to create.
        seed: 0 or more; the same seed gives the same bytes.
        utterances_per_speaker: utterances in the four classes, at least 4; one in 12 is added outside the classes.
        progress: called after each utterance with the number written, and the total.

    Raises:
        PipelineError: too few utterances.
    """
    if utterances_per_speaker < FEWEST:
        raise PipelineError(f"{utterances_per_speaker} utterances per speaker are too few; request at least {FEWEST}")
    if root.exists():
        return
    partial = root.with_name(f"{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    turns = list(script(seed, utterances_per_speaker))
    dialogues = (record(partial, list(group), seed) for _, group in groupby(turns, lambda turn: turn.recording))
    for done, _ in enumerate(chain.from_iterable(dialogues), 1):
        if progress:
            progress(done, len(turns))
    (partial / "README.txt").write_text(README.format(version=__version__, seed=seed), encoding="utf-8")
    partial.rename(root)


def script(seed: int, utterances_per_speaker: int) -> Iterator[Turn]:
    """Yield who speaks where: the speakers of a session take turns, dialogue after dialogue."""
    for session in range(1, SESSIONS + 1):
        emotions = {speaker: moods(seed, session, speaker, utterances_per_speaker) for speaker in "FM"}
        parts = np.array_split(np.arange(len(emotions["F"])), len(DIALOGUES))
        for dialogue, part in zip(DIALOGUES, parts, strict=True):
            for number, index in enumerate(part.tolist()):
                for speaker in "FM" if dialogue.startswith("F") else "MF":
                    yield Turn(session, dialogue, speaker, number, index, emotions[speaker][index])


def moods(seed: int, session: int, speaker: str, utterances: int) -> list[str]:
    """Emotions of a speaker's turns: `utterances` of the four classes, each at least once, and some others.

    Args:
        seed: seed of the corpus.
        session: number from 1 on.
        speaker: "F" or "M".
        utterances: number of utterances in the four classes.
    """
    rng = generator(seed, session, speaker, 1)
    fixed = max(FEWEST, utterances * 2 // 3)
    turns = [COUNTED[turn % len(COUNTED)] for turn in range(fixed)]
    turns += [COUNTED[pick] for pick in rng.integers(len(COUNTED), size=utterances - fixed)]
    turns += [LEFT_OUT[(session + turn) % len(LEFT_OUT)] for turn in range(max(1, utterances // 12))]
    return [turns[place] for place in rng.permutation(len(turns))]


def generator(seed: int, session: int, speaker: str, stream: int) -> np.random.Generator:
    """Random numbers that depend only on the arguments: `stream` 0 is a speaker's voice, 1 the script, then the turns.

    Args:
        seed: seed of the corpus.
        session: number from 1 on.
        speaker: "F" or "M".
        stream: purpose of the numbers.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, session, ord(speaker), stream])))


def record(root: Path, turns: list[Turn], seed: int) -> Iterator[Turn]:
    """Write a dialogue, and yield each turn once its audio is written; the label file comes last.

    Args:
        root: folder of the corpus.
        turns: turns of one dialogue, in order.
        seed: seed of the corpus.
    """
    session = root / f"Session{turns[0].session}"
    audio = session / "sentences" / "wav" / turns[0].recording
    labels = session / "dialog" / "EmoEvaluation" / f"{turns[0].recording}.txt"
    audio.mkdir(parents=True)
    labels.parent.mkdir(parents=True, exist_ok=True)
    text, clock = HEADER, 2.0
    for turn in turns:
        rng = generator(seed, turn.session, turn.speaker, turn.index + 2)
        voice = cast(seed, turn.session, turn.speaker)
        strength = voice.liveliness * float(rng.uniform(*STRENGTH))
        samples = perform(turn, voice, strength, rng)
        write_wav(audio / f"{turn.name}.wav", samples)
        end = clock + len(samples) / SAMPLE_RATE
        text += evaluation(turn, strength, (clock, end), rng)
        clock = end + rng.uniform(0.2, 1.0)
        yield turn
    labels.write_text(text, encoding="utf-8")


def cast(seed: int, session: int, speaker: str) -> Voice:
    """A speaker's voice, room and microphone.

    Source: women's formants are 16 % higher than men's on average over the vowels of Peterson and Barney (1952).

    Args:
        seed: seed of the corpus.
        session: number from 1 on.
        speaker: "F" or "M".
    """
    rng = generator(seed, session, speaker, 0)
    pitch, tract = (205.0, 1.16) if speaker == "F" else (118.0, 1.0)
    return Voice(
        pitch=pitch * 2 ** rng.normal(0, 0.15),
        tract=tract * rng.uniform(0.96, 1.05),
        quirks=(rng.normal(1, 0.03), rng.normal(1, 0.03), rng.normal(1, 0.03)),
        rate=rng.normal(1.0, 0.07),
        tilt=rng.uniform(1800, 3200),
        breath=rng.normal(0, 2),
        liveliness=rng.uniform(0.8, 1.2),
        gain=rng.normal(-4, 2),
        floor=rng.uniform(-74, -62),
    )


def perform(turn: Turn, voice: Voice, strength: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """The samples of a turn with its emotion at a given strength; the length does not depend on the emotion.

    Args:
        turn: the turn.
        voice: voice of the speaker.
        strength: strength of the emotion, 1 for `EMOTIONS`.
        rng: random numbers of this turn.
    """
    neutral, full, spread = (np.array(astuple(style)) for style in (EMOTIONS["neu"], EMOTIONS[turn.emotion], SPREAD))
    style = Style(*(neutral + strength * (full - neutral) + spread * rng.standard_normal(len(spread))).tolist())
    seconds = float(np.clip(rng.normal(3.0, 0.95), 0.7, 6.5))
    return speak(voice, style, seconds, rng)


def write_wav(file: Path, samples: NDArray[np.int16]) -> None:
    """Write mono 16-bit samples as a WAV file at 16 kHz."""
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(samples.astype("<i2").tobytes())


def evaluation(turn: Turn, strength: float, times: tuple[float, float], rng: np.random.Generator) -> str:
    """The lines of a label file for one turn: times, label and mean ratings, then each annotator's.

    Args:
        turn: the turn.
        strength: strength of its emotion, with which the ratings move away from a neutral turn's, like the voice.
        times: start and end, in seconds into the dialogue.
        rng: random numbers of this turn.
    """
    neutral, full = (np.array(AFFECT[emotion]) for emotion in ("neu", turn.emotion))
    said = neutral + strength * (full - neutral) + rng.normal(0, RATER_SPREAD, (RATERS, 3))
    ratings = np.clip(np.rint(said), 1, 5).astype(int)
    mean = ", ".join(f"{value:.4f}" for value in ratings.mean(axis=0))
    lines = [f"[{times[0]:.4f} - {times[1]:.4f}]\t{turn.name}\t{turn.emotion}\t[{mean}]"]
    lines += [f"C-E{rater}:\t{vote};\t()" for rater, vote in enumerate(votes(turn.emotion, strength, rng), 1)]
    lines += [f"A-E{rater}:\tval {v}; act {a}; dom  {d};\t()" for rater, (v, a, d) in enumerate(ratings.tolist(), 1)]
    return "\n".join(lines) + "\n\n"


def votes(emotion: str, strength: float, rng: np.random.Generator) -> list[str]:
    """Votes of three annotators: two or three for the label, or three different ones if they disagree.

    Args:
        emotion: the label; "xxx" if they disagree.
        strength: strength of the emotion; the probability that the third annotator agrees grows with it.
        rng: random numbers of this turn.
    """
    others = [name for label, name in NAMES.items() if label != emotion]
    said = [others[row] for row in rng.permutation(len(others))]
    if emotion != "xxx":
        said = 2 * [NAMES[emotion]] + ([NAMES[emotion]] if rng.random() < strength - FAINT else []) + said
    return [said[row] for row in rng.permutation(3)]
