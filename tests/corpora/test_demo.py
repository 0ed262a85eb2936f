from __future__ import annotations

import hashlib
import re
import wave
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ser_pipeline.corpora import demo, iemocap
from ser_pipeline.corpora.voice import SAMPLE_RATE, Style, Voice, resonance, speak
from ser_pipeline.errors import PipelineError

TINY = 4  # utterances per speaker
LINE = re.compile(
    r"\[(\d+\.\d{4}) - (\d+\.\d{4})\]\t(Ses\d\d[FM]_\w+_[FM]\d{3})\t([a-z]{3})\t\[(\d\.\d{4}(?:, \d\.\d{4}){2})\]"
)
PLAIN = Voice(120.0, 1.0, (1.0, 1.0, 1.0), rate=1, tilt=2500, breath=0, liveliness=1, gain=-4, floor=-70)
FLAT = Style(pitch=0, span=0, final=0, loudness=0, rate=0, tilt=0, breath=0, roughness=-5, smile=0, slack=0, pause=0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "corpus"
    demo.write(root, utterances_per_speaker=TINY)
    return root


def files(root: Path) -> dict[str, str]:
    return {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in root.rglob("*")
        if file.is_file()
    }


def samples(file: Path) -> NDArray[np.int16]:
    with wave.open(str(file)) as audio:
        assert audio.getparams()[:3] == (1, 2, SAMPLE_RATE)
        return np.frombuffer(audio.readframes(audio.getnframes()), "<i2")


def label_files(root: Path) -> list[Path]:
    return sorted(root.glob("Session?/dialog/EmoEvaluation/*.txt"))


def label_lines(root: Path) -> list[re.Match[str]]:
    lines = [line for file in label_files(root) for line in file.read_text().splitlines() if line.startswith("[")]
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches)
    return [match for match in matches if match]


def sound(root: Path, turn: str) -> Path:
    dialogue = turn.rpartition("_")[0]
    return root / f"Session{int(turn[3:5])}" / "sentences" / "wav" / dialogue / f"{turn}.wav"


def speech(turn: demo.Turn, stream: int = 2) -> NDArray[np.int16]:
    voice = demo.cast(0, turn.session, turn.speaker)
    rng = demo.generator(0, turn.session, turn.speaker, stream)
    return demo.perform(turn, voice, voice.liveliness * rng.uniform(*demo.STRENGTH), rng)


def level(wave: NDArray[np.int16]) -> float:
    return float(20 * np.log10(np.std(wave / 32_768)))


def test_the_same_seed_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    demo.write(tmp_path / "again", utterances_per_speaker=TINY)
    assert files(tmp_path / "again") == files(corpus)


def test_another_seed_gives_other_voices_other_scripts_and_other_speech() -> None:
    turns = [list(demo.script(seed, 24)) for seed in (0, 1)]
    assert turns[0] != turns[1]
    assert demo.cast(0, 1, "F") != demo.cast(1, 1, "F") != demo.cast(1, 1, "M") != demo.cast(1, 2, "M")
    first, second = (demo.generator(seed, 1, "F", 2).random() for seed in (0, 1))
    assert first != second


def test_a_turn_sounds_the_same_whatever_is_spoken_before_it(corpus: Path) -> None:
    turn = list(demo.script(0, TINY))[-3]
    assert np.array_equal(speech(turn, turn.index + 2), samples(sound(corpus, turn.name)))


def test_every_label_line_has_the_pattern_of_iemocap_and_its_own_audio(corpus: Path) -> None:
    turns = [match[3] for match in label_lines(corpus)]
    assert len(set(turns)) == len(turns) == 10 * (TINY + 1)
    assert {sound(corpus, turn) for turn in turns} == set(corpus.glob("Session?/sentences/wav/*/*.wav"))


def test_a_label_file_names_the_turns_of_its_own_dialogue_alone_under_the_header(corpus: Path) -> None:
    for file in label_files(corpus):
        text = file.read_text()
        assert text.startswith("% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n[")
        assert {turn.rpartition("_")[0] for turn in re.findall(r"\t(Ses\w+)\t", text)} == {file.stem}


