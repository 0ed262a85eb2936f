"""The cost of a row is on the page, in the JSON and in the CSV; it is blank for runs of earlier versions."""

import csv
import io
import json
from pathlib import Path

import pytest

from ser_pipeline.report import comma_files, exports, results_table
from ser_pipeline.report.contents import Choice, Report, make_report
from support.run_folders import SPEAKERS, Planted, people, write_run

WHO = people(each=12, speakers=SPEAKERS[:4])


def add(file: Path, **more: object) -> None:
    """Add entries to a JSON object on disk."""
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Report two seeds of a model with known costs, a run without the cost of its features, and an older run."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        run = write_run(root, WHO, Planted(seed=seed))
        add(run / "run.json", features_cost={"cpu_seconds": 1_000.0, "gpu_seconds": 7.0})
        for fold in run.glob("*/result.json"):
            add(fold, cpu_seconds=100.5, gpu_seconds=2.0)
    for fold in write_run(root, WHO, Planted(ablation="mfcc")).glob("*/result.json"):
        add(fold, cpu_seconds=3.0, gpu_seconds=0.0)
    write_run(root, WHO, Planted(ablation="full-mean"))
    return make_report(root, Choice())


def test_a_row_sums_up_its_folds_and_seeds_and_has_its_features_once(report: Report) -> None:
    table = results_table.results(report)
    places = [number for number, column in enumerate(table.columns) if column.group == "Seconds"]
    shown = {row[0].text: [row[place].text for place in places] for row in table.rows}
    assert shown == {"full": ["1,804", "23"], "mfcc": ["12", "0"], "full-mean": ["", ""]}
    assert len({len(row) for row in table.rows} | {len(table.columns)}) == 1


def test_json_and_csv_have_it_too(report: Report) -> None:
    rows = {row["ablation"]: row for row in json.loads(exports.to_json(report))["experiments"][0]["rows"]}
    features = {"cpu_seconds": 1_000.0, "gpu_seconds": 7.0}
    assert rows["full"]["cost"] == {"cpu_seconds": 804.0, "gpu_seconds": 16.0, "features": features}
    assert rows["mfcc"]["cost"] == {"cpu_seconds": 12.0, "gpu_seconds": 0.0, "features": {}}
    assert rows["full-mean"]["cost"] is None
    lines = {line["ablation"]: line for line in csv.DictReader(io.StringIO(comma_files.to_csv(report)))}
    found = {name: (line["cpu_seconds"], line["gpu_seconds"]) for name, line in lines.items()}
    assert found == {"full": ("1804.0", "23.0"), "mfcc": ("12.0", "0.0"), "full-mean": ("", "")}
