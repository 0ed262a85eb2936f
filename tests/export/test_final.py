"""The final model: trained on all data by `train --final`, absent from the report, used for prediction and export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from ser_pipeline.cli import main

from ser_pipeline import SpeechEmotion, load
from ser_pipeline.export import checking, names, profile
from ser_pipeline.export.writing import export
from ser_pipeline.runs.reading import scan
from support.reducing import TINY


@pytest.fixture(params=["small", "frozen"])
def words(request: pytest.FixtureRequest, whisper: Path) -> tuple[str, ...]:
    """Return the settings of the fixtures `small_run` and `frozen_run` in turn."""
    small = ("--preset", "demo", *(word for setting in TINY for word in ("--set", setting)))
    frozen = ("--preset", "frozen", "--set", f"features.statistics.encoder={whisper}")
    return small if request.param == "small" else frozen


@pytest.fixture
def tested(words: tuple[str, ...], trained: Callable[..., Path]) -> Path:
    """Return a run with tested folds."""
    return trained(*words)


@pytest.fixture
def final(words: tuple[str, ...], trained: Callable[..., Path]) -> Path:
    """Return the final model with the same settings."""
    return trained(*words, final=True)


def run(*words: object) -> Result:
    """Return a command's result."""
    return CliRunner().invoke(main, [str(word) for word in words])


def test_it_learns_from_all_that_no_validation_speaker_said(final: Path) -> None:
    (fold,) = json.loads((final / "folds.json").read_text())["folds"]
    assert fold["name"] == "final"
    assert fold["test"] == []
    assert len({*fold["train"], *fold["validation"]}) == json.loads((final / "run.json").read_text())["utterances"]
    assert not list(final.glob("*/predictions.csv"))
    assert "wa" not in json.loads((final / "final" / "result.json").read_text())


def test_it_is_predicted_with_and_knows_what_it_learned_from(final: Path, corpus: Path) -> None:
    file = next(iter(sorted(corpus.rglob("*.wav"))))
    (answer,) = json.loads(run("predict", final, file, "--json", "--device", "cpu").stdout)
    assert answer["emotion"] in load(final, "cpu").labels
    assert "seen in training" in load(final, "cpu")(file).note


def test_exported_it_answers_alike_and_its_card_has_the_scores_of_the_tested_run(
    tested: Path, final: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = export(final, tmp_path / "model")
    file = next(iter(sorted(corpus.rglob("*.wav"))))
    assert SpeechEmotion.from_pretrained(folder, device="cpu")(file).probabilities == pytest.approx(
        load(final, "cpu")(file).probabilities, abs=1e-5
    )
    card = (folder / names.CARD).read_text()
    assert f"This model was not tested. The scores are those of `{tested.name.rpartition('-')[0]}" in card
    assert "eval_results" not in card
    assert "model-index" not in card


def test_without_a_tested_run_its_card_has_no_scores(final: Path, tmp_path: Path) -> None:
    alone = tmp_path / "runs" / final.name
    alone.parent.mkdir()
    alone.symlink_to(final)
    card = (export(alone, tmp_path / "model") / names.CARD).read_text()
    assert "was not tested, so it has no scores" in card


def test_its_graph_is_checked_on_recordings_that_its_epoch_was_chosen_on(final: Path) -> None:
    (fold,) = json.loads((final / "folds.json").read_text())["folds"]
    assert len(list(checking.tested_recordings(final, 16_000))) == len(fold["validation"])


def test_the_report_leaves_it_out_with_a_line(tested: Path, final: Path, tmp_path: Path) -> None:
    headers, left_out = scan(final.parent)
    assert tested in [header.path for header in headers]
    assert final not in [header.path for header in headers]
    (why,) = [one.reason for one in left_out if one.name == final.name]
    assert why == "it is a final model, which has no test scores; use it with predict, export or profile"
    result = run("report", "--runs-root", final.parent, "--reports", tmp_path / "reports", "--quiet")
    assert result.exit_code == 0, result.stderr


def test_it_is_not_asked_for_beside_what_is_left_out(final: Path, tmp_path: Path) -> None:
    result = run("train", "--final", "--protocol", "speaker")
    assert result.exit_code == 2
    assert "--final holds nothing out: use it without --protocol" in result.stderr
    file = tmp_path / "folds.json"
    file.write_text("{}")
    cache = final.parent.parent / "cache"
    result = run("train", "--final", "--folds", file, "--cache", cache, "--preset", "demo", "--quiet")
    assert result.exit_code == 2
    assert "--final holds nothing out: use it without --protocol, --folds and --test-corpus" in result.stderr


def test_it_is_profiled_and_verified(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "LARGEST", {"cpu": 1})
    monkeypatch.setattr(profile, "_start", lambda model, config: 1.0)
    result = run("verify", final)
    assert result.exit_code == 0, result.stderr
    found = profile.profile(final, torch.device("cpu"))
    assert found["folds"] == ["final"]
