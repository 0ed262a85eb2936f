"""Users' own tables and folders: they are read, with a note on each guess, or one line says what to fix."""

from __future__ import annotations

import csv
import io
import logging
import os
import shlex
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from ser_pipeline.cli import main

from ser_pipeline.cache import manifest
from ser_pipeline.config import Audio
from ser_pipeline.corpora import read_corpus
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.errors import PipelineError
from support import trees

HEAD = "file,emotion,speaker"


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, args)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return trees.touch(tmp_path, "a/1.wav", "a/2.wav", "b/1.wav")


def read(root: Path, *rows: str, name: str = "my.csv", encoding: str = "utf-8") -> list[Utterance]:
    (root / name).write_bytes("\n".join([*rows, ""]).encode(encoding))
    return read_corpus("table", root / name)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().partition(": ")[2] for record in caplog.records]


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logging.getLogger("ser_pipeline")  # commands configure this logger
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(log, "level", logging.NOTSET)
    log.manager._clear_cache()  # type: ignore[attr-defined]
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize(("mark", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_a_separator_is_guessed_and_said(root: Path, caplog: pytest.LogCaptureFixture, mark: str, word: str) -> None:
    one, two = read(root, *(row.replace(",", mark) for row in (HEAD, "a/1.wav,sad,Ann", "a/2.wav,calm,Bob")))
    assert (one.file, one.emotion, two.speaker) == ("a/1.wav", "sad", "Bob")
    assert said(caplog) == [f"its cells are separated by {word}"]


def test_a_spreadsheets_word_for_its_separator_is_no_header(root: Path) -> None:
    assert len(read(root, "sep=;", HEAD.replace(",", ";"), "a/1.wav;sad;Ann")) == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "cp1252", "utf-8-sig"])
def test_an_encoding_is_guessed_and_said(root: Path, caplog: pytest.LogCaptureFixture, encoding: str) -> None:
    (one,) = read(root, f"{HEAD},script", "a/1.wav,sad,Jürgen,wait", encoding=encoding)
    assert one.speaker == "Jürgen"
    name = {"utf-8-sig": [], "cp1252": ["read as Windows-1252"]}
    assert said(caplog) == name.get(encoding, [f"read as utf-16-{'be' if encoding == 'utf-16-be' else 'le'}"])


def test_columns_are_known_by_their_synonyms_and_it_is_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (one,) = read(root, "File,label,Speaker ID,Start Time", "a/1.wav,sad,Ann,0.5")
    assert (one.file, one.emotion, one.speaker, one.start) == ("a/1.wav", "sad", "Ann", 0.5)
    assert said(caplog) == [
        "using `File` as file",
        "using `label` as emotion",
        "using `Speaker ID` as speaker",
        "using `Start Time` as start",
    ]


def test_our_own_name_for_a_column_comes_before_its_synonym(root: Path) -> None:
    (one,) = read(root, "path,file,emotion,label,speaker", "x,a/1.wav,sad,9,Ann")
    assert (one.file, one.emotion) == ("a/1.wav", "sad")


def test_keys_of_json_lines_are_known_by_their_synonyms(root: Path) -> None:
    (one,) = read(root, '{"path": "a/1.wav", "label": "sad", "spk": 7}', name="my.jsonl")
    assert (one.file, one.emotion, one.speaker) == ("a/1.wav", "sad", "7")


def test_empty_rows_and_empty_columns_at_the_end_are_left_out(root: Path) -> None:
    assert len(read(root, f"{HEAD},,", "a/1.wav,sad,Ann,,", ",,,,", "", "a/2.wav,sad,Ann,,", ",,,,")) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [f"{HEAD},emotion", "a/1.wav,sad,A,sad"],
            r"line 1: the column 'emotion' occurs twice; rename or delete one",
        ),
        (
            ["path,label", "a/1.wav,sad"],
            r"no column speaker; .* are path, label; add it, or read it from paths: .*--speaker",
        ),
        ([HEAD, "a/1.wav,s\0d,A"], r"line 2: emotion contains a character that is not text"),
        ([f"{HEAD},start", "a/1.wav,sad,A,1e400"], r"line 2: start '1e400' is not a number of seconds"),
        ([f"{HEAD},start,end", "a/1.wav,sad,A,2,nan"], r"line 2: end 'nan' is not a number of seconds"),
    ],
)
def test_what_cannot_be_guessed_is_one_line(root: Path, rows: list[str], message: str) -> None:
    with pytest.raises(PipelineError, match=message) as caught:
        read(root, *rows)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"file": "a/1.wav", "emotion": "\\ud800", "speaker": "A"}'])
def test_deep_json_and_lone_surrogates_are_one_line(root: Path, line: str) -> None:
    with pytest.raises(
        PipelineError, match=r"my\.jsonl, line 1: (not JSON|emotion contains a character that is not text)"
    ):
        read(root, line, name="my.jsonl")


