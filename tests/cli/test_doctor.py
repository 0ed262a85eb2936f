"""`doctor` finds every fault and says how to fix it."""

import json
import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from ser_pipeline import config, doctor
from ser_pipeline.locks import hold
from ser_pipeline.training.estimate import PRETRAINED, kind_of
from support.sounds import write_emodb

Usage = namedtuple("Usage", "total used free")


def checks(run: Callable[..., Result], *args: object, status: int = 0) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for check in json.loads(run("doctor", "--json", *args, status=status).stdout):
        found.setdefault(check["name"], []).append(check)
    return found


def test_every_part_is_looked_at_and_nothing_is_made(run: Callable[..., Result], tmp_path: Path) -> None:
    found = checks(run)
    assert {"versions", "extras", "processor", "weights", "ffmpeg", "cache", "disk", "locks"} <= set(found)
    assert "torch" in found["versions"][0]["found"]
    assert all(check["advice"] for part in found.values() for check in part if check["state"] != "ok")
    assert not [*tmp_path.iterdir()]


def test_missing_weights_say_how_to_have_them(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    encoder, *_, alexnet = checks(run)["weights"]
    assert encoder["state"] == alexnet["state"] == "warning"
    assert "hf download openai/whisper-tiny.en" in encoder["advice"]
    file = tmp_path / "torch/hub/checkpoints/alexnet-owt-7be5be79.pth"
    assert str(file.parent) in alexnet["advice"]
    file.parent.mkdir(parents=True)
    file.touch()
    assert checks(run)["weights"][-1]["state"] == "ok"


def test_advice_on_weights_and_gpus_stands_alone(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = checks(run)
    weights = {check["found"].split(" (")[0]: check for check in found["weights"]}
    assert "facebook/wav2vec2-base (preset paper): missing" in weights["facebook/wav2vec2-base"]["found"]
    assert "AlexNet (presets paper, reference): missing" in weights["AlexNet"]["found"]
    for name, check in weights.items():
        assert "nothing if there is a network at the first use" in check["advice"]
        assert ("run now: hf download " + name in check["advice"]) == (name != "AlexNet")
    (gpu,) = found["GPU"]
    assert "frozen, scratch and demo, which need no GPU" in gpu["advice"]
    needing = [name for name in config.presets() if kind_of(config.load(name)) == PRETRAINED]
    assert all(name in gpu["advice"].rpartition("presets")[2] for name in needing)


def test_a_full_disk_is_an_error(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(1e12, 1e12, 2e9))
    assert {check["state"] for check in checks(run)["disk"]} == {"warning"}
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(1e12, 1e12, 2e8))
    assert {check["state"] for check in checks(run, status=1)["disk"]} == {"error"}


def test_a_cache_that_cannot_be_written_is_an_error(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    (check,) = checks(run, status=1)["cache"]
    assert "is not writable" in check["found"]


def test_features_and_what_is_unfinished_are_told(run: Callable[..., Result], tmp_path: Path) -> None:
    run("features", "emodb", write_emodb(tmp_path / "corpus"), "--feature", "mfcc", "--jobs", 1)
    (check,) = checks(run)["cache"]
    assert check["state"] == "ok" and "1 set of features" in check["found"]
    (tmp_path / "cache/features/emodb-0123456789ab.partial").mkdir()
    (tmp_path / "runs/emodb-speaker-full-s0-0123456789ab.partial").mkdir(parents=True)
    found = checks(run)
    assert "cache prune" in found["cache"][0]["advice"]
    assert "`train`" in found["runs"][0]["advice"]


def test_who_holds_a_lock_is_told(run: Callable[..., Result], tmp_path: Path) -> None:
    with hold(tmp_path / "runs/emodb-speaker-full-s0-0123456789ab"):
        assert f"process {os.getpid()}" in checks(run)["locks"][0]["found"]
    assert checks(run)["locks"][0]["found"] == "no process is at work"


def test_a_requirement_that_is_not_met_is_named() -> None:
    wrong, extras = doctor.unmet(["numpy>=1", "click>=999", "no-such-thing-at-all", 'onnx>=999; extra == "onnx"'])
    assert wrong == ["click>=999", "no-such-thing-at-all"]
    assert extras == {"onnx": ["onnx>=999"]}


def test_a_check_that_fails_itself_is_an_error(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(doctor, "shared_parts", broken)
    assert checks(run, status=1)["locks"] == [
        {"name": "locks", "state": "error", "found": "the disk is gone", "advice": ""}
    ]


def test_the_table_says_what_is_amiss_below_it(run: Callable[..., Result]) -> None:
    said = run("doctor").stdout
    assert said.splitlines()[-1].startswith("the installation works; ")
    assert "to do: " in said
    assert sys.version.split()[0] in said
