from __future__ import annotations

import csv
import io
import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner
from ser_pipeline.cli import main

from ser_pipeline.corpora import CORPORA, class_table, read_corpus, table
from ser_pipeline.errors import PipelineError
from ser_pipeline.splits.folds import folds_json, folds_of
from support import trees
from support.counting import calls, touching

ROWS = [
    {"file": "a/1.wav", "emotion": "happy", "speaker": "Ann", "session": "s1", "dialogue": "d1", "split": "train"},
    {"file": "a/2.flac", "emotion": "sad", "speaker": "Bob", "session": "s1", "dialogue": "d1", "split": "dev"},
    {"file": "b/1.wav", "emotion": "calm", "speaker": "Cy", "session": "s2", "dialogue": "d2", "split": "test"},
]


def write_rows(root: Path, suffix: str, rows: list[dict[str, str]]) -> Path:
    file = root / f"my{suffix}"
    if suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return file
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter="\t" if suffix == ".tsv" else ",")
    writer.writeheader()
    writer.writerows(rows)
    file.write_text(out.getvalue(), encoding="utf-8")
    return file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return trees.touch(tmp_path, *(row["file"] for row in ROWS))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_table_is_read_in_each_of_its_forms(root: Path, suffix: str) -> None:
    file = write_rows(root, suffix, ROWS)
    utterances = read_corpus("table", file)
    assert [(one.id, one.file, one.emotion, one.speaker) for one in utterances] == [
        ("a/1", "a/1.wav", "happy", "Ann"),
        ("a/2", "a/2.flac", "sad", "Bob"),
        ("b/1", "b/1.wav", "calm", "Cy"),
    ]
    assert [one.split for one in utterances] == ["train", "validation", "test"]
    assert [one.dialogue for one in utterances] == ["d1", "d1", "d2"]


def test_every_label_is_a_class_in_alphabetical_order_unless_others_are_named(root: Path) -> None:
    file = write_rows(root, ".csv", ROWS)
    utterances = read_corpus("table", file)
    assert tuple(class_table(CORPORA["table"], utterances)) == ("calm", "happy", "sad")
    merged = read_corpus("table", file, {"good": ("happy", "calm"), "bad": ("sad",)})
    assert [one.emotion for one in merged] == ["good", "bad", "good"]


def test_stretches_of_one_file_are_utterances_of_their_own(root: Path) -> None:
    rows = [
        {"file": "a/1.wav", "emotion": "happy", "speaker": "Ann", "start": "0", "end": "1.5"},
        {"file": "a/1.wav", "emotion": "sad", "speaker": "Ann", "start": "1.5", "end": "4"},
    ]
    utterances = read_corpus("table", write_rows(root, ".csv", rows))
    assert [(one.id, one.start, one.end) for one in utterances] == [("a/1@0-1.5", 0.0, 1.5), ("a/1@1.5-4", 1.5, 4.0)]


def test_other_columns_are_ignored_and_said_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rows = [{**row, "accent": "Welsh"} for row in ROWS]
    assert len(read_corpus("table", write_rows(root, ".csv", rows))) == 3
    assert [record.getMessage() for record in caplog.records] == [f"{root / 'my.csv'}: the column 'accent' is ignored"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,emotion", "a/1.wav,sad"], r"my.csv, line 1: no column speaker; the columns are file, emotion"),
        (
            ["file,emotion,speaker,sesion", "a/1.wav,sad,A,s"],
            r"line 2: unknown column 'sesion'; did you mean 'session'",
        ),
        (["file,emotion,speaker", "a/1.wav,sad"], r"line 2: not 3 columns"),
        (["file,emotion,speaker", "a/1.wav,sad,A,B"], r"line 2: not 3 columns"),
        (["file,emotion,speaker", "a/1.wav,sad,A", "a/1.wav,,A"], r"line 3: no emotion"),
        (
            ["file,emotion,speaker", "a/1.wav,sad,A", "b/1.wav,sad,A", "a/1.wav,sad,A"],
            "line 4: a/1 is already in line 2",
        ),
        (["file,emotion,speaker", "a/1.wav,sad,A", "b/9.wav,sad,A"], r"line 3: the audio file b/9.wav is missing"),
        (["file,emotion,speaker,split", "a/1.wav,sad,A,trian"], r"line 2: split 'trian' is not train, validation or"),
        (["file,emotion,speaker,start", "a/1.wav,sad,A,soon"], r"line 2: start 'soon' is not a number of seconds"),
        (["file,emotion,speaker,start", "a/1.wav,sad,A,1_0"], r"line 2: start '1_0' is not a number of seconds"),
        (["file,emotion,speaker,age", "a/1.wav,sad,A,2_0"], r"line 2: age '2_0' is not"),
        (
            ["file,emotion,speaker,arousal,valence,dominance,scale_low,scale_high", "a/1.wav,sad,A,1,1,1,1,1_0"],
            r"line 2: scale_high '1_0' is not a number",
        ),
        (["file,emotion,speaker,start", "a/1.wav,sad,A,-1"], r"line 2: start '-1' is not a number of seconds"),
        (["file,emotion,speaker,start,end", "a/1.wav,sad,A,2,1"], r"line 2: end 1.0 is not after start 2.0"),
        (["file,emotion,speaker", 'a/1.wav,"sad,A'], r"my.csv, line 2: "),
        (["file,emotion,speaker"], r"my.csv has no rows"),
        ([], r"my.csv is empty; its first line must name the columns file, emotion, speaker"),
    ],
)
def test_what_is_wrong_with_a_table_is_named_with_its_line(root: Path, lines: list[str], message: str) -> None:
    trees.write(root, "my.csv", *lines)
    with pytest.raises(PipelineError, match=message) as caught:
        read_corpus("table", root / "my.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: not a flat JSON object"),
        ('{"file": "a/1.wav", "emotion": {"sad": 1}, "speaker": "A"}', "line 2: not a flat JSON object"),
        ('{"file": "a/1.wav", "emotion": "sad"}', "line 2: no speaker"),
        ('{"file": "a/1.wav", "emotion": null, "speaker": "A"}', "line 2: no emotion"),
    ],
)
def test_what_is_wrong_with_a_line_of_json_is_named(root: Path, line: str, message: str) -> None:
    trees.write(root, "my.jsonl", json.dumps(ROWS[0]), line)
    with pytest.raises(PipelineError, match=message):
        read_corpus("table", root / "my.jsonl")


