"""Checks that the files of a finished run are as `train` wrote them, by its key and the hash of each file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ser_pipeline.config import keyed, loads
from ser_pipeline.corpora import CORPORA
from ser_pipeline.entry import key, read_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs import layout
from ser_pipeline.runs.records import read_text
from ser_pipeline.runs.shapes import IndexFile, read_run_file, read_shape

CHEAP = (layout.RUN, layout.CONFIG, layout.FOLDS)
"""Files whose hashes a report checks; `verify` checks those of all files."""

CHANGING = (layout.STATE, layout.ERROR)
"""Files of unfinished folds, which have no hash; neither has the run's index, which contains the hashes."""


def hashes(run: Path) -> dict[str, str]:
    """Return the SHA-256, 64 hex digits, of every file of a run that is final, by its path relative to `run`."""
    files = [*run.glob("[!.]*"), *run.glob("[!.]*/[!.]*")]
    return {
        file.relative_to(run).as_posix(): _hash(file)
        for file in sorted(files)
        if file.is_file()
        if file.name not in CHANGING and file != run / "index.json" and not file.name.endswith(".tmp")
    }


def cheap_fault(run: Path) -> str:
    """Return how a run differs from what `train` wrote, found by reading only a few small files; "" if it does not."""
    known = read_shape(run / "index.json", IndexFile).files
    index = read_json(run / "index.json")
    if not known and not index.get("inputs"):
        return ""  # an earlier version wrote it without anything to compare
    return key_fault(run, index) or file_fault(run, known, CHEAP) or settings_fault(run, index)


def key_fault(run: Path, index: dict[str, Any]) -> str:
    """Return how the key in a run's name contradicts its settings and folds, or ""."""
    try:
        found = key(index["inputs"] | {"folds": read_json(run / layout.FOLDS)})
    except (PipelineError, KeyError, TypeError) as error:
        return f"its index.json or folds.json cannot be read ({error})"
    return (
        "" if run.name.endswith(f"-{found}") else f"its settings and folds have the key {found}, not that of its name"
    )


def settings_fault(run: Path, index: dict[str, Any]) -> str:
    """Return how `config.toml` and `run.json` differ from the inputs of the key in `index.json`, or ""."""
    try:
        config = loads(read_text(run / layout.CONFIG), f"{run.name}/{layout.CONFIG}")
        said, made = read_run_file(run), index["inputs"]
        if json.loads(json.dumps(keyed(config))) != made["config"]:
            return f"its {layout.CONFIG} has other settings than its index.json"
        wanted = {
            "features": "+".join(made["features"]),
            "protocol": made["protocol"],
            "ablation": made["ablation"],
            "pretrained": made.get("pretrained", {}),
            "seed": config.seed,
            "precision": config.train.precision,
            "folds": tuple(index["folds"]),
            "synthetic": any(CORPORA[name].synthetic for name in said.corpus.split("+") if name in CORPORA),
        }
    except (PipelineError, KeyError, TypeError) as error:
        return f"its {layout.CONFIG}, {layout.RUN} or index.json cannot be read ({error})"
    other = [name for name, value in wanted.items() if getattr(said, name) != value]
    if not run.name.startswith(f"{said.corpus}-{said.protocol}-{said.ablation}-s{said.seed}-"):
        other.append("name")
    return f"its {layout.RUN} has another {', '.join(other)} than its index.json" if other else ""


def file_fault(run: Path, known: dict[str, str], names: tuple[str, ...]) -> str:
    """Return which of a run's files have changed, or "".

    Args:
        run: folder of the run.
        known: the hash of each file, by its path relative to `run`.
        names: paths of the files to check.
    """
    changed = [name for name in names if name in known and not _is(run / name, known[name])]
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{changed[0]}{more} is not as train wrote it; train again in another --runs-root" if changed else ""


def _is(file: Path, wanted: str) -> bool:
    return file.is_file() and _hash(file) == wanted


def _hash(file: Path) -> str:
    """Return the SHA-256 of a file; that of an audit leaves out accepted errors, to which `train --accept` may add."""
    if file.name == layout.AUDIT:
        found = _without_accepted(file)
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _without_accepted(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
    except PipelineError as error:
        return {"damaged": str(error)}
    found.pop("accepted", None)
    return found
