"""The commands that a report prints to repeat its runs: the original ones, with the same features."""

import json
import shlex

import pytest

from ser_pipeline.report import Choice, make_report
from ser_pipeline.report.commands import commands
from support.run_folders import Planted, people, write_run

WHO = people(each=4)
"""Some utterances of ten speakers."""


def printed(root):
    return [shlex.split(line) for line in commands(make_report(root, Choice()))]


def made_by(folder, line):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"made": {"command": [line]}}))


def test_the_lines_that_made_the_runs_are_printed_each_once_and_without_paths(tmp_path):
    both = "ser-pipeline train --baseline svm --config '/my place/own.toml' --set train.lr=1e-3"
    made_by(write_run(tmp_path, WHO, Planted()), both)
    made_by(write_run(tmp_path, WHO, Planted(ablation="mfcc")), both)
    write_run(tmp_path, WHO, Planted(ablation="w2e"))
    trained = [words for words in printed(tmp_path) if words[1] == "train"]
    assert trained[0][2:] == ["--baseline", "svm", "--config", "own.toml", "--set", "train.lr=1e-3"]
    assert trained[1][-4:] == ["--ablation", "w2e", "--seeds", "1"], "if a run has no command, one from what is known"
    assert len(trained) == 2


@pytest.mark.parametrize("corpus", ["iemocap", "demo", "mine"])
def test_features_are_asked_for_as_they_were_made(tmp_path, corpus):
    write_run(tmp_path, WHO, Planted(corpus=corpus, preset="scratch", overrides=("features.mfcc.n_mfcc=20",)))
    (words,) = [words for words in printed(tmp_path) if words[1] == "features"]
    place = {"iemocap": ["iemocap", "ROOT"], "demo": ["demo"], "mine": ["table", "FILE"]}[corpus]
    assert words[2:] == [*place, "--preset", "scratch", "--set", "features.mfcc.n_mfcc=20"]


def test_turns_of_no_class_are_asked_for_once_where_a_run_trains_them(tmp_path):
    write_run(tmp_path, WHO, Planted(corpus="demo", preset="demo"))
    folder = write_run(tmp_path, WHO, Planted(corpus="demo", preset="demo", ablation="mfcc"))
    made = [words[2:] for words in printed(tmp_path) if words[1] == "features"]
    assert made == [["demo", "--preset", "demo"]]
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"rated": True}))
    made = [words[2:] for words in printed(tmp_path) if words[1] == "features"]
    assert made == [["demo", "--rated", "--preset", "demo"]]


def test_runs_without_a_stored_line_have_one_for_each_change_of_their_preset(tmp_path):
    write_run(tmp_path, WHO, Planted())
    write_run(tmp_path, WHO, Planted(seed=1))
    write_run(tmp_path, WHO, Planted(overrides=("train.epochs=3", "model.dropout=0.2")))
    write_run(tmp_path, WHO, Planted(ablation="mfcc", overrides=("train.epochs=3",), finished=2))
    trained = [words[2:] for words in printed(tmp_path) if words[1] == "train"]
    alike = ["--corpus", "iemocap", "--protocol", "speaker", "--preset", "paper", "--ablation"]
    assert sorted(trained) == sorted(
        [
            [*alike, "full", "--seeds", "2"],
            [*alike, "full", "--seeds", "1", "--set", "model.dropout=0.2", "--set", "train.epochs=3"],
            [*alike, "mfcc", "--seeds", "1", "--set", "train.epochs=3"],
        ]
    )
