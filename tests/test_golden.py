"""Keys, shards and predictions that refactoring must not change.

They are in `tests/support/data/golden.json`. After an intended change, `python tests/test_golden.py` updates them.
"""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from support.places import DATA

GOLDEN = DATA / "golden.json"
PRESETS = ("paper", "reference", "scratch", "demo")
TRAIN = ("train", "--device", "cpu", "--set", "train.precision=fp32")  # "auto" depends on the processor

Command = Callable[..., Result]


def golden(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(GOLDEN.read_text(encoding="utf-8"))[name]
    return found


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute keys without the hashes of pre-trained weights, which are not available here."""
    monkeypatch.setattr("ser_pipeline.training.plan.pretrained", lambda config, known: {})


def feature_keys_alone(*corpus: str) -> dict[str, list[str]]:
    """Run `feature_keys` in a process with the same order of summation on every processor: last digits depend on it."""
    order = {**os.environ, "OPENBLAS_CORETYPE": "Haswell"}
    done = subprocess.run(
        [sys.executable, __file__, "keys", *corpus], env=order, check=True, capture_output=True, text=True
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def feature_keys(run: Command, corpus: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the names of the features folder and of its stores, by preset."""
    found = {}
    for preset in PRESETS:
        folder = Path(run("features", *corpus, "--jobs", "1", "--preset", preset).stdout.strip())
        found[preset] = [folder.name, *sorted(path.name for path in folder.iterdir() if path.is_dir())]
    return found


def run_keys(run: Command, corpus: str) -> dict[str, list[str]]:
    """Return the names of the runs that `train` would create, by preset and protocol."""
    found = {}
    for preset in PRESETS:
        for more in (("--ablation", "all"), ("--protocol", "group-2"), ("--selection", "reference")):
            lines = run(*TRAIN, "--corpus", corpus, "--preset", preset, *more, "--dry-run").stdout.splitlines()
            found[" ".join([preset, *more])] = sorted({line.split("\t")[0] for line in lines})
    return found


def lost_keys(before: object, now: dict[str, list[str]]) -> dict[str, set[str]]:
    """Return runs that were planned before and are no longer; additional rows of the ablation table are allowed."""
    assert isinstance(before, dict)
    return {name: lost for name, runs in before.items() if (lost := set(runs) - set(now[name]))}


def shard_digests(folder: Path) -> dict[str, str]:
    """Return a digest of every shard of a features folder; the names contain the stores' keys, which may change."""
    files = sorted(folder.glob("*/*.h5"))
    return {f"{file.parent.name}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def predictions(run: Command) -> dict[str, list[str]]:
    """Return log-probabilities of every utterance of the demo after two epochs of two folds.

    With small steps, because Adam enlarges the last digits, which differ between processors, to steps of the full
    learning rate; without dropout, because torch chooses how to draw it by the processor.
    """
    short = ("--preset", "demo", "--protocol", "group-2", "--jobs", "1")
    changes = ("train.epochs=2", "train.lr=1e-4", "model.dropout=0", "model.lstm_dropout=0")
    settings = [word for change in changes for word in ("--set", change)]
    folder = Path(run(*TRAIN, "--corpus", "demo", *short, *settings).stdout.strip().splitlines()[-1])
    found = {}
    for file in sorted(folder.glob("*/predictions.csv")):
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                found[row["id"]] = [value for name, value in row.items() if name.startswith("log_p:")]
    return found


def vector_machine() -> bool:
    """Return whether numba compiles for the widest vectors, which were used for the golden sums."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and bool(re.search(r"\bavx512f\b", cpuinfo.read_text(encoding="utf-8")))


@pytest.mark.slow(reason="extracts under four presets and trains two folds")
def test_the_demo_keeps_its_keys_shards_and_predictions(run: Command) -> None:
    wanted = golden("demo")
    assert feature_keys_alone("demo") == wanted["features"]
    assert lost_keys(wanted["runs"], run_keys(run, "demo")) == {}
    if vector_machine():
        assert shard_digests(next(Path("cache/features").glob("demo-*"))) == wanted["shards"]
    found, before = predictions(run), wanted["predictions"]
    assert isinstance(before, dict)
    assert list(found) == list(before)
    for name, values in found.items():
        np.testing.assert_allclose(np.array(values, float), np.array(before[name], float), atol=2e-4, err_msg=name)


@pytest.mark.slow(reason="extracts EMO-DB under four presets")
def test_emodb_keeps_its_keys(run: Command, emodb: Path) -> None:
    wanted = golden("emodb")
    assert feature_keys(run, ("emodb", str(emodb))) == wanted["features"]
    assert lost_keys(wanted["runs"], run_keys(run, "emodb")) == {}


def command(*args: str) -> Result:
    """Return the command's result; the script ends if the command fails."""
    from ser_pipeline.cli import main

    result = CliRunner().invoke(main, list(args))
    if result.exit_code:
        raise SystemExit(result.stderr)
    return result


def write() -> None:
    """Write `golden.json` from the current code's results."""
    from ser_pipeline.training import plan

    plan.pretrained = lambda config, known: {}

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        found = {"demo": {"features": feature_keys_alone("demo"), "runs": run_keys(command, "demo")}}
        found["demo"]["shards"] = shard_digests(next(Path("cache/features").glob("demo-*")))  # type: ignore[assignment]
        found["demo"]["predictions"] = predictions(command)
        emodb = os.environ["SER_PIPELINE_EMODB"]
        found["emodb"] = {"features": feature_keys(command, ("emodb", emodb)), "runs": run_keys(command, "emodb")}
        GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["keys"]:
        print(json.dumps(feature_keys(command, tuple(sys.argv[2:]))))
    else:
        write()
