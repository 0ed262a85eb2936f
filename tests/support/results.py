"""Results in a working folder, to compare them with those of an undisturbed run."""

from pathlib import Path

import numpy as np
from click.testing import Result


def outputs(result: Result) -> tuple[str, str]:
    """Return what a command printed on stdout and on stderr."""
    return result.stdout, result.stderr


def shards(folder: Path) -> dict[str, bytes]:
    """Return path -> bytes of every shard of the cache below `folder`."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.glob("cache/features/*/*/*.h5"))}


def predictions(folder: Path) -> dict[str, object]:
    """Return fold -> predictions by utterance and segment, for all runs below `folder`."""
    found: dict[str, object] = {}
    for file in sorted(folder.glob("runs/*/*/predictions.csv")):
        with np.load(file.with_name("segments.npz")) as arrays:
            found[file.parent.name] = (file.read_text(), {name: arrays[name].tobytes() for name in arrays.files})
    return found


def exported(model: Path) -> dict[str, bytes]:
    """Return file -> bytes of a model folder without its card, which contains times; empty if there is no folder."""
    files = sorted(model.glob("*")) if model.is_dir() else []
    return {file.name: file.read_bytes() for file in files if file.name != "README.md"}