def test_times_are_those_of_the_audio_and_turns_of_a_dialogue_do_not_overlap(corpus: Path) -> None:
    clock: dict[str, float] = defaultdict(float)
    for match in label_lines(corpus):
        start, end, dialogue = float(match[1]), float(match[2]), match[3].rpartition("_")[0]
        assert end - start == pytest.approx(len(samples(sound(corpus, match[3]))) / SAMPLE_RATE, abs=2e-4)
        assert start > clock[dialogue]
        clock[dialogue] = end


def test_ratings_are_the_mean_of_those_of_the_annotators(corpus: Path) -> None:
    for block in label_files(corpus)[0].read_text().split("\n\n")[1:-1]:
        match = LINE.fullmatch(block.splitlines()[0])
        single = np.array(re.findall(r"A-E\d:\tval (\d); act (\d); dom  (\d);", block), float)
        assert match
        assert [float(value) for value in match[5].split(", ")] == pytest.approx(single.mean(axis=0).tolist())


def test_most_annotators_name_the_label_and_no_two_agree_without_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert demo.votes("ang", 0.0, rng).count("Anger") == 2
        assert demo.votes("ang", 2.0, rng).count("Anger") == 3
        assert len(set(demo.votes("xxx", 1.0, rng))) == 3


def test_a_stronger_emotion_is_rated_further_from_neutral() -> None:
    turn = demo.Turn(1, "F_impro01", "F", 0, 0, "ang")

    def arousal(strength: float) -> float:
        texts = [demo.evaluation(turn, strength, (0.0, 1.0), np.random.default_rng(seed)) for seed in range(40)]
        return float(np.mean([float(found) for text in texts for found in re.findall(r"act (\d)", text)]))

    assert arousal(0.0) < arousal(0.7) < arousal(1.4)


def test_the_reader_of_iemocap_finds_ten_speakers_in_five_sessions(corpus: Path) -> None:
    labels = {label for merged in iemocap.CLASSES.values() for label in merged}
    utterances = list(iemocap.read(corpus))
    assert Counter(item.speaker for item in utterances if item.emotion in labels) == {
        f"{session}{letter}": TINY for session in range(1, 6) for letter in "FM"
    }
    assert {item.emotion for item in utterances} - labels == {"xxx", "fru"}


def test_both_speakers_take_turns_in_dialogues_of_either_prefix_improvised_and_scripted() -> None:
    turns: dict[str, str] = defaultdict(str)
    for turn in demo.script(0, 24):
        turns[turn.recording] += turn.speaker
    assert all("FF" not in letters and "MM" not in letters and len(letters) >= 8 for letters in turns.values())
    assert {name[5] for name in turns} == {"F", "M"}
    assert {re.sub(r"[\d_]", "", name[7:]) for name in turns} == {"impro", "script"}


def test_the_same_dialogues_are_held_in_every_session(corpus: Path) -> None:
    held = Counter(file.stem[5:] for file in label_files(corpus))
    assert set(held.values()) == {5}
    assert {name[0] for name in held} == {"F", "M"}


@pytest.mark.parametrize("seed", range(3))
def test_at_full_size_each_speaker_has_each_emotion_and_24_turns_that_count(seed: int) -> None:
    emotions: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for turn in demo.script(seed, 24):
        emotions[turn.session, turn.speaker][turn.emotion] += 1
    assert len(emotions) == 10
    for counts in emotions.values():
        assert set(counts) == set(demo.EMOTIONS)
        assert sum(counts[label] for label in set(demo.COUNTED)) == 24
    assert len({tuple(sorted(counts.items())) for counts in emotions.values()}) > 1


def test_the_smallest_corpus_has_four_classes_a_speaker(corpus: Path) -> None:
    classes = {label: name for name, merged in iemocap.CLASSES.items() for label in merged}
    found = {(item.speaker, classes[item.emotion]) for item in iemocap.read(corpus) if item.emotion in classes}
    assert len(found) == 10 * len(iemocap.CLASSES)


def test_fewer_utterances_than_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="at least 4"):
        demo.write(tmp_path / "demo", utterances_per_speaker=3)
    assert not any(tmp_path.iterdir())


def test_utterances_last_between_0_7_and_8_seconds_and_some_are_short(corpus: Path) -> None:
    seconds = np.array([len(samples(file)) / SAMPLE_RATE for file in corpus.rglob("*.wav")])
    assert seconds.min() >= 0.7
    assert seconds.max() <= 8
    assert 0.2 < np.mean(seconds < 3) < 0.6


