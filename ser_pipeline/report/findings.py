"""The report's findings: what to know before believing a number, a sentence each, the most severe first."""

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
from ser_pipeline.text import capital, few, plural, portable

LEVEL = 0.05
"""Two models differ if the p-value is below this."""

TEST_SELECTION = "selected-on-test"
"""The audit's finding for runs whose epoch was chosen on the test rows; every table here marks these runs anyway."""

SILENT = 0.1
"""Warn if more than this share of segments has no co-attention at all."""

SAID_ELSEWHERE = (
    "seed",
    "train.precision",
    "train.selection",
    *(f"features.{name}.{key}" for name in ("embedding", "statistics") for key in ("content", "frames", "width")),
)
"""Settings that are shown elsewhere, or that `train` fills in."""

MOST_CHANGES = 4
"""At most this many changed settings are named; the others are counted."""

LITTLE = 0.02
"""An input that costs less UA than this if shuffled is hardly used, unless its interval lies above 0."""


def findings(
    panels: Iterable[tuple[Panel, Mapping[str, Result]]],
    headers: Sequence[RunHeader],
    faults: Mapping[str, Sequence[str]],
) -> list[Finding]:
    """The findings on experiments and their results, by severity.

    Args:
        panels: each with the results of its groups by name.
        headers: of every shown run.
        faults: problems with the folds of each run, by folder name.
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
        cost = "its scores are too high"
        yield Finding("error", "leak", f"{capital(sentence)}: {plural(len(names), 'run')}.", cost, tuple(names))


def _audits(headers: Sequence[RunHeader]) -> Iterator[Finding]:
    """The audit's findings on the corpus and its folds, as stored in the runs."""
    for header in headers:
        for item in audited(header.path)[0]:
            if item.name != TEST_SELECTION:
                taken = " It was accepted." if item.severity == "error" and item.name in header.accepted else ""
                yield replace(item, message=capital(item.message).rstrip(".") + "." + taken)


def _setup(headers: Sequence[RunHeader]) -> Iterator[Finding]:
    whole = [header for header in headers if header.whole]
    if whole and all(header.on_test for header in whole):
        message = "Every run chose its epoch on its test fold, as the reference code does."
        cost = "the scores are too high; run with --selection validation for honest ones"
        yield Finding("warning", "selection", message, cost)
    for name, title in (("device", "devices"), ("precision", "precisions")):
        values = sorted({getattr(header, name) for header in headers} - {""})
        if len(values) > 1:
            yield Finding("note", title, f"The runs come from different {title}: {', '.join(values)}.")
    yield from _changed(headers)
    bare = sum(1 for header in whole if not header.hashed)
    if bare:
        message = f"{plural(bare, 'run')} without hashes: trained by an earlier version, or the hashes were removed."
        yield Finding("note", "no-hashes", message, "cannot check that the files are as train wrote them")
    versions = sorted({header.versions["ser-pipeline"] for header in headers if "ser-pipeline" in header.versions})
    if len(versions) > 1:
        yield Finding("note", "versions", f"The runs come from different versions of the code: {', '.join(versions)}.")


def _unused(probe: Probe) -> str:
    """That there is no evidence for the use of an input, and what could have been detected."""
    lost = told(Difference(probe.loss, probe.interval, probe.p, probe.detectable))
    return f"shows no sign of using {probe.input}: with that of other utterances it loses {lost}."


def _changed(headers: Sequence[RunHeader]) -> Iterator[Finding]:
    """Settings that all whole runs of a preset share and that differ from the preset's."""
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
            if name in usual
            and name not in SAID_ELSEWHERE
            and not (ablated and name.startswith("model."))
            and not _in_a_local_folder(value, usual[name])
        ]
        if found:
            message = f"Preset {preset} was changed for all finished runs: {few(found, MOST_CHANGES)}."
            yield Finding("warning", "changed-settings", message)


def _in_a_local_folder(value: str, usual: str) -> bool:
    """Whether a setting is the folder of an encoder whose name on the hub the preset has.

    >>> _in_a_local_folder("/x/whisper-tiny.en", "openai/whisper-tiny.en"), _in_a_local_folder("/x/small", "small")
    (True, False)
    """
    return "/" in usual and str(portable(value)) == usual.rpartition("/")[2]


def _unfinished(panel: Panel) -> Iterator[Finding]:
    for group in panel.groups:
        for run in group.unfinished:
            done = f"{len(run.folds)} of {len(run.header.fold_names)} folds"
            message = (
                f"{run.header.path.name} is unfinished ({done}) and not averaged; the same train command continues it."
            )
            yield Finding("warning", "unfinished", message)


def _seeds(panel: Panel) -> Iterator[Finding]:
    groups = panel.whole
    single = [group.name for group in groups if len(group.runs) == 1]
    if len(groups) > 1 and single:
        message = f"Only one seed for {', '.join(single)} ({panel.header.protocol} protocol)."
        cost = "the variation between trainings is unknown; repeat with --seeds"
        yield Finding("note", "seeds", message, cost)


def _clusters(panel: Panel, results: Mapping[str, Result]) -> Iterator[Finding]:
    """Warnings for missing intervals, and for intervals without the randomness of training."""
    protocol = capital(words.protocol(panel.header.protocol))
    why = dict.fromkeys(results[group.name].scores["ua"].interval.why for group in panel.whole)
    for reason in filter(None, why):
        yield Finding("warning", "no-interval", f"{protocol}: {reason}.")
    if any(not results[group.name].scores["ua"].interval.training for group in panel.whole):
        yield Finding(
            "warning",
            "one-seed",
            f"{protocol}: one model of one seed is tested on everyone, so no interval covers "
            "the randomness of its training, and no difference has a p-value; train more seeds.",
        )


def _scores(group: Group, result: Result) -> Iterator[Finding]:
    name = f"{group.name} ({group.header.protocol} protocol, epoch: {words.epoch(group.header.selection)})"
    for fault in result.faults:
        yield Finding("warning", "damaged-file", f"{name}: {fault}; everything that needs it is left out.")
    interval = result.scores["ua"].interval
    if interval.low <= result.chance:
        message = (
            f"{name} may be no better than guessing: its interval of UA includes chance, {100 * result.chance:.1f} %."
        )
        yield Finding("warning", "chance", message)
    never = [label for label, recall in zip(group.header.labels, result.recalls, strict=True) if recall == 0]
    if never:
        yield Finding("warning", "class-never-found", f"{name} never finds {', '.join(never)}.")
    silent = [fold.silent for run in group.runs for fold in run.folds]
    if silent and sum(silent) / len(silent) > SILENT:
        share = f"{100 * sum(silent) / len(silent):.0f} %"
        message = (
            f"{name}: all co-attention weights are 0 for {share} of the segments, so their speech frames are not used."
        )
        yield Finding("warning", "silent-attention", message, "softmax weights cannot all be 0: --ablation softmax")
    for probe in result.probes:
        if probe.kind == "shuffled" and probe.loss < LITTLE and probe.interval.low <= 0:
            yield Finding("note", "unused-input", f"{name} {_unused(probe)}")
