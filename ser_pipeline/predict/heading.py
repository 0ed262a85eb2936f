"""The labels, settings and finished folds of a run, which are checked before its models and torch are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ser_pipeline import config
from ser_pipeline.config import Config
from ser_pipeline.entry import PARTIAL
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs import layout
from ser_pipeline.runs.integrity import cheap_fault
from ser_pipeline.runs.records import read_text
from ser_pipeline.runs.shapes import read_run_file, require_run


def finished_folds(run: Path, folds: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels of a run, and the folds to use; reads one small file.

    Args:
        run: the folder.
        folds: names of folds; () for all finished ones.

    Raises:
        PipelineError: `run` is not a run, or has not finished one of the folds.
    """
    require_run(run)
    said = read_run_file(run)
    finished = [name for name in said.folds if (run / name / "index.json").is_file()]
    missing = [name for name in folds if name not in finished]
    if not finished:
        raise PipelineError(f"{run} has no finished fold yet; resume it with `ser-pipeline train`")
    if missing:
        raise PipelineError(f"{run} has no finished fold {', '.join(missing)}; it has {', '.join(finished)}")
    return said.labels, tuple(folds or finished)


def read_settings(run: Path, folds: Sequence[str]) -> tuple[tuple[str, ...], Config, tuple[str, ...]]:
    """Return the labels and settings of a run, and the folds to use.

    Args:
        run: the folder.
        folds: names of folds; () for all finished ones.

    Raises:
        PipelineError: `run` is not a run, is damaged, or has not finished one of the folds.
    """
    labels, asked = finished_folds(run, folds)
    if not run.name.endswith(PARTIAL) and (fault := cheap_fault(run)):
        raise PipelineError(f"{run}: {fault}")
    return labels, config.loads(read_text(run / layout.CONFIG), str(run / layout.CONFIG)), asked
