"""`profile` reports the true numbers of a model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from ser_pipeline.errors import PipelineError
from ser_pipeline.export import profile
from ser_pipeline.export.writing import export
from ser_pipeline.predict.runs import run_members
from ser_pipeline.report import Choice, make_report
from ser_pipeline.report.page import to_html
from ser_pipeline.runs import profiled


@pytest.mark.slow(reason="starts the command again to time its first answer")
def test_the_cost_of_a_model_is_told(
    frozen_run: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ser_pipeline.export.profile.LARGEST", {"cpu": 2})
    found = json.loads(run("profile", frozen_run, "--device", "cpu", "--json").stdout)
    members = run_members(frozen_run, torch.device("cpu"))
    model, encoder = members.models[0], members.makers["statistics"].encoder
    whole, head = (sum(one.numel() for one in part.parameters()) for part in (model, model.classifier))
    assert found["parameters"] == {
        "model": whole,
        "trained": head,
        "encoders of its features": sum(one.numel() for one in encoder.parameters()),
        "models": 3,
    }
    assert 0 < found["gflops"]["front end"] < found["gflops"]["whole"]
    assert [(row["part"], row["batch"]) for row in found["torch"]] == [
        ("front end", 1),
        ("whole", 1),
        ("front end", 2),
        ("whole", 2),
    ]
    for row in found["torch"]:
        assert 0 < row["median_ms"] <= row["p95_ms"]
        assert row["real_time_factor"] == pytest.approx(row["median_ms"] / 1000 / (3 * row["batch"]))
    assert found["start_seconds"]["torch"] > 0 and found["memory_megabytes"]["process"] > 0
    assert found["megabytes"]["model.safetensors"] > 0
    lines = run("profile", frozen_run, "--device", "cpu").stdout.splitlines()
    assert lines[0] == f"{found['device']}, {found['measured'][:10]}: 3 s of noise, 3 folds"
    assert f"parameters, trained\t{head:,}" in lines


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Profile with few calls and without a separate process."""
    monkeypatch.setattr(profile, "LARGEST", {"cpu": 1})
    monkeypatch.setattr(profile, "CALLS", (1, 1))
    monkeypatch.setattr(profile, "_start", lambda model, config: 1.25)


def test_what_was_measured_stands_in_the_report_and_the_card(
    small_run: Path, run: Callable[..., Result], quick: None, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(small_run, tmp_path / "runs" / small_run.name))
    (copy / "profile.json").unlink(missing_ok=True)
    assert "Inference cost" not in to_html(make_report(copy.parent, Choice()), {}, tmp_path)
    done = run("profile", copy, "--device", "cpu", "--json")
    found = json.loads(done.stdout)
    assert done.stderr.splitlines()[-1] == f"saved in {copy / 'profile.json'}, for the report and the model card"
    run("verify", copy)
    page = to_html(make_report(copy.parent, Choice()), {}, tmp_path)
    row = found["torch"][1]
    for said in (f"{found['parameters']['trained']:,}", f"{row['median_ms']:,.2f}", f"{row['p95_ms']:,.2f}"):
        assert said in page
    assert "Inference cost" in page and "GFLOPs, whole" in page
    card = (export(copy, tmp_path / "model", ["03"]) / "README.md").read_text()
    assert f"torch, batch 1: median {row['median_ms']:.1f} ms, 95th percentile {row['p95_ms']:.1f} ms, " in card
    assert "Seconds from the start of the command to the first prediction: torch 1.2" in card


@pytest.mark.parametrize("text", ["", "[]", '{"cpu": 3}', '{"cpu": {"device": 1}}'])
def test_a_damaged_file_of_it_is_a_line_and_measured_anew(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "profile.json").write_text(text)
    assert profiled.profiles(tmp_path) == []
    assert "run `ser-pipeline profile` again" in caplog.text
    profiled.keep(tmp_path, "cpu", {"device": "x"})
    assert json.loads((tmp_path / "profile.json").read_text()) == {"cpu": {"device": "x"}}


def test_models_without_a_form_as_one_module_are_timed_as_a_whole(
    small_run: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise PipelineError("no form")

    monkeypatch.setattr(profile, "Listener", refuse)
    found = profile.profile(small_run, torch.device("cpu"), ["03"])
    assert [row["part"] for row in found["torch"]] == ["whole"] and found["gflops"] == {}
    assert profile.table(found)


def test_every_measurement_is_told_before_it_starts(small_run: Path, quick: None, run: Callable[..., Result]) -> None:
    found = list[tuple[str, int, int]]()
    profile.profile(small_run, torch.device("cpu"), ["03"], progress=lambda *told: found.append(told))
    assert [number for _, number, _ in found] == list(range(1, len(found) + 1))
    assert found[-1][1:] == (len(found), len(found))
    whats = [what for what, *_ in found]
    assert whats[0] == "parameters, operations and sizes"
    assert "time of torch, whole, batch 1" in whats
    assert whats[-1] == "start of predict, with torch"
    told = run("profile", small_run, "--fold", "03", "--device", "cpu")
    assert [line for line in told.stderr.splitlines() if line.startswith("measuring ")] == [
        f"measuring {number}/{count}: {what}" for what, number, count in found
    ]
    assert run("profile", small_run, "--fold", "03", "--device", "cpu", "--quiet").stderr == ""
