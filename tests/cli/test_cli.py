import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from ser_pipeline.cli import main

from support.places import ROOT
from support.sounds import write_emodb

GROUP = main
NAMES = GROUP.list_commands(click.Context(GROUP))


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_an_example(run: Callable[..., Result], name: str) -> None:
    said = run(name, "--help").output
    assert f"ser-pipeline {name}" in said.split("Example", 1)[1]


@pytest.mark.parametrize("words", [[], *([name] for name in NAMES), ["cache", "push"], ["cache", "pull"]])
def test_help_fits_a_terminal_of_80_columns(words: list[str]) -> None:
    said = CliRunner().invoke(main, [*words, "--help"], terminal_width=80).output
    assert [line for line in said.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("words", [[], ["cache"]])
def test_the_list_of_commands_has_whole_sentences_in_80_columns(words: list[str]) -> None:
    said = CliRunner().invoke(main, [*words, "--help"], terminal_width=80).output
    listed = said.partition("Commands:\n")[2].splitlines()
    assert len(listed) == len(NAMES if not words else main.get_command(click.Context(main), "cache").commands)  # type: ignore[union-attr]
    assert [line for line in listed if not re.fullmatch(r"  [a-z]+ +[A-Z][^.…]+\.", line)] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_command_stands_in_the_readme(name: str) -> None:
    assert f"ser-pipeline {name}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_file_stands_in_the_page_of_files() -> None:
    """Files of report, model and corpora are described by their folder."""
    said = (ROOT / "docs" / "files.md").read_text(encoding="utf-8").split()
    package = ROOT / "ser_pipeline"
    folders = [file.parent for file in package.glob("*/__init__.py")]
    whole = {package / name for name in ("report", "model", "corpora", "presets")}
    modules = [file for folder in (package, *folders) if folder not in whole for file in folder.glob("*.py")]
    wanted = {file.name for file in modules} - {"__init__.py"} | {f"{folder.name}/" for folder in folders}
    assert sorted(wanted - set(said)) == []


def test_importing_the_command_loads_nothing_heavy() -> None:
    heavy = ("torch", "librosa", "h5py", "matplotlib", "sklearn", "transformers", "scipy")
    code = f"import sys, ser_pipeline.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["train"], "no features in cache; extract some first: ser-pipeline features"),
        (["train", "--corpus", "emodb"], "extract some first: ser-pipeline features emodb ROOT"),
        (["report"], "ser-pipeline train"),
        (["predict", "runs/none", "a.wav"], "is not a run"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_1(run: Callable[..., Result], args: list[str], said: str) -> None:
    result = run(*args, status=1)
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_command_that_a_message_suggests_for_a_users_own_corpus_works(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    table = run("corpora", "--init", "emodb", write_emodb(tmp_path / "corpus", speakers=3, takes=1)).stdout
    (tmp_path / "mine.csv").write_text(table)
    features, audit = "ser-pipeline features table mine.csv", "ser-pipeline audit table mine.csv"
    for words in (["train", "--corpus", "mine"], ["train", "--corpus", "mine.csv"], ["features", "mine.csv"]):
        assert run(*words, status=None).stderr.rstrip().endswith(f": {features}")
    for words in (["audit", "mine"], ["audit", "mine.csv"], ["audit", "mine.csv", "."]):
        assert run(*words, status=None).stderr.rstrip().endswith(f": {audit}")
    assert run("folds", "mine", status=None).stderr.rstrip().endswith(": ser-pipeline folds table mine.csv")
    assert run("audit", "corpus", status=None).stderr.rstrip().endswith(": ser-pipeline audit folder corpus")
    assert run("train", "--corpus", "emdb", status=1).stderr.endswith("features emodb ROOT\n")
    assert run("audit", "demo", status=1).stderr.endswith(": ser-pipeline features\n"), "an audit makes no demo"
    run(*audit.split()[1:])
    run(*features.split()[1:], "--feature", "mfcc")
    assert "did you mean 'mine'? known: mine" in run("train", "--corpus", "mine.csv", status=1).stderr
    assert run("audit", "mine.csv", status=1).stderr.rstrip().endswith(f": {audit}")
    said = run("train", "--corpus", "others", status=1).stderr
    assert said.endswith("known: mine; extract some first: ser-pipeline features table others.csv\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["features", "nonsense"], "unknown corpus 'nonsense'; known:"),
        (["features", "emodb"], "name the folder of emodb: ser-pipeline features emodb ROOT"),
        (
            ["features", "--feature", "video"],
            "unknown feature 'video'; known: mfcc, spectrogram, logmel, waveform, emb",
        ),
        (["features", "--preset", "best"], "unknown preset 'best'; known: demo, finetune, frozen, paper"),
        (["features", "table"], "name a table: ser-pipeline features table my.csv"),
        (["features", "--set", "trian.lr=1"], "unknown setting 'trian'; did you mean 'train'?"),
        (["features", "--set", "featurs.mfcc.deltas=1"], "unknown setting 'featurs'; did you mean 'features'?"),
        (["features", "--set", "train.rl=1"], "unknown setting 'train.rl'; did you mean 'train.lr'?"),
        (["train", "--preset", "scrach"], "unknown preset 'scrach'; did you mean 'scratch'?"),
        (["train", "--protocol", "speeker"], "unknown protocol 'speeker'; did you mean 'speaker'?"),
        (["folds", "--protocol", "matrix"], "unknown protocol 'matrix'"),
        (["audit", "--protocol", "speeker"], "unknown protocol 'speeker'; did you mean 'speaker'?"),
        (["train", "--ablation", "ful"], "unknown ablation 'ful'; did you mean 'full'?"),
        (["train", "--baseline", "svmm"], "'svmm' is not one of"),
        (["train", "--set", "train.lrr=1"], "unknown setting 'train.lrr'; did you mean 'train.lr'?"),
        (["train", "--set", "train.lr"], "'train.lr' is not KEY=VALUE"),
        (["train", "--set", "train.lr=fast"], "setting 'train.lr' must be a number"),
        (["train", "--device", "gpu"], "unknown device 'gpu'; known: auto, cuda, cuda:1, mps, cpu"),
        (["verify", ".", "--device", "cuda:x"], "unknown device 'cuda:x'"),
        (["train", "--log", "csv,wandb"], "unknown tracker 'wandb'; known: csv, tensorboard, mlflow"),
        (["train", "--classes", "sad"], "'sad' is one class"),
        (["train", "--final", "--folds", "folds.json"], "--final holds nothing out"),
        (["folds", "--selection", "luck"], "'luck' is not one of"),
        (["audit", "--subset", "improvised"], "name CORPUS and ROOT"),
        (["audit", "emdb", "."], "unknown corpus 'emdb'; did you mean 'emodb'?"),
        (["corpora", "emdb"], "unknown corpus 'emdb'; did you mean 'emodb'?"),
        (["corpora", "--speaker", "parent"], "--speaker need --init"),
        (["corpora", "emodb", "--classes", "a,b"], "need --init"),
        (["predict", "call.wav", "--csv", "--json"], "choose one of --json and --csv"),
        (["predict", "call.wav", "--jsonl", "--json", "--csv"], "choose one of --json and --jsonl and --csv"),
    ],
)
def test_what_the_command_line_alone_shows_is_exit_status_2(
    run: Callable[..., Result], args: list[str], said: str
) -> None:
    result = run(*args, status=2)
    assert said in result.stderr
    assert result.stderr.startswith("Usage:") and result.stdout == ""


@pytest.mark.parametrize("value", ["auto", "cpu", "cuda:1"])
def test_whether_a_device_is_there_is_no_question_of_usage(run: Callable[..., Result], value: str) -> None:
    assert "no features in cache" in run("train", "--device", value, status=1).stderr


def test_ablations_of_a_file_of_settings_are_no_question_of_usage(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("")
    assert "no features" in run("train", "--ablation", "mine", "--config", "own.toml", status=1).stderr


@pytest.mark.parametrize("args", [["features", "--jobs", "0"], ["train", "--selection", "luck"], ["nonsense"]])
def test_wrong_usage_is_exit_status_2(run: Callable[..., Result], args: list[str]) -> None:
    assert "Usage:" in run(*args, status=2).stderr


@pytest.mark.parametrize(
    "args", [["features", "--jobs", "1_0"], ["train", "--seeds", "1_0"], ["predict", "run", "a.wav", "--window", "1_0"]]
)
def test_a_number_with_an_underscore_is_none(run: Callable[..., Result], args: list[str]) -> None:
    assert "'1_0' is not a valid " in run(*args, status=2).stderr


def test_several_corpora_are_listed_to_choose_from(run: Callable[..., Result], tmp_path: Path) -> None:
    root = write_emodb(tmp_path / "corpus", speakers=2, takes=1)
    run("features", "emodb", root, "--feature", "mfcc")
    table = run("corpora", "--init", "emodb", root).stdout
    (tmp_path / "mine.csv").write_text(table)
    run("features", "table", "mine.csv", "--feature", "mfcc")
    said = run("train", status=1).stderr
    assert "several corpora have features: emodb, mine; choose one with --corpus" in said
    said = run("train", "--corpus", "table", status=1).stderr
    assert "features of a table are named after its file; choose one with --corpus: emodb, mine" in said


def test_results_go_to_stdout_and_nothing_else_with_quiet(run: Callable[..., Result], tmp_path: Path) -> None:
    root = write_emodb(tmp_path / "corpus", speakers=2, takes=1)
    result = run("features", "emodb", root, "--quiet")
    assert result.stderr == ""
    assert Path(result.stdout.strip()).is_dir()


@pytest.mark.parametrize("words", ["status", "cache ls", "cache status", "cache verify", "cache prune"])
def test_a_pipe_gets_nothing_if_there_is_nothing(run: Callable[..., Result], words: str) -> None:
    result = run(*words.split())
    assert result.stdout == ""
    assert re.match("(nothing|no process) .+\n", result.stderr)


def test_ctrl_c_is_exit_status_130_and_says_what_goes_on(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ser_pipeline.features.stage.extract_stores", stop)
    root = write_emodb(tmp_path / "corpus", speakers=2, takes=1)
    result = run("features", "emodb", root, status=130)
    assert "Run the same command again to resume" in result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_ctrl_c_promises_to_resume_only_where_finished_work_is_kept(
    name: str, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    command = main.get_command(click.Context(main), name)
    assert command is not None
    names = [(name, one) for one in command.commands] if isinstance(command, click.Group) else [(name,)]
    monkeypatch.setattr(click.Command, "invoke", stop)
    for words in names:
        said = run(*words, status=130).stderr.strip()
        resumes = words in {("features",), ("train",), ("cache", "push"), ("cache", "pull")}
        assert said == (
            "Stopped; finished work is kept. Run the same command again to resume."
            if resumes
            else "Stopped; the same command starts from the beginning."
        )