def test_nearly_equal_labels_and_speakers_are_warned_of(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(root, HEAD, "a/1.wav,Happy,Anna", "a/2.wav,happy,anna", "b/1.wav,happy,Bob")
    labels, speakers = said(caplog)
    assert labels.startswith(
        "the labels 'happy' and 'Happy' are nearly equal but count as 2 classes; --classes happy=hap"
    )
    assert speakers.startswith(
        "the speakers 'Anna' and 'anna' are nearly equal but count as 2; one of them could train"
    )


def test_accents_in_two_forms_are_nearly_one(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    both = [unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD")]
    read(root, HEAD, f"a/1.wav,sad,{both[0]}", f"a/2.wav,sad,{both[1]}")
    assert "are nearly equal but count as 2" in said(caplog)[0]


def test_ids_of_absolute_paths_are_short(root: Path) -> None:
    rows = [f"{root}/{file},sad,A" for file in ("a/1.wav", "a/2.wav", "b/1.wav")]
    assert [one.id for one in read(root, HEAD, *rows)] == ["a/1", "a/2", "b/1"]


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (unicodedata.normalize("NFD", "é/ü.wav"), unicodedata.normalize("NFC", "é/ü.wav")),
        (unicodedata.normalize("NFC", "é/ü.wav"), unicodedata.normalize("NFD", "é/ü.wav")),
        ("Take/One.WAV", "take\\one.wav"),
        ("take/one.flac", "take/one"),
    ],
)
def test_files_are_found_again_by_form_case_and_slash(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, there: str, told: str
) -> None:
    trees.touch(tmp_path, there)
    (one,) = read(tmp_path, HEAD, f"{told},sad,A")
    assert one.file == there
    assert caplog.records[-1].getMessage() == (
        f"1 file found under a name that differs in case, slashes or form: {told!r} is {there!r}"
    )


def test_a_name_that_two_files_share_but_for_case_is_not_guessed(tmp_path: Path) -> None:
    trees.touch(tmp_path, "ONE.wav", "One.wav")
    with pytest.raises(PipelineError, match=r"line 2: the audio file one\.wav is missing"):
        read(tmp_path, HEAD, "one.wav,sad,A")


def test_a_name_in_latin_1_is_one_line_that_says_how_to_rename_it(tmp_path: Path) -> None:
    trees.write_wav(tmp_path / "wav" / "03a01Fa.wav", trees.noise(0))
    (tmp_path / "wav").rename(tmp_path / os.fsdecode(b"w\xe4v"))
    with pytest.raises(PipelineError, match=r"the name of w\\xe4v/03a01Fa\.wav is not UTF-8; rename it, as `convmv"):
        read_corpus("emodb", tmp_path)


@pytest.mark.parametrize("mark", ["\x85", "\u2028", "\u2029", "\x1e", "\x0b", "\x0c", "\r"])
def test_characters_that_end_lines_elsewhere_are_kept_by_the_manifest(tmp_path: Path, mark: str) -> None:
    utterance = Utterance("1", "1.wav", "sad", "A", script=f"wait{mark} no")
    data = manifest.Manifest("my", {"sad": ("sad",)}, Audio(), (utterance,), ("0" * 32,), np.array([16_000]))
    entry = data.entry(tmp_path)
    entry.begin()
    data.write(entry.partial)
    entry.publish()
    assert manifest.read(entry.path).utterances == (utterance,)


def test_windows_1252_text_is_extracted_and_read_back(tmp_path: Path) -> None:
    trees.write_wav(tmp_path / "1.wav", trees.noise(0))
    row = f"{HEAD},script\n1.wav,sad,A,wait\x85\n".encode("latin-1")
    (tmp_path / "my.csv").write_bytes(row)
    made = run("features", "table", tmp_path / "my.csv", "--cache", tmp_path / "cache", "--feature", "mfcc", "--quiet")
    assert made.exit_code == 0, made.output
    assert manifest.read(Path(made.stdout.strip())).utterances[0].script == "wait…"
    assert run("cache", "ls", "--cache", tmp_path / "cache").exit_code == 0


FOLDERS = ["angry/ada/1.wav", "angry/bob/1.wav", "sad/ada/1.wav", "sad/bob/1.wav"]


@pytest.mark.parametrize("order", ["emotion above speaker", "speaker above emotion"])
def test_a_folder_of_folders_by_emotion_is_read_as_it_is(tmp_path: Path, order: str) -> None:
    paths = [file if order == "emotion above speaker" else "/".join(swapped(file)) for file in FOLDERS]
    trees.touch(tmp_path, *paths)
    found = read_corpus("folder", tmp_path)
    assert {(one.file, one.emotion, one.speaker) for one in found} == {
        (path, *file.split("/")[:2]) for path, file in zip(paths, FOLDERS, strict=True)
    }


def swapped(file: str) -> list[str]:
    emotion, speaker, name = file.split("/")
    return [speaker, emotion, name]


def test_where_no_folder_tells_who_speaks_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trees.touch(tmp_path, "joyful/1.wav", "joyful/2.wav", "gloomy/1.wav")
    found = read_corpus("folder", tmp_path)
    assert [(one.emotion, one.speaker) for one in found] == [
        ("gloomy", "unknown"),
        ("joyful", "unknown"),
        ("joyful", "unknown"),
    ]
    assert "no folder names the speakers, so folds cannot leave speakers out" in said(caplog)[0]


def table_of(text: str) -> list[tuple[str, str, str]]:
    return [(row["file"], row["emotion"], row["speaker"]) for row in csv.DictReader(io.StringIO(text))]


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ([], [("angry/p1_x.wav", "angry", "unknown"), ("sad/p2_y.wav", "sad", "unknown")]),
        (["--speaker", r"/(p\d)_"], [("angry/p1_x.wav", "angry", "p1"), ("sad/p2_y.wav", "sad", "p2")]),
        (
            ["--emotion", r"_(.)\.wav", "--speaker", "parent"],
            [("angry/p1_x.wav", "x", "angry"), ("sad/p2_y.wav", "y", "sad")],
        ),
    ],
)
def test_a_table_is_made_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], rows: list[tuple[str, str, str]]
) -> None:
    trees.touch(tmp_path, "angry/p1_x.wav", "sad/p2_y.wav")
    monkeypatch.chdir(tmp_path)
    made = run("corpora", "--init", "folder", ".", *options)
    assert made.exit_code == 0, made.output
    assert table_of(made.stdout) == rows
    (tmp_path / "my.csv").write_text(made.stdout)
    assert len(read_corpus("table", tmp_path / "my.csv")) == 2


