"""Checks that a finished run is as `train` wrote it: its key, settings, files and scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ser_pipeline.entry import PARTIAL, read_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs.integrity import file_fault, key_fault, settings_fault
from ser_pipeline.runs.reading import read_header, read_run
from ser_pipeline.runs.records import UtteranceTable
from ser_pipeline.runs.shapes import read_run_file, require_run
from ser_pipeline.splits.protocols import FINAL


@dataclass(frozen=True)
class RunCheck:
    """One check of a run."""

    name: str  # what is checked
    fault: str = ""  # what is wrong, or ""
    note: str = ""  # why the check was skipped, or what it found, or ""
    made: bool = True  # False if the check was skipped


def require_finished(run: Path) -> None:
    """Check that a folder is a finished run, which may be damaged.

    Raises:
        PipelineError: it is not a run, or unfinished; says what to do.
    """
    if not (run / "index.json").is_file():
        require_run(run)
        if run.absolute().name.endswith(PARTIAL):
            raise PipelineError(f"{run} is unfinished; the same `ser-pipeline train` command continues it")


def checks(run: Path) -> Iterator[RunCheck]:
    """Run the checks of a finished run that need only its folder.

    Raises:
        PipelineError: there is no finished run.
    """
    index = read_json(run / "index.json")
    known = index.get("files")
    yield RunCheck("key against settings, folds and name", key_fault(run, index))
    yield RunCheck("config.toml and run.json against index.json", settings_fault(run, index))
    if known is None:
        yield RunCheck("hashes of the files", note="an earlier version trained it without hashes", made=False)
    else:
        yield RunCheck(f"hashes of {len(known)} files", file_fault(run, known, tuple(known)))
    if tests_nothing(run):
        yield RunCheck("scores from predictions", note="a final model is not tested", made=False)
    else:
        yield RunCheck("scores from predictions", _scores_fault(run))


def tests_nothing(run: Path) -> bool:
    """Whether a run is a final model, which has no test scores."""
    try:
        return read_run_file(run).protocol == FINAL
    except PipelineError:
        return False


def _scores_fault(run: Path) -> str:
    try:
        read_run(read_header(run), UtteranceTable())
    except PipelineError as error:
        return str(error)
    return ""
