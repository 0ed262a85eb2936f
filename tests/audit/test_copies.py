import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from ser_pipeline.audit import copies
from ser_pipeline.audit.copies import Landmarks, candidates, landmarks, near_copies
from ser_pipeline.audit.corpus import audit
from ser_pipeline.corpora import read_corpus
from ser_pipeline.corpora.demo import EMOTIONS, cast
from ser_pipeline.corpora.voice import speak
from support import trees

RATE = 16_000
PEOPLE = [(session, letter) for session in range(1, 6) for letter in "FM"]


def say(person, sentence, emotion="neu", seconds=2.0, **style):
    """Return a sentence spoken by one of ten voices, float32 in -1 to 1; the same number has the same syllables."""
    voice = cast(0, *PEOPLE[person])
    spoken = speak(voice, replace(EMOTIONS[emotion], **style), seconds, np.random.default_rng(sentence))
    return (spoken / 32768).astype(np.float32)


@pytest.fixture(scope="module")
def clips():
    """Return two different sentences by each of ten speakers."""
    return [say(person, 10 * person + sentence) for person in range(10) for sentence in range(2)]


def coded(samples, form, subtype, **how):
    if form not in soundfile.available_formats() or subtype not in soundfile.available_subtypes(form):
        pytest.skip(f"libsndfile {soundfile.__libsndfile_version__} writes no {subtype}")
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=form, subtype=subtype, **how)
    size = len(file.getvalue())
    file.seek(0)
    return soundfile.read(file, dtype="float32"), size


def mp3(samples, other, rng):
    found, size = coded(samples, "MP3", "MPEG_LAYER_III", compression_level=0.6, bitrate_mode="CONSTANT")
    assert size * 8 / (len(samples) / RATE) == pytest.approx(64_000, rel=0.1)
    return found


def noisy(samples, other, rng):
    return samples + np.float32(np.sqrt(np.mean(samples**2) / 1000)) * rng.standard_normal(
        len(samples), np.float32
    ), RATE


def padded(samples, other, rng):
    return np.concatenate([np.zeros(4_807, np.float32), samples, np.zeros(3_001, np.float32)]), RATE


KINDS = {
    "gain": lambda samples, other, rng: (0.3 * samples, RATE),
    "trimmed at the start": lambda samples, other, rng: (samples[5_573:], RATE),
    "trimmed at the end": lambda samples, other, rng: (samples[:-7_321], RATE),
    "ten milliseconds cut": lambda samples, other, rng: (samples[160:], RATE),
    "a sample more": lambda samples, other, rng: (np.append(samples, np.float32(0)), RATE),
    "padded": padded,
    "22.05 kHz": lambda samples, other, rng: (soxr.resample(samples, RATE, 22_050), 22_050),
    "44.1 kHz": lambda samples, other, rng: (soxr.resample(samples, RATE, 44_100), 44_100),
    "MP3 at 64 kbit/s": mp3,
    "Ogg Vorbis": lambda samples, other, rng: coded(samples, "OGG", "VORBIS")[0],
    "Opus": lambda samples, other, rng: coded(samples, "OGG", "OPUS")[0],
    "joined": lambda samples, other, rng: (np.concatenate([samples, other]), RATE),
    "noise at 30 dB": noisy,
}


