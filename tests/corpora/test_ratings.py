"""Votes, arousal, valence and dominance: every number of the label files is read."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ser_pipeline.audit.raters import audit_raters
from ser_pipeline.cache import manifest as manifests
from ser_pipeline.corpora import demo, read_corpus, table
from ser_pipeline.corpora.ratings import Vad, counted, mean_of
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.measure import measure
from ser_pipeline.splits.joining import join, told
from support import trees

IEMOCAP_LINES = (
    "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]",
    "",
    "[6.2901 - 8.2357]\tSes01F_impro01_F000\thap\t[4.5000, 3.5000, 2.0000]",
    "C-E2:\tHappiness;\t()",
    "C-E3:\tExcited; Other;\t(cheerful)",
    "C-E4:\tNeutral state;\t()",
    "C-F1:\tAnger;\t()",
    "A-E3:\tval 5; act 3; dom  2;\t()",
    "A-E4:\tval 4; act 4; dom  2;\t()",
    "A-E5:\tval ; act 4; dom  2;\t()",
    "A-F1:\tval 1; act 1; dom  1;\t()",
    "",
    "[9.0000 - 10.2357]\tSes01F_impro01_F001\txxx\t[2.5000, 2.5000, 2.5000]",
    "C-E2:\tAnger;\t()",
    "C-E3:\tSadness;\t()",
    "C-E4:\tFrustration;\t()",
    "A-E3:\tval 3; act 2; dom  2;\t()",
    "",
)
LABEL_FILE = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"


def test_every_number_of_iemocaps_label_files_comes_out(tmp_path: Path) -> None:
    trees.write(tmp_path, LABEL_FILE, *IEMOCAP_LINES)
    (one,) = read_corpus("iemocap", tmp_path, check_audio=False)
    assert one.votes == (("", 0.5), ("happy", 1.5), ("neutral", 1.0))
    assert one.vad == Vad((3.5, 4.5, 2.0), (1.0, 5.0), ((3.0, 5.0, 2.0), (4.0, 4.0, 2.0)))
    _, other = read_corpus("iemocap", tmp_path, check_audio=False, rated=True)
    assert (other.id, other.emotion) == ("Ses01F_impro01_F001", "")
    assert other.votes == (("", 1.0), ("angry", 1.0), ("sad", 1.0))
    assert other.vad == Vad((2.5, 2.5, 2.5), (1.0, 5.0), ((2.0, 3.0, 2.0),))


def test_a_category_that_iemocap_has_not_is_a_line(tmp_path: Path) -> None:
    trees.write(tmp_path, LABEL_FILE, *(line.replace("Excited", "Bored") for line in IEMOCAP_LINES))
    with pytest.raises(PipelineError, match=r"Ses01F_impro01.txt, line 5: 'bored' is not a category of IEMOCAP"):
        read_corpus("iemocap", tmp_path, check_audio=False)


@pytest.mark.parametrize(("old", "said", "line"), [("4.5000", "nan", 3), ("val 5;", "val 5.0.0;", 8)])
def test_attributes_of_iemocap_that_are_no_numbers_are_a_line(tmp_path: Path, old: str, said: str, line: int) -> None:
    trees.write(tmp_path, LABEL_FILE, *(text.replace(old, said) for text in IEMOCAP_LINES))
    message = f"Ses01F_impro01.txt, line {line}: not numbers for valence, arousal, dominance: {said.strip('val ;')}"
    with pytest.raises(PipelineError, match=re.escape(message)):
        read_corpus("iemocap", tmp_path, check_audio=False)


EMOTALE_HEADER = "file,a1_A,a1_V,a1_D,a1_cat,a2_A,a2_V,a2_D,a2_cat,a3_A,a3_V,a3_D,a3_cat,gt_emotion"


def test_emotales_three_raters_are_read_as_published(tmp_path: Path) -> None:
    trees.touch(tmp_path, "DK_003_A_2.wav", "EN_003_B_1.wav")
    line = "DK_003_A_2.wav,3.0,2.5,3.0,A,4.0,2.0,3.0,A,3.5,4.5,4.0,H,A"
    trees.write(tmp_path, "annotations.csv", EMOTALE_HEADER, line)
    unrated, rated = sorted(read_corpus("emotale", tmp_path), key=lambda one: one.emotion, reverse=True)
    assert (unrated.votes, unrated.vad) == ((), None)
    assert rated.votes == (("anger", 2.0), ("happiness", 1.0))
    assert rated.vad is not None
    assert rated.vad.values == pytest.approx((3.5, 3.0, 10 / 3))
    assert rated.vad.raters == ((3.0, 2.5, 3.0), (4.0, 2.0, 3.0), (3.5, 4.5, 4.0))
    trees.write(tmp_path, "annotations.csv", EMOTALE_HEADER, line.replace(",H,", ",X,"))
    with pytest.raises(PipelineError, match=r"annotations.csv, line 2: 'X' is not one of A, B"):
        read_corpus("emotale", tmp_path)
    trees.write(tmp_path, "annotations.csv", EMOTALE_HEADER, line.replace(",2.5,", ",,"))
    with pytest.raises(PipelineError, match=r"annotations.csv, line 2: not numbers for arousal, valence, dominance: 3"):
        read_corpus("emotale", tmp_path)


def test_cremads_votes_are_of_those_who_heard_the_voice_alone(tmp_path: Path) -> None:
    trees.touch(tmp_path, "AudioWAV/1001_IEO_HAP_LO.wav")
    trees.write(tmp_path, "processedResults/summaryTable.csv", "FileName,VoiceVote", "1001_IEO_HAP_LO,N")
    rows = ['"100002",0,0,0,3,6,0,"1001_IEO_HAP_LO",9', '"200002",0,0,0,9,1,0,"1001_IEO_HAP_LO",10']
    header = '"","A","D","F","H","N","S","fileName","numResponses"'
    trees.write(tmp_path, "processedResults/tabulatedVotes.csv", header, *rows)
    for corpus in ("cremad", "cremad-intended"):
        (one,) = read_corpus(corpus, tmp_path)
        assert one.votes == (("happy", 3.0), ("neutral", 6.0))


MSP_HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"


@pytest.mark.parametrize(
    ("header", "lines"),
    [
        (
            "FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom",
            ("{},W1,Happy,Happy,5,6,4", '{},W2,"Other-amused","Amused",6,5,4', "{},W3,Neutral,Neutral,4,4,4"),
        ),
        (
            "FileName,EmoDetail",
            (
                '{},"WORKER1; Happy; Happy,Amused; A:5.0; V:6.0; D:4.0;"',
                '{},"WORKER2; Other(amused); Amused; A:6.0; V:5.0; D:4.0;"',
                '{},"WORKER3; Neutral; Neutral; A:4.0; V:4.0; D:4.0;"',
            ),
        ),
    ],
)
def test_msp_podcasts_workers_are_read_from_both_forms(tmp_path: Path, header: str, lines: tuple[str, ...]) -> None:
    name = "MSP-PODCAST_0001_0008.wav"
    trees.touch(tmp_path, f"Audios/{name}")
    trees.write(tmp_path, "Labels/labels_consensus.csv", MSP_HEADER, f"{name},H,5.0,5.0,4.0,30,Male,Train")
    trees.write(tmp_path, "Labels/labels_detailed.csv", header, *(line.format(name) for line in lines))
    (one,) = read_corpus("msp-podcast", tmp_path)
    assert one.votes == (("", 1.0), ("happiness", 1.0), ("neutral", 1.0))
    assert one.vad == Vad((5.0, 5.0, 4.0), (1.0, 7.0), ((5.0, 6.0, 4.0), (6.0, 5.0, 4.0), (4.0, 4.0, 4.0)))
    assert one.gender == "male"
    trees.write(tmp_path, "Labels/labels_consensus.csv", MSP_HEADER, f"{name},H,5.0,inf,4.0,30,Male,Train")
    with pytest.raises(PipelineError, match=r"line 2: not numbers for arousal, valence, dominance: 5.0, inf, 4.0"):
        read_corpus("msp-podcast", tmp_path)


TABLE = (
    "file,emotion,speaker,votes:joy,votes:sadness,votes:,arousal,valence,dominance,scale_low,scale_high",
    "a/1.wav,joy,x,2,,1,3,4,5,1,7",
    "a/2.wav,,x,1,,2,,,,,",
)


def test_a_table_has_votes_and_attributes_by_columns_and_is_written_as_it_was(tmp_path: Path) -> None:
    trees.touch(tmp_path, "a/1.wav", "a/2.wav")
    trees.write(tmp_path, "my.csv", *TABLE)
    (one,) = read_corpus("table", tmp_path / "my.csv")
    assert (one.votes, one.vad) == ((("", 1.0), ("joy", 2.0)), Vad((3.0, 4.0, 5.0), (1.0, 7.0)))
    found = read_corpus("table", tmp_path / "my.csv", None, rated=True)
    assert [one.emotion for one in found] == ["joy", ""]
    every = list(table.read(tmp_path / "my.csv"))
    (tmp_path / "again.csv").write_text(table.write(every), encoding="utf-8")
    assert [replace(one, votes=tuple(sorted(one.votes))) for one in table.read(tmp_path / "again.csv")] == [
        replace(one, votes=tuple(sorted(one.votes))) for one in every
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("3,4,5,1,7", "3,4,5,,7", "line 2: no scale_low, required with arousal, valence, dominance"),
        ("3,4,5,1,7", "3,4,5,7,7", "line 2: scale_low 7 is not below scale_high 7"),
        ("joy,x,2", "joy,x,two", "line 2: votes:joy 'two' is not a number"),
        ("joy,x,2", "joy,x,-2", "line 2: votes:joy is below 0"),
        (",,x,1,,2,", ",,x,,,,", "line 3: no emotion"),
    ],
)
def test_broken_ratings_of_a_table_are_a_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    trees.touch(tmp_path, "a/1.wav", "a/2.wav")
    trees.write(tmp_path, "my.csv", *(line.replace(old, new) for line in TABLE))
    with pytest.raises(PipelineError, match=message):
        read_corpus("table", tmp_path / "my.csv")


def test_attributes_outside_of_their_scale_are_taken_by_every_reader_and_said(tmp_path: Path) -> None:
    trees.write(tmp_path, LABEL_FILE, *(line.replace("4.5000", "5.5000") for line in IEMOCAP_LINES))
    (one,) = read_corpus("iemocap", tmp_path, check_audio=False)
    (tmp_path / "again.csv").write_text(table.write([one]), encoding="utf-8")
    (same,) = table.read(tmp_path / "again.csv")
    for found in (one, same):
        assert found.vad is not None and found.vad.values == (3.5, 5.5, 2.0)
        (said,) = [said for said in audit_raters([found]) if said.name == "attributes-outside"]
        assert said.severity == "warning"
        assert "1 utterance outside the scale of 1 to 5" in said.message and "valence 5.5" in said.message


def measured(root: Path, corpus: str = "iemocap") -> manifests.Manifest:
    from ser_pipeline.config import Audio
    from ser_pipeline.corpora import CORPORA

    found = read_corpus(corpus, root, rated=True)
    return measure(corpus, CORPORA[corpus].classes, found, root, Audio())


def test_a_manifest_carries_ratings_which_its_digest_does_not_know(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    demo.write(root, utterances_per_speaker=4)
    data = measured(root, "demo")
    assert any(not one.emotion for one in data.utterances)
    (tmp_path / "features").mkdir()
    entry = data.entry(tmp_path / "features")
    entry.begin()
    data.write(entry.partial)
    folder = entry.publish(labels=list(data.labels))
    assert manifests.read(folder).utterances == data.utterances
    assert data.attributes is data.attributes and data.scale is data.scale, "gathered once"
    bare = replace(data, utterances=tuple(replace(one, votes=(), vad=None) for one in data.utterances))
    assert bare.inputs == data.inputs
    text = (folder / manifests.FILE).read_text(encoding="utf-8")
    assert {"votes", "vad"} <= json.loads(text.partition("\n")[0]).keys()
    (folder / manifests.FILE).write_text(text.replace('"scale": [1.0, 5.0]', '"scale": [5.0, 1.0]'), encoding="utf-8")
    with pytest.raises(PipelineError, match="the scale of vad does not rise"):
        manifests.read(folder)


def test_attributes_of_several_corpora_are_put_on_one_scale_and_it_is_said(tmp_path: Path) -> None:
    demo.write(tmp_path / "demo", utterances_per_speaker=4)
    one = measured(tmp_path / "demo", "demo")
    wider = tuple(replace(u, vad=u.vad and u.vad.on((1.0, 7.0))) for u in one.utterances)
    other = replace(one, corpus="iemocap", utterances=wider)
    both = join([one, other])
    half = len(one.utterances)
    for mine, theirs, own in zip(both.utterances[:half], both.utterances[half:], one.utterances, strict=True):
        assert mine.votes == theirs.votes == own.votes
        assert mine.vad is not None
        assert theirs.vad is not None
        assert own.vad is not None
        assert mine.vad.scale == theirs.vad.scale == (0.0, 1.0)
        assert mine.vad.values == pytest.approx([(value - 1) / 4 for value in own.vad.values])
        assert theirs.vad.values == pytest.approx(mine.vad.values)
    assert "attributes: demo 1 to 5, iemocap 1 to 7; mapped linearly to 0 to 1" in told([one, other])


def test_raters_who_choose_several_labels_share_a_vote() -> None:
    assert counted([["a", "b"], ["a"]]) == (("a", 1.5), ("b", 0.5))
    assert mean_of([], (1.0, 5.0)) is None
