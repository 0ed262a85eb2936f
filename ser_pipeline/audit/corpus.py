"""Audit a corpus: counts, speakers, audio and folds, as findings with their consequences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ser_pipeline.agreement import LEAST_SPEECH
from ser_pipeline.audit.copies import near_copies
from ser_pipeline.audit.qualities import FAULTS, QUALITIES, told
from ser_pipeline.audit.sound import Sound, listen, read_mono
from ser_pipeline.config import Audio
from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.findings import SEVERITIES, Finding, ordered
from ser_pipeline.splits.folds import Fold
from ser_pipeline.splits.leaks import by_kind, leaks, other_labels, same_audio
from ser_pipeline.text import alternatives, few, natural, percent, plural

__all__ = ["Finding", "audit", "count_classes", "leaks", "ordered", "to_json"]

TOLERANCE = 0.01  # share of the published count above which a difference is an error


def audit(
    utterances: Sequence[Utterance],
    folder: Path,
    *,
    corpus: Corpus | None = None,
    folds: Sequence[Fold] = (),
    segment: float = Audio().seconds,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Audit a corpus; return the findings, errors first.

    Args:
        utterances: utterances with classes as their emotions.
        folder: folder that their files are relative to.
        corpus: the corpus whose published counts apply to these utterances; None if other classes were chosen.
        folds: folds to check for leaks.
        segment: seconds of a segment; shorter utterances are padded.
        jobs: decoding threads; all cores if None.
        progress: called with the number of decoded utterances, and the total.
    """
    sounds = listen(utterances, folder, jobs, progress)
    found = [
        *audit_labels(utterances, corpus),
        *_audio(utterances, sounds, segment),
        *same_audio(utterances, [sound.digest for sound in sounds], folds),
        *_near_copies(utterances, folder, sounds, folds),
        *leaks(utterances, folds),
    ]
    return ordered(found)


def audit_labels(utterances: Sequence[Utterance], corpus: Corpus | None = None) -> Iterator[Finding]:
    """Audit the labels alone, without folds or audio; `corpus` has the published counts."""
    utterances = [utterance for utterance in utterances if utterance.emotion]
    yield from _contents(utterances)
    if corpus:
        yield from _counts(utterances, corpus)
    yield from _one_class(utterances)
    yield from _missing_classes(utterances)


def to_json(
    findings: Sequence[Finding], utterances: Sequence[Utterance] = (), accepted: Collection[str] = ()
) -> dict[str, Any]:
    """The findings, their number by severity, the accepted errors, and each speaker's classes.

    Args:
        findings: findings of an audit.
        utterances: utterances of the corpus.
        accepted: names of errors that the user accepts.
    """
    severities = Counter(finding.severity for finding in findings)
    return {
        "counts": {severity: severities[severity] for severity in SEVERITIES},
        "findings": [asdict(finding) for finding in findings],
        "accepted": sorted({finding.name for finding in findings if finding.severity == "error"} & set(accepted)),
        "speakers": {
            speaker: dict(sorted(classes.items())) for speaker, classes in sorted(count_classes(utterances).items())
        },
    }


def _contents(utterances: Sequence[Utterance]) -> Iterator[Finding]:
    classes = Counter(utterance.emotion for utterance in utterances).most_common()
    speakers = len({utterance.speaker for utterance in utterances})
    files = len({utterance.file for utterance in utterances})
    what = plural(files, "file")
    if files != len(utterances):
        what = f"{plural(len(utterances), 'utterance')} of {what}"
    listed = ", ".join(f"{name} {count}" for name, count in classes)
    groups = f"{plural(speakers, 'speaker')}, {plural(len(classes), 'class')}"
    yield Finding("note", "contents", f"{what}, {groups} ({listed})")


