import sys
from pathlib import Path

import pytest

from ser_pipeline.training.tensorboard import FOLDER, TAGS, log_epochs


def history(epochs: int) -> list[dict[str, float]]:
    return [{"epoch": e, **{key: e + place / 8 for place, key in enumerate(TAGS)}} for e in range(1, epochs + 1)]


def read(fold: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself finds in the folder: name -> (epoch, value)."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(fold / FOLDER)).Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_tensorboard_reads_every_number_of_every_epoch(tmp_path: Path) -> None:
    for epochs in (1, 2, 3):
        log_epochs(tmp_path, history(epochs))
    expected = {tag: [(epoch, epoch + place / 8) for epoch in (1, 2, 3)] for place, tag in enumerate(TAGS.values())}
    assert read(tmp_path) == expected


def test_a_resumed_fold_lacks_no_epoch_and_has_none_twice(tmp_path: Path) -> None:
    log_epochs(tmp_path, history(2))
    log_epochs(tmp_path, history(2))  # killed after the log, before its next epoch
    log_epochs(tmp_path, history(4))  # killed once between the checkpoint and the log
    assert [step for step, _ in read(tmp_path)["validation/ua"]] == [1, 2, 3, 4]


def test_epochs_that_are_logged_together_share_a_file(tmp_path: Path) -> None:
    log_epochs(tmp_path, history(3))
    (tmp_path / FOLDER / "events.out.tfevents.000009.77.tmp").touch()  # what a kill left behind
    log_epochs(tmp_path, history(5))
    assert [step for step, _ in read(tmp_path)["validation/ua"]] == [1, 2, 3, 4, 5]
    assert len([file for file in (tmp_path / FOLDER).iterdir() if file.suffix != ".tmp"]) == 2


def test_a_number_that_a_record_lacks_is_left_out(tmp_path: Path) -> None:
    log_epochs(tmp_path, [{"epoch": 1, "loss": 0.5}])
    assert read(tmp_path) == {"loss/training": [(1, 0.5)]}


def test_nothing_is_written_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # what an import of it then fails on
    log_epochs(tmp_path, history(1))
    assert list(tmp_path.iterdir()) == []
