"""The commands that reproduce the runs of a report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from ser_pipeline import config
from ser_pipeline.corpora import CORPORA
from ser_pipeline.report.contents import Report
from ser_pipeline.report.findings import SAID_ELSEWHERE
from ser_pipeline.report.groups import FULL, leaves
from ser_pipeline.report.origins import command
from ser_pipeline.runs.records import RunHeader
from ser_pipeline.splits.protocols import OWN
from ser_pipeline.text import portable

STORED = ("audio.", "features.")
"""Prefixes of the settings of features."""


def commands(report: Report) -> Iterator[str]:
    """Yield the commands that reproduce the runs of a report: those that trained them, if the runs have them."""
    headers = report.headers
    corpus, rated = headers[0].corpus, any(header.rated for header in headers)
    for name in corpus.split("+"):
        yield from dict.fromkeys(_features(name, header, rated) for header in headers)
    for panel in report.panels:
        of_panel = [run.header for group in panel.groups for run in (*group.runs, *group.unfinished)]
        lines = [str(line) for header in of_panel for line in header.origin.made.get("command", ())]
        yield from dict.fromkeys(map(command, lines))
        silent = [header for header in of_panel if not header.origin.made.get("command")]
        alike: dict[tuple[str, ...], list[RunHeader]] = {}
        for header in silent:
            alike.setdefault(tuple(_changes(header)), []).append(header)
        yield from map(train_command, alike.values())
    yield f"ser-pipeline report --corpus {shlex.quote(corpus)}"


def train_command(headers: Sequence[RunHeader]) -> str:
    """Return a command that trains runs of one experiment without a stored command, quoted for a shell.

    Args:
        headers: of runs that differ in ablation and seed alone.
    """
    one = headers[0]
    trained = one.corpus.removesuffix(f"+{one.test_corpus}") if one.test_corpus else one.corpus
    words = ["ser-pipeline", "train", "--corpus", trained]
    words += ["--folds", "folds.json"] if one.protocol == OWN else ["--protocol", one.protocol]
    words += ["--preset", one.preset, "--ablation", ",".join(dict.fromkeys(header.ablation for header in headers))]
    first, last = min(header.seed for header in headers), max(header.seed for header in headers)
    words += ["--seeds", str(last - first + 1)] + ["--set", f"seed={first}"] * (first > 0)
    words += ["--selection", one.selection] if one.on_test else []
    words += ["--test-corpus", one.test_corpus] if one.test_corpus else []
    words += ["--target", one.target.name] if one.target.name != "class" else []
    return _joined([*words, *_changes(one)])


def _features(corpus: str, header: RunHeader, rated: bool) -> str:
    """Return the command that extracts the features of a run.

    Args:
        corpus: name of the corpus.
        header: header of the run.
        rated: whether a run of the report uses utterances without a class, which other runs ignore.
    """
    place = [] if corpus == "demo" else ["ROOT"]
    words = ["ser-pipeline", "features", *([corpus, *place] if corpus in CORPORA else ["table", "FILE"])]
    words += [*(["--rated"] if rated else []), "--preset", header.preset]
    return _joined([*words, *_changes(header, STORED)])


def _changes(header: RunHeader, prefix: str | tuple[str, ...] = "") -> list[str]:
    """Return the options for the settings that differ from the preset's, those of an ablation's model apart.

    Args:
        header: header of the run.
        prefix: only settings whose name begins with it, or with one of several.
    """
    if header.preset not in config.presets():
        return []
    usual = leaves(json.loads(json.dumps(asdict(config.load(header.preset)))))
    found: list[str] = []
    for name, value in leaves(header.settings).items():
        changed = name in usual and usual[name] != value and name not in SAID_ELSEWHERE and name.startswith(prefix)
        if changed and (header.ablation == FULL or not name.startswith("model.")):
            found += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return found


def _joined(words: Sequence[str]) -> str:
    """Quote and join words, with the names of folders alone in place of their paths."""
    return shlex.join("=".join(map(portable, word.split("=", 1))) for word in words)
