"""Layouts in which corpora have been published: they are read, or one line says what to do."""

from __future__ import annotations

import logging
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ser_pipeline import audio
from ser_pipeline.audit.corpus import audit
from ser_pipeline.containers import ffmpeg
from ser_pipeline.corpora import CORPORA, read_corpus
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.corpora.meld import MELD
from ser_pipeline.errors import PipelineError
from ser_pipeline.splits.folds import folds_of
from support import trees

MSP_HEAD = "FileName,EmoClass,SpkrID,Split_Set"


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("ser_pipeline"), "propagate", True)  # commands switch this off
    caplog.set_level(logging.INFO, "ser_pipeline")


@pytest.mark.parametrize(
    ("name", "second", "files"),
    [
        ("ravdess", "audio_speech_actors_01-24", [f"Actor_{n:02}/03-01-05-01-01-01-{n:02}.wav" for n in (1, 2)]),
        ("tess", "TESS Toronto emotional speech set data", ["OAF_angry/OAF_back_angry.wav", "YAF_sad/YAF_bar_sad.wav"]),
        ("savee", "copy", ["AudioData/DC/a01.wav", "AudioData/KL/su15.wav"]),
    ],
)
def test_kaggles_doubled_tree_is_read_once_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, second: str, files: list[str]
) -> None:
    for seed, file in enumerate(files):
        trees.write_wav(tmp_path / file, trees.noise(seed))
        trees.write_wav(tmp_path / second / file, trees.noise(seed))
    assert len({one.id for one in read_corpus(name, tmp_path)}) == len(read_corpus(name, tmp_path)) == 2
    assert f"2 recordings are there twice, byte for byte, and read once: {files[0].partition('/')[0]}" in caplog.text


@pytest.mark.parametrize("other", [".flac", ".mp3", ".opus"])
def test_wav_beside_another_format_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, other: str) -> None:
    trees.touch(tmp_path, "wav/03a01Fa.wav", f"wav/03a01Fa{other}")
    assert [one.file for one in read_corpus("emodb", tmp_path)] == ["wav/03a01Fa.wav"]
    assert "1 recording is there in several formats, of which one is read" in caplog.text


@pytest.mark.parametrize("suffix", [".opus", ".aiff", ".m4a", ".WAV"])
def test_a_corpus_in_another_format_is_still_that_corpus(tmp_path: Path, suffix: str) -> None:
    trees.touch(tmp_path, f"Actor_01/03-01-05-01-01-01-01{suffix}")
    assert len(read_corpus("ravdess", tmp_path)) == 1


def test_linked_sub_folders_are_entered_and_loops_are_not(tmp_path: Path) -> None:
    trees.touch(tmp_path / "elsewhere", "03-01-05-01-01-01-01.wav")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "Actor_01").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "corpus")
    assert [one.file for one in read_corpus("ravdess", tmp_path / "corpus")] == ["Actor_01/03-01-05-01-01-01-01.wav"]


@pytest.mark.parametrize("name", ["RAVDESS", "ravdes", "Ravdess"])
def test_a_corpus_name_with_a_slip_is_asked_after(tmp_path: Path, name: str) -> None:
    with pytest.raises(PipelineError, match=rf"^unknown corpus '{name}'; did you mean 'ravdess'\? known:"):
        read_corpus(name, tmp_path)
    with pytest.raises(PipelineError, match=r"did you mean 'cremad'\?"):
        read_corpus("crema-d", tmp_path)


def test_song_and_speech_of_ravdess_are_not_measured_against_the_counts_of_speech(tmp_path: Path) -> None:
    trees.touch(tmp_path, "a/03-01-05-01-01-01-01.wav", "a/03-02-05-01-01-01-01.wav")
    utterances = read_corpus("ravdess", tmp_path, subset="all")
    assert "counts" not in {finding.name for finding in audit(utterances, tmp_path, corpus=CORPORA["ravdess"])}


