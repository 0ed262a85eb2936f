"""Malformed files and read-only folders, as on users' disks and in incomplete copies."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SHAPES: Mapping[str, str] = {
    "an empty file": "",
    "half of an object": '{"folder": "emo',
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "an empty object": "{}",
    "lists in lists": "[" * 100_000,
    "a number of 5,000 digits": "9" * 5_000,
    "half of a character": '{"folder": "\\ud800", "root": "\\ud800"}',
}
"""JSON or almost JSON that no stage writes."""


def changed(file: Path, **values: Any) -> None:
    """Rewrite a JSON object with changed `values`."""
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8")


def rekeyed(folder: Path, **inputs: Any) -> Path:
    """Change the `inputs` in the index of a cache's folder, and rename the folder to their key."""
    from ser_pipeline.entry import key

    said = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    said["inputs"] |= inputs
    (folder / "index.json").write_text(json.dumps(said), encoding="utf-8")
    return folder.rename(folder.with_name(f"{folder.name.rpartition('-')[0]}-{key(said['inputs'])}"))


@contextmanager
def closed(source: Path) -> Iterator[Path]:
    """Yield a copy of the folder `source` that everyone can read and only the superuser can write."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / source.name
        shutil.copytree(source, place)
        for path in (Path(name), place, *place.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield place
        for path in (Path(name), place, *(path for path in place.rglob("*") if path.is_dir())):
            path.chmod(0o755)


def held_to_rights(*args: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that file permissions apply to, unlike the superuser's."""
    command = [sys.executable, "-m", "ser_pipeline.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=_without_override)


def _without_override() -> None:
    """Give up the superuser's right to override file permissions, from the next program on."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
