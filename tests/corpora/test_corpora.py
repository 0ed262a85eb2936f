from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ser_pipeline.cli import main

from ser_pipeline import corpora
from ser_pipeline.containers import ffmpeg
from ser_pipeline.corpora import CORPORA, class_table, find_corpus, read_corpus
from ser_pipeline.corpora.classes import chosen_classes, parse_classes, shared_classes
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.corpora.demo import LEFT_OUT, script
from ser_pipeline.errors import PipelineError
from ser_pipeline.splits.folds import folds_of
from support import trees
from support.places import ROOT

PAGE = ROOT / "docs" / "corpora.md"


def run(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def facts(utterances: list[Utterance]) -> dict[str, tuple[str, ...]]:
    return {one.id: (one.speaker, one.emotion, one.script, one.split) for one in utterances}


def test_the_speaker_of_a_turn_is_its_own_letter_and_not_that_of_the_file(tmp_path: Path) -> None:
    root = trees.small_iemocap(tmp_path)
    by_id = {one.id: one for one in read_corpus("iemocap", root)}
    turn = by_id["Ses01F_impro01_M001"]
    assert (turn.speaker, turn.session, turn.dialogue, turn.script) == ("1M", "Session1", "Ses01F_impro01", "")
    assert turn.file == "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M001.wav"
    assert by_id["Ses02M_script01_1_F000"].speaker == "2F"
    assert by_id["Ses02M_script01_1_F000"].script == "script01_1"
    assert {len(fold.test) for fold in folds_of(list(by_id.values()), "speaker")} == {10}


def test_overlapping_turns_are_spoken_by_the_letter_after_the_dialogue(tmp_path: Path) -> None:
    trees.iemocap_labels(
        tmp_path, "Ses03F_script03_2", [("Ses03F_script03_2_MXX0", "neu"), ("Ses03F_script03_2_F001", "sad")]
    )
    utterances = read_corpus("iemocap", tmp_path, check_audio=False)
    assert [(one.speaker, one.dialogue) for one in utterances] == [
        ("3F", "Ses03F_script03_2"),
        ("3M", "Ses03F_script03_2"),
    ]


def test_classes_may_be_chosen_and_merged(tmp_path: Path) -> None:
    root = trees.small_iemocap(tmp_path)
    classes = parse_classes("cross=ang+fru,neu")
    utterances = read_corpus("iemocap", root, classes)
    assert Counter(one.emotion for one in utterances) == {"cross": 24, "neu": 12}
    assert tuple(class_table(CORPORA["iemocap"], utterances, classes)) == ("cross", "neu")
    with pytest.raises(PipelineError, match=r"no utterance is labelled 'calm'; the labels here are ang 12, exc 12"):
        read_corpus("iemocap", root, parse_classes("calm,neu"))


@pytest.mark.parametrize("text", ["", "a,,b", "a=,b", "a=x+,b", "a,a", "a", "a=x,b=x", "=x,b"])
def test_classes_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(PipelineError):
        parse_classes(text)


def test_labels_of_the_same_meaning_are_shared_whatever_their_form() -> None:
    labels = {"a": ("neutral", "happy", "angry", "sad"), "b": ("anger", "boredom", "happiness", "neutral")}
    shared = shared_classes(labels)
    assert shared == {
        "a": {"neutral": "neutral", "happy": "happy", "angry": "angry"},
        "b": {"neutral": "neutral", "happiness": "happy", "anger": "angry"},
    }
    both = shared_classes({"a": ("joy", "happy", "sad"), "b": ("sadness", "happiness")})
    assert both["a"] == {"joy": "joy", "happy": "joy", "sad": "sad"}, "two labels with the same meaning are one class"


def test_chosen_classes_take_labels_by_name_or_by_meaning() -> None:
    labels = {"a": ("happy", "excited", "bored"), "b": ("joy", "calm", "anger")}
    chosen = chosen_classes(labels, parse_classes("up=happy+excited,low=boredom+calm"))
    assert chosen == {"a": {"happy": "up", "excited": "up", "bored": "low"}, "b": {"joy": "up", "calm": "low"}}


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("happy,fear", "no corpus has 'fear'"),
        ("bored,excited", "leaves nothing of b, whose classes are joy, calm"),
        ("one=happiness,two=happy,calm", "'joy' could be one or two"),
    ],
)
def test_chosen_classes_that_do_not_fit_are_refused(classes: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        chosen_classes({"a": ("happy", "excited", "bored"), "b": ("joy", "calm")}, parse_classes(classes))


READERS: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = {
    "emodb": (
        ("wav/03a01Fa.wav", "wav/16b10Wb.wav", "wav/08a02N.wav", "wav/readme.wav", "lablaut/03a01Fa.lablaut"),
        {
            "03a01Fa": ("03", "happiness", "a01", ""),
            "16b10Wb": ("16", "anger", "b10", ""),
            "08a02N": ("08", "neutral", "a02", ""),
        },
    ),
    "ravdess": (
        (
            "Actor_12/03-01-06-01-02-01-12.wav",
            "Actor_12/03-01-02-02-01-02-12.wav",
            "Actor_01/03-01-01-01-01-01-01.flac",
            "Actor_01/03-02-05-01-01-01-01.wav",
            "Actor_01/01-01-05-01-01-01-01.mp4",
        ),
        {
            "03-01-06-01-02-01-12": ("12", "fearful", "02", ""),
            "03-01-02-02-01-02-12": ("12", "calm", "01", ""),
            "03-01-01-01-01-01-01": ("01", "neutral", "01", ""),
        },
    ),
    "cremad-intended": (
        ("AudioWAV/1001_DFA_ANG_XX.wav", "AudioMP3/1001_DFA_ANG_XX.mp3", "AudioWAV/1040_ITH_SAD_X.wav"),
        {
            "1001_DFA_ANG_XX": ("1001", "angry", "DFA", ""),
            "1040_ITH_SAD_X": ("1040", "sad", "ITH", ""),
        },
    ),
    "tess": (
        ("OAF_angry/OAF_back_angry.wav", "YAF_pleasant_surprised/YAF_bar_ps.wav", "OAF_neutral/OA_bite_neutral.wav"),
        {
            "OAF_back_angry": ("OAF", "angry", "back", ""),
            "YAF_bar_ps": ("YAF", "surprise", "bar", ""),
            "OAF_bite_neutral": ("OAF", "neutral", "bite", ""),
        },
    ),
    "savee": (
        ("AudioData/DC/a01.wav", "AudioData/KL/su15.wav", "AudioData/JE/n30.wav", "AudioData/XX/a01.wav"),
        {
            "DC_a01": ("DC", "anger", "a01", ""),
            "KL_su15": ("KL", "surprise", "su15", ""),
            "JE_n30": ("JE", "neutral", "n30", ""),
        },
    ),
    "emotale": (
        ("audio/DK_004_A_5.wav", "audio/EN_004_B_1.wav"),
        {
            "DK_004_A_5": ("004", "anger", "DK_5", ""),
            "EN_004_B_1": ("004", "boredom", "EN_1", ""),
        },
    ),
    "urdu": (
        ("Angry/SM1_F10_A010.wav", "Sad/SF10_F1_S01.wav"),
        {
            "SM1_F10_A010": ("SM1", "angry", "", ""),
            "SF10_F1_S01": ("SF10", "sad", "", ""),
        },
    ),
    "esd": (
        (
            "0001/Angry/0001_000351.wav",
            "0011/Neutral/train/0011_000051.wav",
            "0020/Surprise/0020_001750.wav",
            "0011/Happy/0011_000722.wav",
        ),
        {
            "0001_000351": ("0001", "angry", "zh-001", "validation"),
            "0011_000051": ("0011", "neutral", "en-051", "train"),
            "0020_001750": ("0020", "surprise", "en-350", "train"),
            "0011_000722": ("0011", "happy", "en-022", "test"),
        },
    ),
}
"""Corpus -> files of a small tree, and what the reader finds in them: speaker, emotion, script and part."""


@pytest.mark.parametrize("name", READERS)
def test_a_corpus_is_read_from_its_folder_and_from_its_parent(name: str, tmp_path: Path) -> None:
    files, expected = READERS[name]
    root = trees.touch(tmp_path / "parent" / "corpus", *files)
    for place in (root, root.parent):
        utterances = read_corpus(name, place)
        assert facts(utterances) == expected
        assert all((place / one.file).is_file() for one in utterances)
        assert {one.emotion for one in utterances} <= set(CORPORA[name].labels)


@pytest.mark.parametrize(("name", "child"), [("emodb", "wav"), ("ravdess", "Actor_12"), ("savee", "AudioData/DC")])
def test_a_child_folder_will_do(name: str, child: str, tmp_path: Path) -> None:
    root = trees.touch(tmp_path, *READERS[name][0])
    whole = {one.id: one.speaker for one in read_corpus(name, root)}
    part = {one.id: one.speaker for one in read_corpus(name, root / child)}
    assert part
    assert part.items() <= whole.items()


def test_one_session_of_iemocap_will_do(tmp_path: Path) -> None:
    root = trees.small_iemocap(tmp_path)
    utterances = read_corpus("iemocap", root / "Session2")
    assert {one.speaker for one in utterances} == {"2F", "2M"}
    assert utterances[0].file.startswith("sentences/wav/")


def test_savee_in_one_folder_has_its_speakers_in_the_names(tmp_path: Path) -> None:
    root = trees.touch(tmp_path, "ALL/DC_a01.wav", "ALL/JK_sa02.wav")
    assert facts(read_corpus("savee", root)) == {
        "DC_a01": ("DC", "anger", "a01", ""),
        "JK_sa02": ("JK", "sadness", "sa02", ""),
    }


def test_ravdess_song_and_strong_speech_are_read_when_asked_for(tmp_path: Path) -> None:
    root = trees.touch(tmp_path, *READERS["ravdess"][0])
    assert [one.id for one in read_corpus("ravdess", root, subset="song")] == ["03-02-05-01-01-01-01"]
    assert [one.id for one in read_corpus("ravdess", root, subset="strong")] == ["03-01-02-02-01-02-12"]
    assert len(read_corpus("ravdess", root, subset="all")) == 4
    with pytest.raises(PipelineError, match="no subset 'loud'; choose all, speech, song"):
        read_corpus("ravdess", root, subset="loud")


def test_cremad_has_the_majority_of_those_who_heard_the_voice(tmp_path: Path) -> None:
    files = ("AudioWAV/1001_IEO_HAP_LO.wav", "AudioWAV/1001_IEO_HAP_HI.wav", "AudioWAV/1001_IEO_ANG_MD.wav")
    root = trees.touch(tmp_path, *files)
    with pytest.raises(PipelineError, match=r"no processedResults/summaryTable.csv.*cremad-intended"):
        read_corpus("cremad", root)
    trees.write(
        root,
        "processedResults/summaryTable.csv",
        '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"',
        '"2","1001_IEO_HAP_LO","N","71.67","H","57","H","57.38"',
        '"4","1001_IEO_HAP_HI","H","63.5","H","68.25","H","73.2"',
        '"9","1001_IEO_ANG_MD","A:D","37.2:58.6","A","45.5","A","44.2"',
    )
    assert {one.id: one.emotion for one in read_corpus("cremad", root)} == {
        "1001_IEO_HAP_LO": "neutral",
        "1001_IEO_HAP_HI": "happy",
    }
    assert [one.id for one in read_corpus("cremad", root, subset="high")] == ["1001_IEO_HAP_HI"]
    trees.write(
        root, "processedResults/summaryTable.csv", "FileName,VoiceVote", "1001_IEO_HAP_LO,N", "1001_IEO_HAP_HI,7"
    )
    with pytest.raises(PipelineError, match=r"summaryTable.csv, line 3: not a vote: '7'"):
        read_corpus("cremad", root)


NEMO_HEADER = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"


def test_nemo_is_read_from_its_table(tmp_path: Path) -> None:
    root = trees.touch(tmp_path / "nEMO", "samples/WR0_surprised_38.wav", "samples/KD0_fear_2.wav")
    trees.write(
        root,
        "data.tsv",
        NEMO_HEADER,
        "WR0_surprised_38.wav\tsurprised\t\u201eRód smoka\u201d to serial.\tród smoka to serial\t        WR0\tmale\t23",
        'KD0_fear_2.wav\tfear\tNie "waśńmy się.\tnie waśńmy się\t        KD0\tfemale\t28',
    )
    for place in (root, root.parent):
        utterances = read_corpus("nemo", place)
        assert facts(utterances) == {
            "WR0_surprised_38": ("WR0", "surprise", "ród smoka to serial", ""),
            "KD0_fear_2": ("KD0", "fear", "nie waśńmy się", ""),
        }
        assert all((place / one.file).is_file() for one in utterances)
        assert {(one.speaker, one.gender, one.age) for one in utterances} == {
            ("WR0", "male", 23),
            ("KD0", "female", 28),
        }


def test_readers_that_know_the_speakers_say_so(tmp_path: Path) -> None:
    def known(corpus: str, *files: str) -> dict[str, tuple[str, int | None]]:
        root = trees.touch(tmp_path / corpus, *files)
        return {one.speaker: (one.gender, one.age) for one in read_corpus(corpus, root, subset="")}

    assert known("emodb", "wav/03a01Fa.wav", "wav/16a01Fa.wav") == {"03": ("male", 31), "16": ("female", 31)}
    ravdess = ("Actor_01/03-01-06-01-02-01-01.wav", "Actor_02/03-01-06-01-02-01-02.wav")
    assert known("ravdess", *ravdess) == {"01": ("male", None), "02": ("female", None)}
    esd = ("0001/Neutral/0001_000001.wav", "0020/Neutral/0020_000001.wav")
    assert known("esd", *esd) == {"0001": ("female", None), "0020": ("male", None)}
    trees.write(tmp_path / "cremad-intended", "VideoDemographics.csv", "ActorID,Age,Sex,Race", "1001,51,Male,x")
    cremad = ("AudioWAV/1001_IEO_HAP_LO.wav", "AudioWAV/1002_IEO_HAP_LO.wav")
    assert known("cremad-intended", *cremad) == {"1001": ("male", 51), "1002": ("", None)}
    trees.write(tmp_path / "emotale", "speaker_info.csv", "speaker,gender,age", "4,F,23")
    assert known("emotale", "DK_004_A_5.wav", "DK_005_A_5.wav") == {"004": ("female", 23), "005": ("", None)}
    turns = {one.speaker: one.gender for one in read_corpus("iemocap", trees.small_iemocap(tmp_path / "iemocap"))}
    assert all(gender == {"F": "female", "M": "male"}[speaker[-1]] for speaker, gender in turns.items())


def test_a_table_has_the_gender_and_age_of_its_speakers(tmp_path: Path) -> None:
    trees.touch(tmp_path, "1.wav", "2.wav")
    trees.write(tmp_path, "my.csv", "file,emotion,speaker,gender,age", "1.wav,sad,A,F,40", "2.wav,sad,B,,")
    found = read_corpus("table", tmp_path / "my.csv")
    assert [(one.gender, one.age) for one in found] == [("female", 40), ("", None)]
    trees.write(tmp_path, "my.csv", "file,emotion,speaker,age", "1.wav,sad,A,old")
    with pytest.raises(PipelineError, match=r"my.csv, line 2: age 'old' is not a number of years"):
        read_corpus("table", tmp_path / "my.csv")


MELD_HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
MELD_TIMES = '"00:20:57,256","00:21:00,049"'


@pytest.fixture
def meld(tmp_path: Path) -> Path:
    root = tmp_path / "MELD.Raw"
    rows = {
        "train": [f'1,"Oh my God, he\u2019s lost it.",Phoebe,sadness,negative,0,0,4,7,{MELD_TIMES}'],
        "dev": [f"1,Oh!,Ross,joy,positive,0,0,4,7,{MELD_TIMES}", f"2,No.,Ross,anger,negative,110,7,4,7,{MELD_TIMES}"],
        "test": [f"1,Why?,Mark,surprise,positive,0,0,3,19,{MELD_TIMES}"],
    }
    for part, lines in rows.items():
        trees.write(
            root, "train/train_sent_emo.csv" if part == "train" else f"{part}_sent_emo.csv", MELD_HEADER, *lines
        )
    folders = ("train/train_splits", "dev_splits_complete", "output_repeated_splits_test")
    trees.touch(root, *(f"{folder}/dia0_utt0.{kind}" for folder in folders for kind in ("mp4", "wav")))
    trees.touch(root, "output_repeated_splits_test/._dia0_utt0.wav")
    return root


def test_meld_has_its_official_split_and_lacks_the_turn_that_the_release_lacks(meld: Path) -> None:
    for place in (meld, meld.parent):
        utterances = read_corpus("meld", place)
        assert facts(utterances) == {
            "train_dia0_utt0": ("Phoebe", "sadness", "", "train"),
            "dev_dia0_utt0": ("Ross", "joy", "", "validation"),
            "test_dia0_utt0": ("Mark", "surprise", "", "test"),
        }
        assert {one.dialogue for one in utterances} == {"train_dia0", "dev_dia0", "test_dia0"}
        assert all((place / one.file).is_file() for one in utterances)
    (fold,) = folds_of(utterances, "official")
    assert [len(fold.train), len(fold.validation), len(fold.test)] == [1, 1, 1]


def test_meld_without_sound_says_which_file_is_missing(meld: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "there", lambda: False)
    (meld / "dev_splits_complete" / "dia0_utt0.wav").unlink()
    with pytest.raises(PipelineError, match=r"dev_splits_complete/dia0_utt0.wav exists only as video; extract"):
        read_corpus("meld", meld)


def test_meld_texts_in_another_encoding_are_no_obstacle(meld: Path) -> None:
    row = f"1,Oh\u2026,Ross,joy,positive,0,0,4,7,{MELD_TIMES}"
    (meld / "dev_sent_emo.csv").write_bytes(f"{MELD_HEADER}\r\n{row}\r\n".encode("cp1252"))
    assert len(read_corpus("meld", meld)) == 3


def test_msp_podcast_has_its_official_partitions(tmp_path: Path) -> None:
    root = tmp_path / "MSP-PODCAST-Publish-1.11"
    rows = [
        "MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1",
        "MSP-PODCAST_0002_0001.wav,H,5.5,7.0,7.0,31,Female,Train",
        "MSP-PODCAST_0002_0002.wav,C,5.5,2.0,7.0,Unknown,Unknown,Train",
        "MSP-PODCAST_0003_0001.wav,A,5.5,2.0,7.0,32,Female,Development",
        "MSP-PODCAST_0004_0001.wav,S,5.5,2.0,7.0,33,Female,Test2",
        "MSP-PODCAST_0004_0002.wav,X,5.5,2.0,7.0,33,Female,Test2",
    ]
    header = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
    trees.write(root, "Labels/labels_consensus.csv", header, *rows)
    trees.touch(root, *(f"Audios/{row.partition(',')[0]}" for row in rows))
    for place in (root, root.parent):
        utterances = read_corpus("msp-podcast", place)
        assert facts(utterances) == {
            "MSP-PODCAST_0001_0008": ("30", "neutral", "", "test"),
            "MSP-PODCAST_0002_0001": ("31", "happiness", "", "train"),
            "MSP-PODCAST_0002_0002": ("Unknown", "contempt", "", "train"),
            "MSP-PODCAST_0003_0001": ("32", "anger", "", "validation"),
            "MSP-PODCAST_0004_0001": ("33", "sadness", "", ""),
        }
    (fold,) = folds_of(utterances, "official")
    assert [len(fold.train), len(fold.validation), len(fold.test)] == [2, 1, 1]
    trees.write(root, "Labels/labels_consensus.csv", header, rows[0], rows[1].replace("Train", "Trian"))
    with pytest.raises(PipelineError, match=r"labels_consensus.csv, line 3: .*Trian; correct or delete the line"):
        read_corpus("msp-podcast", root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("\tneu\t", "\tnue\t"), r"Ses01F_impro01.txt, line 3: not a turn and its label: '\[0.2901"),
        (("\tneu\t", "\t"), "line 3: not a turn"),
        (("Ses01F_impro01_F000", "Ses01F_impro01_X000"), "line 3: not a turn"),
        (("[0.2901 - 1.2357]", "0.2901 - 1.2357"), "line 3: not a turn"),
    ],
)
def test_a_broken_line_of_a_label_file_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    root = trees.small_iemocap(tmp_path, sessions=1)
    file = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    file.write_text(file.read_text().replace(*change, 1))
    with pytest.raises(PipelineError, match=message) as caught:
        read_corpus("iemocap", root)
    assert "\n" not in str(caught.value)


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    root = trees.small_iemocap(tmp_path)
    (root / "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt").unlink()
    result = run("audit", "iemocap", str(root))
    assert result.exit_code == 1
    assert "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt is missing" in result.output
    assert "Traceback" not in result.output


