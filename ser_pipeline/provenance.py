"""Provenance of a result: the state of the source, the command line, the host and its libraries."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ser_pipeline import __version__
from ser_pipeline.processes import cores

LIBRARIES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "h5py",
    "librosa",
    "numba",
    "llvmlite",
    "soundfile",
    "soxr",
    "opensmile",
    "torch",
    "torchvision",
    "transformers",
    "peft",
    "triton",
)
"""Packages that may affect results; those that are not installed are left out."""

SOURCE = Path(__file__).parent
"""The package's folder."""

CODE = (".py", ".toml")
"""Suffixes of the package's files that affect results."""

GIT_SECONDS = 20
"""Timeout of git in seconds."""

Fact = str | int | bool
"""The value of one fact about a result."""


@lru_cache
def versions() -> dict[str, str]:
    """Return the versions of the code and of the libraries that a result may depend on."""
    found = {"ser-pipeline": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    with suppress(ImportError, OSError):
        import soundfile

        found["libsndfile"] = soundfile.__libsndfile_version__
    return found


@lru_cache
def here() -> dict[str, Fact]:
    """Describe this process, as of the first call.

    The facts are the `command` line; `source`, the SHA-256 of the package's files; in a checkout its `commit`, and
    whether the source was `modified` since; `system`, `processor`, and the `cores` that the process may use.
    """
    host: dict[str, Fact] = {"system": platform.platform(), "processor": processor(), "cores": cores()}
    return {"command": command(), "source": source_hash(SOURCE), **checkout(SOURCE), **host}


def now() -> str:
    """Return the time in UTC, to the second: `2026-01-31T12:00:00+00:00`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def command() -> str:
    """Return the command line of this process, quoted for a shell, without the program's folder."""
    program = Path(sys.argv[0])
    name = "ser-pipeline" if program.stem in ("ser-pipeline", "__main__") else program.name
    return shlex.join([name, *sys.argv[1:]])


def source_hash(folder: Path) -> str:
    """Return the SHA-256, 64 hex digits, of the names and contents of a package's files, without the folder `cli`."""
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*.*"), key=lambda file: file.relative_to(folder).as_posix()):
        place = file.relative_to(folder)
        if file.suffix in CODE and place.parts[0] != "cli":
            data = file.read_bytes()
            found.update(f"{place.as_posix()} {len(data)}\n".encode())
            found.update(data)
    return found.hexdigest()


def checkout(folder: Path) -> dict[str, Fact]:
    """Return the `commit` of the git checkout of the package `folder`, and whether it is `modified`; {} without one.

    A package that is installed inside another project's checkout has none.
    """
    if not (folder.parent / ".git").exists():
        return {}
    commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--", folder.name)
    return {"commit": commit, "modified": bool(changes)} if commit and changes is not None else {}


def _git(folder: Path, *words: str) -> str | None:
    """Return git's output for the checkout that contains `folder`; None if git fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    line = ["git", "--no-optional-locks", "-C", str(folder.parent), *words]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            line, capture_output=True, text=True, check=True, env=environment, timeout=GIT_SECONDS, errors="replace"
        )
        return done.stdout.strip()
    return None


def processor() -> str:
    """Return the name of the host's CPU."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if match := re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", text, re.MULTILINE):
            return match[1].strip()
    with suppress(OSError, subprocess.SubprocessError):
        line = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(line, capture_output=True, text=True, check=True, timeout=GIT_SECONDS).stdout.strip()
    return platform.processor() or platform.machine()


def together(parts: Iterable[Mapping[str, Fact]]) -> dict[str, list[Fact]]:
    """Return the distinct values of every fact over the parts of a result, sorted.

    >>> together([{"cores": 2, "device": "cpu"}, {"cores": 8, "device": "cpu"}, {}])
    {'cores': [2, 8], 'device': ['cpu']}
    """
    found: dict[str, set[Fact]] = {}
    for part in parts:
        for name, value in part.items():
            found.setdefault(name, set()).add(value)
    return {name: sorted(values, key=lambda value: (str(type(value)), value)) for name, values in found.items()}
