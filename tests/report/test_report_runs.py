import json

import numpy as np
import pytest

from ser_pipeline.errors import PipelineError
from ser_pipeline.file_names import is_name
from ser_pipeline.report import build
from ser_pipeline.report.contents import Choice, corpora, make_report
from ser_pipeline.report.groups import panels
from ser_pipeline.runs.reading import read_run, scan
from ser_pipeline.runs.records import FACTS, UtteranceTable
from support.run_folders import Planted, people, write_run

WHO = people(each=8)


def read(root):
    """Read every run below `root`."""
    roll = UtteranceTable()
    return [read_run(header, roll) for header in scan(root)[0]], roll


def report(root, **choice):
    return make_report(root, Choice(**choice))


def test_a_file_may_be_named_from_another_folder_and_nothing_else_may_differ():
    roll = UtteranceTable()
    facts = ("wav/a.wav", "A", "", "", "", "female", "40", "", "1.000", "1", "sad")
    assert roll.rows(["a"], [facts]).tolist() == [0]
    for file in ("a.wav", "emodb/wav/a.wav"):
        assert roll.rows(["a"], [(file, *facts[1:])]).tolist() == [0]
    for place, changed in ((0, "ba.wav"), (1, "B"), (5, "male"), (8, "1.001")):
        with pytest.raises(PipelineError, match=f"utterance a has another {FACTS[place]} than"):
            roll.rows(["a"], [(*facts[:place], changed, *facts[place + 1 :])])


def test_what_one_run_knows_of_a_speaker_another_need_not():
    roll = UtteranceTable()
    without = ("a.wav", "A", "", "", "", "", "", "", "1.000", "1", "sad")
    roll.rows(["a"], [without])
    roll.rows(["a"], [(*without[:5], "female", "40", "de", *without[8:])])
    roll.rows(["a"], [without])
    assert roll.column("gender").tolist() == ["female"]
    assert roll.column("age").tolist() == ["40"]


def reasons(root):
    """Return what the report excluded, by the beginning of the folder's name."""
    return {one.name: one.reason for one in report(root, corpus="iemocap").left_out}


def test_a_run_is_read_as_it_was_written(tmp_path):
    write_run(tmp_path, WHO)
    (run,), roll = read(tmp_path)
    assert run.whole
    assert [fold.name for fold in run.folds] == list(run.header.fold_names)
    assert sorted(roll.ids) == sorted(WHO.ids)
    row = roll.row_of[WHO.ids[5]]
    assert roll.facts[row][-1] == WHO.labels[WHO.label[5]]
    place = run.concatenated("rows").tolist().index(row)
    assert run.concatenated("target")[place] == WHO.label[5]
    assert run.concatenated("log_prob")[place].argmax() == run.concatenated("prediction")[place]


def test_runs_share_the_rows_of_their_utterances(tmp_path):
    for seed in range(2):
        write_run(tmp_path, WHO, Planted(seed=seed))
    (one, other), roll = read(tmp_path)
    assert np.array_equal(one.concatenated("rows"), other.concatenated("rows"))
    assert len(roll.facts) == len(WHO.ids)


def test_runs_that_differ_in_the_seed_alone_are_one_row(tmp_path):
    for seed in range(3):
        write_run(tmp_path, WHO, Planted(seed=seed))
    write_run(tmp_path, WHO, Planted(overrides=("train.lr=1e-4",)))
    (panel,), _ = panels(read(tmp_path)[0])
    assert sorted((len(group.runs), group.variant) for group in panel.groups) == [
        (1, "train.lr = 0.0001"),
        (3, "train.lr = 1e-05"),
    ]


def test_selections_protocols_and_presets_are_kept_apart(tmp_path):
    for plan in (Planted(), Planted(selection="test"), Planted(protocol="session"), Planted(preset="scratch")):
        write_run(tmp_path, WHO, plan)
    found, _ = panels(read(tmp_path)[0])
    assert len(found) == 4
    assert all(len(panel.groups) == 1 for panel in found)


def test_no_runs_say_what_to_run(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(PipelineError, match="ser-pipeline train"):
            corpora(folder)


def test_runs_of_two_corpora_ask_which(tmp_path):
    write_run(tmp_path, WHO)
    write_run(tmp_path, WHO, Planted(corpus="emodb"))
    with pytest.raises(PipelineError, match="emodb, iemocap"):
        report(tmp_path)
    assert report(tmp_path, corpus="emodb").left_out == (), "a run of another corpus belongs to another page"
    with pytest.raises(PipelineError, match=r"no runs of nothing .*emodb, iemocap"):
        report(tmp_path, corpus="nothing")


def test_a_run_whose_counts_contradict_its_predictions_is_left_out(tmp_path):
    write_run(tmp_path, WHO, Planted(seed=1))
    damaged = write_run(tmp_path, WHO)
    file = damaged / "1F" / "result.json"
    result = json.loads(file.read_text())
    result["counts"][0][0] += 1
    file.write_text(json.dumps(result))
    assert "counts of fold 1F" in reasons(tmp_path)[damaged.name]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("run.json", "{", "damaged"),
        ("run.json", "{}", "run.json is damaged (it has no corpus)"),
        ("config.toml", "=", "config.toml is not valid TOML"),
        ("folds.json", "[]", "folds.json is damaged"),
        ("index.json", "", "damaged"),
        ("1F/result.json", "[1]", "damaged"),
        ("1F/result.json", "{}", "result.json is damaged (it has no best_epoch)"),
        ("1F/predictions.csv", "", "empty"),
        ("1F/predictions.csv", "id,file\na,b\n", "no column"),
        ("1F/predictions.csv", b"\xff\xfe\x00\x01", "not text"),
    ],
)
def test_a_damaged_run_is_left_out_with_the_reason(tmp_path, name, content, reason):
    write_run(tmp_path, WHO, Planted(seed=1))
    damaged = write_run(tmp_path, WHO)
    (damaged / name).write_bytes(content.encode() if isinstance(content, str) else content)
    assert reason in reasons(tmp_path)[damaged.name]


