"""The recipes of docs/extend.md, applied to a copy of the code as printed."""

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.places import ROOT
from support.served import serving
from support.sounds import write_emodb

BLOCK = re.compile(r"<!-- (new|into|replace): (\S+)(?: (?:before|old): (.*?))? -->\n```\w+\n(.*?)```", re.DOTALL)
TINY = ("model.small_width=8", "model.small_layers=1", "train.batch=8", "train.lr=1e-3", "model.width=16")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Copy"]:
    """Copy the package, apply every recipe, and write a small corpus next to it."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "ser_pipeline", folder / "ser_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "cli", folder / "ser_pipeline" / "cli", ignore=shutil.ignore_patterns("__pycache__"))
    touched = set()
    for kind, name, anchor, text in BLOCK.findall((ROOT / "docs" / "extend.md").read_text(encoding="utf-8")):
        file, anchor = folder / name, anchor.replace("\\n", "\n")
        touched.add(name)
        if kind == "new":
            file.write_text(text, encoding="utf-8")
            continue
        before = file.read_text(encoding="utf-8")
        assert before.count(anchor) == 1, f"{anchor!r} occurs {before.count(anchor)} times in {name}"
        after = text + anchor if kind == "into" else text.rstrip("\n")
        file.write_text(before.replace(anchor, after), encoding="utf-8")
    assert {name for name in touched if "bark" in name or name.endswith("inputs.py")} == {
        "ser_pipeline/features/bark.py",
        "ser_pipeline/inputs.py",
    }
    write_emodb(folder / "corpus", speakers=3, takes=2)
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "SER_PIPELINE_CACHE": "cache"}
    with serving(environment, folder) as words:
        yield Copy(folder, words, environment)


@dataclass(frozen=True)
class Copy:
    """A copy of the package in a folder, and its command line."""

    folder: Path
    words: Sequence[str]
    environment: Mapping[str, str]

    def __truediv__(self, name: str | Path) -> Path:
        return self.folder / name


def run(copy: Copy, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the copy's command."""
    command, where = [*copy.words, *arguments], {"cwd": copy.folder, "env": copy.environment}
    done = subprocess.run(command, **where, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done


def options(*pairs: str) -> list[str]:
    return ["--preset", "demo", *(word for pair in (*TINY, *pairs) for word in ("--set", pair))]


PART = ("--accept", "counts")  # a few utterances are not all of EMO-DB, which must be accepted
BARK = ('model.inputs=["bark", "waveform"]', "features.bark.bands=24", "model.segments=2", "augment.speed=0")


@pytest.mark.slow(reason="extracts and trains on a copy of the project")
def test_an_input_is_a_function_and_a_row(copy: Copy) -> None:
    features = Path(run(copy, "features", "emodb", "corpus", *options(*BARK), "--quiet").stdout.strip())
    assert [path.name.partition("-")[0] for path in (copy / features).glob("bark-*")] == ["bark"]
    changes = ("augment.gain=6", "augment.noise=0.5", "augment.frame_masks=1", "augment.bin_masks=1")
    train = ["train", "--jobs", "1", *PART, *options(*BARK, *changes, "train.epochs=2"), "--quiet"]
    said = run(copy, "train", *options(*BARK[:-1], "augment.speed=0.1"), status=1).stderr
    assert "augment.speed cannot be applied to bark; turn it off: --set augment.speed=0" in said
    folder = copy / run(copy, *train).stdout.strip()
    stored = (folder / "03" / "predictions.csv").read_text(encoding="utf-8")
    assert len(list(csv.DictReader(stored.splitlines()))) == 8
    shutil.rmtree(folder / "03")  # the missing fold is trained again, the others are kept
    (folder / "index.json").unlink()
    folder.rename(folder.with_name(folder.name + ".partial"))
    again = copy / run(copy, *train).stdout.strip()
    assert again == folder and (folder / "03" / "predictions.csv").read_text(encoding="utf-8") == stored
    run(copy, "report", "--quiet")
    page = next((copy / "reports").glob("*/index.html")).read_text(encoding="utf-8")
    assert "Bark" in page and "another utterance" in page
    results = json.loads(next((copy / "reports").glob("*/results.json")).read_text(encoding="utf-8"))
    assert "bark" in json.dumps(results)


def test_an_input_has_limits(copy: Copy) -> None:
    said = run(copy, "features", "emodb", "corpus", *options("features.bark.bands=1000"), status=2).stderr
    assert said.strip().endswith("setting 'features.bark.bands' must be 2 to 64, not 1000")


def test_an_encoder_is_a_module_and_a_name(copy: Copy) -> None:
    pairs = ('model.inputs=["spectrogram"]', "model.spectrogram_encoder=average", "train.epochs=1", "augment.speed=0")
    run(copy, "features", "emodb", "corpus", "--quiet")
    folder = copy / run(copy, "train", "--jobs", "1", *PART, *options(*pairs), "--quiet").stdout.strip()
    assert (folder / "03" / "result.json").is_file()


@pytest.mark.slow(reason="extracts and trains on a copy of the project")
def test_a_protocol_an_ablation_and_a_setting_are_a_row_each(copy: Copy) -> None:
    run(copy, "features", "emodb", "corpus", "--quiet")
    said = run(copy, "train", *PART, "--protocol", "first-speaker", *options("train.sharpness=2"), "--dry-run").stdout
    assert [line.split("\t")[1] for line in said.splitlines()] == ["03"]
    assert "must be 0.1 to 10 nats" in run(copy, "train", *options("train.sharpness=99"), "--dry-run", status=2).stderr
    own = ("--config", "own.toml", "--ablation", "narrow,smooth")
    said = run(copy, "train", *PART, *own, *options(), "--dry-run").stdout
    assert {line.split("-speaker-")[1].split("-s0")[0] for line in said.splitlines()} == {"narrow", "smooth"}
