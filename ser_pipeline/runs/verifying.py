"""Whether a finished run is as `train` left it: its key, its files, its scores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ser_pipeline.entry import read_json
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs.integrity import file_fault, key_fault
from ser_pipeline.runs.reading import read_header, read_run
from ser_pipeline.runs.records import UtteranceTable
from ser_pipeline.runs.shapes import read_run_file
from ser_pipeline.splits.protocols import FINAL


def checks(run: Path) -> Iterator[tuple[str, str]]:
    """Each check of a finished run: what it looks at, and what is wrong; "" where nothing is.

    Raises:
        PipelineError: there is no finished run.
    """
    index = read_json(run / "index.json")
    known = index.get("files")
    yield "key against settings, folds and name", key_fault(run, index)
    if known is None:
        yield "hashes of the files", "its index.json has none: an earlier version trained it"
    else:
        yield f"hashes of {len(known)} files", file_fault(run, known, tuple(known))
    if not _tests_nothing(run):
        yield "scores from predictions", _scores_fault(run)


def _tests_nothing(run: Path) -> bool:
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