@pytest.mark.parametrize("name", ["ravdess", "emodb", "tess", "savee", "esd", "emotale", "urdu"])
def test_who_is_missing_is_named(name: str) -> None:
    corpus = CORPORA[name]
    assert sum(corpus.parts.values()) == sum(corpus.expected.values())
    gone, *there = corpus.parts
    rows = [Utterance(f"{who}{n}", "x.wav", "a", who) for who in there for n in range(corpus.parts[who])]
    rows = [replace(row, id=f"x-01-{row.id}") for row in rows]  # as RAVDESS names its speech
    (found,) = (
        one
        for one in audit(rows[:0] + rows, Path(), corpus=replace(corpus, expected={}, subsets={}, subset=""))
        if one.name == "counts"
    )
    assert f"{gone} 0 of {corpus.parts[gone]}" in found.message


def test_each_corpus_of_others_knows_who_should_be_there() -> None:
    own = {"table", "folder", "demo"}
    assert {name for name, one in CORPORA.items() if not (one.parts or one.speakers or one.splits)} == own


def test_a_speaker_and_a_part_of_meld_that_are_missing_are_named(tmp_path: Path) -> None:
    for part, speaker in (("train", "Joey"), ("dev", "Ross")):
        trees.touch(tmp_path, f"{part}_splits/dia0_utt0.wav")
        trees.write(tmp_path, f"{part}_sent_emo.csv", "Speaker,Emotion,Dialogue_ID,Utterance_ID", f"{speaker},joy,0,0")
    rows = read_corpus("meld", tmp_path)
    (found,) = (one for one in audit(rows, tmp_path, corpus=replace(MELD, expected={})) if one.name == "counts")
    assert "Chandler 0 of 1763, Monica 0 of 1782, Phoebe 0 of 1797, Rachel 0 of 1955 and 5 more" in found.message
    only = replace(MELD, expected={}, parts={name: MELD.parts[name] for name in ("train", "test", "Joey")})
    (found,) = (one for one in audit(rows, tmp_path, corpus=only) if one.name == "counts")
    assert "test 0 of 2610" in found.message


def test_a_part_of_msp_podcast_that_is_missing_is_named(tmp_path: Path) -> None:
    rows = [Utterance("a", "x.wav", "angry", "1", split="train"), Utterance("b", "y.wav", "sad", "2", split="test")]
    (found,) = (one for one in audit(rows, tmp_path, corpus=CORPORA["msp-podcast"]) if one.name == "split")
    assert found.message == "no utterance of the official split's validation"
    rows.append(Utterance("c", "z.wav", "sad", "3", split="validation"))
    assert "split" not in {one.name for one in audit(rows, tmp_path, corpus=CORPORA["msp-podcast"])}


@pytest.mark.parametrize("name", ["../../secret.wav", "/etc/passwd", "C:\\\\a.wav", "\\\\host\\a.wav"])
def test_a_label_file_that_leads_out_of_its_corpus_is_one_line(tmp_path: Path, name: str) -> None:
    trees.write(tmp_path, "nemo/data.tsv", "file_id\temotion\tspeaker_id\tnormalized_text", f"{name}\tfear\tA\tx")
    trees.write(tmp_path, "msp-podcast/Labels/labels_consensus.csv", MSP_HEAD, f"{name},N,7,Train")
    turn = f"{name}/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav"
    trees.write(tmp_path, "iemocap/iemocap_full_dataset.csv", "emotion,path", f"neu,{turn}")
    for corpus in ("nemo", "msp-podcast", "iemocap"):
        with pytest.raises(PipelineError, match=r", line 2: .* leads out of the corpus; correct or delete the line"):
            read_corpus(corpus, tmp_path / corpus)


def test_a_nul_in_a_label_file_is_one_line(tmp_path: Path) -> None:
    trees.write(tmp_path, "Labels/labels_consensus.csv", MSP_HEAD, "a\0.wav,N,7,Train")
    with pytest.raises(PipelineError, match=r"line 2: FileName contains a character that is not text: 'a\\x00.wav'"):
        read_corpus("msp-podcast", tmp_path)


