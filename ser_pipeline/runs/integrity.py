"""Whether the files of a finished run are as `train` wrote them: its key, and the hash of each."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ser_pipeline.entry import key, read_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs import layout
from ser_pipeline.runs.shapes import IndexFile, read_shape

CHEAP = (layout.RUN, layout.CONFIG, layout.FOLDS)
"""Files whose hashes a report compares; `verify` compares all."""

CHANGING = ("index.json", layout.AUDIT, layout.STATE, layout.ERROR)
"""Files without a hash: indexes, what `train --accept` may add to, and what only an unfinished fold has."""


def hashes(run: Path) -> dict[str, str]:
    """SHA-256, 64 hex digits, of every file of a run that is never written again, by its path below `run`."""
    files = [*run.glob("[!.]*"), *run.glob("[!.]*/[!.]*")]
    return {
        file.relative_to(run).as_posix(): _hash(file)
        for file in sorted(files)
        if file.is_file() and file.name not in CHANGING and not file.name.endswith(".tmp")
    }


def cheap_fault(run: Path) -> str:
    """What shows without reading more than a few files that a run is not as `train` left it; "" where nothing does."""
    known = read_shape(run / "index.json", IndexFile).files
    if not known:
        return ""  # of an earlier version, which kept no hashes
    return key_fault(run, read_json(run / "index.json")) or file_fault(run, known, CHEAP)


def key_fault(run: Path, index: dict[str, Any]) -> str:
    """What is wrong with the key in a run's name, against its settings and folds; "" where nothing is."""
    try:
        found = key(index["inputs"] | {"folds": read_json(run / layout.FOLDS)})
    except (PipelineError, KeyError, TypeError) as error:
        return f"its index.json or folds.json cannot be read ({error})"
    return (
        "" if run.name.endswith(f"-{found}") else f"its settings and folds make the key {found}, not that of its name"
    )


def file_fault(run: Path, known: dict[str, str], names: tuple[str, ...]) -> str:
    """Which of a run's files are not as they were; "" where all are.

    Args:
        run: folder of the run.
        known: the hash of each by its path below `run`.
        names: of those to look at.
    """
    changed = [name for name in names if name in known and not _is(run / name, known[name])]
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{changed[0]}{more} is not as train wrote it; train again in another --runs-root" if changed else ""


def _is(file: Path, wanted: str) -> bool:
    return file.is_file() and _hash(file) == wanted


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