def test_a_missing_audio_file_is_named_unless_nobody_needs_it(tmp_path: Path) -> None:
    root = trees.small_iemocap(tmp_path)
    for turn in ("Ses02F_impro01_F000", "Ses02F_impro01_M000"):
        trees.turn_wav(root, turn).unlink()
    with pytest.raises(PipelineError, match=r"F000.wav is missing \(and 1 more\); .*features … --skip-bad"):
        read_corpus("iemocap", root)
    assert len(read_corpus("iemocap", root, check_audio=False)) == 60


def test_a_folder_of_another_corpus_is_recognised(tmp_path: Path) -> None:
    trees.touch(tmp_path, "wav/03a01Fa.wav")
    with pytest.raises(PipelineError, match=rf"it looks like EMO-DB: `ser-pipeline features emodb {tmp_path}`"):
        read_corpus("iemocap", tmp_path)


def test_a_folder_of_no_corpus_an_empty_one_and_none_say_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"is empty; EMO-DB has wav/03a01Fa.wav"):
        read_corpus("emodb", tmp_path)
    trees.touch(tmp_path, "letters/dear-aunt.txt")
    with pytest.raises(PipelineError, match=r"is not EMO-DB, which has wav/03a01Fa.wav"):
        read_corpus("emodb", tmp_path)
    with pytest.raises(PipelineError, match=r"nowhere does not exist; it should contain wav"):
        read_corpus("emodb", tmp_path / "nowhere")
    with pytest.raises(
        PipelineError,
        match=r"unknown corpus 'emo-db'; did you mean 'emodb'\? known: cremad, cremad-intended, demo, emodb",
    ):
        read_corpus("emo-db", tmp_path)


