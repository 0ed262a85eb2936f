"""What a reader must know before believing a number: a sentence each, the gravest first."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from ser_pipeline import config
from ser_pipeline.evaluation.intervals import Difference
from ser_pipeline.findings import Finding, ordered
from ser_pipeline.report import words
from ser_pipeline.report.groups import FULL, Group, Panel, flatten
from ser_pipeline.report.scores import Probe, Result
from ser_pipeline.report.tables import told
from ser_pipeline.runs.audited import audited
from ser_pipeline.runs.records import RunHeader
from ser_pipeline.text import few, plural, portable

LEVEL = 0.05
"""A p-value below it tells two models apart."""

TEST_SELECTION = "selected-on-test"
"""The audit's remark on runs whose epoch was chosen on the test rows, which every table here marks by itself."""

SILENT = 0.1
"""Share of segments without any co-attention from which on it is a warning."""

SAID_ELSEWHERE = (
    "seed",
    "train.precision",
    "train.selection",
    *(f"features.{name}.{key}" for name in ("embedding", "statistics") for key in ("content", "frames", "width")),
)
"""Settings that are said elsewhere, or that `train` fills in."""

MOST_CHANGES = 4
"""Changed settings that are named before it is said how many more there are."""

LITTLE = 0.02
"""An input that costs less UA than this when shuffled is hardly used, unless its interval says otherwise."""


def findings(
    panels: Iterable[tuple[Panel, Mapping[str, Result]]],
    headers: Sequence[RunHeader],
    faults: Mapping[str, Sequence[str]],
) -> list[Finding]:
    """The findings on experiments and their results, by severity.

    Args:
        panels: each with the results of its groups by name.
        headers: of every run that is shown.
        faults: what is wrong with the folds of each run, by folder name.
    """
    found = [*_leaks(faults), *_audits(headers), *_setup(headers)]
    for panel, results in panels:
        found += [*_unfinished(panel), *_seeds(panel), *_clusters(panel, results)]
        for group in panel.whole:
            found += _scores(group, results[group.name])
    return ordered(list(dict.fromkeys(found)))


