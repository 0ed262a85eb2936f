"""Kills by hand: `python -m tests.kill --seconds 600 --folder DIR`.

Every command is started and killed at a random moment, in turn; after each kill shards and predictions must be the
bytes of an undisturbed run, or become them when the command is run again. Counts stay in `DIR/kills.json`, from where
the same command goes on.
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

from support.killed import SERVER, TINY, held, run_command
from support.results import predictions, shards
from support.sounds import write_emodb

TRAIN = ["train", "--accept", "counts", "--preset", "demo", "--protocol", "group-2", "--jobs", "1", "--quiet"]
TRAIN += [word for setting in TINY for word in ("--set", setting)]
OFTEN = 4
"""Kills of a command after which it is run to its end."""


def main() -> None:
    """Kill until the time is over; prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    calm, work = options.folder.resolve() / "calm", options.folder.resolve() / "work"
    commands = _commands(calm)
    took = {name: _finish(calm, args) for name, args in commands.items()}
    if not work.exists():
        shutil.copytree(calm, work)
    wanted, file = (shards(calm), predictions(calm)), options.folder / "kills.json"
    counts = json.loads(file.read_text(encoding="utf-8")) if file.exists() else dict.fromkeys(commands, 0)
    rng, over = random.Random(sum(counts.values())), time.monotonic() + options.seconds
    while time.monotonic() < over:
        for name, args in commands.items():
            if name == "features" and rng.random() < 0.5:
                shutil.rmtree(work / "cache", ignore_errors=True)
            if name == "train" and rng.random() < 0.5:
                shutil.rmtree(work / "runs", ignore_errors=True)
            counts[name] += _killed(work, args, rng.uniform(0, took[name]))
            file.write_text(json.dumps(counts), encoding="utf-8")
            if name in ("features", "train") or counts[name] % OFTEN == 0:
                _finish(work, args)
            found = shards(work), predictions(work)
            assert found == wanted, f"{name} lost something; see {work}"
            assert not list(work.rglob("*.partial")), f"{name} left something unfinished; see {work}"
    print(json.dumps({"kills": sum(counts.values()), **counts}))


def _commands(calm: Path) -> dict[str, list[str]]:
    """Name -> arguments, once the corpus, features and a run of them are in `calm`."""
    calm.mkdir(parents=True, exist_ok=True)
    corpus = calm.parent / "corpus"
    if not corpus.exists():
        write_emodb(corpus, speakers=3, takes=5)
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
    }


def _finish(folder: Path, args: list[str]) -> float:
    """Run to the end; returns the seconds it took."""
    began = time.monotonic()
    status, said = held(folder, *args)
    assert status == 0, said
    return time.monotonic() - began


def _killed(folder: Path, args: list[str], after: float) -> bool:
    """Start a command and kill it `after` seconds; whether it still lived."""
    process = SERVER.Process(target=run_command, args=(folder, args))
    process.start()
    process.join(after)
    alive = process.is_alive()
    if alive:
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    return alive


if __name__ == "__main__":
    main()
