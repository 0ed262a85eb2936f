"""Whether a finished run is as `train` left it: its key, its settings, its files, its scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ser_pipeline.entry import read_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs.integrity import file_fault, key_fault, settings_fault
from ser_pipeline.runs.reading import read_header, read_run
from ser_pipeline.runs.records import UtteranceTable
from ser_pipeline.runs.shapes import read_run_file
from ser_pipeline.splits.protocols import FINAL


@dataclass(frozen=True)
class RunCheck:
    """One check of a run."""

    name: str  # what it looks at
    fault: str = ""  # what is wrong; "": nothing
    note: str = ""  # why it was not made, or what it found; "": nothing to say
    made: bool = True


def checks(run: Path) -> Iterator[RunCheck]:
    """Each check of a finished run that needs its folder alone.

    Raises:
        PipelineError: there is no finished run.
    """
    index = read_json(run / "index.json")
    known = index.get("files")
    yield RunCheck("key against settings, folds and name", key_fault(run, index))
    yield RunCheck("config.toml and run.json against index.json", settings_fault(run, index))
    if known is None:
        yield RunCheck("hashes of the files", note="an earlier version trained it, which kept none", made=False)
    else:
        yield RunCheck(f"hashes of {len(known)} files", file_fault(run, known, tuple(known)))
    if tests_nothing(run):
        yield RunCheck("scores from predictions", note="a final model tests nothing", made=False)
    else:
        yield RunCheck("scores from predictions", _scores_fault(run))


def tests_nothing(run: Path) -> bool:
    """Whether it is a final model, which has no scores."""
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
