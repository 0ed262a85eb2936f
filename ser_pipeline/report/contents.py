"""The contents of a report, computed from runs on disk, independent of the output format."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ser_pipeline.errors import PipelineError
from ser_pipeline.evaluation.metrics import probabilities
from ser_pipeline.findings import Finding
from ser_pipeline.names import guess
from ser_pipeline.report.choosing import chosen, comparison, matches
from ser_pipeline.report.compare import Comparison, Gap, Row, ablation, gaps
from ser_pipeline.report.findings import findings
from ser_pipeline.report.fold_check import LeakCheck
from ser_pipeline.report.groups import Group, Panel, panels, speakers
from ser_pipeline.report.rated import RatedPanel, rated_panels
from ser_pipeline.report.scores import Result, evaluate
from ser_pipeline.report.words import slug
from ser_pipeline.runs.reading import read_run, scan
from ser_pipeline.runs.records import LeftOut, Progress, Run, RunHeader, UtteranceTable

WORST = 20
"""Largest number of utterances in the list of worst errors."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The selection of runs of a report."""

    corpus: str | None = None
    protocol: str | None = None
    patterns: tuple[str, ...] = ()  # patterns of folder names or ablations; () for all
    compare: tuple[str, str] | None = None  # two ablations, or patterns of folder names
    author: str = ""  # author of the report, or ""

    def reason_against(self, header: RunHeader) -> str:
        """Return why a run does not belong to the report, or ""."""
        if self.protocol and header.protocol != self.protocol:
            return f"its protocol is {header.protocol}, not {self.protocol}"
        if self.patterns and not any(matches(pattern, header) for pattern in self.patterns):
            return f"its name does not match {', '.join(self.patterns)}"
        return ""

    @property
    def slug(self) -> str:
        """The name of the report: the corpus, and the rest of the selection."""
        parts = [self.corpus or "", self.protocol or "", *self.patterns, "-vs-".join(self.compare or ())]
        return re.sub(r"[^\w.+]+", "-", "-".join(part for part in parts if part)).strip("-.") or "all"


@dataclass(frozen=True)
class Worst:
    """An utterance that the main model got wrong."""

    id: str
    row: int  # row of the `UtteranceTable`
    target: str
    prediction: str  # the most frequent prediction over seeds
    probability: float  # of the true class, averaged over seeds
    wrong: int  # number of seeds that got it wrong
    file: str
    seconds: float
    speaker: str


@dataclass(frozen=True)
class Experiment:
    """A panel with its scores."""

    id: str  # for links and names of files
    panel: Panel
    rows: tuple[Row, ...]
    results: dict[str, Result]  # results of groups with a finished run, by name

    @property
    def main(self) -> tuple[Group, Result] | None:
        """The main group of the experiment, with its result."""
        group = self.panel.main
        return (group, self.results[group.name]) if group else None

    @property
    def chance(self) -> float:
        """UA of guessing."""
        return self.main[1].chance if self.main else 1 / len(self.panel.header.labels)


@dataclass(frozen=True)
class Report:
    """The contents of a report on the runs of a corpus."""

    choice: Choice
    title: str  # full name of the corpus
    roll: UtteranceTable
    experiments: tuple[Experiment, ...]  # the one of the summary first
    gaps: tuple[Gap, ...]
    comparison: Comparison | None
    worst: tuple[Worst, ...]
    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...]
    panels: tuple[Panel, ...]  # all panels, including models without classes
    rated: tuple[RatedPanel, ...] = ()  # scores against raters

    @property
    def main(self) -> tuple[Group, Result] | None:
        """The group of the summary, with its result; None if no finished run predicts classes."""
        return self.experiments[0].main if self.experiments else None

    @property
    def runs(self) -> list[Run]:
        """All runs in the report, finished or not."""
        return [run for panel in self.panels for group in panel.groups for run in (*group.runs, *group.unfinished)]

    @property
    def headers(self) -> list[RunHeader]:
        """The headers of all runs in the report."""
        return [run.header for run in self.runs]

    @property
    def accepted(self) -> str:
        """The note about accepted errors of the audit below every table, or ""."""
        names = sorted({name for header in self.headers for name in header.accepted})
        return f"With accepted errors of the audit: {', '.join(names)}." if names else ""

    @property
    def synthetic(self) -> bool:
        """Whether the corpus is synthetic."""
        return any(header.synthetic for header in self.headers)


def corpora(root: Path) -> list[str]:
    """Return the corpora that have runs in `root`, sorted.

    Raises:
        PipelineError: there is no run.
    """
    return _corpora(root, *scan(root))


def _corpora(root: Path, headers: Sequence[RunHeader], left_out: Sequence[LeftOut]) -> list[str]:
    """The corpora of `headers`, sorted.

    Args:
        root: where they were looked for.
        headers: of the runs that were found.
        left_out: what else was found.

    Raises:
        PipelineError: there is no run.
    """
    if not headers:
        why = f" ({left_out[0].name}: {left_out[0].reason})" if left_out else ""
        raise PipelineError(f"no runs in {root}{why}; train some first: ser-pipeline train --protocol speaker")
    return sorted({header.corpus for header in headers})


