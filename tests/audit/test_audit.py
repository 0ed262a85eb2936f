from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from ser_pipeline.cli import main

from ser_pipeline import audio
from ser_pipeline.audit import copies
from ser_pipeline.audit.corpus import Finding, audit, audit_labels, leaks, to_json
from ser_pipeline.audit.sound import listen, listen_to
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.config import Audio
from ser_pipeline.corpora import CORPORA, demo, read_corpus, table
from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.corpora.ratings import Vad
from ser_pipeline.splits.folds import Fold, folds_json, folds_of
from support import trees
from support.counting import touching

SMALL = replace(
    CORPORA["iemocap"],
    expected={"neutral": 12, "happy": 24, "angry": 12, "sad": 12},
    parts={"Session1": 20, "Session2": 20, "Session3": 20},
)
"""Counts of `trees.small_iemocap`."""


def run(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.small_iemocap(tmp_path_factory.mktemp("corpus") / "small")


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "corpus", copy_function=os.link)


def look(root: Path, protocol: str = "speaker", corpus: Corpus = SMALL) -> dict[str, Finding]:
    utterances = read_corpus("iemocap", root, check_audio=False)
    found = audit(utterances, root, corpus=corpus, folds=folds_of(utterances, protocol))
    return {finding.name: finding for finding in found}


def errors(found: dict[str, Finding]) -> set[str]:
    return {finding.name for finding in found.values() if finding.severity == "error"}


def test_a_sound_corpus_has_notes_alone(root: Path) -> None:
    found = look(root)
    assert {finding.severity for finding in found.values()} == {"note"}
    assert found["contents"].message == "60 files, 6 speakers, 4 classes (happy 24, neutral 12, angry 12, sad 12)"
    assert found["counts"].message == "60 utterances, as published"
    assert found["durations"].message == "0.01 h; 0.40 to 0.40 s, mean 0.40 s; 100.0 % under 3 s"
    assert found["formats"].message == "60 recordings of 16000 Hz mono"
    assert "the same sentence or script is in train and in test of 6 of 6 folds (s" in found["text-dependent"].message


@pytest.mark.slow(reason="writes the 5,531 files of a corpus of IEMOCAP's size")
def test_a_tree_with_iemocaps_counts_passes_and_each_of_its_label_files_is_read_once(tmp_path: Path) -> None:
    full = trees.full_iemocap(tmp_path / "IEMOCAP_full_release")
    with touching(full) as touched:
        utterances = read_corpus("iemocap", full)
    assert sorted(touched.opened) == sorted(full.glob("Session*/dialog/EmoEvaluation/*.txt"))  # and no audio
    assert set(touched.opened.values()) == {1}
    assert max(touched.listed.values()) <= 2
    assert Counter(one.emotion for one in utterances) == {"neutral": 1708, "happy": 1636, "angry": 1103, "sad": 1084}
    speakers = Counter(one.speaker for one in utterances)
    assert [speakers[name] for name in sorted(speakers)] == [528, 557, 481, 542, 522, 629, 528, 503, 590, 651]
    sessions = Counter(one.session for one in utterances)
    assert [sessions[f"Session{number}"] for number in range(1, 6)] == [1085, 1023, 1151, 1031, 1241]
    assert len(read_corpus("iemocap", full, subset="improvised")) == 2943
    assert len(read_corpus("iemocap", full, subset="scripted")) == 2588
    result = run("audit", "iemocap", str(full), "--protocol", "session", "--json", "--quiet")
    value = json.loads(result.stdout)
    assert result.exit_code == 0, result.output
    assert value["counts"] == {"error": 0, "warning": 0, "note": 8}
    assert "5,531 utterances, as published" in [finding["message"] for finding in value["findings"]]