def test_no_file_clips_or_is_silent(corpus: Path) -> None:
    for file in corpus.rglob("*.wav"):
        wave = samples(file).astype(float)
        assert 300 < np.abs(wave).max() < 0.96 * 32_768
        frames = wave[: len(wave) // 400 * 400].reshape(-1, 400).std(axis=1)
        assert np.percentile(frames, 90) > 10 * frames.min(), "speech stands out from the room"


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "perform", lambda *_: np.zeros(16_000, np.int16))


@pytest.mark.usefixtures("mute")
def test_an_interrupted_corpus_is_absent_and_the_next_try_makes_it_whole(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    root = tmp_path / "demo"
    with pytest.raises(KeyboardInterrupt):
        demo.write(root, progress=interrupt)
    assert not root.exists()
    (tmp_path / "demo.partial" / "left over").write_text("")
    demo.write(root)
    demo.write(tmp_path / "straight")
    assert files(root) == files(tmp_path / "straight")
    assert not (tmp_path / "demo.partial").exists()


def test_a_corpus_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    demo.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.usefixtures("mute")
def test_progress_counts_every_utterance(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    demo.write(tmp_path / "new" / "demo", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 260) for done in range(1, 261)]


def test_the_corpus_says_that_it_is_synthetic_and_from_which_seed(corpus: Path) -> None:
    text = (corpus / "README.txt").read_text()
    assert text.startswith("Synthetic speech")
    assert "from seed 0." in text


def test_emotion_changes_loudness_and_not_length() -> None:
    turns = {label: demo.Turn(1, "F_impro01", "F", 0, 0, label) for label in ("ang", "neu", "sad")}
    for stream in range(2, 6):
        waves = {label: speech(turn, stream) for label, turn in turns.items()}
        assert level(waves["ang"]) > level(waves["neu"]) > level(waves["sad"])
        assert np.ptp([len(wave) for wave in waves.values()]) < SAMPLE_RATE


def test_speech_is_a_little_longer_than_asked_for() -> None:
    for seconds in (0.7, 2.0, 6.5):
        length = len(speak(PLAIN, FLAT, seconds, np.random.default_rng(1))) / SAMPLE_RATE
        assert seconds < length < seconds + 1.2


def test_loudness_is_in_decibels() -> None:
    loud, soft = (
        speak(PLAIN, replace(FLAT, loudness=decibels), 2.0, np.random.default_rng(0)) for decibels in (-4, -10)
    )
    assert level(loud) - level(soft) == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize("semitones", [0, 7])
def test_the_pitch_is_that_of_the_voice_raised_by_the_style(semitones: float) -> None:
    style = replace(FLAT, pitch=semitones)
    wave = speak(PLAIN, style, 3.0, np.random.default_rng(0)).astype(float)
    spectrum = np.abs(np.fft.rfft(wave, 2 * len(wave))) ** 2
    correlation = np.fft.irfft(spectrum)[: SAMPLE_RATE // 60]
    lag = SAMPLE_RATE // 400 + int(correlation[SAMPLE_RATE // 400 :].argmax())
    assert SAMPLE_RATE / lag == pytest.approx(120 * 2 ** (semitones / 12), rel=0.04)


def test_the_tract_resonates_at_the_formants() -> None:
    response = np.abs(resonance(np.array([[500.0, 1500.0, 2500.0], [300.0, 2300.0, 3000.0]]), PLAIN))
    hertz = np.linspace(0, SAMPLE_RATE / 2, response.shape[1])
    for row, formants in zip(response, ([500, 1500, 2500, 3500], [300, 2300, 3000]), strict=True):
        peaks = hertz[1:-1][(row[1:-1] > row[:-2]) & (row[1:-1] > row[2:])]
        assert peaks[: len(formants)].tolist() == pytest.approx(formants, abs=60)
    assert response[:, 0] == pytest.approx([1, 1])


def test_more_breath_puts_more_noise_between_the_harmonics() -> None:
    def roughness(breath: float) -> float:
        style = replace(FLAT, breath=breath)
        wave = speak(PLAIN, style, 2.0, np.random.default_rng(0)).astype(float)
        return float(np.std(np.diff(wave, 2)) / np.std(wave))

    assert roughness(30) > 1.2 * roughness(0)