def test_a_table_without_speakers_gets_them_from_its_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "labels.csv").write_text("path;label\na/1.wav;sad\nb/1.wav;calm\n")
    monkeypatch.chdir(root)
    made = run("corpora", "--init", "table", "labels.csv", "--speaker", "parent")
    assert made.exit_code == 0, made.output
    assert table_of(made.stdout) == [("a/1.wav", "sad", "a"), ("b/1.wav", "calm", "b")]
    assert "using `label` as emotion" in made.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--speaker", "(p"], "'(p' is not a pattern"),
        (["--speaker", "p"], "'p' has 0 groups; write parent, grandparent, or a regular expression with one group"),
        (
            ["--speaker", "(zz)"],
            "in the paths of 2 of 2 recordings, such as angry/p1_x.wav; change --speaker",
        ),
    ],
)
def test_a_pattern_that_finds_nothing_is_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    trees.touch(tmp_path, "angry/p1_x.wav", "sad/p2_y.wav")
    failed = run("corpora", "--init", "folder", tmp_path, *options)
    assert failed.exit_code == 1
    assert message in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1


def test_cells_that_a_spreadsheet_would_run_are_guarded_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.touch(tmp_path, "angry/=cmd_1.wav", "sad/@x_2.wav", "sad/-3.wav")
    monkeypatch.chdir(tmp_path)
    made = run("corpora", "--init", "folder", ".", "--speaker", "/(.+)_?[0-9]")
    assert made.exit_code == 0, made.output
    speakers = [row[2] for row in table_of(made.stdout)]
    assert sorted(speakers) == ["'-", "'=cmd_", "'@x_"]
    (tmp_path / "my.csv").write_text(made.stdout)
    assert {one.speaker for one in read_corpus("table", tmp_path / "my.csv")} == {"-", "=cmd_", "@x_"}


def test_a_printed_command_can_be_pasted_whatever_the_folder_is_called(tmp_path: Path) -> None:
    odd = tmp_path / "a b; touch c"
    trees.touch(odd, "wav/03a01Fa.wav")
    with pytest.raises(PipelineError) as caught:
        read_corpus("ravdess", odd)
    command = str(caught.value).partition("`")[2].partition("`")[0]
    assert shlex.split(command) == ["ser-pipeline", "features", "emodb", str(odd)]


def test_a_folder_of_another_corpus_that_is_ones_own_says_how_to_make_a_table(tmp_path: Path) -> None:
    trees.touch(tmp_path, *FOLDERS)
    with pytest.raises(PipelineError, match=r"is not RAVDESS, .*`ser-pipeline corpora --init folder .* > my\.csv`"):
        read_corpus("ravdess", tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_a_table_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "my.csv")
    with pytest.raises(PipelineError, match=r"my\.csv is not a file; name the table itself"):
        read_corpus("table", tmp_path / "my.csv")