def test_several_broken_recordings_are_not_all_called_what_the_first_is(tmp_path: Path) -> None:
    for number, content in enumerate([b"", b"text", b"other text"]):
        (tmp_path / f"{number}.wav").write_bytes(content)
    trees.write_wav(tmp_path / "3.wav", trees.noise(3))
    utterances = [trees.utterance(n, id=str(n), file=f"{n}.wav", speaker="ab"[n % 2]) for n in range(4)]
    found = {finding.name: finding for finding in audit(utterances, tmp_path)}
    assert found["unreadable"].message == "0.wav is an empty file; 2 more recordings cannot be read"
    assert found["unreadable"].rows == ("0", "1", "2")
    found = {finding.name: finding for finding in audit(utterances[1:], tmp_path)}
    said = found["unreadable"].message
    assert said.startswith("1.wav is not readable audio") and said.endswith("; 1 more recording cannot be read")


def test_one_recording_has_no_range_of_values(tmp_path: Path) -> None:
    trees.write_wav(tmp_path / "0.wav", np.zeros(6400, np.int16))
    found = {finding.name: finding for finding in audit([trees.utterance(0, id="0", file="0.wav")], tmp_path)}
    assert found["durations"].message == "0.40 s, under 3 s"
    assert re.fullmatch(r"silence is \d+ % of the utterance", found["silence"].message)
    assert found["silent"].message == "1 utterance is constant or below -60 dB: 0"