def _leaks(faults: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    runs: dict[str, list[str]] = defaultdict(list)
    for name, sentences in faults.items():
        for sentence in sentences:
            runs[sentence].append(name)
    for sentence, names in runs.items():
        cost = "its scores read higher than they are"
        yield Finding("error", "leak", f"{words.capital(sentence)}: {plural(len(names), 'run')}.", cost, tuple(names))


def _audits(headers: Sequence[RunHeader]) -> Iterator[Finding]:
    """What the audit of the corpus and its folds found, as the runs carry it."""
    for header in headers:
        for item in audited(header.path)[0]:
            if item.name != TEST_SELECTION:
                taken = " It was accepted." if item.severity == "error" and item.name in header.accepted else ""
                yield replace(item, message=words.capital(item.message).rstrip(".") + "." + taken)


def _setup(headers: Sequence[RunHeader]) -> Iterator[Finding]:
    whole = [header for header in headers if header.whole]
    if whole and all(header.on_test for header in whole):
        message = "Every run chose its epoch on the fold that it was tested on, as the reference code does."
        cost = "scores read high; run with --selection validation for honest ones"
        yield Finding("warning", "selection", message, cost)
    for name, title in (("device", "devices"), ("precision", "precisions")):
        values = sorted({getattr(header, name) for header in headers} - {""})
        if len(values) > 1:
            yield Finding("note", title, f"The runs come from different {title}: {', '.join(values)}.")
    yield from _changed(headers)
    bare = sum(1 for header in whole if not header.hashed)
    if bare:
        message = (
            f"{plural(bare, 'run')} without hashes: an earlier version trained them, or the hashes were taken away."
        )
        yield Finding("note", "no hashes", message, "nothing shows that the files are as train wrote them")
    versions = sorted({header.versions["ser-pipeline"] for header in headers if "ser-pipeline" in header.versions})
    if len(versions) > 1:
        yield Finding("note", "versions", f"The runs come from different versions of the code: {', '.join(versions)}.")


def _unused(probe: Probe) -> str:
    """That an input is not shown to be used, and what could have been shown."""
    lost = told(Difference(probe.loss, probe.interval, probe.p, probe.detectable))
    return f"is not shown to use {probe.input}: with that of other utterances it loses {lost}."


def _changed(headers: Sequence[RunHeader]) -> Iterator[Finding]:
    """Settings that all whole runs of a preset share, and that are not the preset's."""
    headers = [header for header in headers if header.whole]
    for preset in sorted({header.preset for header in headers} & set(config.presets())):
        usual = flatten(json.loads(json.dumps(asdict(config.load(preset)))))
        shared: set[tuple[str, str]] = set.intersection(
            *(set(flatten(header.settings).items()) for header in headers if header.preset == preset)
        )
        ablated = any(header.ablation != FULL for header in headers if header.preset == preset)
        found = [
            f"{name} = {portable(value)} (preset: {usual[name]})"
            for name, value in sorted(shared - set(usual.items()))
            if name in usual and name not in SAID_ELSEWHERE and not (ablated and name.startswith("model."))
        ]
        if found:
            message = f"Preset {preset} was changed for all finished runs: {few(found, MOST_CHANGES)}."
            yield Finding("warning", "changed settings", message)


def _unfinished(panel: Panel) -> Iterator[Finding]:
    for group in panel.groups:
        for run in group.unfinished:
            done = f"{len(run.folds)} of {len(run.header.fold_names)} folds"
            message = f"{run.header.path.name} is unfinished ({done}) and not averaged; the same train command goes on."
            yield Finding("warning", "unfinished", message)


def _seeds(panel: Panel) -> Iterator[Finding]:
    groups = panel.whole
    single = [group.name for group in groups if len(group.runs) == 1]
    if len(groups) > 1 and single:
        message = f"One seed alone for {', '.join(single)} ({panel.header.protocol} protocol)."
        cost = "how far luck moves a training is not seen; repeat with --seeds"
        yield Finding("note", "seeds", message, cost)


def _clusters(panel: Panel, results: Mapping[str, Result]) -> Iterator[Finding]:
    """Say where there is no interval, or one that leaves out the luck of training."""
    protocol = words.capital(words.protocol(panel.header.protocol))
    why = dict.fromkeys(results[group.name].scores["ua"].interval.why for group in panel.whole)
    for reason in filter(None, why):
        yield Finding("warning", "no interval", f"{protocol}: {reason}.")
    if any(not results[group.name].scores["ua"].interval.training for group in panel.whole):
        yield Finding(
            "warning",
            "one seed",
            f"{protocol}: one model of one seed tests everybody, so that no "
            "interval holds the luck of its training, and no difference has a p-value: train more seeds.",
        )


def _scores(group: Group, result: Result) -> Iterator[Finding]:
    name = f"{group.name} ({group.header.protocol} protocol, epoch: {words.epoch(group.header.selection)})"
    for fault in result.faults:
        yield Finding("warning", "damaged file", f"{name}: {fault}; what needs it is left out.")
    interval = result.scores["ua"].interval
    if interval.low <= result.chance:
        message = (
            f"{name} is not told apart from guessing: its interval of UA reaches chance, {100 * result.chance:.1f} %."
        )
        yield Finding("warning", "chance", message)
    never = [label for label, recall in zip(group.header.labels, result.recalls, strict=True) if recall == 0]
    if never:
        yield Finding("warning", "class never found", f"{name} never finds {', '.join(never)}.")
    silent = [fold.silent for run in group.runs for fold in run.folds]
    if silent and sum(silent) / len(silent) > SILENT:
        share = f"{100 * sum(silent) / len(silent):.0f} %"
        message = (
            f"{name}: every co-attention weight is 0 for {share} of the segments, so their speech frames are unheard."
        )
        yield Finding(
            "warning", "silent attention", message, "weights by softmax cannot fall silent: --ablation softmax"
        )
    for probe in result.probes:
        if probe.kind == "shuffled" and probe.loss < LITTLE and probe.interval.low <= 0:
            yield Finding("note", "unused input", f"{name} {_unused(probe)}")
