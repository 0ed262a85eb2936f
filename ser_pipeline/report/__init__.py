"""Stage 3: turn runs into tables, figures and a page. The package itself can be called like `build`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ser_pipeline.entry import key, read_json, write_json, write_text
from ser_pipeline.errors import PipelineError, unwritable
from ser_pipeline.report.contents import Choice, Report, corpora, make_report
from ser_pipeline.runs.records import Progress

__all__ = ["Choice", "Report", "build", "corpora", "make_report", "write"]

STAMP = "index.json"
"""Name of the file with a report's inputs, which is written last."""

CODE = ("report", "runs", "evaluation")
"""Folders of the package whose code affects a report."""

log = logging.getLogger(__name__)


def build(
    runs: Path | str = "runs",
    out: Path | str = "reports",
    *,
    corpus: str | None = None,
    protocol: str | None = None,
    patterns: tuple[str, ...] = (),
    compare: tuple[str, str] | None = None,
    author: str = "",
    progress: Progress | None = None,
) -> Path:
    """Report on the runs of one corpus, and return the path of the page.

    Args:
        runs: folder of the runs.
        out: folder of the reports, in which this report gets a folder named after its selection.
        corpus: name of the corpus; optional if there is only one.
        protocol: name of the protocol; None for all.
        patterns: ablations or folder names, with `*` and `?`; () for all.
        compare: two ablations or patterns of folder names.
        author: author of the report.
        progress: called with the number of runs read so far, and of all.

    Raises:
        PipelineError: there are no such runs, or they cannot be compared.
    """
    report = make_report(Path(runs), Choice(corpus, protocol, patterns, compare, author), progress)
    return write(report, Path(out) / report.choice.slug)


def write(report: Report, folder: Path) -> Path:
    """Write all files of `report` into `folder`, and return the path of the page.

    Nothing is written if the folder already has a report on the same runs by the same code at this place.

    Raises:
        PipelineError: the folder is not writable.
    """
    page_file = folder / "index.html"
    inputs = {"key": key(_inputs(report) | {"page": str(folder.absolute()), "audio": _audible(report)})}
    if page_file.is_file() and _written(folder) == inputs:
        log.info("%s is up to date", page_file)
        return page_file
    from ser_pipeline.report import comma_files, gallery, latex, page, shelf
    from ser_pipeline.report import exports as files
    from ser_pipeline.report.origins import published

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STAMP).unlink(missing_ok=True)
    except OSError as error:
        raise PipelineError(unwritable(folder, error)) from None
    report = published(report)
    pictures = gallery.pictures(report, folder / "figures")
    write_text(folder / "results.json", files.to_json(report))
    write_text(folder / "results.csv", comma_files.to_csv(report))
    write_text(folder / "classes.csv", comma_files.classes_csv(report))
    write_text(folder / "speakers.csv", comma_files.speakers_csv(report))
    write_text(folder / "results.md", files.to_markdown(report))
    write_text(folder / "results.tex", latex.to_latex(report))
    write_text(folder / "document.tex", latex.to_document(report))
    write_text(page_file, page.to_html(report, pictures, folder))
    write_json(folder / STAMP, inputs)
    shelf.write_shelf(folder.parent)
    return page_file


def _inputs(report: Report) -> dict[str, Any]:
    """Return everything that a report depends on: the selection, the runs' files and the code."""
    folders = [header.path for header in report.headers]
    runs = [file for folder in folders for pattern in ("*.*", "*/*.*") for file in sorted(folder.glob(pattern))]
    code = [file for name in CODE for file in sorted((Path(__file__).parents[1] / name).glob("*.*"))]
    stamps = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in (*runs, *code)]
    return {"choice": report.choice, "left out": [vars(one) for one in report.left_out], "files": stamps}


def _audible(report: Report) -> list[bool]:
    """Whether the audio of each run exists, so that the page can link to it."""
    return [any(Path(root).is_dir() for root in header.roots) for header in report.headers]


def _written(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / STAMP)
    except PipelineError:
        return {}


class _Report(ModuleType):
    """A module that can be called: `ser_pipeline.report` is both this package and the function of stage 3."""

    def __call__(self, *args: Any, **options: Any) -> Path:
        return build(*args, **options)


sys.modules[__name__].__class__ = _Report
