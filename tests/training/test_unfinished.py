import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from ser_pipeline.claims import Claims
from ser_pipeline.entry import Entry, write_text
from ser_pipeline.errors import PipelineError
from support.sounds import write_emodb
from support.stores import registered

ARGS = ["train", "--accept", "counts", "--preset", "demo", "--jobs", "1", "--device", "cpu", "--quiet"]
BEFORE = ["--set", "train.lr=0.5", "--set", 'model.inputs=["mfcc"]']


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the features of a small corpus."""
    return registered(tmp_path_factory.mktemp("unfinished"), speakers=3, takes=1)


@pytest.fixture
def stopped(run: Callable[..., Result], features: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stop a run in its first fold after one epoch; later runs in the same test stop there too."""

    def stop(entry: Entry, *_: object, **__: object) -> None:
        entry.begin()
        write_text(
            entry.partial / "history.jsonl",
            json.dumps({"epoch": 1, "loss": 1.0, "ua": 0.5, "segments_per_second": 1.0}),
        )
        raise PipelineError("stopped here")

    monkeypatch.setenv("SER_PIPELINE_CACHE", str(features))
    monkeypatch.setattr("ser_pipeline.training.workers.fit", stop)
    assert "stopped here" in run(*ARGS, *BEFORE, status=1).stderr
    (folder,) = Path("runs").glob("*.partial")
    return folder


def test_other_settings_than_those_of_a_stopped_run_are_named_and_nothing_is_started(
    run: Callable[..., Result], stopped: Path
) -> None:
    said = run(*ARGS, "--set", "train.batch=7", status=1).stderr
    assert str(stopped) in said
    assert "; train.batch: 32 -> 7; train.lr: 0.5 -> 0.004)" in said
    assert "--fresh" in said
    assert len(said.strip().splitlines()) == 1
    assert list(Path("runs").glob("*.partial")) == [stopped]


def test_the_options_that_it_names_go_on_with_the_stopped_run(run: Callable[..., Result], stopped: Path) -> None:
    said = run(*ARGS, status=1).stderr
    words = shlex.split(said.partition("with the same settings (")[2].partition("), or start")[0])
    assert "stopped here" in run(*ARGS, *words, status=1).stderr
    assert list(Path("runs").glob("*.partial")) == [stopped]


def test_fresh_starts_beside_it_and_both_go_on_from_then(run: Callable[..., Result], stopped: Path) -> None:
    assert "stopped here" in run(*ARGS, "--fresh", status=1).stderr
    assert len(list(Path("runs").glob("*.partial"))) == 2
    for words in ([], BEFORE):
        assert "stopped here" in run(*ARGS, *words, status=1).stderr
    assert len(list(Path("runs").glob("*.partial"))) == 2


def test_another_preset_is_named_before_its_settings(run: Callable[..., Result], stopped: Path) -> None:
    said = run(*ARGS, *BEFORE, "--preset", "scratch", status=1).stderr
    assert "(preset: demo -> scratch; " in said
    assert " more); resume it with the same settings (--preset demo), or" in said


def test_other_folds_and_features_are_named(run: Callable[..., Result], stopped: Path, tmp_path: Path) -> None:
    folds = json.loads((stopped / "folds.json").read_text())
    for count in (2, 1):
        (tmp_path / f"{count}.json").write_text(json.dumps({**folds, "folds": folds["folds"][:count]}))
    assert "stopped here" in run(*ARGS, *BEFORE, "--folds", tmp_path / "2.json", status=1).stderr
    said = run(*ARGS, *BEFORE, "--folds", tmp_path / "1.json", status=1).stderr
    assert "was started differently (folds); resume it with the same settings, or" in said
    run("features", "emodb", write_emodb(tmp_path / "more", speakers=4, takes=1), "--cache", tmp_path / "other")
    said = run(*ARGS, *BEFORE, "--cache", tmp_path / "other", status=1).stderr
    assert "(features: emodb-" in said


@pytest.mark.parametrize("words", [["--ablation", "mfcc"], ["--set", "seed=1"], ["--protocol", "group-3"]])
def test_a_run_of_another_name_is_none_of_its_business(
    run: Callable[..., Result], stopped: Path, words: list[str]
) -> None:
    assert stopped.name not in run(*ARGS, "--dry-run", *words).stderr


def test_a_finished_run_or_one_at_work_is_no_reason_to_stop(run: Callable[..., Result], stopped: Path) -> None:
    claims = Claims.beside(stopped)
    claim = claims.take(f"{stopped.name.removesuffix('.partial')}/08")
    assert claim
    assert "to do" in run(*ARGS, "--dry-run").stdout
    claims.let_go(claim)
    assert "is unfinished" in run(*ARGS, "--dry-run", status=1).stderr
    stopped.rename(stopped.with_name(stopped.name.removesuffix(".partial")))
    assert "to do" in run(*ARGS, "--dry-run").stdout


def test_settings_of_another_version_are_said_to_be_so(run: Callable[..., Result], stopped: Path) -> None:
    (stopped / "config.toml").write_text("[train]\nmomentum = 0.9\n")
    assert "(settings that this version does not know)" in run(*ARGS, status=1).stderr


def test_a_run_that_never_ended_an_epoch_is_no_reason_to_stop(run: Callable[..., Result], stopped: Path) -> None:
    for file in stopped.glob("*/history.jsonl"):
        file.unlink()
    assert "is unfinished" not in run(*ARGS, status=1).stderr
