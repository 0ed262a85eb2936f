"""Detection of unfinished runs that were started with other settings."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from ser_pipeline import config as settings
from ser_pipeline.claims import at_work
from ser_pipeline.config import Config
from ser_pipeline.entry import PARTIAL, read_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs import layout
from ser_pipeline.runs.shapes import read_run_file
from ser_pipeline.text import few
from ser_pipeline.training.plan import PlannedRun

MOST_DIFFERENCES = 6
"""Largest number of differences that an error message lists."""


def require_repeated(planned: Sequence[PlannedRun]) -> None:
    """Refuse to start a new run if there is an unfinished one of the same name with other settings.

    A run that was started with the same settings resumes. An unfinished run that another process trains is ignored.

    Raises:
        PipelineError: names the unfinished run, the differences, and how to repeat it.
    """
    for run in planned:
        if run.entry.done or run.entry.partial.exists():
            continue
        for folder in _unfinished(run.entry.path):
            changes, words = _compare(folder, run)
            raise PipelineError(
                f"{folder} is unfinished and was started differently ({changes}); "
                f"resume it with the same settings{words}, or start a new run with --fresh"
            )


def _unfinished(path: Path) -> Iterator[Path]:
    """Yield unfinished runs that differ from the run at `path` only in their key, and that no process trains."""
    name = re.escape(path.name.rpartition("-")[0])
    for folder in sorted(path.parent.glob(f"*{PARTIAL}")):
        if re.fullmatch(f"{name}-[0-9a-f]{{12}}{re.escape(PARTIAL)}", folder.name) and _stopped(folder):
            yield folder


def _stopped(folder: Path) -> bool:
    """Whether a run has a finished epoch, which could be lost, and no process trains it."""
    begun = (folder / layout.FOLDS).exists() and any(folder.glob(f"*/{layout.HISTORY}"))
    return begun and not at_work(folder.with_name(folder.name.removesuffix(PARTIAL)))


def _compare(folder: Path, run: PlannedRun) -> tuple[str, str]:
    """Return the differences between the unfinished run in `folder` and `run`, and the options that repeat it."""
    before = read_run_file(folder)
    config = _config(folder)
    found = ["settings that this version does not know"] if config is None else []
    options = []
    if config is not None:
        found += settings.differences(config, run.config)
        options = [f"--set {shlex.quote(pair)}" for pair in settings.pairs(config, run.config)]
    if before.preset != run.about["preset"]:
        found.insert(0, f"preset: {before.preset} -> {run.about['preset']}")
        options = [f"--preset {shlex.quote(before.preset)}"]
    if before.features != run.about["features"]:
        found.append(f"features: {before.features} -> {run.about['features']}")
    elif read_json(folder / layout.FOLDS) != json.loads(json.dumps(run.members)):
        found.append("folds")
    if before.pretrained != run.about["pretrained"]:
        found.append("pre-trained weights")
    found = found or ["another version of its features or of ser-pipeline"]
    return few(found, MOST_DIFFERENCES, "; "), f" ({' '.join(options)})" if options else ""


def _config(folder: Path) -> Config | None:
    """Return the settings of a run; None if another version wrote them and they cannot be read."""
    file = folder / layout.CONFIG
    try:
        return settings.loads(file.read_text(encoding="utf-8"), str(file))
    except PipelineError:
        return None
