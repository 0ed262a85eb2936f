"""Where the runs of a report come from; and a report without paths of this machine, for publication."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ser_pipeline.report.contents import Report, Worst
from ser_pipeline.runs.records import Run, RunHeader
from ser_pipeline.text import portable, without_paths

WORDS = {
    "commit": "commit",
    "modified": "source modified since",
    "source": "source, SHA-256",
    "command": "command line",
    "system": "system",
    "processor": "processor",
    "cores": "cores",
    "device": "device",
    "instructions": "vector instructions",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "threads": "threads per fold",
}
"""The page's names for the facts about how a run was made, in display order."""


def published(report: Report) -> Report:
    """`report` with the paths of this machine removed from its texts."""
    roots = [str(path) for path in (Path.cwd(), Path.home())]
    for header in report.headers:
        places = [header.path.parent, header.path.parent.absolute(), header.path.parent.resolve()]
        roots += [str(place) for place in places if place.is_absolute()] + header.roots

    def plain(text: str) -> str:
        return without_paths(text, roots)

    return replace(
        report,
        findings=tuple(
            replace(one, message=plain(one.message), cost=plain(one.cost), rows=tuple(map(plain, one.rows)))
            for one in report.findings
        ),
        left_out=tuple(replace(one, reason=plain(one.reason)) for one in report.left_out),
        worst=tuple(map(_below, report.worst)),
    )


def _below(one: Worst) -> Worst:
    """An utterance whose path is cut to the file name if it lies outside the corpus's folder."""
    file = one.file
    outside = PurePosixPath(file).is_absolute() or PureWindowsPath(file).is_absolute() or ".." in Path(file).parts
    return replace(one, file=portable(file)) if outside else one


def command(line: str) -> str:
    """A command line without paths of the machine.

    >>> command("ser-pipeline train --cache '/my data/cache' --set model.speech_encoder=/e/tiny")
    'ser-pipeline train --cache cache --set model.speech_encoder=tiny'
    """
    try:
        words = shlex.split(line)
    except ValueError:
        return without_paths(line)
    return shlex.join("=".join(map(portable, word.split("=", 1))) for word in words)


def origins(report: Report) -> list[dict[str, Any]]:
    """Each run for results.json: how it was made, its data, encoders and versions, and its scores."""
    return [
        {"run": run.header.name, **_origin(run.header), **pooled(run), "versions": run.header.versions}
        for run in report.runs
    ]


def pooled(run: Run) -> dict[str, float | None]:
    """WA and UA of a run over all test utterances; None if it is not whole or predicts no classes."""
    if not (run.whole and run.header.target.classes):
        return {"wa": None, "ua": None}
    total = sum((fold.confusion() for fold in run.folds[1:]), run.folds[0].confusion())
    return {"wa": total.wa, "ua": total.ua}


def _origin(header: RunHeader) -> dict[str, Any]:
    said = asdict(header.origin)
    made = said["made"]
    if "command" in made:
        made["command"] = sorted(command(str(line)) for line in made["command"])
    said["encoders"] = [{"name": name, **about} for name, about in sorted(said["encoders"].items())]
    return said


def facts(headers: Sequence[RunHeader]) -> list[tuple[str, str]]:
    """The page's facts about where its runs come from: a name and its distinct values over all runs."""
    made = [_origin(header)["made"] for header in headers]
    of_all = {name: [value for one in made for value in one.get(name, ())] for name in WORDS}
    found = [(words, dict.fromkeys(map(_said, of_all[name]))) for name, words in WORDS.items()]
    found += [("manifest, SHA-256", dict.fromkeys(one.origin.manifest for one in headers))]
    found += [("files’ hashes, SHA-256", dict.fromkeys(one.origin.contents for one in headers))]
    found += [("pre-trained", dict.fromkeys(words for one in headers for words in _encoders(one)))]
    return [(name, "; ".join(filter(None, values))) for name, values in found if any(values)]


def _said(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _encoders(header: RunHeader) -> Iterator[str]:
    """Each pre-trained encoder of a run with the hash of its weights."""
    for name, about in sorted(header.origin.encoders.items()):
        revision = f", revision {about['revision']}" if about.get("revision") else ""
        yield f"{name}: hash {about.get('content', 'not known')}{revision}"
