"""What the page says and in which order, of which each part was once wrong."""

import re

import numpy as np
import pytest

from ser_pipeline.report import Choice, build, experiment_tables, figures, headline, make_report
from ser_pipeline.report.embedded import plans
from ser_pipeline.report.gallery import _pair
from ser_pipeline.report.page import titles, unbroken
from support.run_folders import Planted, people, write_run

WHO = people(each=12, speakers=("2", "10", "5", "1"))


def test_numbers_in_names_are_sorted_by_size(tmp_path):
    for ablation in ("full", "share-5", "share-10", "share-20"):
        write_run(tmp_path, WHO, Planted(ablation=ablation))
    for rate in ("1e-5", "0.002", "0.01"):
        write_run(tmp_path, WHO, Planted(ablation="rate", overrides=(f"train.lr={rate}",)))
    experiment = make_report(tmp_path, Choice()).experiments[0]
    names = [row.group.name for row in experiment.rows]
    assert [name for name in names if name.startswith("share")] == ["share-5", "share-10", "share-20"]
    assert len([name for name in names if name.startswith("rate (train.lr")]) == 3
    speakers = experiment_tables.by_speaker(experiment)
    assert [row[0].text for row in speakers.rows] == ["1", "2", "5", "10"]
    result = experiment.results["full"]
    assert [part.name for part in result.parts["speaker"]] == ["1", "2", "5", "10"]


def test_chapters_of_one_protocol_say_in_what_they_differ(tmp_path):
    write_run(tmp_path, WHO, Planted(preset="paper"))
    write_run(tmp_path, WHO, Planted(preset="scratch"))
    write_run(tmp_path, WHO, Planted(preset="paper", protocol="session"))
    found = titles(make_report(tmp_path, Choice()).experiments)
    assert sorted(found) == [
        "Leave one session out",
        "Leave one speaker out, preset paper",
        "Leave one speaker out, preset scratch",
    ]


def test_an_experiment_without_a_finished_run_says_how_far_it_is(tmp_path):
    write_run(tmp_path / "runs", WHO)
    write_run(tmp_path / "runs", WHO, Planted(preset="scratch", finished=2))
    page = build(tmp_path / "runs", tmp_path / "reports").read_text(encoding="utf-8")
    assert "No run of this experiment is finished: full has 2 of 4 folds." in page
    assert "A row that shows a number of folds is incomplete" in page


def test_what_was_left_out_of_another_corpus_is_not_listed(tmp_path):
    write_run(tmp_path, WHO)
    write_run(tmp_path, WHO, Planted(corpus="demo"))
    empty = write_run(tmp_path, WHO, Planted(corpus="demo", ablation="mfcc", finished=0))
    own = write_run(tmp_path, WHO, Planted(ablation="mfcc", finished=0))
    left_out = [one.name for one in make_report(tmp_path, Choice("iemocap")).left_out]
    assert own.name in left_out
    assert empty.name not in left_out


def test_embeddings_that_were_not_kept_are_not_spoken_of(tmp_path):
    who = people(each=16)
    write_run(tmp_path, who, Planted(embeddings=True, ablation="mfcc"))
    experiment = make_report(tmp_path, Choice()).experiments[0]
    (first, _) = plans(experiment, list(_pair(experiment)))
    assert "final feature" in first.caption
    assert "not known" not in first.caption
    assert "W2E" not in first.caption


def test_ticks_lie_apart_by_round_numbers():
    from matplotlib.figure import Figure

    for epochs, most in ((45, 100.0), (17, 1.9), (6, 2.4)):
        axes = Figure().add_subplot()
        lines = [{"epoch": epoch, "ua": most / epoch} for epoch in range(1, epochs + 1)]
        course = figures.Course({"ua": ("#000000", "-")}, "ua", (0.0, most * 1.02))
        figures.curves("fold", [lines], [2], course).draw(axes)
        for axis in (axes.xaxis, axes.yaxis):
            step = np.diff(axis.get_majorticklocs())[0]
            assert round(step / 10 ** np.floor(np.log10(step) + 1e-9), 6) in (1, 2, 5)


def test_lines_of_a_command_break_at_blanks_and_commas_and_are_copied_as_they_are():
    command = "ser-pipeline train --ablation full,mfcc-w2e-mean --set 'a=[1,2]'"
    made = unbroken(command)
    pieces = re.findall(r"<i>(.*?)</i>", made)
    assert pieces[:5] == ["ser-pipeline", "train", "--ablation", "full,", "mfcc-w2e-mean"]
    assert made.striptags() == command


@pytest.mark.parametrize(
    ("corrected", "said"),
    [
        ([0.2], "The other model does not differ significantly"),
        ([0.2, 0.3], "None of the 2 other models differs significantly"),
        ([0.01, 0.3, 0.02], "2 of the 3 other models differ significantly"),
    ],
)
def test_the_summary_says_how_many_models_differ(tmp_path, corrected, said):
    for ablation in ("full", "mfcc", "w2e", "spectrogram")[: len(corrected) + 1]:
        write_run(tmp_path, WHO, Planted(ablation=ablation))
    found = make_report(tmp_path, Choice())
    rows = [row for row in found.experiments[0].rows if row.versus]
    for row, p in zip(rows, corrected, strict=True):
        object.__setattr__(row.versus, "ua_corrected", p)
    (sentence, *_) = headline.summary(found)["sentences"]
    assert sentence.startswith(said)
