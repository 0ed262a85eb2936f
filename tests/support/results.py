"""What a folder of work came to, for comparing it with that of an undisturbed one."""

from pathlib import Path

import numpy as np


def shards(folder: Path) -> dict[str, bytes]:
    """Path -> bytes of every shard of the cache below `folder`."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.glob("cache/features/*/*/*.h5"))}


def predictions(folder: Path) -> dict[str, object]:
    """Fold -> what every run below `folder` predicts, by utterance and segment."""
    found: dict[str, object] = {}
    for file in sorted(folder.glob("runs/*/*/predictions.csv")):
        with np.load(file.with_name("segments.npz")) as arrays:
            found[file.parent.name] = (file.read_text(), {name: arrays[name].tobytes() for name in arrays.files})
    return found


def exported(model: Path) -> dict[str, bytes]:
    """File -> bytes of a model folder but for its card, which tells times; empty where there is none."""
    files = sorted(model.glob("*")) if model.is_dir() else []
    return {file.name: file.read_bytes() for file in files if file.name != "README.md"}
