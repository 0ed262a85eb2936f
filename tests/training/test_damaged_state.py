"""A stopped fold whose files are damaged restarts with a message and gives the same result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from ser_pipeline.entry import file_digest
from ser_pipeline.training import checkpoint
from ser_pipeline.training.checkpoint import Checkpoints
from support.reducing import TINY
from support.stores import registered

ARGS = ["train", "--accept", "counts", "--preset", "demo", "--jobs", "1", "--protocol", "group-2"]
ARGS += [word for setting in TINY for word in ("--set", setting)]
BY_ROW = [*ARGS, "--set", "augment.gain=6"]  # each row is augmented separately


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registered(tmp_path_factory.mktemp("damaged"), speakers=3, takes=2)


class StoppedError(Exception):
    pass


@pytest.fixture
def stopped(
    run: Callable[..., Result], cache: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> tuple[Path, str]:
    """Stop a fold after its last epoch was saved; returns its folder, and the predictions of an undisturbed run."""
    args = getattr(request, "param", ARGS)
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(cache))
    monkeypatch.setattr(checkpoint, "WRITE_SECONDS", 0.0)
    whole = Path(run(*args).stdout.strip().splitlines()[-1]).absolute()
    fold = min(file.parent for file in whole.glob("*/predictions.csv"))
    text = (fold / "predictions.csv").read_text()
    shutil.rmtree("runs")
    with monkeypatch.context() as patch:
        patch.setattr("ser_pipeline.training.fold.finish_fold", _stop)
        run(*args, status=1)
    (partial,) = Path("runs").absolute().glob(f"*/{fold.name}.partial")
    return partial, text


def _stop(*args: object) -> None:
    raise StoppedError


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    """Flip a bit in the middle of a file, which is in a tensor's numbers."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 64
    file.write_bytes(data)


def text(file: Path) -> None:
    file.write_text("{}")


@pytest.mark.parametrize("damage", [half, flip, text])
@pytest.mark.parametrize("name", ["last.pt", "epoch-*.safetensors"])
def test_a_damaged_state_begins_the_fold_anew_with_a_line(
    run: Callable[..., Result], stopped: tuple[Path, str], damage: Callable[[Path], None], name: str
) -> None:
    fold, wanted = stopped
    (file,) = fold.glob(name)
    damage(file)
    said = run(*ARGS).stderr
    assert said.count("is damaged, or from another version: the fold starts again") == 1
    (found,) = Path("runs").glob(f"*/{fold.name.removesuffix('.partial')}/predictions.csv")
    assert found.read_text() == wanted


def test_a_sound_state_is_gone_on_from(run: Callable[..., Result], stopped: tuple[Path, str]) -> None:
    fold, wanted = stopped
    assert Checkpoints(fold).begun
    assert "starts again" not in run(*ARGS).stderr
    (found,) = Path("runs").glob(f"*/{fold.name.removesuffix('.partial')}/predictions.csv")
    assert found.read_text() == wanted


def drawn_as_in_an_earlier_version(file: Path) -> None:
    state = torch.load(file, weights_only=True)
    del state[checkpoint.DRAWN], state[checkpoint.CHECKSUM]
    torch.save({**state, checkpoint.CHECKSUM: checkpoint._checksum(state)}, file)


@pytest.mark.parametrize("stopped", [BY_ROW], indirect=True)
@pytest.mark.parametrize("earlier", [True, False])
def test_a_fold_whose_rows_were_changed_in_another_way_begins_anew_with_a_line(
    run: Callable[..., Result], stopped: tuple[Path, str], earlier: bool
) -> None:
    fold, wanted = stopped
    if earlier:
        drawn_as_in_an_earlier_version(fold / "last.pt")
    assert run(*BY_ROW).stderr.count("random changes of another kind") == earlier
    (found,) = Path("runs").glob(f"*/{fold.name.removesuffix('.partial')}/predictions.csv")
    assert found.read_text() == wanted
    assert len((found.parent / "history.jsonl").read_text().splitlines()) == 2


def test_a_fold_whose_rows_are_changed_batch_by_batch_has_the_state_of_an_earlier_version(
    stopped: tuple[Path, str],
) -> None:
    fold, _ = stopped
    assert checkpoint.DRAWN not in torch.load(fold / "last.pt", weights_only=True)


def test_the_index_of_a_fold_holds_the_digests_of_its_files(
    run: Callable[..., Result], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ser_pipeline.runs.shapes import IndexFile, read_shape

    monkeypatch.setenv("SER_PIPELINE_CACHE", str(cache))
    whole = Path(run(*ARGS).stdout.strip().splitlines()[-1])
    for folder in (file.parent for file in whole.glob("*/predictions.csv")):
        files = read_shape(folder / "index.json", IndexFile).files
        assert set(files) == {path.name for path in folder.iterdir() if path.is_file()} - {"index.json"}
        assert all(file_digest(folder / name) == digest for name, digest in files.items())