def _counts(utterances: Sequence[Utterance], corpus: Corpus) -> Iterator[Finding]:
    """Compare with the published counts of classes, sessions, speakers and splits, unless a subset was read."""
    if any(name != corpus.subset and all(map(keeps, utterances)) for name, keeps in corpus.subsets.items()):
        return
    if corpus.subset and not all(map(corpus.subsets[corpus.subset], utterances)):
        return  # the counts describe a subset, and more was read
    there = {utterance.speaker for utterance in utterances}
    absent = [speaker for speaker in corpus.speakers if speaker not in there]
    if absent:
        yield Finding(
            "error",
            "speakers",
            f"{len(absent)} of {len(corpus.speakers)} speakers are missing: {few(absent, 8)}",
            "results are not comparable with published ones",
        )
    without = sorted(set(corpus.splits) - {utterance.split for utterance in utterances})
    if without:
        what = f"no utterance of the official split's {' and '.join(without)}"
        yield Finding("warning", "split", what, "the protocol `official` cannot be followed")
    found: Counter[str] = Counter()
    for utterance in utterances:
        found.update({utterance.emotion, utterance.session, utterance.speaker, utterance.split})
    expected = {**corpus.expected, **corpus.parts}
    off = {name: found[name] - count for name, count in expected.items() if found[name] != count}
    if not expected:
        return
    if not off:
        yield Finding("note", "counts", f"{plural(len(utterances), 'utterance')}, as published")
        return
    total = sum(corpus.expected.values())
    parts = sorted(off, key=lambda name: (-abs(off[name]) / expected[name], name))
    shown = few([f"{name} {found[name]} of {expected[name]}" for name in parts], 4)
    large = any(abs(off[name]) > TOLERANCE * expected[name] for name in parts)
    yield Finding(
        "error" if large else "warning",
        "counts",
        f"{plural(len(utterances), 'utterance')} instead of the published {total:,}: {shown}",
        "results are not comparable with published ones" if large else "",
        tuple(one.id for one in utterances if parts[0] in (one.session, one.speaker, one.split)),
    )


def _one_class(utterances: Sequence[Utterance]) -> Iterator[Finding]:
    """Find that there is nothing to tell apart; attributes, if raters gave them, can still be learned."""
    labels = {utterance.emotion for utterance in utterances} - {""}
    if len(labels) == 1:
        severity = "warning" if any(utterance.vad for utterance in utterances) else "error"
        what = f"all utterances have one class, {labels.pop()}; at least two are needed"
        yield Finding(severity, "one-class", what, "every answer is right, whatever the model learns")


def _missing_classes(utterances: Sequence[Utterance]) -> Iterator[Finding]:
    labels = sorted({utterance.emotion for utterance in utterances})
    counts = count_classes(utterances)
    missing = [
        (speaker, [label for label in labels if not counts[speaker][label]]) for speaker in sorted(counts, key=natural)
    ]
    lacking = [f"speaker {speaker} has no {alternatives(none)}" for speaker, none in missing if none]
    if lacking:
        yield Finding(
            "warning",
            "class-missing",
            few(lacking, 3, "; "),
            "a fold that tests on such a speaker averages its UA over fewer classes",
        )


def _audio(utterances: Sequence[Utterance], sounds: Sequence[Sound], segment: float) -> Iterator[Finding]:
    for fault, (what, cost) in FAULTS.items():
        broken = [
            (utterance, sound) for utterance, sound in zip(utterances, sounds, strict=True) if sound.fault == fault
        ]
        if broken:
            more = f"; {plural(len(broken) - 1, 'more recording')} {what}" if len(broken) > 1 else ""
            rows = [utterance.id for utterance, _ in broken]
            yield Finding("error", fault, broken[0][1].detail + more, cost, tuple(rows))
    whole = [(utterance, sound) for utterance, sound in zip(utterances, sounds, strict=True) if not sound.fault]
    for name, severity, what, cost, test in QUALITIES:
        rows = [utterance.id for utterance, sound in whole if test(sound)]
        if rows:
            detail = next(
                ("".join(f", which {note}" for note in sound.notes[:1]) for _, sound in whole if test(sound)), ""
            )
            such = ", such as" if len(rows) > 1 else ":"
            message = f"{told(len(rows), what)}{such} {rows[0]}{detail if name == 'odd-file' else ''}"
            yield Finding(severity, name, message, cost, tuple(rows))
    if whole:
        yield from _empty_ends(whole, segment)
        yield from _statistics([sound for _, sound in whole], segment)