def make_report(root: Path, choice: Choice, progress: Progress | None = None) -> Report:
    """Compute the report on the runs in `root` that `choice` selects.

    Args:
        root: folder of the runs.
        choice: selection of runs, and models to compare.
        progress: called with the number of runs read so far, and of all.

    Raises:
        PipelineError: there are no such runs, or they cannot be compared.
    """
    every, none = scan(root)
    there = _corpora(root, every, none)
    corpus = choice.corpus or there[0]
    if choice.corpus is None and len(there) > 1:
        raise PipelineError(f"there are runs of several corpora: {', '.join(there)}; choose one with --corpus")
    if corpus not in there:
        raise PipelineError(f"no runs of {corpus} in {root}; {guess(corpus, there)}known: {', '.join(there)}")
    choice = replace(choice, corpus=corpus)
    headers, left_out = chosen(every, none, choice)
    roll = UtteranceTable()
    runs, faults, damaged = _read(headers, roll, progress)
    if not runs:
        raise PipelineError(f"no run can be read; {damaged[0].name}: {damaged[0].reason}")
    found, doubles = panels(runs)
    speaker = speakers(roll)[1] if roll.facts else np.empty(0, dtype=np.int64)
    experiments = _experiments([panel for panel in found if panel.header.target.classes], roll, speaker)
    ordered = [one.panel for one in experiments] + [panel for panel in found if not panel.header.target.classes]
    shown = [(experiment.panel, experiment.results) for experiment in experiments]
    return Report(
        choice=choice,
        title=runs[0].header.title or corpus,
        roll=roll,
        experiments=experiments,
        gaps=gaps([experiment.panel for experiment in experiments], speaker),
        comparison=comparison([experiment.panel for experiment in experiments], choice.compare, speaker)
        if choice.compare
        else None,
        worst=tuple(worst(experiments[0].panel.main, roll)) if experiments and experiments[0].panel.main else (),
        findings=tuple(findings(shown, [run.header for run in runs], faults)),
        left_out=(*left_out, *damaged, *doubles),
        panels=tuple(ordered),
        rated=rated_panels(ordered, speaker),
    )


def worst(group: Group, roll: UtteranceTable) -> Iterable[Worst]:
    """Yield the utterances that most seeds got wrong, by increasing probability of the true class."""
    chances = probabilities(group.log_prob).mean(0)  # (U, C)
    own = chances[np.arange(len(group.target)), group.target]
    wrong = (group.predictions != group.target).sum(0)
    labels, ids, facts = group.header.labels, roll.ids, roll.facts
    for place in np.argsort(own, kind="stable"):
        if 2 * wrong[place] > len(group.runs):
            row = int(group.rows[place])
            votes = np.bincount(group.predictions[:, place], minlength=len(labels))
            votes[group.target[place]] = 0
            file, speaker, *_, seconds, _, label = facts[row]
            yield Worst(
                ids[row],
                row,
                label,
                labels[int(votes.argmax())],
                float(own[place]),
                int(wrong[place]),
                file,
                float(seconds),
                speaker,
            )


def _read(
    headers: Sequence[RunHeader], roll: UtteranceTable, progress: Progress | None
) -> tuple[list[Run], dict[str, tuple[str, ...]], list[LeftOut]]:
    """Read the runs; return them with the faults of their folds, and those that cannot be read."""
    runs, faults, damaged = [], {}, []
    check = LeakCheck(roll)
    for done, header in enumerate(headers):
        try:
            run = read_run(header, roll)
            runs.append(run)
            if run.folds:
                faults[header.path.name] = check.faults(run)
        except PipelineError as error:
            log.warning("left out %s: %s", header.path.name, error)
            damaged.append(LeftOut(header.path.name, str(error)))
        if progress:
            progress(done + 1, len(headers))
    return runs, faults, damaged


def _experiments(found: Sequence[Panel], roll: UtteranceTable, speaker: np.ndarray) -> tuple[Experiment, ...]:
    """Return the experiments, that of the summary first."""
    experiments: list[Experiment] = []
    for panel in sorted(found, key=_importance):
        header = panel.header
        target = "" if header.target.name == "class" else header.target.name
        name = slug(" ".join((header.protocol, header.test_corpus, header.preset, target, header.selection)))
        same = sum(experiment.id.startswith(name) for experiment in experiments)
        results = {group.name: evaluate(group, roll, speaker) for group in panel.whole}
        experiments.append(Experiment(f"{name}-{same + 1}" if same else name, panel, ablation(panel, speaker), results))
    return tuple(experiments)


def _importance(panel: Panel) -> tuple[bool, bool, bool, bool, int, tuple[str, ...]]:
    """Return a sorting key: finished, not selected on test, on its own corpus, by speaker, with most runs first."""
    header = panel.header
    return (
        panel.main is None,
        header.on_test,
        bool(header.test_corpus),
        header.protocol != "speaker",
        -sum(len(group.runs) for group in panel.groups),
        panel.key,
    )
