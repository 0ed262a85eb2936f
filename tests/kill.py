"""Manual kill test: `python -m tests.kill --kills 100 --folder DIR`.

Commands are started in turn and killed at a random moment. After each kill, shards and predictions must be
byte-identical to those of an undisturbed run, at the latest after the command has been run again. The folder that
`export` writes must be complete or absent. `DIR/kills.json` keeps the counts; the same command resumes from them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from support.killed import TINY, begun, held, run_command
from support.results import exported, predictions, shards
from support.sounds import write_emodb

TRAIN = ["train", "--accept", "counts", "--preset", "demo", "--protocol", "group-2", "--jobs", "1", "--quiet"]
TRAIN += [word for setting in (*TINY, "train.epochs=2") for word in ("--set", setting)]
MODEL = "model"
"""Folder that `export` writes."""

OFTEN = 4
"""Number of kills of a command after which it is run to its end."""


def main() -> None:
    """Kill commands until the requested number of kills; prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="total number of kills, including earlier calls")
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    calm, work = options.folder.resolve() / "calm", options.folder.resolve() / "work"
    commands = _commands(calm)
    took = {}
    for name, args in commands.items():
        _take_back(calm, name)
        took[name] = _finish(calm, args)
    if not work.exists():
        shutil.copytree(calm, work)
    wanted, model = (shards(calm), predictions(calm)), exported(calm / MODEL)
    assert all((*wanted, model)), "there is nothing that a kill could damage"
    file = options.folder / "kills.json"
    counts = json.loads(file.read_text(encoding="utf-8")) if file.exists() else dict.fromkeys(commands, 0)
    rng = random.Random(sum(counts.values()))
    while sum(counts.values()) < options.kills:
        for name, args in commands.items():
            if name == "export" or rng.random() < 0.5:
                _take_back(work, name)
            counts[name] += _killed(work, args, rng.uniform(0, took[name]))
            file.write_text(json.dumps(counts), encoding="utf-8")
            assert exported(work / MODEL) in ({}, model), f"the model folder is incomplete; see {work}"
            if name in ("features", "train") or counts[name] % OFTEN == 0:
                shutil.rmtree(work / MODEL, ignore_errors=True)
                _finish(work, args)
            assert (shards(work), predictions(work)) == wanted, f"{name} lost data; see {work}"
            left = [place.name.startswith(f"{MODEL}.") for place in work.rglob("*.partial")]
            assert left in ([], [True]), f"{name} left unfinished files; see {work}"
    print(json.dumps({"kills": sum(counts.values()), **counts}))


def _take_back(work: Path, name: str) -> None:
    """Delete the results of a command, so that it has work to do."""
    if made := {"features": "cache", "train": "runs", "export": MODEL}.get(name):
        shutil.rmtree(work / made, ignore_errors=True)


def _commands(calm: Path) -> dict[str, list[str]]:
    """Create the corpus, features and a run in `calm`; returns command name -> arguments."""
    calm.mkdir(parents=True, exist_ok=True)
    corpus = calm.parent / "corpus"
    if not corpus.exists():
        write_emodb(corpus, speakers=2, takes=5)
    features = ["features", "emodb", str(corpus), "--jobs", "1", "--quiet"]
    for args in (features, TRAIN):
        _finish(calm, args)
    (run,) = (calm / "runs").glob("emodb-*")
    return {
        "features": features,
        "train": TRAIN,
        "report": ["report", "--quiet"],
        "cache verify": ["cache", "verify", "--quiet"],
        "cache prune": ["cache", "prune", "--yes"],
        "predict": ["predict", str(run), str(min(corpus.rglob("*.wav"))), "--device", "cpu", "--quiet"],
        "export": ["export", str(run), MODEL, "--quiet"],
    }


def _finish(folder: Path, args: list[str]) -> float:
    """Run a command to its end; returns the seconds that it took."""
    began = time.monotonic()
    status, said = held(folder, *args)
    assert status == 0, said
    return time.monotonic() - began


def _killed(folder: Path, args: list[str], after: float) -> bool:
    """Start a command and kill it after `after` seconds; returns whether it was still running."""
    process = begun(run_command, folder, args)
    process.join(after)
    alive = process.is_alive()
    if alive:
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    return alive


if __name__ == "__main__":
    main()
