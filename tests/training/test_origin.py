"""A run records its origin; what is published of it contains no paths."""

import ast
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from click.testing import Result

from ser_pipeline import config, provenance
from ser_pipeline.cache import manifest
from ser_pipeline.entry import key
from support.places import ROOT
from support.reducing import TINY
from support.stores import registered

SECRET = "somewhere private"
"""A folder's name with a space, which nothing published may contain."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the features of a small corpus."""
    folder = tmp_path_factory.mktemp("origin") / SECRET
    registered(folder, speakers=3, takes=1)
    return folder


def train(run: Callable[..., Result], place: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Path:
    """Train a small model in `place` by a command that contains its absolute path."""
    words = ["train", "--preset", "demo", "--jobs", "1", "-q"]
    words += ["--cache", str(place / "cache"), "--runs-root", str(place / "runs")]
    words += [word for setting in (*TINY, *more) for word in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ser-pipeline", *words])
    provenance.here.cache_clear()
    return Path(run(*words).stdout.strip())


def edit(folder: Path, name: str, change: Callable[[str], str]) -> None:
    """Change a file of a run and its hash."""
    (folder / name).write_text(change((folder / name).read_text()))
    index = json.loads((folder / "index.json").read_text())
    index["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.slow(reason="trains three folds")
def test_a_run_says_where_it_comes_from(
    run: Callable[..., Result], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train(run, place, monkeypatch)
    index, about = (json.loads((folder / name).read_text()) for name in ("index.json", "run.json"))
    made = index["made"]
    assert made["command"] == [provenance.command()] and str(place) in made["command"][0]
    assert made["source"] == [provenance.source_hash(ROOT / "ser_pipeline")]
    assert made["processor"][0] and made["threads"] == [1] and made["device"] == ["cpu"]
    assert about["started"] <= index["ended"] and index["seconds"] >= 0
    assert (
        about["manifest"]
        == manifest.read(next((place / "cache" / "features").glob("emodb-*[!l]"))).inputs["utterances"]
    )
    assert index["files"]["contents.csv"] == hashlib.sha256((folder / "contents.csv").read_bytes()).hexdigest()
    assert index["versions"]["libsndfile"] == soundfile.__libsndfile_version__
    for fold in about["folds"]:
        assert json.loads((folder / fold / "index.json").read_text())["made"]["command"] == made["command"][0]


def keyed_anew(folder: Path) -> Path:
    """Give a run with changed settings its new key; returns its folder."""
    index = json.loads((folder / "index.json").read_text())
    text = (folder / "config.toml").read_text()
    index["inputs"]["config"] = config.keyed(config.loads(text, "config.toml"))
    (folder / "index.json").write_text(json.dumps(index))
    made = key(index["inputs"] | {"folds": json.loads((folder / "folds.json").read_text())})
    return folder.rename(folder.with_name(f"{folder.name[:-12]}{made}"))


@pytest.mark.slow(reason="trains three folds, reports on them and exports them")
def test_what_is_published_names_no_folder_of_the_machine(
    run: Callable[..., Result], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train(run, place, monkeypatch, "train.epochs=3")
    damaged = folder.with_name(f"{folder.name[:-12]}0123456789ab")
    damaged.mkdir()
    (damaged / "run.json").write_text("{")
    edit(folder, "config.toml", lambda text: re.sub('(spectrogram_weights =) ".*"', rf'\1 "{place}/a.pth"', text))
    folder = keyed_anew(folder)
    encoders = {"speech": {"content": "c" * 32, "revision": "d" * 40}}
    edit(folder, "run.json", lambda text: json.dumps(json.loads(text) | {"encoders": encoders}))
    audit = json.loads((folder / "audit.json").read_text())
    told = {"severity": "warning", "name": "file", "message": f"{place}/corpus/a b.wav and '/data/x y/z.wav' are odd"}
    (folder / "audit.json").write_text(json.dumps(audit | {"findings": [told]}))
    run("report", "--runs-root", place / "runs", "--reports", place / "reports")
    run("export", folder, place / "model")
    files = [*(place / "reports").rglob("*.*"), *(place / "model").rglob("*.*")]
    texts = {file.relative_to(place): file.read_bytes() for file in files if file.is_file()}
    assert {file.suffix for file in texts} >= {".html", ".json", ".csv", ".tex", ".md", ".safetensors"}
    for file, content in texts.items():
        assert SECRET.encode() not in content, file
        assert str(place.parent).encode() not in content, file
        assert b"/data/x" not in content, file
    said = json.loads(next((place / "reports").rglob("results.json")).read_text())["origins"][0]
    assert said["run"] == folder.name and said["made"]["source"] and "--cache cache" in said["made"]["command"][0]
    page = next((place / "reports").glob("*/index.html")).read_text()
    for fact in (*said["made"]["source"], said["manifest"], said["contents"], "a b.wav", "c" * 32, "d" * 40):
        assert fact in page


def test_a_checkout_says_its_commit_and_whether_the_source_differs(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("a = 1\n")
    (tmp_path / "notes.txt").write_text("")
    assert provenance.checkout(package) == {}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    before = provenance.source_hash(package)
    (tmp_path / "notes.txt").write_text("not of the package")
    assert provenance.checkout(package) == {"commit": head, "modified": False}
    (package / "b.py").write_text("")
    assert provenance.checkout(package) == {"commit": head, "modified": True}
    assert provenance.source_hash(package) != before
    assert provenance.checkout(tmp_path / "elsewhere" / "package") == {}


NO_NUMBERS = {
    "filelock",
    "hdf5plugin",
    "huggingface_hub",
    "joblib",
    "mlflow",
    "safetensors",
    "tensorboard",
    "threadpoolctl",
}
"""Libraries of these modules that handle bytes and processes and never change numbers, with those of the next line."""
NO_NUMBERS |= {"mlflow", "tomli_w", "xxhash"}

ROOMS = ("audio.py", "cache", "data", "device.py", "evaluation", "features", "model", "splits", "training")
"""Modules and sub-packages that compute numbers, from audio to scores."""


def test_every_library_that_touches_numbers_has_its_version_in_a_run() -> None:
    files = [
        file for room in ROOMS for file in (ROOT / "ser_pipeline" / room, *(ROOT / "ser_pipeline" / room).rglob("*.py"))
    ]
    found = set()
    for file in (file for file in files if file.is_file()):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.partition(".")[0] for name in names}
    known = {{"scikit-learn": "sklearn"}.get(name, name) for name in provenance.LIBRARIES}
    assert {"numpy", "soxr", "numba"} <= found
    assert found - set(sys.stdlib_module_names) - NO_NUMBERS - {"ser_pipeline", ""} <= known
    for name in ("torch", "numba", "soxr", "librosa"):
        assert provenance.versions()[name]
