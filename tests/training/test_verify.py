"""`verify` detects a changed run, and the report excludes it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from safetensors.torch import load_file, save_file

from ser_pipeline.entry import file_digest
from ser_pipeline.predict.again import predicted_again
from support.reducing import TINY
from support.stores import registered

ARGS = ["train", "--preset", "demo", "--jobs", "1", *(word for setting in TINY for word in ("--set", setting))]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registered(tmp_path_factory.mktemp("verify"), speakers=3, takes=2)


@pytest.fixture(scope="module")
def trained(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of `train`."""
    from ser_pipeline.training.stage import train

    runs = tmp_path_factory.mktemp("trained")
    (folder,) = train(preset="demo", overrides=TINY, jobs=1, cache=cache, runs=runs, device="cpu")
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """Copy the run so that it can be changed."""
    return Path(shutil.copytree(trained, tmp_path / "copy" / trained.name))


def rehash(folder: Path, name: str, text: str) -> None:
    """Write a file of a run and its hash into the index, as a forger would."""
    (folder / name).write_text(text)
    index = json.loads((folder / "index.json").read_text())
    index["files"][name] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("field", "value"),
    [("synthetic", True), ("seed", 7), ("protocol", "session"), ("precision", "other")],
)
def test_a_forged_description_contradicts_the_index_although_its_hash_is_right(
    run: Callable[..., Result], folder: Path, field: str, value: object
) -> None:
    said = json.loads((folder / "run.json").read_text())
    rehash(folder, "run.json", json.dumps(said | {field: value}))
    assert f"another {field}" in run("verify", folder, status=1).stdout
    assert f"another {field}" in run("report", "--runs-root", folder.parent, status=1).stderr


def test_forged_settings_contradict_the_index_although_their_hash_is_right(
    run: Callable[..., Result], folder: Path
) -> None:
    text = (folder / "config.toml").read_text()
    rehash(folder, "config.toml", text.replace("epochs = 2", "epochs = 3"))
    assert "other settings than its index.json" in run("verify", folder, status=1).stdout


def test_an_audit_may_be_accepted_and_not_rewritten(run: Callable[..., Result], folder: Path) -> None:
    audit = json.loads((folder / "audit.json").read_text())
    (folder / "audit.json").write_text(json.dumps(audit | {"accepted": ["counts"]}))
    run("verify", folder)
    (folder / "audit.json").write_text(json.dumps(audit | {"findings": [{"name": "none"}]}))
    assert "audit.json is not as train wrote it" in run("verify", folder, status=1).stdout


@pytest.mark.parametrize("name", ["nowhere", ".", "copy"])
def test_a_folder_that_is_no_run_is_called_so(run: Callable[..., Result], folder: Path, name: str) -> None:
    said = f"Error: {name} is not a run; `ser-pipeline train` prints the folders of runs\n"
    assert run("verify", name, status=1).stderr == said


def test_an_unfinished_run_is_called_so(run: Callable[..., Result], folder: Path) -> None:
    (folder / "index.json").unlink()
    said = run("verify", folder, status=1).stderr
    assert said == f"Error: cannot read {folder}/index.json: No such file or directory\n", "not a .partial"
    partial = folder.rename(folder.with_name(f"{folder.name}.partial"))
    said = f"Error: {partial} is unfinished; the same `ser-pipeline train` command continues it\n"
    assert run("verify", partial, status=1).stderr == said


def test_a_run_of_an_earlier_version_is_not_accused(run: Callable[..., Result], folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({name: index[name] for name in index if name != "files"}))
    assert "hashes of the files: an earlier version trained it" in run("verify", folder).stdout


def test_each_fold_of_recomputed_predictions_is_told(folder: Path, cache: Path) -> None:
    steps = list[tuple[int, int]]()
    predicted_again(folder, cache, "cpu", lambda *step: steps.append(step))
    folds = len(json.loads((folder / "run.json").read_text())["folds"])
    assert steps == [(number, folds) for number in range(folds)]


def test_other_weights_do_not_give_the_predictions(
    run: Callable[..., Result], folder: Path, cache: Path, tmp_path: Path
) -> None:
    ask = ("verify", folder, "--predictions", "--device", "cpu", "--cache")
    assert "largest difference" in run(*ask, cache).stdout
    assert "are not in" in run(*ask, tmp_path / "nowhere", status=1).stdout
    file = sorted(folder.glob("*/model.safetensors"))[-1]
    save_file({name: 1.5 * value for name, value in load_file(file).items()}, file)
    index = json.loads((file.parent / "index.json").read_text())
    index["files"][file.name] = file_digest(file)  # as if these were the trained ones
    (file.parent / "index.json").write_text(json.dumps(index))
    said = run(*ask, cache, status=1).stdout.splitlines()
    assert f"in fold {file.parent.name}" in said[-1] and said[-1].startswith("failed  predictions from the weights")


def test_what_is_changed_by_hand_is_found(
    run: Callable[..., Result], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(cache))
    folder = tmp_path / run(*ARGS).stdout.strip()
    shutil.copytree(folder, tmp_path / "kept")
    assert run("verify", folder, "--cache", cache, "--predictions").stdout.count("ok ") == 5
    for name in sorted(str(file.relative_to(folder)) for file in folder.rglob("*.*") if file.is_file()):
        if name in ("index.json", "audit.json") or "tensorboard" in name or ".locks" in name:
            continue
        with (folder / name).open("ab") as stream:
            stream.write(b"\n")
        assert name in run("verify", folder, status=1).stdout, name
        shutil.copy(tmp_path / "kept" / name, folder / name)
    said = json.loads((folder / "run.json").read_text()) | {"synthetic": True, "title": "Mine"}
    (folder / "run.json").write_text(json.dumps(said))
    assert "run.json is not as train wrote it" in run("report", status=1).stderr
    shutil.copy(tmp_path / "kept" / "run.json", folder / "run.json")
    run("report")
    renamed = folder.rename(folder.with_name(f"{folder.name[:-12]}0123456789ab"))
    assert "not that of its name" in run("verify", renamed, status=1).stdout


@pytest.mark.parametrize("field", ["synthetic", "seed"])
def test_without_its_hashes_a_run_is_still_held_against_its_key(
    run: Callable[..., Result], folder: Path, field: str
) -> None:
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({name: index[name] for name in index if name != "files"}))
    run("report", "--runs-root", folder.parent)
    said = json.loads(next(Path("reports").glob("*/results.json")).read_text())
    assert "no-hashes" in [one["name"] for one in said["findings"]]
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {field: {"synthetic": True, "seed": 7}[field]}))
    assert f"another {field}" in run("report", "--runs-root", folder.parent, status=1).stderr
