"""The command `predict`: choice of run, parts of recordings, formats, and notes."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from click.testing import CliRunner, Result
from ser_pipeline.cli import main

import ser_pipeline
from ser_pipeline.predict.confidence import least_confidence
from ser_pipeline.predict.heard import heard_before
from ser_pipeline.runs.reading import newest
from support.places import ROOT
from support.sounds import tone

RATE = 16_000
Command = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """Write five seconds of two channels."""
    both = np.stack([tone(1, 5.0, 120), tone(2, 5.0, 300)], axis=1)
    soundfile.write(tmp_path / "call.wav", both, RATE)
    return tmp_path / "call.wav"


def table(said: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(said.stdout)))


def test_all_formats_say_the_same_with_the_same_digits(run: Command, segments_run: Path, call: Path) -> None:
    (call.parent / "words.wav").write_text("no sound")
    asked = ("predict", segments_run, call, "words.wav", "--device", "cpu", "--channels", "split")
    array = json.loads(run(*asked, "--json", status=1).stdout)
    lines = [json.loads(line) for line in run(*asked, "--jsonl", status=1).stdout.splitlines()]
    rows = table(run(*asked, "--csv", status=1))
    text = run(*asked, status=1)
    assert array == lines and len(rows) == len(array) == 3
    assert array[2] == {"file": "words.wav", "error": array[2]["error"]}
    assert array[2]["error"].startswith("words.wav is not readable audio")  # goes on if ffmpeg is missing
    assert rows[2]["error"] == array[2]["error"] and rows[2]["emotion"] == rows[2]["probability"] == ""
    assert text.stdout.splitlines()[3].split(maxsplit=1) == ["words.wav", f"error: {array[2]['error']}"]
    assert text.stderr == "error: no prediction for 1 of 2 recordings\n"
    for answer, row, line in zip(array[:2], rows, text.stdout.splitlines()[1:], strict=False):
        assert row["emotion"] == answer["emotion"] and int(row["channel"]) == answer["channel"]
        shares = {name: row[f"p:{name}"] for name in answer["probabilities"]}
        assert {name: float(share) for name, share in shares.items()} == answer["probabilities"]
        assert all(len(share) == 6 for share in shares.values()) and set(shares.values()) <= set(line.split())
        assert f"{answer['spread']:.4f}" == row["spread"] and row["spread"] in line.split()


def test_a_timeline_has_a_line_a_window(run: Command, segments_run: Path, call: Path) -> None:
    asked = ("predict", segments_run, call, "--device", "cpu", "--csv", "--timeline")
    windows = [(row["start"], row["end"]) for row in table(run(*asked, "--window", "2", "--stride", "1"))]
    assert windows == [("0.000", "2.000"), ("1.000", "3.000"), ("2.000", "4.000"), ("3.000", "5.000")]
    assert len(table(run(*asked))) == 1  # the model reads 6 s at a time
    apart = [row["start"] for row in table(run(*asked, "--window", "1", "--stride", "4.5"))]
    assert apart == ["0.000", "4.500"]
    samples, _ = soundfile.read(call)
    alone = ser_pipeline.load(segments_run, "cpu")(samples[RATE : 3 * RATE], RATE)
    found = table(run(*asked, "--window", "2", "--stride", "1"))[1]
    assert float(found["probability"]) == pytest.approx(alone.confidence, abs=2e-3)
    assert (
        "--window and --stride need --timeline" in run("predict", segments_run, call, "--window", "2", status=2).stderr
    )


RTTM = """\
SPKR-INFO call 1 <NA> <NA> <NA> unknown agent <NA> <NA>
SPEAKER call 1 0.50 1.50 <NA> <NA> agent <NA> <NA>
SPEAKER call 2 2.00 1.25 <NA> <NA> customer <NA> <NA>
SPEAKER other 1 0.00 9.00 <NA> <NA> someone <NA> <NA>
"""
TURNS = "speaker,start,end,channel\nagent,0.5,2.0,1\ncustomer,2.0,3.25,2\n"


@pytest.mark.parametrize(("name", "text"), [("call.rttm", RTTM), ("turns.csv", TURNS)])
def test_turns_are_answered_for_one_by_one(run: Command, segments_run: Path, call: Path, name: str, text: str) -> None:
    Path(name).write_text(text)
    asked = ("predict", segments_run, call, "--device", "cpu", "--csv", "--turns", name)
    rows = table(run(*asked))
    assert [(row["speaker"], row["start"], row["end"]) for row in rows] == [
        ("agent", "0.500", "2.000"),
        ("customer", "2.000", "3.250"),
    ]
    apart = table(run(*asked, "--channels", "split"))
    assert [(row["speaker"], row["channel"]) for row in apart] == [("agent", "1"), ("customer", "2")]
    windows = table(run(*asked, "--timeline", "--window", "1"))
    assert [row["start"] for row in windows] == ["0.500", "1.500", "2.000", "3.000"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.rttm", "SPEAKER call 1 0.50\n", "line 1 of a.rttm has 4 fields"),
        ("a.rttm", "SPEAKER call 1 zero 1 <NA> <NA> x <NA> <NA>\n", "line 1 of a.rttm has 'zero' instead of seconds"),
        ("a.rttm", "SPEAKER call 1 0 1_0 <NA> <NA> x <NA> <NA>\n", "line 1 of a.rttm has '1_0' instead of seconds"),
        ("a.rttm", "nothing\n", "a.rttm contains no turns"),
        ("a.csv", "start,end\n0,1\n", "a.csv has no column speaker"),
        ("a.csv", "start,end,speaker\n2,1,x\n", "line 2 of a.csv has a turn that ends at 1 s"),
        ("missing.csv", None, "cannot read missing.csv"),
    ],
)
def test_turns_that_are_none_are_one_line(
    run: Command, segments_run: Path, call: Path, name: str, text: str | None, said: str
) -> None:
    if text is not None:
        Path(name).write_text(text)
    assert said in run("predict", segments_run, call, "--device", "cpu", "--turns", name, status=1).stderr


def test_a_turn_after_the_end_and_a_recording_without_turns_have_their_lines(
    run: Command, segments_run: Path, call: Path
) -> None:
    Path("turns.csv").write_text("file,start,end,speaker\ncall.wav,1,2,agent\ncall.wav,7,9,customer\n")
    shutil.copy(call, "other.wav")
    asked = ("predict", segments_run, call, "other.wav", "--device", "cpu", "--csv", "--turns", "turns.csv")
    rows = table(run(*asked, status=1))
    assert [row["error"] for row in rows] == [
        "",
        "no audio in the turn of customer from 7 to 9 s: the recording ends at 5.000 s",
        "no turn belongs to this recording",
    ]


def test_the_newest_run_is_asked_where_none_is_named_and_is_said(
    run: Command, segments_run: Path, whole_run: Path, call: Path
) -> None:
    assert "no run in runs; train one with `ser-pipeline train`" in run("predict", call, status=1).stderr
    Path("runs").mkdir()
    for number, folder in enumerate((segments_run, whole_run)):
        Path("runs", folder.name).symlink_to(folder)
        os.utime(folder / "run.json", (number, number))
    said = run("predict", call.parent, "--device", "cpu", "--jsonl")
    assert said.stderr == f"runs/{whole_run.name}, the newest of 2 runs\n"
    assert json.loads(said.stdout)["file"] == str(call)
    assert "no run in runs has finished fold 99" in run("predict", call, "--fold", "99", status=1).stderr
    assert run("predict", call, "--device", "cpu", "--quiet").stderr == ""
    assert "is not a run" in run("predict", "runs/none", call, status=1).stderr
    assert "name the recordings after the run" in run("predict", segments_run, status=2).stderr


def test_standard_input_is_heard(segments_run: Path, call: Path) -> None:
    words = ["predict", str(segments_run), "-", "--device", "cpu", "--jsonl"]
    said = CliRunner().invoke(main, words, input=call.read_bytes())
    assert said.exit_code == 0, said.stderr
    answer = json.loads(said.stdout)
    assert (answer["file"], answer["end"]) == ("-", 5.0)
    assert answer["probability"] == pytest.approx(ser_pipeline.load(segments_run, "cpu")(call).confidence, abs=1e-4)


def test_standard_input_that_is_no_audio_is_called_standard_input(segments_run: Path) -> None:
    words = ["predict", str(segments_run), "-", "--device", "cpu", "--jsonl"]
    done = CliRunner().invoke(main, words, input=b"notes")
    answer = json.loads(done.stdout)
    assert answer["file"] == "-" and answer["error"].startswith("standard input is not readable audio")


def test_the_confidence_is_the_least_from_which_on_enough_was_right_on_validation(
    run: Command, segments_run: Path, call: Path
) -> None:
    model = ser_pipeline.load(segments_run, "cpu")
    confidences, right = [], []
    for file in segments_run.glob("*/validation.csv"):
        with file.open() as lines:
            for row in csv.DictReader(lines):
                scores = np.exp([float(row[name]) for name in row if name.startswith("log_p:")])
                confidences.append(scores.max() / scores.sum())
                right.append(row["label"] == row["prediction"])
    order = np.argsort(confidences)[::-1]
    share = np.cumsum(np.array(right)[order]) / np.arange(1, len(order) + 1)
    wanted = float(share[len(share) // 3 :].max())
    threshold = model.threshold(wanted)
    answered = np.array(confidences) >= threshold.confidence
    assert threshold.right == pytest.approx(np.array(right)[answered].mean()) and threshold.right >= wanted
    assert threshold.answered == pytest.approx(answered.mean()) and threshold.rows == len(right)
    said = run("predict", segments_run, call, "--device", "cpu", "--jsonl", "--unsure", str(wanted))
    answer = json.loads(said.stdout)
    assert (answer["emotion"] is None) == (answer["probability"] < threshold.confidence)
    assert said.stderr.startswith(f"answers need a confidence of at least {threshold.confidence:.4f}:")
    assert model(call, unsure=1.0).emotion is None and model(call, unsure=0.0).emotion
    assert least_confidence(1.0, np.array([0.9, 0.8]), np.array([False, True])) is None


def test_a_run_without_validation_predictions_says_what_mends_it(
    run: Command, segments_run: Path, call: Path, tmp_path: Path
) -> None:
    older = shutil.copytree(segments_run, tmp_path / "older" / segments_run.name)
    for file in [*older.glob("*/validation.csv"), older / "contents.csv"]:
        file.unlink()
    said = run("predict", older, call, "--device", "cpu", "--unsure", "0.9", status=1).stderr
    assert "has no predictions of validation rows" in said and "train it again" in said


def test_a_run_of_an_earlier_version_says_that_training_files_are_not_known_again(
    run: Command, segments_run: Path, corpus: Path, tmp_path: Path
) -> None:
    older = shutil.copytree(segments_run, tmp_path / "older" / segments_run.name)
    (older / "contents.csv").unlink()
    file = next(iter(corpus.rglob("*.wav")))
    said = run("predict", older, file, "--device", "cpu", "--json")
    assert said.stderr == (
        f"{older} has no contents.csv: an earlier version trained it, so files of its training set are not recognised\n"
    )
    assert json.loads(said.stdout)[0]["note"] is None
    assert run("predict", older, file, "--device", "cpu", "--quiet").stderr == ""
    assert (
        "seen in training"
        in json.loads(run("predict", segments_run, file, "--device", "cpu", "--json").stdout)[0]["note"]
    )


def test_every_channel_is_drawn(run: Command, segments_run: Path, call: Path) -> None:
    (call.parent / "again").mkdir()
    shutil.copy(call, call.parent / "again")
    asked = ("predict", segments_run, call, "again", "--device", "cpu", "--timeline", "--window", "2", "--stride", "1")
    said = run(*asked, "--channels", "split", "--plot", "pictures").stderr.splitlines()
    names = ["call-channel1.png", "call-channel1-2.png", "call-channel2.png", "call-channel2-2.png"]
    assert sorted(said) == sorted(f"pictures/{name}" for name in names)
    assert all(Path(line).read_bytes().startswith(b"\x89PNG") for line in said)


def test_the_page_tells_every_option_and_every_column(run: Command, segments_run: Path, call: Path) -> None:
    page = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")
    command = main.get_command(None, "predict")  # type: ignore[arg-type]
    options = [name for one in command.params for name in one.opts if name.startswith("--")]  # type: ignore[union-attr]
    for name in set(options) - {"--device", "--quiet", "--runs-root"}:
        assert f"`{name}" in page, name
    rows = table(run("predict", segments_run, call, "--device", "cpu", "--csv"))
    for name in rows[0]:
        assert f"`{name}`" in page or name.startswith("p:"), name


def read(form: str, text: str) -> list[dict[str, Any]]:
    """Parse answers in one of the formats."""
    if form == "--json":
        return list(json.loads(text))
    return list(csv.DictReader(text.splitlines())) if form == "--csv" else [*map(json.loads, text.splitlines())]


def test_near_copies_of_what_a_run_learned_from_are_found_and_other_recordings_are_not(
    run: Command, segments_run: Path, corpus: Path, tmp_path: Path
) -> None:
    source = max((corpus / "wav").glob("03*.wav"), key=lambda file: file.stat().st_size)
    samples, rate = soundfile.read(source, dtype="float32")
    louder = soxr.resample(np.concatenate([np.zeros(2_000, np.float32), 0.4 * samples[900:]]), rate, 22_050)
    soundfile.write(tmp_path / "copy.flac", louder, 22_050)
    soundfile.write(tmp_path / "own.wav", tone(9, 3.0, 210), RATE)
    (tmp_path / "words.wav").write_text("no sound")
    asked = ("predict", segments_run, "copy.flac", "own.wav", "words.wav", "--device", "cpu", "--near-copies")
    asking = run(*asked, status=1)
    said = asking.stderr
    noted = f"contains the sound of {source.stem} (correlation 0.9"
    assert noted in asking.stdout.splitlines()[1] and asking.stdout.count(noted) == 1
    for form in ("--json", "--jsonl", "--csv"):
        answers = read(form, run(*asked, form, status=1).stdout)
        notes = [one.get("note") or "" for one in answers]
        assert [noted in note for note in notes] == [True, False, False], form
        assert "seen in training" in notes[0]
    assert f"warning: copy.flac contains the sound of {source.stem} (correlation 0.9" in said
    assert "--fold 03 uses one that was not" in said
    assert "1 of 3 files are near-copies" in said
    held_out = run(*asked, "--fold", "03", status=1).stderr
    assert "warning:" not in held_out and "0 of 3 files are near-copies" in held_out
    folds = [folder.name for folder in segments_run.iterdir() if folder.is_dir()]
    untested = Path(shutil.copytree(segments_run, tmp_path / segments_run.name))
    shutil.rmtree(untested / "03")  # as with an official split, where training speakers are never tested
    found = heard_before(untested, ["copy.flac"], folds, jobs=1)
    assert [one.utterance for one in found] == [source.stem]
    run("export", segments_run, "folder", "--quiet")
    assert "--near-copies needs a run" in run("predict", "folder", "own.wav", "--near-copies", status=2).stderr


def test_the_newest_run_is_one_with_the_fold(tmp_path: Path) -> None:
    for number, (name, fold) in enumerate({"first": "03", "final": "final"}.items()):
        (tmp_path / name / fold).mkdir(parents=True)
        (tmp_path / name / fold / "index.json").touch()
        (tmp_path / name / "run.json").touch()
        os.utime(tmp_path / name / "run.json", (number, number))
    assert newest(tmp_path, ["03"]) == (tmp_path / "first", 1)
    assert newest(tmp_path) == (tmp_path / "final", 2)


@pytest.mark.parametrize("args", [["predict", "{run}", "{call}", "--fold", "99"], ["export", "{run}", "{run}"]])
def test_what_is_refused_at_once_does_not_import_torch(args: list[str], segments_run: Path, call: Path) -> None:
    words = [word.format(run=segments_run, call=call) for word in args]
    code = (
        "import sys\nfrom ser_pipeline.cli import main\ntry:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout.strip() == "False", done.stderr