def test_two_copies_of_a_corpus_that_differ_are_not_read_as_one(tmp_path: Path) -> None:
    trees.touch(tmp_path, "wav/03a01Fa.wav", "copy/wav/03a01Fa.wav")
    (tmp_path / "copy" / "wav" / "03a01Fa.wav").write_bytes(b"another")
    with pytest.raises(
        PipelineError, match=r"03a01Fa occurs twice, as wav/03a01Fa.wav and copy/wav/03a01Fa.wav, and they differ"
    ):
        read_corpus("emodb", tmp_path)


def test_utterances_are_sorted_by_speaker_and_id_whatever_the_file_system_says(tmp_path: Path) -> None:
    utterances = read_corpus("iemocap", trees.small_iemocap(tmp_path))
    assert utterances == sorted(utterances, key=lambda one: (one.speaker, one.id))


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_is_described_with_its_source_and_licence(name: str) -> None:
    corpus = find_corpus(name)
    assert corpus.name == name
    assert set(corpus.expected) in (set(), set(corpus.labels))
    text = run("corpora", name).output
    flat = " ".join(text.split())
    assert corpus.title in text
    for part in (corpus.layout, corpus.source, corpus.licence, "Layout: "):
        assert " ".join(part.split()) in flat
    for label, count in corpus.expected.items():
        assert f"{label} {count}" in flat
    assert name in run("corpora").output