def test_what_a_speaker_lacks_is_a_sentence() -> None:
    utterances = [trees.utterance(n, speaker="ab"[n // 4], emotion="wxyz"[n % 4]) for n in range(5)]
    found = {finding.name: finding for finding in audit_labels(utterances)}
    assert found["class-missing"].message == "speaker b has no x, y or z"


def test_an_audit_of_a_table_is_headed_by_its_name(root: Path) -> None:
    (root / "my.csv").write_text(table.write(read_corpus("iemocap", root)), encoding="utf-8")
    assert run("audit", "table", str(root / "my.csv")).stdout.startswith(f"your own table, my.csv, in {root}\n")


@pytest.mark.parametrize(("vad", "severity"), [(None, "error"), (Vad((3, 3, 3), (1, 5)), "warning")])
def test_one_class_alone_is_an_error_unless_there_are_attributes_to_learn(vad: Vad | None, severity: str) -> None:
    utterances = [trees.utterance(n, speaker=f"s{n % 3}", emotion="sad", vad=vad) for n in range(6)]
    found = {finding.name: finding for finding in audit_labels(utterances)}
    assert found["one-class"].severity == severity
    assert found["one-class"].message == "all utterances have one class, sad; at least two are needed"
    other = replace(utterances[0], emotion="angry")
    assert "one-class" not in {finding.name for finding in audit_labels([*utterances[1:], other])}


def test_a_speaker_column_of_the_wrong_letter_is_found(root: Path) -> None:
    utterances = read_corpus("iemocap", root)
    wrong = [replace(one, speaker=f"{one.dialogue[4]}{one.dialogue[5]}") for one in utterances]
    (root / "wrong.csv").write_text(table.write(wrong), encoding="utf-8")
    result = run("audit", "table", str(root / "wrong.csv"))
    assert result.exit_code == 1
    assert "error    speaker-from-dialogue" in result.stdout
    (finding,) = [one for one in leaks(wrong) if one.severity == "error"]
    assert finding.message.startswith("6 of 6 dialogues have one speaker for both letters")
    assert len(finding.rows) == 30
    assert not leaks(utterances)


def test_a_speaker_column_of_the_wrong_letter_is_found_in_any_order_of_the_rows(root: Path) -> None:
    wrong = [replace(one, speaker=one.dialogue[:6], dialogue="") for one in reversed(read_corpus("iemocap", root))]
    assert [finding.name for finding in leaks(wrong)] == ["speaker-from-dialogue"]


def test_a_speaker_that_is_a_dialogues_prefix_is_doubtful_where_no_letter_tells() -> None:
    utterances = [
        trees.utterance(n, speaker=f"Ses0{n % 3}F", dialogue=f"Ses0{n % 3}F_impro0{n % 2}", script="")
        for n in range(12)
    ]
    (finding,) = leaks(utterances)
    assert (finding.severity, finding.name) == ("warning", "speaker-from-dialogue")


@pytest.mark.parametrize(
    "names",
    [
        [("DC", "DC_a01"), ("DC", "DC_h01"), ("JE", "JE_a01"), ("JE", "JE_h01")],
        [("SM1", "SM1_F1_A01"), ("SM1", "SM1_F2_H02"), ("SF2", "SF2_F1_A03"), ("SF2", "SF2_F1_S03")],
        [("03", "03a01Fa"), ("03", "03a02Wb"), ("08", "08a01Fa"), ("08", "08a01N")],
    ],
)
def test_names_of_other_corpora_are_not_taken_for_dialogues(names: list[tuple[str, str]]) -> None:
    utterances = [trees.utterance(n, speaker=who, id=name, file=f"{name}.wav") for n, (who, name) in enumerate(names)]
    assert not leaks(utterances)


def test_a_turn_copied_to_another_speaker_is_found(root: Path) -> None:
    source, copy = (trees.turn_wav(root, f"Ses0{number}F_impro01_F000") for number in (1, 3))
    samples, _ = soundfile.read(source, dtype="int16")
    trees.write_wav(copy, samples)
    found = look(root)
    assert errors(found) == {"copy-across-speakers"}
    assert found["copy-across-speakers"].rows == ("Ses01F_impro01_F000", "Ses03F_impro01_F000")


def test_a_copy_is_found_by_its_samples_whatever_the_file(root: Path) -> None:
    first, second = (trees.turn_wav(root, f"Ses01F_impro01_F00{number}") for number in (0, 1))
    samples, _ = soundfile.read(first, dtype="int16")
    second.unlink()
    soundfile.write(second, samples, trees.RATE, format="FLAC")
    assert first.read_bytes() != second.read_bytes()
    found = look(root)
    assert (found["copy"].severity, errors(found)) == ("warning", set())
    assert found["copy"].rows == ("Ses01F_impro01_F000", "Ses01F_impro01_F001")
    assert "1 with different labels" in found["copy"].message


def test_a_copy_on_both_sides_of_a_fold_is_an_error_even_within_a_speaker(root: Path) -> None:
    first, second = (trees.turn_wav(root, f"Ses01F_impro01_F00{number}") for number in (0, 1))
    second.unlink()
    shutil.copy(first, second)
    utterances = read_corpus("iemocap", root)
    rows = np.arange(len(utterances))
    fold = Fold("mine", rows[1:30], rows[30:], rows[:1])
    found = {finding.name: finding for finding in audit(utterances, root, folds=[fold])}
    assert found["copy-across-folds"].severity == "error"


def test_training_sees_copies_by_the_keys_of_the_manifest() -> None:
    people = trees.people(3)
    keys = ["same" if row in (0, 6) else str(row) for row in range(len(people))]
    data = Manifest(
        "x", {"a": ("a",), "b": ("b",)}, Audio(), tuple(people), tuple(keys), np.ones(len(people), np.int64)
    )
    (finding,) = leaks(data, folds_of(people, "speaker"))
    assert (finding.severity, finding.name, finding.rows) == ("error", "copy-across-speakers", ("p1_0", "p2_0"))


def test_a_dialogue_split_over_train_and_validation_is_found(root: Path) -> None:
    utterances = read_corpus("iemocap", root)
    value = folds_json(folds_of(utterances, "session"), utterances, "session")
    first = value["folds"][0]
    moved = next(one for one in first["train"] if one.partition("_F")[0] != first["validation"][0].partition("_F")[0])
    first["train"].remove(moved)
    first["validation"].append(moved)
    (root / "folds.json").write_text(json.dumps(value))
    result = run("audit", "iemocap", str(root), "--folds", str(root / "folds.json"), "--json")
    assert result.exit_code == 1
    found = {one["name"]: one for one in json.loads(result.stdout)["findings"]}
    assert found["dialogue-split"]["severity"] == "error"
    assert moved in found["dialogue-split"]["rows"]


def test_a_speaker_in_two_parts_of_a_fold_is_found() -> None:
    people = trees.people(4)
    rows = np.arange(24)
    found = leaks(people, [Fold("x", rows[3:12], rows[12:], rows[:3]), Fold("y", rows[12:], rows[6:12], rows[:8])])
    assert [(one.severity, one.name, one.message) for one in found] == [
        ("error", "speaker-in-two-parts", "fold x: 1 speaker (p1) in train and in test"),
        ("error", "speaker-in-two-parts", "fold y: 1 speaker (p2) in validation and in test"),
    ]
    assert found[0].rows == ("p1_0", "p1_1", "p1_2")


def test_what_an_official_split_shares_is_a_warning_once_asked_for_by_name() -> None:
    utterances = [
        trees.utterance(
            n // 6, id=f"u{n}", speaker="Ross", dialogue=f"d{n}", split=("train", "validation", "test")[n % 3]
        )
        for n in range(18)
    ]
    found = leaks(utterances, folds_of(utterances, "official-shared"))
    assert {(one.severity, one.name) for one in found} == {("warning", "speaker-in-two-parts")}


def test_choosing_on_the_test_rows_is_a_warning() -> None:
    people = trees.people(4)
    (finding,) = leaks(people, folds_of(people, "speaker", "test"))
    assert (finding.severity, finding.name) == ("warning", "selected-on-test")


def test_a_class_that_a_fold_cannot_learn_is_an_error() -> None:
    people = [replace(one, emotion="c" if one.speaker == "p1" else one.emotion) for one in trees.people(4)]
    found = leaks(people, folds_of(people, "speaker"))
    assert [(one.severity, one.name, one.message) for one in found] == [
        ("error", "class-untrained", "fold p1: no c in train"),
        ("error", "class-untrained", "fold p4: no c in train"),
    ]


def test_a_speaker_without_a_class_is_a_warning(root: Path) -> None:
    utterances = [one for one in read_corpus("iemocap", root) if (one.speaker, one.emotion) != ("2F", "sad")]
    found = {finding.name: finding for finding in audit(utterances, root)}
    assert found["class-missing"].message == "speaker 2F has no sad"
    assert found["class-missing"].severity == "warning"


def test_a_tenth_of_a_sessions_labels_lost_is_found(root: Path) -> None:
    file = root / "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt"
    lines = file.read_text().splitlines(keepends=True)
    lost = ("Ses02F_impro01_F000", "Ses02F_impro01_M003")
    file.unlink()
    file.write_text("".join(line for line in lines if not any(turn in line for turn in lost)))
    found = look(root)
    assert errors(found) == {"counts"}
    assert "58 utterances instead of the published 60" in found["counts"].message
    assert "Session2 18 of 20" in found["counts"].message


def test_a_difference_of_under_one_percent_is_a_warning() -> None:
    utterances = [trees.utterance(row, id=f"u{row}") for row in range(399)]
    corpus = replace(SMALL, expected={"a": 200, "b": 200}, parts={}, subsets={})
    found = {finding.name: finding for finding in audit(utterances, Path("/nowhere"), corpus=corpus)}
    assert found["counts"].severity == "warning"
    assert found["counts"].message == "399 utterances instead of the published 400: b 199 of 200"


def test_a_subset_is_not_measured_against_the_whole(root: Path) -> None:
    utterances = read_corpus("iemocap", root, subset="improvised")
    assert "counts" not in {finding.name for finding in audit(utterances, root, corpus=SMALL)}


def test_an_all_zero_file_is_found(root: Path) -> None:
    trees.write_wav(trees.turn_wav(root, "Ses02F_impro01_F000"), np.zeros(8000))
    found = look(root)
    assert errors(found) == {"silent"}
    assert found["silent"].rows == ("Ses02F_impro01_F000",)


def test_a_clipped_file_is_found(root: Path) -> None:
    loud = np.clip(trees.noise(1001).astype(np.int32) * 8, -32768, 32767)
    trees.write_wav(trees.turn_wav(root, "Ses02F_impro01_F000"), loud)
    found = look(root)
    assert errors(found) == set()
    assert (found["clipped"].severity, found["clipped"].rows) == ("warning", ("Ses02F_impro01_F000",))


def test_single_samples_at_full_scale_are_no_clipping(root: Path) -> None:
    peaks = trees.noise(1)
    peaks[::50] = 32767
    trees.write_wav(trees.turn_wav(root, "Ses02F_impro01_F000"), peaks)
    assert "clipped" not in look(root)


def test_a_truncated_file_is_found(root: Path) -> None:
    file = trees.turn_wav(root, "Ses02F_impro01_F000")
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data[: len(data) // 2])
    found = look(root)
    assert errors(found) == {"truncated"}
    assert "Ses02F_impro01_F000.wav is truncated" in found["truncated"].message


def test_broken_files_are_told_apart(root: Path) -> None:
    names = ("Ses01F_impro01_F000", "Ses01F_impro01_F001", "Ses01F_impro01_F002", "Ses01F_impro01_F003")
    files = [trees.turn_wav(root, name) for name in names]
    for file in files:
        file.unlink()
    files[1].touch()
    files[2].write_text("this is no audio at all, just text\n" * 100)
    soundfile.write(files[3], np.array([0.1, np.nan, 0.2] * 3000), trees.RATE, subtype="FLOAT")
    found = look(root)
    assert errors(found) == {"missing", "unreadable", "not-finite"}
    assert found["missing"].rows == names[:1]
    assert found["unreadable"].rows == names[1:3]
    assert found["not-finite"].rows == names[3:]


STEREO = trees.noise(1001).astype(np.float32) / 32768


@pytest.mark.parametrize(
    ("samples", "name", "severity"),
    [
        (np.stack([STEREO, -STEREO], axis=1), "cancelled", "error"),
        (np.stack([STEREO, 0 * STEREO], axis=1), "dead-channel", "warning"),
        (np.full((8000, 1), 0.5, np.float32), "silent", "error"),
        (STEREO[:, None] + np.float32(0.2), "offset", "warning"),
        (STEREO[:, None] * 32768, "beyond-scale", "error"),
    ],
)
def test_what_the_mix_of_the_channels_makes_of_a_file_is_found(
    root: Path, samples: np.ndarray, name: str, severity: str
) -> None:
    file = trees.turn_wav(root, "Ses02F_impro01_F000")
    file.unlink()
    soundfile.write(file, samples, trees.RATE, subtype="FLOAT")
    found = look(root)
    assert (found[name].severity, found[name].rows) == (severity, ("Ses02F_impro01_F000",))


def test_a_file_with_an_odd_header_is_a_warning_and_not_an_error(root: Path) -> None:
    file = trees.turn_wav(root, "Ses02F_impro01_F000")
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data[:40] + b"\xff\xff\xff\x7f" + data[44:])
    found = look(root)
    assert errors(found) == set()
    assert found["odd-file"].rows == ("Ses02F_impro01_F000",)
    assert "which has a header that does not declare its length" in found["odd-file"].message


def test_an_utterance_that_ends_after_its_file_is_a_warning(tmp_path: Path) -> None:
    trees.write_wav(tmp_path / "x.wav", trees.noise(0, 1.0))
    late = Utterance("late", "x.wav", "a", "s", start=0.5, end=9.0)
    beyond = Utterance("beyond", "x.wav", "a", "s", start=7.0, end=9.0)
    sounds = listen([late, beyond], tmp_path)
    assert sounds[0].notes == ("ends at 1.00 s, before the utterance's end, 9 s",)
    assert sounds[1].fault == "unreadable"
    assert sounds[1].detail == "x.wav is 1.00 s long and has no samples from 7.0 to 9.0 s"


@pytest.mark.parametrize("block", [100, 777, 8_000])
def test_a_recording_sounds_the_same_however_it_is_cut_into_blocks(
    root: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    file = root / "loud.wav"
    samples = np.clip(trees.noise(7, 3.0).astype(np.int32) * 6, -32768, 32767)
    samples[20_000:30_000] = 0
    trees.write_wav(file, samples)
    one = trees.utterance(0, file="loud.wav")
    whole = listen_to(root, one)
    monkeypatch.setattr(audio, "BLOCK", block)
    monkeypatch.setattr(copies, "STRETCH", 50)
    parts = listen_to(root, one)
    assert parts == whole
    assert whole.clipped > 0.01
    np.testing.assert_array_equal(parts.marks.hashes, whole.marks.hashes)
    np.testing.assert_array_equal(parts.marks.starts, whole.marks.starts)


def test_mostly_silent_and_oddly_long_files_are_warnings(root: Path) -> None:
    quiet = np.concatenate([trees.noise(1001, 0.2), np.zeros(trees.RATE * 2)])
    trees.write_wav(trees.turn_wav(root, "Ses02F_impro01_F000"), quiet)
    trees.write_wav(trees.turn_wav(root, "Ses02F_impro01_F001"), trees.noise(1005, 0.1))
    found = look(root)
    assert errors(found) == set()
    assert found["mostly-silent"].rows == ("Ses02F_impro01_F000",)
    assert found["odd-length"].rows == ("Ses02F_impro01_F001",)


@pytest.mark.parametrize(("suffix", "rate", "channels"), [("wav", 48_000, 2), ("flac", 8_000, 1), ("ogg", 44_100, 2)])
def test_any_form_of_audio_is_listened_to(tmp_path: Path, suffix: str, rate: int, channels: int) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (rate, channels))
    soundfile.write(tmp_path / f"x.{suffix}", samples, rate)
    sound = listen_to(tmp_path, trees.utterance(0, file=f"x.{suffix}"))
    assert (sound.rate, sound.channels, sound.fault) == (rate, channels, "")
    assert sound.seconds == pytest.approx(1.0, abs=0.05)


def test_a_stretch_of_a_file_is_listened_to_alone(tmp_path: Path) -> None:
    trees.write_wav(tmp_path / "x.wav", np.concatenate([np.zeros(trees.RATE), trees.noise(0, 1.0)]))
    first, second = (Utterance(str(n), "x.wav", "a", "s", start=float(n), end=n + 1.0) for n in (0, 1))
    sounds = listen([first, second], tmp_path)
    assert [sound.peak > 0 for sound in sounds] == [False, True]
    assert sounds[1].digest == listen_to(tmp_path, replace(second, end=None)).digest


def test_listening_tells_how_far_it_is_and_keeps_the_order(root: Path) -> None:
    utterances = read_corpus("iemocap", root)
    told: list[tuple[int, int]] = []
    sounds = listen(utterances, root, jobs=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 60) for done in range(1, 61)]
    assert sounds == [listen_to(root, one) for one in utterances]


def test_findings_have_a_form_for_the_report(root: Path) -> None:
    utterances = read_corpus("iemocap", root)
    value = to_json(audit(utterances, root), utterances)
    assert json.loads(json.dumps(value))["counts"] == {"error": 0, "warning": 0, "note": 4}
    assert value["speakers"]["1F"] == {"angry": 2, "happy": 4, "neutral": 2, "sad": 2}
    assert set(value["findings"][0]) == {"severity", "name", "message", "cost", "rows"}


def test_each_finding_its_cost_and_its_rows_are_lines_of_their_own(root: Path) -> None:
    trees.write_wav(trees.turn_wav(root, "Ses02F_impro01_F000"), np.zeros(8000))
    result = run("audit", "iemocap", str(root))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == f"IEMOCAP in {root}"
    place = next(number for number, line in enumerate(lines) if line.startswith("error") and "silent" in line)
    assert lines[place + 1].strip() == "cost: a label without speech teaches nothing"
    assert lines[place + 2].strip() == "rows: Ses02F_impro01_F000"
    assert "speaker  angry  happy  neutral  sad  all" in lines
    assert lines[-1] == "2 errors, 0 warnings, 7 notes"


def test_a_protocol_that_cannot_be_used_is_an_error_unless_only_the_audit_chose_it(tmp_path: Path) -> None:
    rows = [f"{n}.wav,{'ab'[n % 2]},Ann" for n in range(4)]
    trees.write(tmp_path, "my.csv", "file,emotion,speaker", *rows)
    for number in range(4):
        trees.write_wav(tmp_path / f"{number}.wav", trees.noise(number))
    table_file = str(tmp_path / "my.csv")
    silently, asked = run("audit", "table", table_file), run("audit", "table", table_file, "--protocol", "speaker")
    assert (silently.exit_code, asked.exit_code) == (1, 1), "train's default needs it too"
    assert "error    protocol" in silently.stdout
    assert "error    protocol" in asked.stdout
    rows = [f"{n}.wav,{'ab'[n % 2]},{['Ann', 'Bob'][n // 2]},{['train', 'test'][n % 2]}" for n in range(4)]
    trees.write(tmp_path, "shared.csv", "file,emotion,speaker,split", *rows)
    shared = run("audit", "table", str(tmp_path / "shared.csv"))
    assert "warning  protocol" in shared.stdout, "train does not use the official split unless it is asked to"
    wrong = run("audit", "table", table_file, "--protocol", "sideways")
    assert (wrong.exit_code, wrong.stdout) == (2, "")


def test_folds_are_printed_and_read_back_by_the_command(root: Path, tmp_path: Path) -> None:
    place = str(root)
    shown = run("folds", "iemocap", place, "--protocol", "session")
    assert [line.split()[:4] for line in shown.stdout.splitlines()[1:]] == [
        [f"Session{number}", str(40 - held), str(held), "20"]
        for number, held in zip((1, 2, 3), (10, 10, 10), strict=True)
    ]
    printed = run("folds", "iemocap", place, "--protocol", "session", "--json")
    (tmp_path / "folds.json").write_text(printed.stdout, encoding="utf-8")
    again = run("folds", "iemocap", place, "--folds", str(tmp_path / "folds.json"))
    assert (again.exit_code, again.stdout) == (0, shown.stdout)


@pytest.mark.skipif("SER_PIPELINE_EMODB" not in os.environ, reason="$SER_PIPELINE_EMODB is not set: no EMO-DB here")
def test_the_audit_of_the_real_emodb_knows_it() -> None:
    result = run("audit", "emodb", os.environ["SER_PIPELINE_EMODB"])
    flat = " ".join(result.stdout.split())
    assert result.exit_code == 0
    assert (
        "535 files, 10 speakers, 7 classes (anger 127, boredom 81, neutral 79, happiness 71, fear 69, sadness 62, "
        "disgust 46)" in flat
    )
    assert "warning class-missing speaker 08 has no disgust" in flat
    assert "note text-dependent the same 10 sentences or scripts are in train and in test of 10 of 10 folds" in flat
    assert "0 errors, 1 warning" in flat


def test_the_audit_says_what_raters_leave_to_a_model(tmp_path: Path) -> None:
    demo.write(tmp_path / "demo", utterances_per_speaker=6)
    said = json.loads(run("audit", "demo", str(tmp_path / "demo"), "--json").stdout)
    found = {one["name"]: one for one in said["findings"]}
    turns = 10 * 7
    assert found["votes"]["message"].startswith(f"{turns} of {turns} utterances have 3 to 3 votes")
    assert "have no class that most raters chose" in found["votes"]["message"]
    assert "Krippendorff's alpha of the votes is 0." in found["agreement"]["message"]
    assert f"{turns} utterances, scale 1 to 5: arousal" in found["attributes"]["message"]
    assert "correlation with the raters' means to expect of a model is arousal 0." in found["reliability"]["cost"]
    assert found["contents"]["message"].startswith("60 files")
