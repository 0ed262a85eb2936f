"""`train --log` writes every number of every epoch and the scores, and nothing twice."""

import csv
import json
from pathlib import Path

import pytest

from ser_pipeline.errors import PipelineError
from ser_pipeline.training import trackers
from ser_pipeline.training.points import TAGS, Point

NAMES = tuple(trackers.TRACKERS)
KEYS = ("loss", "validation_loss", "wa", "ua")


@pytest.fixture
def fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an unfinished fold, with MLflow's store next to it."""
    run = tmp_path / "emodb-speaker-full-s0-0123456789ab.partial"
    (run / "03.partial").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ser")
    return run / "03.partial"


def history(epochs: int) -> list[dict[str, float]]:
    return [{"epoch": e, **{key: e + place / 8 for place, key in enumerate(KEYS)}} for e in range(1, epochs + 1)]


def expected(epochs: int) -> set[tuple[str, int, float]]:
    return {(TAGS[key], e, e + place / 8) for e in range(1, epochs + 1) for place, key in enumerate(KEYS)}


def read_csv(folder: Path) -> list[tuple[str, int, float]]:
    with (folder / trackers.CSV).open(encoding="utf-8") as file:
        return [(line["name"], int(line["epoch"]), float(line["value"])) for line in csv.DictReader(file)]


def read_tensorboard(folder: Path) -> list[tuple[str, int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard")).Reload()
    return [(tag, one.step, one.value) for tag in found.Tags()["scalars"] for one in found.Scalars(tag)]


def read_mlflow(folder: Path) -> list[tuple[str, int, float]]:
    from mlflow.tracking import MlflowClient

    client, run = MlflowClient(), (folder / "mlflow.txt").read_text().strip()
    names = client.get_run(run).data.metrics
    return [(name, one.step, one.value) for name in names for one in client.get_metric_history(run, name)]


READERS = {"csv": read_csv, "tensorboard": read_tensorboard, "mlflow": read_mlflow}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Return each tracker whose library is installed."""
    library = trackers.TRACKERS[request.param].library
    if library:
        pytest.importorskip(library, reason=f"{library} is not installed")
    return str(request.param)


def test_a_resumed_fold_lacks_no_epoch_and_has_none_twice(fold: Path, name: str) -> None:
    for epochs in (1, 2, 2, 4):  # killed after the log, and once between two trackers
        trackers.log_epochs([name], fold, history(epochs))
    found = READERS[name](fold)
    assert len(found) == len(set(found))
    assert set(found) == expected(4)


def test_the_scores_of_the_test_stand_at_the_epoch_that_was_kept(fold: Path, name: str) -> None:
    (fold / "result.json").write_text(json.dumps({"best_epoch": 2, "wa": 0.75, "ua": 0.5}))
    for _ in range(2):
        trackers.log_scores([name], fold, history(3))
    assert sorted(READERS[name](fold)) == sorted(expected(3) | {("test/wa", 2, 0.75), ("test/ua", 2, 0.5)})


def test_a_whole_run_has_its_means_and_what_is_pooled(fold: Path, name: str) -> None:
    run = fold.parent
    for place, counts in (("a", [[1, 1], [0, 2]]), ("b", [[4, 0], [0, 0]])):
        (run / place).mkdir()
        wa = (counts[0][0] + counts[1][1]) / sum(map(sum, counts))
        (run / place / "result.json").write_text(json.dumps({"wa": wa, "ua": wa, "counts": counts}))
    trackers.log_run([name], run, ["a", "b"])
    found = {key: value for key, _, value in READERS[name](run)}
    wanted = {"mean/wa": 0.875, "mean/ua": 0.875, "pooled/wa": 7 / 8, "pooled/ua": (5 / 6 + 1) / 2}
    assert found == pytest.approx(wanted)


def test_lines_say_run_and_fold(fold: Path) -> None:
    trackers.log_epochs(["csv"], fold, history(1))
    trackers.TRACKERS["csv"].write(fold.parent, [Point("pooled/ua", 0, 0.5)])
    (first, *_), (whole,) = (list(csv.DictReader((place / "log.csv").open())) for place in (fold, fold.parent))
    assert (first["run"], first["fold"]) == ("emodb-speaker-full-s0-0123456789ab", "03")
    assert (whole["run"], whole["fold"]) == ("emodb-speaker-full-s0-0123456789ab", "")


def test_a_tracker_that_fails_stops_nothing_and_is_told(
    fold: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(folder: Path, points: object) -> None:
        raise ConnectionError("no server")

    monkeypatch.setitem(trackers.TRACKERS, "mlflow", trackers.Tracker(away))
    trackers.log_epochs(["mlflow", "csv"], fold, history(1))
    assert "not logged to mlflow: no server" in caplog.text
    assert set(read_csv(fold)) == expected(1)


def test_an_unknown_tracker_and_a_missing_library_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PipelineError, match="unknown tracker 'tensorbord'; did you mean 'tensorboard'"):
        trackers.chosen("csv,tensorbord")
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(PipelineError) as caught:
        trackers.chosen("mlflow")
    assert str(caught.value) == "--log mlflow needs mlflow: pip install 'ser-pipeline[mlflow]'"
    assert trackers.chosen("") == ()