def test_what_is_described_is_the_corpus_itself() -> None:
    demo = run("corpora", "demo").output
    assert "ten synthetic voices" in demo and "Busso" not in demo
    utterances = sum(turn.emotion not in LEFT_OUT for turn in script(0, 24))
    assert f"{utterances} utterances" in demo
    assert "preset     demo" in demo
    for name in ("folder", "table", "emodb"):
        said = run("corpora", name).output
        assert "preset     paper with a GPU; without one, frozen" in said
        assert ("every label that is found" in said) == (name != "emodb")


def test_the_list_of_corpora_is_narrow_enough_for_a_terminal() -> None:
    assert max(map(len, run("corpora").output.splitlines())) <= 100


@pytest.mark.skipif("SER_PIPELINE_EMODB" not in os.environ, reason="$SER_PIPELINE_EMODB is not set: no EMO-DB here")
def test_the_real_emodb_has_its_published_counts() -> None:
    root = Path(os.environ["SER_PIPELINE_EMODB"])
    utterances = read_corpus("emodb", root)
    assert Counter(one.emotion for one in utterances) == CORPORA["emodb"].expected
    assert len({one.speaker for one in utterances}) == len({one.script for one in utterances}) == 10
    assert len(folds_of(utterances, "speaker")) == 10


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_adding_a_corpus_is_the_file_and_the_row_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, row = blocks("python")
    module = "ser_pipeline.corpora.harbour"
    (tmp_path / "harbour.py").write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(module, tmp_path / "harbour.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, module, made)
    spec.loader.exec_module(made)
    space = {"CORPORA": dict(CORPORA)}
    exec(row, space)
    assert list(space["CORPORA"]) == [*CORPORA, "harbour"]
    monkeypatch.setattr(corpora, "CORPORA", space["CORPORA"])
    for seed, file in enumerate(re.findall(r"\S+\.wav", blocks("text")[0])):
        trees.write_wav(tmp_path / "harbour" / file, trees.noise(seed))
    monkeypatch.chdir(tmp_path)
    for command, expected in re.findall(r"\$ ser-pipeline (.*?)\n(.*?)(?=\$|\Z)", blocks("console")[0], re.DOTALL):
        result = run(*shlex.split(command))
        assert result.exit_code == 0, result.output
        assert result.output.rstrip() == expected.rstrip()


def test_the_files_of_the_package_follow_the_page() -> None:
    folder = Path(corpora.__file__).parent
    readers = {sys.modules[corpus.read.__module__].__file__ for corpus in CORPORA.values()}
    apart = {"__init__", "classes", "corpus", "copies", "demo", "layout", "matching", "ratings", "sheets", "voice"}
    assert {Path(str(file)).stem for file in readers} == {file.stem for file in folder.glob("*.py")} - apart


def test_listing_the_corpora_loads_nothing_heavy() -> None:
    code = (
        "import sys, ser_pipeline.corpora, ser_pipeline.cli.corpora, ser_pipeline.cli.folds, ser_pipeline.cli.audit;"
        "heavy = {'torch', 'librosa', 'h5py', 'matplotlib', 'sklearn', 'pandas', 'soundfile'} & sys.modules.keys();"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