def written(folder, clips):
    """Write a corpus of two utterances by each of ten speakers."""
    for row, clip in enumerate(clips):
        soundfile.write(folder / f"u{row:03}.wav", clip, RATE)
    return [trees.utterance(row, speaker=f"s{row // 2}") for row in range(len(clips))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_near_copy_under_another_speaker_is_found_by_the_audit(clips, tmp_path, kind):
    utterances = written(tmp_path, clips)
    samples, rate = KINDS[kind](clips[3], clips[2], np.random.default_rng(0))
    soundfile.write(tmp_path / "u010.wav", samples, rate, subtype="FLOAT")
    found = [one for one in audit(utterances, tmp_path, jobs=1) if "copy" in one.name]
    assert [(one.severity, one.name) for one in found] == [("error", "near-copy-across-speakers")]
    copied = {"u002", "u003", "u010"} if kind == "joined" else {"u003", "u010"}
    assert set(found[0].rows) == copied
    assert "with different labels" in found[0].message


@pytest.mark.parametrize("kind", KINDS)
def test_every_recording_is_found_again_whoever_speaks(clips, kind):
    rng = np.random.default_rng(0)
    changed = [KINDS[kind](clip, clips[row - 1], rng) for row, clip in enumerate(clips)]
    sound = [(clip, RATE) for clip in clips] + changed
    found = near_copies([landmarks(*one) for one in sound], lambda place, _: sound[place])
    pairs = {(one.one, one.other) for one in found}
    wanted = {(row, 20 + row) for row in range(20)}
    if kind == "joined":  # neighbours share a clip
        wanted |= {((row - 1) % 20, 20 + row) for row in range(20)}
        wanted |= {(20 + min(row, (row + 1) % 20), 20 + max(row, (row + 1) % 20)) for row in range(20)} & pairs
    assert pairs == wanted


def test_a_copy_is_told_with_its_correlation_and_where_it_begins(clips):
    sound = [(clips[0], RATE), (np.concatenate([clips[5], clips[0]]), RATE), (0.5 * clips[0][4_000:], RATE)]
    found = {
        (one.one, one.other): one for one in near_copies([landmarks(*one) for one in sound], lambda row, _: sound[row])
    }
    assert found[0, 1].offset == pytest.approx(-len(clips[5]) / RATE, abs=1e-4)
    assert found[0, 1].overlap == pytest.approx(len(clips[0]) / RATE, abs=1e-3)
    assert found[0, 2].offset == pytest.approx(0.25, abs=1e-4)
    assert all(one.correlation > 0.999 for one in found.values())


def test_of_long_recordings_a_bounded_part_is_read_and_the_answer_is_that_of_the_whole(clips, monkeypatch):
    rng = np.random.default_rng(0)
    noise, more = rng.normal(0, 1e-3, (2, 20 * RATE)).astype(np.float32)
    sound = [
        np.concatenate([*clips[:12], noise]),
        0.5 * np.concatenate([noise[: 3 * RATE + 77], *clips[:12]]),
        clips[4],
        np.concatenate([clips[4], more, *clips[12:]]),
    ]
    marks = [landmarks(one, RATE) for one in sound]
    whole = near_copies(marks, lambda row, _: (sound[row], RATE))
    longest = []

    def read(row, stretch):
        first, last = (round(second * RATE) for second in stretch)
        longest.append(last - first)
        return sound[row][first:last], RATE

    monkeypatch.setattr(copies, "TOGETHER", 8 * RATE)
    parts = near_copies(marks, lambda row, part: read(row, part) if part else (sound[row], RATE))
    by_pair = {(one.one, one.other): one for one in whole}
    assert {(one.one, one.other) for one in parts} == set(by_pair) >= {(0, 1), (0, 2), (1, 2), (2, 3)}
    for one in parts:
        other = by_pair[one.one, one.other]
        assert one.offset == pytest.approx(other.offset, abs=1e-3)
        assert one.overlap == pytest.approx(other.overlap, abs=0.1)
        assert one.correlation > 0.99
    assert 0 < max(longest) / RATE <= (copies.TOGETHER / 2 + 8 * copies.HOP) / copies.RATE


def test_copies_within_a_speaker_and_across_folds_have_names_of_their_own(clips, tmp_path):
    utterances = written(tmp_path, clips)
    soundfile.write(tmp_path / "u003.wav", 0.5 * clips[2], RATE)
    (found,) = [one for one in audit(utterances, tmp_path, jobs=1) if "copy" in one.name]
    assert (found.severity, found.name, found.rows) == ("warning", "near-copy", ("u002", "u003"))


def test_the_same_sentence_by_ten_speakers_is_no_copy():
    sound = [(say(person, 5), RATE) for person in range(10)]
    assert near_copies([landmarks(*one) for one in sound], lambda place, _: sound[place]) == []


def test_a_sentence_said_twice_by_one_speaker_is_no_copy():
    sound = [(say(3, 5, rate=0.02 * turn, pitch=0.2 * turn), RATE) for turn in range(6)]
    assert near_copies([landmarks(*one) for one in sound], lambda place, _: sound[place]) == []


def test_hum_and_room_that_recordings_share_make_no_copy(clips):
    times = np.arange(2 * RATE) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * overtone * times) / overtone for overtone in range(1, 8)).astype(np.float32)
    sound = [(0.3 * clip[: 2 * RATE] + 0.003 * hum[: len(clip)], RATE) for clip in clips]
    assert near_copies([landmarks(*one) for one in sound], lambda place, _: sound[place]) == []


def test_turns_of_a_dialogue_that_overlap_by_less_than_half_are_no_copies(clips):
    speech = np.concatenate([clips[0], clips[1]])
    half = len(speech) // 2
    sound = [(speech[: half + 4_000], RATE), (speech[half - 4_000 :], RATE)]
    assert near_copies([landmarks(*one) for one in sound], lambda place, _: sound[place]) == []


@pytest.mark.parametrize("samples", [0, 1, 100, 3_000])
def test_silence_and_the_shortest_recordings_are_heard_without_complaint(samples):
    rng = np.random.default_rng(0)
    marks = [landmarks(np.zeros(samples, np.float32), RATE), landmarks(rng.random(samples, np.float32), RATE)]
    assert len(marks[0].hashes) == 0
    assert near_copies(marks, lambda place, _: (np.zeros(samples, np.float32), RATE)) == []


def test_nothing_is_no_copy_of_nothing():
    assert candidates([]) == []
    assert near_copies([], lambda place, _: pytest.fail("nothing to read")) == []


def test_a_landmark_that_all_recordings_hold_costs_no_more_than_its_neighbours():
    common = Landmarks(np.zeros(8, np.int64), np.arange(8, dtype=np.int32) * 1_000)
    assert len(candidates([common] * 500)) <= 500 * 32


def test_the_real_emodb_holds_no_copy(emodb: Path):
    utterances = read_corpus("emodb", emodb)
    names = {one.name for one in audit(utterances, emodb)}
    assert "contents" in names
    assert not [name for name in names if "copy" in name]


@pytest.mark.skipif("SER_PIPELINE_NEMO" not in os.environ, reason="$SER_PIPELINE_NEMO is not set: no nEMO here")
def test_the_real_nemo_holds_no_copy():
    table = Path(os.environ["SER_PIPELINE_NEMO"])
    names = {one.name for one in audit(read_corpus("table", table), table.parent)}
    assert not [name for name in names if "copy" in name]