def test_an_actor_of_cremad_who_is_missing_is_named(tmp_path: Path) -> None:
    rows = [Utterance(who, "x.wav", "angry", who) for who in CORPORA["cremad"].speakers if who != "1019"]
    (found,) = (one for one in audit(rows, tmp_path, corpus=CORPORA["cremad"]) if one.name == "speakers")
    assert found.message == "1 of 91 speakers are missing: 1019"


def test_stretches_of_one_podcast_are_one_dialogue_under_both_kinds_of_names(tmp_path: Path) -> None:
    files = ["MSP-PODCAST_0001_0008.wav", "MSP-PODCAST_0001_0009_0001.wav", "MSP-PODCAST_0001_0009_0002.wav"]
    trees.touch(tmp_path, *(f"Audios/{file}" for file in files))
    rows = [f"{file},N,7,Train" for file in files]
    trees.write(tmp_path, "Labels/labels_concensus.csv", MSP_HEAD, *rows)
    assert {one.dialogue for one in read_corpus("msp-podcast", tmp_path)} == {"MSP-PODCAST_0001"}


def test_kaggles_table_of_iemocap_is_read(tmp_path: Path) -> None:
    turn = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav"
    trees.touch(tmp_path, f"IEMOCAP_full_release/{turn}")
    head = "session,method,gender,emotion,n_annotators,agreement,path"
    trees.write(tmp_path, "IEMOCAP_full_release/iemocap_full_dataset.csv", head, f"1,impro,M,neu,3,2,{turn}")
    (one,) = read_corpus("iemocap", tmp_path)
    assert (one.file, one.speaker, one.emotion) == (f"IEMOCAP_full_release/{turn}", "1M", "neutral")


def meld_video(root: Path) -> Path:
    trees.touch(root, "train_splits/dia0_utt0.mp4", "train_splits/dia125_utt3.mp4")
    head = "Speaker,Emotion,Dialogue_ID,Utterance_ID"
    trees.write(root, "train_sent_emo.csv", head, "Joey,joy,0,0", "Ross,anger,125,3")
    return root


def test_meld_as_video_says_how_to_extract_its_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "there", lambda: False)
    with pytest.raises(PipelineError, match=r"dia0_utt0\.wav exists only as video; extract its sound .*ffmpeg -i"):
        read_corpus("meld", meld_video(tmp_path))


def test_meld_as_video_is_read_where_ffmpeg_is_there_and_extracted_sound_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg, "there", lambda: True)
    (one,) = read_corpus("meld", meld_video(tmp_path))
    assert one.file == "train_splits/dia0_utt0.mp4"
    trees.touch(tmp_path, "train_splits/dia0_utt0.wav")
    assert [one.file for one in read_corpus("meld", tmp_path)] == ["train_splits/dia0_utt0.wav"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_the_sound_of_a_video_is_heard(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    sources = [
        word for name in ("testsrc=duration=1:size=64x64", "sine=duration=1") for word in ("-f", "lavfi", "-i", name)
    ]
    subprocess.run(["ffmpeg", "-v", "error", *sources, "-shortest", file], check=True)
    samples = audio.decode(file, "a.mp4", 16_000)
    assert 15_000 < len(samples) < 18_000
    assert np.abs(samples).max() > 0.05


def spoken(*classes: str, count: int = 10) -> list[Utterance]:
    """Return utterances of equally many per speaker, each speaker with the classes that its letters name."""
    return [
        Utterance(f"{number}-{n}", "x.wav", letters[n % len(letters)], f"S{number:02}")
        for number, letters in enumerate(classes)
        for n in range(count)
    ]


def test_groups_keep_every_class_in_training_where_they_can() -> None:
    rows = spoken("a", "b", "ab", "a", "b", "ab", "ac", "c", "a", "b", "abc", "a")
    for fold in folds_of(rows, "group-3"):
        assert {rows[row].emotion for row in fold.train} == {"a", "b", "c"}


def test_where_groups_cannot_those_are_named_that_do() -> None:
    rows = spoken("a", "ab", "abc", "abc", "b", "a", "b", "a")
    with pytest.raises(PipelineError, match=r"^group-3 leaves a class out of training in some fold; group-4, group-5"):
        folds_of(rows, "group-3")
