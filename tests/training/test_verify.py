"""A run that is not as `train` left it is found by `verify`, and the report leaves it out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from support.reducing import TINY
from support.stores import registered

ARGS = ["train", "--preset", "demo", "--jobs", "1", *(word for setting in TINY for word in ("--set", setting))]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registered(tmp_path_factory.mktemp("verify"), speakers=3, takes=2)


def test_what_is_changed_by_hand_is_found(
    run: Callable[..., Result], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(cache))
    folder = tmp_path / run(*ARGS).stdout.strip()
    shutil.copytree(folder, tmp_path / "kept")
    assert run("verify", folder).stdout.count("ok ") == 3
    for name in sorted(str(file.relative_to(folder)) for file in folder.rglob("*.*") if file.is_file()):
        if name.endswith("index.json") or name == "audit.json" or "tensorboard" in name or ".locks" in name:
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
