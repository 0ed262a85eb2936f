"""What `profile` says of a model is what it is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from ser_pipeline.predict.runs import run_members


@pytest.mark.slow(reason="starts the command anew to see how long its first answer takes")
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
    assert lines[0] == f"{found['device']}; 3 s of noise, 3 folds"
    assert f"parameters, trained\t{head:,}" in lines
