"""Reports of runs with planted results."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ser_pipeline.cli.report import _remarks
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
)

from ser_pipeline.errors import PipelineError
from ser_pipeline.evaluation.metrics import SCORES
from ser_pipeline.report import compared, results_table
from ser_pipeline.report import experiment_tables as detail
from ser_pipeline.report import summary_tables as overview
from ser_pipeline.report.contents import Choice, make_report
from support.counting import calls, touching
from support.run_folders import ABLATIONS, SPEAKERS, Planted, people, write_run

WHO = people(each=40)


def report(root, **choice):
    return make_report(root, Choice(**choice))


def main(found):
    return found.experiments[0].main


def planted(root, *plans, who=WHO):
    for plan in plans:
        write_run(root, who, plan)
    return report(root)


def cells(table, title):
    """Return a column of a table."""
    place = [column.title for column in table.columns].index(title)
    return [row[place] for row in table.rows]


def test_scores_are_those_of_scikit_learn_over_folds_seeds_and_all_utterances(tmp_path):
    group, result = main(planted(tmp_path, Planted(seed=0), Planted(seed=1)))
    pooled, folds = [], []
    for run in group.runs:
        target, prediction = run.concatenated("target"), run.concatenated("prediction")
        pooled.append((balanced_accuracy_score(target, prediction), accuracy_score(target, prediction)))
        folds.append([balanced_accuracy_score(fold.target, fold.prediction) for fold in run.folds])
    ua, wa, f1 = (result.scores[name] for name in ("ua", "wa", "macro_f1"))
    assert ua.pooled == pytest.approx(np.mean(pooled, axis=0)[0])
    assert wa.pooled == pytest.approx(np.mean(pooled, axis=0)[1])
    assert ua.seed_deviation == pytest.approx(np.std(pooled, axis=0, ddof=1)[0])
    assert ua.fold_mean == pytest.approx(np.mean(folds))
    assert ua.fold_deviation == pytest.approx(np.std(np.mean(folds, axis=0), ddof=1))
    assert f1.pooled == pytest.approx(
        np.mean([f1_score(r.concatenated("target"), r.concatenated("prediction"), average="macro") for r in group.runs])
    )
    expected = [recall_score(r.concatenated("target"), r.concatenated("prediction"), average=None) for r in group.runs]
    assert result.recalls == pytest.approx(np.mean(expected, axis=0))
    assert ua.interval.low < ua.pooled < ua.interval.high


def test_one_seed_has_no_deviation_over_seeds(tmp_path):
    _, result = main(planted(tmp_path, Planted()))
    assert result.scores["ua"].seed_deviation is None


def test_parts_cover_the_utterances_and_their_mean_is_the_whole(tmp_path):
    _, result = main(planted(tmp_path, Planted()))
    for name in ("speaker", "session", "style", "duration", "segments"):
        parts = result.parts[name]
        assert sum(part.utterances for part in parts) == len(WHO.ids), name
        mean = sum(part.wa * part.utterances for part in parts) / len(WHO.ids)
        assert mean == pytest.approx(result.scores["wa"].pooled), name
    assert [part.name for part in result.parts["segments"]][:3] == ["1", "2", "3"]
    assert [part.name for part in result.parts["style"]] == ["improvised", "scripted"]
    assert result.parts["duration"][0].name == "0 to 2 s"


@pytest.mark.parametrize("how", SCORES)
def test_the_first_way_to_score_an_utterance_is_that_of_the_predictions(tmp_path, how):
    plan = Planted(probes={"mfcc": 1.2}, overrides=(f"model.utterance_score={how}",))
    _, result = main(planted(tmp_path, plan))
    assert result.ways[0].name == how
    assert {way.name for way in result.ways} == set(SCORES)
    assert result.ways[0].ua == pytest.approx(result.scores["ua"].pooled)
    assert result.faults == ()
    assert len(result.probes) == 2
    assert len({way.ua for way in result.ways}) > 1


def test_runs_that_do_not_know_their_segments_lengths_lack_the_way_that_weighs_by_them(tmp_path):
    folder = write_run(tmp_path, WHO, Planted())
    for file in folder.glob("*/segments.npz"):
        with np.load(file) as stored:
            kept = {name: stored[name] for name in stored.files if name != "samples"}
        np.savez(file, **kept)
    _, result = main(report(tmp_path))
    assert [way.name for way in result.ways] == ["log-probability", "probability", "vote"]


def test_models_that_hear_longer_segments_stand_in_the_same_report(tmp_path):
    write_run(tmp_path, WHO, Planted())
    write_run(tmp_path, WHO, Planted(preset="scratch"))
    for file in tmp_path.glob("*/*/predictions.csv"):
        lines = [line.split(",") for line in file.read_text().splitlines()]
        place = lines[0].index("segments")
        changed = [lines[0], *([*line[:place], "1", *line[place + 1 :]] for line in lines[1:])]
        file.write_text("".join(",".join(line) + "\n" for line in changed))
        break
    assert report(tmp_path).left_out == ()


def test_a_shuffled_input_that_the_model_ignores_shows_no_effect_and_one_that_it_uses_does(tmp_path):
    _, result = main(planted(tmp_path, *(Planted(seed=s, probes={"mfcc": 1.2, "waveform": 0.2}) for s in range(3))))
    probes = {(probe.input, probe.kind): probe for probe in result.probes}
    ignored, used = probes["mfcc", "shuffled"], probes["waveform", "shuffled"]
    assert ignored.interval.low < 0 < ignored.interval.high
    assert ignored.p > 0.05
    assert used.interval.low > 0.1
    assert used.p < 0.01


def test_an_input_that_is_hardly_used_is_a_finding(tmp_path):
    found = planted(tmp_path, Planted(probes={"mfcc": 1.2, "waveform": 0.2}))
    (said,) = [one.message for one in found.findings if one.name == "unused-input"]
    assert "shows no sign of using mfcc" in said
    (probe,) = [one for one in main(found)[1].probes if (one.input, one.kind) == ("mfcc", "shuffled")]
    numbers = (probe.loss, probe.interval.low, probe.interval.high, probe.detectable)
    for number in numbers:  # the message includes the smallest detectable loss
        assert f"{100 * number:.1f}".replace("-", "−") in said


def test_co_attention_that_has_fallen_silent_is_a_finding(tmp_path):
    found = planted(tmp_path, Planted(silent=0.86), Planted(ablation="softmax"))
    said = [one.message for one in found.findings if "softmax weights" in one.cost]
    assert len(said) == 1
    assert not any(" " in one.name for one in found.findings)
    assert said[0].startswith("full (")
    assert "86 % of the segments" in said[0]


def test_a_leaked_validation_shows_its_gap(tmp_path):
    plans = [Planted(seed=s, skill=k, selection=x) for s in range(2) for k, x in ((1.0, "validation"), (1.5, "test"))]
    found = planted(tmp_path, *plans)
    (gap,) = found.gaps
    assert (gap.honest.header.selection, gap.leaked.header.selection) == ("validation", "test")
    assert gap.versus.ua.value > 0.05
    assert gap.versus.ua.p < 0.05
    assert gap.alone
    table = results_table.results(found)
    assert "a model trained on the same rows" in table.note
    ua, told = gap.versus.ua, f"Leakage gap of full: {100 * gap.versus.ua.value:.1f} points of UA (+"
    assert told in table.note and f"{100 * ua.detectable:.1f} could be detected" in table.note
    assert table.tones == ("main", "test", "gap")
    assert [cell.tone for cell in cells(table, "Epoch")] == ["", "test", "test"]


@pytest.mark.parametrize("selection", ["validation", "last"])
def test_the_published_protocol_is_a_row_of_its_own_and_no_leakage_gap(tmp_path, selection):
    found = planted(tmp_path, Planted(selection=selection), Planted(selection="reference", skill=2.0))
    table = results_table.results(found)
    assert [row[0].text for row in table.rows] == ["full", "full", "published protocol of full"]
    assert cells(table, "Epoch")[1].tone == "test"
    assert "leakage gap of" not in str(table.rows)
    assert not found.gaps[0].alone
    assert "trains on all other speakers" in table.note


def test_runs_that_trained_on_other_rows_are_no_leakage_gap_whatever_they_are_called(tmp_path):
    write_run(tmp_path, WHO, Planted())
    folder = write_run(tmp_path, WHO, Planted(selection="test"))
    said = json.loads((folder / "folds.json").read_text())
    for fold in said["folds"]:
        fold["train"] = [name for name in WHO.ids if name not in fold["test"]]
    (folder / "folds.json").write_text(json.dumps(said))
    (gap,) = make_report(tmp_path, Choice()).gaps
    assert gap.name == "published protocol of full"


@pytest.mark.parametrize("other", ["train.lr=1e-4", "train.monitor=loss"])
def test_a_run_of_other_settings_makes_no_leakage_gap(tmp_path, other):
    assert planted(tmp_path, Planted(), Planted(selection="test", overrides=(other,))).gaps == ()
    (gap,) = planted(tmp_path, Planted(selection="test")).gaps
    first, second = (dict(one.header.settings["train"], selection="") for one in (gap.honest, gap.leaked))
    assert gap.alone
    assert first == second


def test_where_nothing_chooses_the_epoch_the_absence_of_a_gap_is_said(tmp_path):
    note = results_table.results(planted(tmp_path, Planted(selection="last", preset="scratch"))).note
    assert "With preset scratch the epoch is not chosen, so there is no leakage gap." in note


def test_without_a_leak_there_is_no_gap(tmp_path):
    found = planted(tmp_path, Planted(), Planted(selection="test", seed=5))
    assert found.gaps == ()
    (gap,) = planted(tmp_path / "equal", Planted(), Planted(selection="test", seed=0)).gaps
    assert gap.versus.ua.p > 0.05


def test_honest_runs_come_first_and_the_summary_is_theirs(tmp_path):
    found = planted(tmp_path, Planted(selection="test", skill=3.0), Planted(protocol="session"), Planted())
    kinds = [(one.panel.header.protocol, one.panel.header.selection) for one in found.experiments]
    assert kinds == [("speaker", "validation"), ("session", "validation"), ("speaker", "test")]


def test_groups_of_speakers_have_intervals_and_the_gap_of_the_worst_is_told(tmp_path):
    result = main(planted(tmp_path, Planted(known=True, unfair=0.8)))[1]
    women, men = result.parts["gender"]
    assert (women.name, men.name) == ("female", "male")
    assert (women.speakers, women.utterances) == (5, len(WHO.ids) // 2)
    assert women.interval.low < women.ua < women.interval.high
    assert [part.name for part in result.parts["age"]] == ["18 to 29", "30 to 44", "45 to 59"]
    gaps = {gap.division: gap for gap in result.gaps}
    assert set(gaps) == {"gender", "age"}
    gap = gaps["gender"]
    assert (gap.best, gap.worst) == ("female", "male")
    assert gap.value == pytest.approx(women.ua - men.ua)
    assert gap.interval.low > 0
    assert gap.p < 0.05
    assert gaps["age"].p is None, "there are two speakers"
    assert gap.interval.level == pytest.approx(0.95)
    assert gaps["age"].interval.level == pytest.approx(1 - 0.05 / 3), "one of three pairs, chosen by its scores"
    fair = main(planted(tmp_path / "fair", Planted(known=True)))[1]
    assert {gap.division: gap.interval.low <= 0 for gap in fair.gaps}["gender"]


def test_groups_stand_on_the_page_and_are_absent_where_nobody_knows_them(tmp_path):
    tables = {one.caption: one for one in detail.parts(planted(tmp_path, Planted(known=True)).experiments[0])}
    assert "Worst-group gap: " in tables["Gender"].note
    assert "could be detected" in tables["Gender"].note
    assert "picked by their scores" in tables["Gender"].note
    assert [column.title for column in tables["Age"].columns][-2:] == ["95 % interval", "Speakers"]
    unknown = {one.caption for one in detail.parts(planted(tmp_path / "unknown", Planted()).experiments[0])}
    assert not unknown & {"Gender", "Age", "Language"}


def test_the_ablation_table_shows_the_pooled_scores_that_its_differences_are_of(tmp_path):
    plans = [Planted(seed=s, ablation=a, skill=k) for s in range(2) for a, k in (("full", 1.2), ("mfcc", 0.7))]
    experiment = planted(tmp_path, *plans).experiments[0]
    table = detail.ablations(experiment)
    titles = [(column.group, column.title) for column in table.columns]
    ua, apart = titles.index(("Pooled, %", "UA")), titles.index(("Difference to full", "UA"))
    full, mfcc = table.rows
    assert mfcc[apart].sort == pytest.approx(mfcc[ua].sort - full[ua].sort)
    assert "bold ones have a corrected p of at most 0.05" in table.note


def test_classes_have_precision_f1_and_support_as_scikit_learn_has_them(tmp_path):
    found = planted(tmp_path, Planted())
    group, _ = main(found)
    run = group.runs[0]
    wanted = precision_recall_fscore_support(run.concatenated("target"), run.concatenated("prediction"))
    table = detail.classes(found.experiments[0])
    for row, precision, recall, f1, support in zip(table.rows, *wanted, strict=True):
        assert [row[place].sort for place in (1, 2, 4, 5)] == pytest.approx([support, recall, precision, f1])
    most = np.bincount(run.concatenated("target"))
    largest, share = WHO.labels[most.argmax()], 100 * most.max() / most.sum()
    assert f"Always predicting {largest}, the largest class, gives {share:.1f} % WA" in table.note


def test_every_model_is_told_by_speaker(tmp_path):
    found = planted(tmp_path, Planted(), Planted(ablation="mfcc", skill=0.5)).experiments[0]
    table = detail.by_speaker(found)
    assert [row[0].text for row in table.rows] == sorted(SPEAKERS)
    assert [column.title for column in table.columns] == ["Speaker", "full", "mfcc"]
    assert table.rows[0][2].sort == pytest.approx(found.results["mfcc"].parts["speaker"][0].ua)


def test_the_ablation_table_tells_a_worse_model_apart_and_an_equal_one_not(tmp_path):
    plans = [
        Planted(seed=s, ablation=a, skill=k) for s in range(2) for a, k in (("full", 1.2), ("mfcc", 0.4), ("w2e", 1.2))
    ]
    rows = {row.group.name: row for row in planted(tmp_path, *plans).experiments[0].rows}
    assert rows["full"].versus is None
    assert rows["mfcc"].versus.ua.interval.high < 0
    assert rows["mfcc"].versus.ua_corrected < 0.05
    assert rows["w2e"].versus.ua_corrected > 0.05
    assert rows["mfcc"].versus.ua_corrected == pytest.approx(2 * rows["mfcc"].versus.ua.p)


def test_a_row_that_lacks_folds_is_not_averaged_and_one_with_fewer_seeds_is(tmp_path):
    full = [Planted(seed=s) for s in range(2)]
    lacking = [
        Planted(seed=0, ablation="mfcc"),
        Planted(seed=1, ablation="mfcc", finished=4),
        Planted(seed=0, ablation="w2e"),
    ]
    found = planted(tmp_path, *full, *lacking)
    rows = {row.group.name: row for row in found.experiments[0].rows}
    assert [(rows[name].done, rows[name].wanted) for name in ("full", "mfcc", "w2e")] == [(20, 20), (14, 20), (10, 10)]
    table = detail.ablations(found.experiments[0])
    said = {row[0].text: row[1].text for row in table.rows}
    assert said["mfcc"] == "14 of 20 folds"
    assert float(said["w2e"]) == pytest.approx(100 * found.experiments[0].results["w2e"].scores["ua"].pooled, abs=0.05)
    assert "The rows have different numbers of seeds: full 2, w2e 1." in table.note
    assert rows["mfcc"].versus is None
    assert rows["w2e"].versus.seeds == (0,)


def test_differences_use_the_seeds_that_both_have(tmp_path):
    found = planted(
        tmp_path, *(Planted(seed=s) for s in (0, 1)), *(Planted(seed=s, ablation="mfcc") for s in (1, 2)), who=WHO
    )
    made = report(tmp_path, compare=("full", "mfcc"))
    assert made.comparison.versus.seeds == (1,)
    assert found.comparison is None
    said = "Only the seeds that both models have are compared: 1."
    assert said in compared.comparison(made)[0].note
    assert f"note: {said}" in [*_remarks(made)]


def test_a_comparison_by_name_has_paired_and_mcnemar_tests(tmp_path):
    planted(
        tmp_path, *(Planted(seed=s, ablation=a, skill=k) for s in (0, 1) for a, k in (("full", 1.2), ("mfcc", 0.5)))
    )
    found = report(tmp_path, compare=("full", "mfcc")).comparison
    assert found.versus.ua.value > 0
    assert [pair.seeds for pair in found.pairs] == [(0, 0), (1, 1)]
    for pair in found.pairs:
        assert pair.only_one > pair.only_other
        assert pair.p < 0.01


def test_two_single_runs_are_compared_whatever_their_seeds(tmp_path):
    one = write_run(tmp_path, WHO, Planted(seed=0)).name
    other = write_run(tmp_path, WHO, Planted(seed=7)).name
    found = report(tmp_path, compare=(one, other)).comparison
    assert [pair.seeds for pair in found.pairs] == [(0, 7)]
    assert compared.unpaired(found) == ""


def test_what_cannot_be_compared_is_said(tmp_path):
    planted(tmp_path, Planted(seed=0), *(Planted(seed=s, ablation="mfcc") for s in (1, 2)))
    with pytest.raises(PipelineError, match="'w2e'; known: full, mfcc"):
        report(tmp_path, compare=("full", "w2e"))
    with pytest.raises(PipelineError, match="share no seed"):
        report(tmp_path, compare=("full", "mfcc"))


def test_models_of_other_classes_are_told_apart_and_not_compared(tmp_path):
    some = WHO.label < 2
    ids = tuple(name for name, kept in zip(WHO.ids, some, strict=True) if kept)
    arrays = {name: getattr(WHO, name)[some] for name in ("speaker", "label", "seconds", "ease")}
    few = replace(WHO, ids=ids, labels=WHO.labels[:2], **arrays)
    one, other = write_run(tmp_path, WHO, Planted()), write_run(tmp_path, few, Planted(features="a" * 12))
    told = [cell.text for cell in cells(results_table.results(report(tmp_path)), "Protocol")]
    assert sorted(told) == ["speaker, 2 classes", "speaker, 4 classes"]
    with pytest.raises(PipelineError, match="have different classes"):
        report(tmp_path, compare=(one.name, other.name))


def test_presets_are_told_apart_where_there_are_several(tmp_path):
    found = planted(tmp_path, Planted(), Planted(preset="reference"))
    assert [cell.text for cell in cells(results_table.results(found), "Protocol")] == [
        "speaker, preset paper",
        "speaker, preset reference",
    ]


def test_a_run_without_an_epoch_is_left_out(tmp_path):
    folder = write_run(tmp_path, WHO, Planted(finished=0, seed=1))
    found = planted(tmp_path, Planted())
    assert [group.unfinished for group in found.experiments[0].panel.groups] == [()]
    assert [(one.name, one.reason) for one in found.left_out] == [
        (folder.name, "none of its folds has finished an epoch")
    ]


def test_published_numbers_stand_beside_iemocap_alone(tmp_path):
    found = planted(tmp_path, Planted(), Planted(ablation="full-mean"))
    rows = {row.group.name: row.published for row in found.experiments[0].rows}
    assert (rows["full"].wa, rows["full"].ua) == (71.64, 72.70)
    assert (rows["full-mean"].wa, rows["full-mean"].ua) == (67.22, 67.81)
    assert overview.literature(found) is not None
    other = planted(tmp_path / "demo", Planted(corpus="demo"))
    assert other.experiments[0].rows[0].published is None
    assert overview.literature(other) is None


def test_other_settings_are_not_held_against_the_paper(tmp_path):
    found = planted(tmp_path, Planted(), Planted(overrides=("train.lr=1e-4",)))
    assert [row.published for row in found.experiments[0].rows] == [None, None]


def test_the_worst_utterances_are_wrong_and_the_surest_first(tmp_path):
    found = planted(tmp_path, Planted())
    group, _ = main(found)
    wrong = int((group.predictions[0] != group.target).sum())
    assert len(found.worst) == wrong
    beliefs = [one.probability for one in found.worst]
    assert beliefs == sorted(beliefs)
    assert all(one.target != one.prediction for one in found.worst)


def test_a_cluster_is_what_one_model_tests(tmp_path):
    by_speaker, by_session = (
        main(planted(tmp_path / name, Planted(protocol=name)))[1] for name in ("speaker", "session")
    )
    assert (by_speaker.clusters, by_speaker.speakers, by_speaker.crossed) == (10, 10, False)
    assert (by_session.clusters, by_session.speakers, by_session.crossed) == (5, 10, False)
    assert by_session.scores["ua"].interval.clusters == 5


def official(root, seeds):
    plans = [
        Planted(seed=s, protocol="official", ablation=a, skill=k)
        for s in seeds
        for a, k in (("full", 1.2), ("mfcc", 0.2))
    ]
    return planted(root, *plans)


def test_one_model_of_one_seed_that_tests_everybody_has_no_p_value_and_says_why(tmp_path):
    found = official(tmp_path, [0])
    result = main(found)[1]
    assert (result.clusters, result.speakers, result.crossed) == (6, 6, True)
    assert not result.scores["ua"].interval.training
    (versus,) = [row.versus for row in found.experiments[0].rows if row.versus]
    assert versus.ua.interval.high < 0
    assert (versus.ua.p, versus.ua_corrected, versus.ua.detectable) == (None, None, None)
    assert "one-seed" in [one.name for one in found.findings]
    assert "the interval does not cover the randomness of its training" in detail.ablations(found.experiments[0]).note


def test_several_models_that_test_everybody_are_compared_over_speakers_and_seeds(tmp_path):
    found = official(tmp_path, range(4))
    result = main(found)[1]
    assert result.scores["ua"].interval.training
    (versus,) = [row.versus for row in found.experiments[0].rows if row.versus]
    assert versus.crossed
    assert 0 < versus.ua.p < 0.05
    assert versus.ua.detectable > 0
    assert "one-seed" not in [one.name for one in found.findings]


def test_tables_count_their_tests_and_say_what_they_can_detect(tmp_path):
    skills = {"full": 1.2, "mfcc": 0.4, "w2e": 0.9}
    plans = [Planted(ablation=a, selection=s, skill=k) for a, k in skills.items() for s in ("validation", "test")]
    found = planted(tmp_path, *plans)
    table = detail.ablations(found.experiments[0])
    assert "p corrected for 2 tests (Holm); detectable holds for a single test." in table.note
    place = [column.title for column in table.columns].index("detectable")
    assert sum(float(row[place].text) > 0 for row in table.rows if row[place].text != "–") == 2
    assert "p corrected for 3 tests (Holm)" in results_table.results(found).note
    assert all(gap.versus.ua_corrected >= gap.versus.ua.p for gap in found.gaps)


def test_probes_are_corrected_for_all_probes_of_the_model(tmp_path):
    probes = main(planted(tmp_path, Planted(probes={"mfcc": 1.2, "waveform": 0.2})))[1].probes
    assert len(probes) == 4
    smallest = min(probes, key=lambda probe: probe.p)
    assert smallest.corrected == pytest.approx(4 * smallest.p)


def test_the_recall_of_a_class_has_an_interval_over_the_speakers_that_have_it(tmp_path):
    result = main(planted(tmp_path, Planted()))[1]
    for one in result.classes:
        assert one.interval.low < one.recall < one.interval.high


def test_a_model_that_guesses_is_a_finding(tmp_path):
    found = planted(tmp_path, Planted(skill=0.0))
    assert "chance" in [one.name for one in found.findings]


def test_calibration_counts_every_utterance_of_every_seed(tmp_path):
    _, result = main(planted(tmp_path, Planted(seed=0), Planted(seed=1)))
    assert result.calibration.count.sum() == 2 * len(WHO.ids)
    assert 0 < result.calibration.errors["ece"].value < 0.5


@pytest.mark.parametrize("speakers", [SPEAKERS[:2], (*SPEAKERS[:1], "9M")])
def test_two_speakers_are_enough_for_a_report(tmp_path, speakers):
    found = planted(tmp_path, Planted(), Planted(ablation="mfcc"), who=people(each=12, speakers=speakers))
    group, result = main(found)
    assert len(group.header.fold_names) == 2
    assert np.isnan(result.scores["ua"].interval.low)
    assert [one.message for one in found.findings if one.name == "no-interval"] == [
        "Leave one speaker out: 2 clusters; an interval needs 3."
    ]
    (versus,) = [row.versus for row in found.experiments[0].rows if row.versus]
    assert (versus.ua.p, versus.ua_corrected, versus.ua.detectable) == (None, None, None)
    assert "No test is possible." in detail.ablations(found.experiments[0]).note


@pytest.mark.slow(reason="writes four reports, two with every call counted")
def test_hundreds_of_folds_are_reported_in_one_pass_whose_work_grows_as_the_runs_do(tmp_path):
    who, work = people(each=8), []
    for seeds, new in ((1, [0]), (3, [1, 2])):
        for ablation in ABLATIONS:
            for seed in new:
                write_run(tmp_path, who, Planted(ablation=ablation, seed=seed))
        with touching(tmp_path) as touched:
            found = report(tmp_path)
        assert [row.done for row in found.experiments[0].rows] == [10 * seeds] * 10
        folds = {file: count for file, count in touched.opened.items() if len(file.relative_to(tmp_path).parts) == 3}
        assert {file.name for file in folds} == {"index.json", "result.json", "predictions.csv", "segments.npz"}
        assert set(folds.values()) == {1}
        work.append(calls(lambda: report(tmp_path)))
    assert work[1] < 3.3 * work[0]
