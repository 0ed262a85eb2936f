"""Stage 3: runs to tables, figures and a page. The package itself can be called, as `build`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ser_pipeline.entry import key, read_json, write_json, write_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.report.contents import Choice, Report, corpora, make_report
from ser_pipeline.runs.records import Progress

__all__ = ["Choice", "Report", "build", "corpora", "make_report", "write"]

STAMP = "index.json"
"""Written last: what the report was made from."""

CODE = ("report", "runs", "evaluation")
"""Folders of the package whose code decides on what a page says."""

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
    """Report on the runs below `runs` of one corpus; returns the path of the page.

    Args:
        runs: folder of the runs.
        out: folder of the reports; this one is a folder in it, named after what it is about.
        corpus: which corpus; may be left out where there is but one.
        protocol: which protocol; None: all.
        patterns: ablations or folder names, with `*` and `?`; none: all.
        compare: two ablations or patterns of folder names.
        author: who signs it.
        progress: called with how many runs are read, and how many there are.

    Raises:
        PipelineError: there are no such runs, or they cannot be compared.
    """
    report = make_report(Path(runs), Choice(corpus, protocol, patterns, compare, author), progress)
    return write(report, Path(out) / report.choice.slug)


def write(report: Report, folder: Path) -> Path:
    """Write every form of `report` into `folder`; returns the path of the page.

    Where the folder holds a report of the same runs by the same code, made for this place, nothing is written.
    """
    page_file = folder / "index.html"
    inputs = {"key": key(_inputs(report) | {"page": str(folder.absolute()), "audio": _audible(report)})}
    if page_file.is_file() and _written(folder) == inputs:
        log.info("%s is up to date", page_file)
        return page_file
    from ser_pipeline.report import comma_files, gallery, latex, page, shelf
    from ser_pipeline.report import exports as files
    from ser_pipeline.report.origins import published

    (folder / STAMP).unlink(missing_ok=True)
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
    """Everything that a report depends on: what was asked for, the runs' files and the code."""
    folders = [header.path for header in report.headers]
    runs = [file for folder in folders for pattern in ("*.*", "*/*.*") for file in sorted(folder.glob(pattern))]
    code = [file for name in CODE for file in sorted((Path(__file__).parents[1] / name).glob("*.*"))]
    stamps = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in (*runs, *code)]
    return {"choice": report.choice, "left out": [vars(one) for one in report.left_out], "files": stamps}


def _audible(report: Report) -> list[bool]:
    """Whether the audio of each run lies where the page would lead to it."""
    return [any(Path(root).is_dir() for root in header.roots) for header in report.headers]


def _written(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / STAMP)
    except PipelineError:
        return {}


class _Report(ModuleType):
    """A module that can be called: `ser_pipeline.report` is this package and the third stage at once."""

    def __call__(self, *args: Any, **options: Any) -> Path:
        return build(*args, **options)


sys.modules[__name__].__class__ = _Report
