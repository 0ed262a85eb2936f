"""The cost of features and folds is measured while they are computed, and stored with them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from ser_pipeline import cost
from ser_pipeline.cost import Meter
from ser_pipeline.features.stores import made_for
from support.reducing import TINY
from support.sounds import write_emodb

WORDS = ["--preset", "demo", "--jobs", "1", "--device", "cpu", "-q"]
SETTINGS = [word for setting in TINY for word in ("--set", setting)]


def test_a_meter_counts_all_cores_and_a_gpu_where_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    processor, wall = iter([10.0, 16.0, 20.0, 26.0]), iter([100.0, 102.0, 104.0])
    monkeypatch.setattr(cost, "_processor", lambda: next(processor))
    monkeypatch.setattr(cost.time, "monotonic", lambda: next(wall))
    assert Meter(gpu=True).read() == {"cpu_seconds": 6.0, "gpu_seconds": 2.0}
    assert Meter().read(parts=3) == {"cpu_seconds": 2.0, "gpu_seconds": 0.0}


def test_folds_and_stores_say_what_they_cost(run: Callable[..., Result], tmp_path: Path) -> None:
    root = write_emodb(tmp_path / "corpus", speakers=3, takes=1)
    folder = Path(run("features", "emodb", root, *WORDS).stdout.strip())
    stores = sorted(path for path in folder.iterdir() if path.is_dir())
    spent = made_for(stores)
    assert spent["cpu_seconds"] > 0 and spent["gpu_seconds"] == 0
    made = Path(run("train", "--accept", "counts", *WORDS, *SETTINGS).stdout.strip())
    assert json.loads((made / "run.json").read_text())["features_cost"] == spent
    for fold in made.glob("*/result.json"):
        result = json.loads(fold.read_text())
        epochs = [json.loads(line) for line in (fold.parent / "history.jsonl").read_text().splitlines()]
        assert result["cpu_seconds"] >= sum(epoch["cpu_seconds"] for epoch in epochs) > 0
        assert result["gpu_seconds"] == 0 or torch.cuda.is_available()
    index = stores[0] / "index.json"
    index.write_text(
        json.dumps({key: value for key, value in json.loads(index.read_text()).items() if "cpu" not in key})
    )
    assert made_for(stores) == {}, "of an earlier version, or started by a killed process"
