"""The commands that make the runs of a report again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from ser_pipeline.report.contents import Report
from ser_pipeline.runs.records import RunHeader
from ser_pipeline.splits.protocols import OWN


def commands(report: Report) -> Iterator[str]:
    """What makes the runs of this report again."""
    headers = report.headers
    corpus = headers[0].corpus
    for name in corpus.split("+"):
        yield "ser-pipeline features" + ("" if name == "demo" else f" {shlex.quote(name)} ROOT")
    for experiment in report.experiments:
        of_panel = [run.header for group in experiment.panel.groups for run in (*group.runs, *group.unfinished)]
        yield train_command(of_panel)
    yield f"ser-pipeline report --corpus {shlex.quote(corpus)}"


def train_command(headers: Sequence[RunHeader]) -> str:
    """What trains the runs of one experiment, quoted for a shell."""
    one = headers[0]
    trained = one.corpus.removesuffix(f"+{one.test_corpus}") if one.test_corpus else one.corpus
    words = ["ser-pipeline", "train", "--corpus", trained]
    words += ["--folds", "folds.json"] if one.protocol == OWN else ["--protocol", one.protocol]
    words += ["--preset", one.preset, "--ablation", ",".join(dict.fromkeys(header.ablation for header in headers))]
    first, last = min(header.seed for header in headers), max(header.seed for header in headers)
    words += ["--seeds", str(last - first + 1)] + ["--set", f"seed={first}"] * (first > 0)
    words += ["--selection", one.selection] if one.on_test else []
    words += ["--test-corpus", one.test_corpus] if one.test_corpus else []
    return shlex.join(words)