@pytest.mark.parametrize("change", [("-", "nan"), ("-", "x"), (",", ",,"), ("\n", "\nSes01F_impro01_F001,")])
def test_a_damaged_line_of_predictions_leaves_the_run_out(tmp_path, change):
    write_run(tmp_path, WHO, Planted(seed=1))
    damaged = write_run(tmp_path, WHO)
    file = damaged / "1F" / "predictions.csv"
    lines = file.read_text().splitlines()
    head, _, tail = lines[3].rpartition(change[0])
    lines[3] = head + change[1] + tail
    file.write_text("\n".join(lines) + "\n")
    assert damaged.name in reasons(tmp_path)


def test_a_truncated_segments_file_costs_only_what_needs_it(tmp_path):
    folder = write_run(tmp_path, WHO, Planted(probes={"mfcc": 0.5}))
    file = folder / "2M" / "segments.npz"
    file.write_bytes(file.read_bytes()[:200])
    found = report(tmp_path)
    _, result = found.experiments[0].main
    assert (result.ways, result.probes) == ((), ())
    assert result.scores["ua"].pooled > 0.25
    assert any(finding.name == "damaged-file" and "2M" in finding.message for finding in found.findings)


def test_folders_that_are_no_runs_are_named(tmp_path):
    write_run(tmp_path, WHO)
    (tmp_path / "notes").mkdir()
    (tmp_path / ".locks").mkdir()
    assert list(reasons(tmp_path)) == ["notes"]


def test_a_run_that_lacks_a_fold_though_it_is_marked_whole_is_left_out(tmp_path):
    write_run(tmp_path, WHO, Planted(seed=1))
    damaged = write_run(tmp_path, WHO)
    (damaged / "3F" / "index.json").unlink()
    assert "lacks fold 3F" in reasons(tmp_path)[damaged.name]


def test_an_unfinished_run_is_shown_and_not_averaged(tmp_path):
    write_run(tmp_path, WHO, Planted(seed=0))
    whole = report(tmp_path).experiments[0].main[1].scores["ua"].pooled
    unfinished = write_run(tmp_path, WHO, Planted(seed=1, finished=4))
    found = report(tmp_path)
    group, result = found.experiments[0].main
    assert result.scores["ua"].pooled == whole
    assert [len(run.folds) for run in group.unfinished] == [4]
    assert any(unfinished.name in finding.message and "4 of 10" in finding.message for finding in found.findings)


def test_a_corpus_with_unfinished_runs_alone_has_no_score(tmp_path):
    folder = write_run(tmp_path, WHO, Planted(finished=0))
    with pytest.raises(PipelineError, match=f"no runs in .* \\({folder.name}: none of its folds has finished an epoch"):
        report(tmp_path)
    (next(folder.glob("*.partial")) / "history.jsonl").write_text("{}\n")
    found = report(tmp_path)
    assert found.experiments[0].main is None
    assert found.worst == ()


def test_a_finished_run_stands_before_its_unfinished_namesake(tmp_path):
    folder = write_run(tmp_path, WHO)
    left = write_run(tmp_path / "other", WHO, Planted(finished=2))
    left.rename(tmp_path / f"{folder.name}.partial")
    (tmp_path / "other").rmdir()
    assert "finished run has the same name" in reasons(tmp_path)[f"{folder.name}.partial"]


def test_the_same_seed_twice_counts_once(tmp_path):
    write_run(tmp_path, WHO)
    again = write_run(tmp_path / "again", WHO)
    again.rename(tmp_path / f"{again.name[:-12]}000000000000")
    (tmp_path / "again").rmdir()
    found = report(tmp_path)
    assert len(found.experiments[0].main[0].runs) == 1
    assert len(found.left_out) == 1


def test_a_run_of_other_labels_is_not_mixed_in(tmp_path):
    write_run(tmp_path, WHO)
    other = people(each=8, seed=3)
    write_run(tmp_path, other, Planted(ablation="mfcc"))
    (left,) = report(tmp_path).left_out
    assert "than in the other runs" in left.reason


def rewrite_folds(folder, change):
    file = folder / "folds.json"
    value = json.loads(file.read_text())
    change(value["folds"])
    file.write_text(json.dumps(value))