def _empty_ends(whole: Sequence[tuple[Utterance, Sound]], segment: float) -> Iterator[Finding]:
    """Utterances whose last segment contains no speech."""
    usual = Audio()
    audio = replace(usual, segment=max(usual.hop, round(segment * usual.rate)))
    least = round(LEAST_SPEECH * usual.rate / 1000)
    samples = np.array([round(sound.seconds * usual.rate) for _, sound in whole], np.int64)
    empty = np.flatnonzero(audio.heard(samples, least) < audio.segments(samples))
    if len(empty):
        yield Finding(
            "note",
            "empty-end",
            f"{len(empty):,} of {plural(len(whole), 'utterance')} end in a segment of {segment:.4g} s that contains "
            f"less than {LEAST_SPEECH:.0f} ms of audio",
            "with the paper's settings it trains and votes like any other; model.least_speech leaves it out",
            tuple(whole[place][0].id for place in empty.tolist()),
        )


def _near_copies(
    utterances: Sequence[Utterance], folder: Path, sounds: Sequence[Sound], folds: Sequence[Fold]
) -> Iterator[Finding]:
    """Pairs that contain the same sound with different samples."""
    copies = near_copies([sound.marks for sound in sounds], lambda row, part: read_mono(folder, utterances[row], part))
    differ = [copy for copy in copies if sounds[copy.one].digest != sounds[copy.other].digest]
    told = {(copy.one, copy.other): copy for copy in differ}
    for name, severity, cost, pairs in by_kind(utterances, [list(pair) for pair in told], folds):
        first = told[pairs[0][0], pairs[0][1]]
        one, other = (utterances[row].id for row in (first.one, first.other))
        where = f"{other} starts {abs(first.offset):.2f} s {'before' if first.offset < 0 else 'into'} {one}"
        what = f"{plural(len(pairs), 'pair')} of recordings contain{'s' if len(pairs) == 1 else ''} the same sound"
        yield Finding(
            severity,
            f"near-{name}",
            f"{what} in other samples ({where}, correlation {first.correlation:.3f}){other_labels(utterances, pairs)}",
            cost,
            tuple(dict.fromkeys(utterances[row].id for pair in pairs for row in pair)),
        )


def _statistics(sounds: Sequence[Sound], segment: float) -> Iterator[Finding]:
    seconds = np.array([sound.seconds for sound in sounds])
    short = float(np.mean(seconds < segment))
    yield Finding(
        "note",
        "durations",
        f"{seconds.sum() / 3600:.2f} h; {seconds.min():.2f} to {seconds.max():.2f} s, mean {seconds.mean():.2f} s; "
        f"{percent(short, 1)} under {segment:.4g} s"
        if len(sounds) > 1
        else f"{seconds[0]:.2f} s, {'under' if short else 'at least'} {segment:.4g} s",
    )
    silent = np.array([sound.silent for sound in sounds])
    low, high = np.quantile(silent, (0.05, 0.95))
    usual = f"an utterance, {percent(low)} to {percent(high)} in nine of ten" if len(sounds) > 1 else "the utterance"
    yield Finding("note", "silence", f"silence is {percent(float(np.median(silent)))} of {usual}")
    forms = Counter(f"{sound.rate} Hz {CHANNELS.get(sound.channels, f'{sound.channels} channels')}" for sound in sounds)
    counted = [f"{plural(count, 'recording')} of {name}" for name, count in forms.most_common()]
    yield Finding("note", "formats", few(counted, 4))


CHANNELS = {1: "mono", 2: "stereo"}


def count_classes(utterances: Sequence[Utterance]) -> dict[str, Counter[str]]:
    """Speaker -> utterances of each class."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance in utterances:
        if utterance.emotion:
            counts[utterance.speaker][utterance.emotion] += 1
    return dict(counts)