def test_a_folder_or_another_kind_of_file_is_no_table(root: Path) -> None:
    with pytest.raises(PipelineError, match="is a folder; name the table itself"):
        read_corpus("table", root)
    with pytest.raises(PipelineError, match=r"must end in .csv, .tsv, .jsonl"):
        read_corpus("table", root / "a" / "1.wav")


def test_a_table_where_a_folder_is_expected_is_recognised(root: Path) -> None:
    file = write_rows(root, ".csv", ROWS)
    with pytest.raises(PipelineError, match=rf"it looks like your own table: `ser-pipeline features table {file}`"):
        read_corpus("emodb", file)


def write_stretches(file: Path, count: int) -> Path:
    stretches = [f"a/1.wav,{'abcd'[row % 4]},s{row % 50},{row},{row + 1}" for row in range(count)]
    trees.write(file.parent, file.name, "file,emotion,speaker,start,end", *stretches)
    return file


def test_a_table_is_read_in_one_pass_whose_work_grows_as_its_rows_do(root: Path) -> None:
    few, many = (write_stretches(root / f"{count}.csv", count) for count in (500, 5_000))
    with touching(root) as touched:
        assert len(read_corpus("table", many)) == 5_000
    assert touched.opened == {many: 1}
    assert touched.listed == {root / "a": 1}
    assert calls(lambda: read_corpus("table", many)) < 11 * calls(lambda: read_corpus("table", few))


def test_a_table_made_from_a_corpus_gives_the_same_folds_as_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = trees.small_iemocap(tmp_path / "corpus")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = CliRunner().invoke(main, ["corpora", "--init", "iemocap", str(corpus)])
    assert result.exit_code == 0, result.output
    Path("my.csv").write_text(result.stdout, encoding="utf-8")
    wanted = (
        "file,id,emotion,speaker,session,dialogue,script,language,gender,arousal,valence,dominance,scale_low,scale_high"
    )
    assert result.stdout.splitlines()[0] == f"{wanted},votes:neutral"
    ours, theirs = read_corpus("table", Path("my.csv")), read_corpus("iemocap", corpus)
    assert [one.id for one in ours] == [one.id for one in theirs]
    for protocol in ("speaker", "session", "group-2"):
        one, other = (folds_json(folds_of(these, protocol), these, protocol) for these in (ours, theirs))
        assert one == other


def test_writing_a_table_and_reading_it_gives_the_same_utterances(root: Path) -> None:
    utterances = read_corpus("table", write_rows(root, ".jsonl", ROWS))
    (root / "again.csv").write_text(table.write(utterances), encoding="utf-8")
    assert read_corpus("table", root / "again.csv") == utterances


def test_a_line_break_in_the_name_of_a_column_is_escaped_in_the_message(root: Path) -> None:
    trees.write(root, "my.csv", '"fi\nle",emotion', "1.wav,sad")
    with pytest.raises(PipelineError) as told:
        read_corpus("table", root / "my.csv")
    assert r"fi\nle" in str(told.value)
    assert str(told.value).isprintable()


def test_a_name_that_is_too_long_for_a_file_is_a_missing_file(root: Path) -> None:
    trees.write(root, "my.csv", "file,emotion,speaker", f"{'9' * 5_000}.wav,sad,A")
    with pytest.raises(PipelineError, match=r"the audio file 9+\.wav is missing"):
        read_corpus("table", root / "my.csv")