def test_a_fold_that_learns_from_what_it_tests_is_an_error(tmp_path):
    folder = write_run(tmp_path, WHO)
    rewrite_folds(folder, lambda folds: folds[0]["validation"].append(folds[0]["test"][0]))
    (finding,) = [one for one in report(tmp_path).findings if one.severity == "error"]
    assert "Fold 1F trains on 1 of its test utterances" in finding.message
    assert finding.rows == (folder.name,)


def test_a_fold_that_learns_from_the_speaker_it_tests_is_an_error(tmp_path):
    folder = write_run(tmp_path, WHO)

    def share(folds):
        for part in folds[0]["test"][4:]:
            folds[0]["test"].remove(part)
            folds[0]["train"].append(part)

    rewrite_folds(folder, share)
    messages = [one.message for one in report(tmp_path).findings if one.severity == "error"]
    assert any("trains and tests on the same speaker: 1F" in message for message in messages)
    assert any("other utterances than in its folds.json" in message for message in messages)


def test_the_reference_way_is_no_leak_but_a_warning(tmp_path):
    write_run(tmp_path, WHO, Planted(selection="test"))
    found = report(tmp_path).findings
    assert [one.name for one in found if one.severity in ("error", "warning")] == ["selection"]


def test_the_audit_that_a_run_carries_is_repeated_once(tmp_path):
    said = {"severity": "warning", "name": "clipping", "message": "3 files clip.", "cost": "", "rows": ["a", "b"]}
    audit = {"counts": {}, "findings": [said]}
    for seed in range(2):
        folder = write_run(tmp_path, WHO, Planted(seed=seed))
        (folder / "audit.json").write_text(json.dumps(audit))
    (finding,) = [one for one in report(tmp_path).findings if one.name == "clipping"]
    assert (finding.severity, finding.cost, finding.rows) == ("warning", "", ("a", "b"))


def test_a_selection_tells_what_it_left_out(tmp_path):
    for ablation in ("full", "mfcc", "mfcc-w2e"):
        write_run(tmp_path, WHO, Planted(ablation=ablation))
    write_run(tmp_path, WHO, Planted(protocol="session"))
    found = report(tmp_path, protocol="speaker", patterns=("mfcc*",))
    assert [group.name for group in found.experiments[0].panel.groups] == ["mfcc-w2e", "mfcc"]
    assert sorted(one.reason for one in found.left_out) == [
        "its name does not match mfcc*",
        "its protocol is session, not speaker",
    ]
    assert found.choice.slug == "iemocap-speaker-mfcc"


def test_a_selection_that_fits_nothing_lists_what_there_is(tmp_path):
    write_run(tmp_path, WHO)
    with pytest.raises(PipelineError, match="no run of iemocap matches 'nothing'; known: full"):
        report(tmp_path, patterns=("nothing",))


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_run_is_named_with_or_without_its_key_and_seed(tmp_path, cut):
    for ablation in ("full", "full-mean"):
        folder = write_run(tmp_path, WHO, Planted(ablation=ablation))
    found = report(tmp_path, patterns=(folder.name.rsplit("-", cut)[0],))
    assert [group.name for group in found.experiments[0].panel.groups] == ["full-mean"]


def test_a_run_that_ended_before_its_final_name_is_shown_as_incomplete(tmp_path):
    folder = write_run(tmp_path / "runs", people())
    (folder / "index.json").unlink()
    folder.rename(folder.with_name(f"{folder.name}.partial"))
    page = build(tmp_path / "runs", tmp_path / "reports")
    assert "incomplete" in page.with_name("results.md").read_text()


def test_settings_that_all_runs_changed_are_told_and_those_of_an_ablation_are_not(tmp_path):
    for ablation in ("full", "mfcc"):
        write_run(tmp_path / "changed", WHO, Planted(ablation=ablation, overrides=("train.epochs=3",)))
        write_run(tmp_path / "usual", WHO, Planted(ablation=ablation))
    write_run(tmp_path / "changed", WHO, Planted(finished=0))
    told, untold = (
        [one.message for one in report(tmp_path / place).findings if one.name == "changed-settings"]
        for place in ("changed", "usual")
    )
    assert told == ["Preset paper was changed for all finished runs: train.epochs = 3 (preset: 100)."]
    assert untold == []


@pytest.mark.parametrize(("folder", "changed"), [("/x/whisper-tiny.en", False), ("/x/whisper-base.en", True)])
def test_the_encoder_of_the_preset_in_a_local_folder_is_no_change(tmp_path, folder, changed):
    plan = Planted(preset="frozen", overrides=(f"features.statistics.encoder={folder}",))
    write_run(tmp_path, WHO, plan)
    (told,) = [one.message for one in report(tmp_path).findings if one.name == "changed-settings"]
    assert ("statistics.encoder" in told) == changed


def test_pages_of_corpora_in_any_script_have_folders_of_their_own():
    slugs = [Choice(name).slug for name in ("März", "Mörz", "情感", "语音", "../x", "a/b")]
    assert len(set(slugs)) == len(slugs) and all(map(is_name, slugs))
