"""Join several corpora: to train on all of them, or to train on some and test on another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ser_pipeline.corpora.classes import Merged, chosen_classes, shared_classes
from ser_pipeline.corpora.corpus import Classes, Utterance
from ser_pipeline.corpora.ratings import merged
from ser_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from ser_pipeline.cache.manifest import Manifest

CARRIED = ("id", "speaker", "session", "dialogue", "script")
"""Columns whose values get their corpus as a prefix when corpora are joined: two speakers may both be called 03."""


def join(manifests: Sequence[Manifest], classes: Classes | None = None, tested: bool = False) -> Manifest:
    """Join several corpora in their order, with the utterances of the classes that all have, or of the chosen classes.

    Values of `CARRIED` become `CORPUS:VALUE`, and files get a folder with their corpus's name. With `tested`, the rows
    of the last corpus are the test rows and those of the others train, which is what `make_folds(…, "cross")` expects;
    file names then stay the same.

    Args:
        manifests: manifests of the corpora.
        classes: class -> labels of any corpus; None chooses the classes that all have.
        tested: whether the last corpus is the test corpus.

    Raises:
        PipelineError: the test corpus is also a training corpus, audio settings differ, or classes do not fit.
    """
    first, *_, last = manifests
    if tested and last.corpus in [one.corpus for one in manifests[:-1]]:
        raise PipelineError(f"--test-corpus is the training corpus, {last.corpus}; name another one")
    for one in manifests:
        if one.audio != first.audio:
            raise PipelineError(
                f"the features of {one.corpus} and {first.corpus} have different audio settings; extract both "
                "with the same --preset, --config and --set"
            )
    names = merged_classes(manifests, classes)
    kept = [(one, names[one.corpus], _rows(one, names[one.corpus])) for one in manifests]
    scale = _scale(manifests)
    labels = classes or dict.fromkeys(name for own in names.values() for name in own.values())
    return replace(
        first,
        corpus="+".join(one.corpus for one in manifests),
        classes={label: (label,) for label in labels},
        utterances=tuple(
            _carried(one, own, row, ("test" if one is last else "train") if tested else "", scale)
            for one, own, rows in kept
            for row in rows
        ),
        keys=tuple(one.keys[row] for one, _, rows in kept for row in rows),
        samples=np.concatenate([one.samples[rows] for one, _, rows in kept]),
    )


def merged_classes(manifests: Sequence[Manifest], classes: Classes | None) -> Merged:
    """Which class each label of each corpus belongs to.

    Args:
        manifests: manifests of the corpora.
        classes: class -> labels; None chooses the classes that all have.
    """
    labels = {one.corpus: one.labels for one in manifests}
    return chosen_classes(labels, classes) if classes else shared_classes(labels)


def told(manifests: Sequence[Manifest], classes: Classes | None = None) -> list[str]:
    """Describe how the labels of the corpora are mapped: one line per class, and one for labels that are left out.

    Args:
        manifests: manifests of the corpora.
        classes: class -> labels; None chooses the classes that all have.
    """
    names, parts, left = merged_classes(manifests, classes), dict[str, list[str]](), list[str]()
    for one in manifests:
        counts = Counter(utterance.emotion for utterance in one.utterances)
        for label in one.labels:
            said = f"{one.corpus}:{label} ({counts[label]})"
            name = names[one.corpus].get(label)
            (parts.setdefault(name, []) if name else left).append(said)
    lines = [f"class {name} = {' + '.join(parts[name])}" for name in classes or parts]
    scales = {one.corpus: scale for one in manifests for scale in _scales(one)}
    if len(set(scales.values())) > 1:
        said = ", ".join(f"{corpus} {low:g} to {high:g}" for corpus, (low, high) in scales.items())
        lines.append(f"attributes: {said}; mapped linearly to 0 to 1")
    return [*lines, f"left out: {', '.join(left)}; --classes chooses others"] if left else lines


def _scale(manifests: Sequence[Manifest]) -> tuple[float, float]:
    """The scale of the attributes of several corpora: their common one, or 0 to 1 if they differ."""
    scales = {scale for one in manifests for scale in _scales(one)}
    return scales.pop() if len(scales) == 1 else (0.0, 1.0)


def _scales(manifest: Manifest) -> set[tuple[float, float]]:
    return {utterance.vad.scale for utterance in manifest.utterances if utterance.vad}


def _rows(manifest: Manifest, names: Mapping[str, str]) -> list[int]:
    """Rows of the utterances with a class, and of rated utterances that had none before."""
    return [row for row, one in enumerate(manifest.utterances) if one.emotion in names or not one.emotion]


def _carried(
    manifest: Manifest, classes: Mapping[str, str], row: int, part: str, scale: tuple[float, float]
) -> Utterance:
    """An utterance with its corpus as a prefix of its names.

    Args:
        manifest: manifest of its corpus.
        classes: label of its corpus -> class.
        row: row of the manifest.
        part: "train" or "test" if one corpus is the test corpus, so that file names stay the same; "" otherwise.
        scale: scale of the attributes.
    """
    one, corpus = manifest.utterances[row], manifest.corpus
    names: dict[str, Any] = {name: f"{corpus}:{value}" for name in CARRIED if (value := getattr(one, name))}
    own: dict[str, Any] = {"split": part} if part else {"file": f"{corpus}/{one.file}"}
    return replace(
        one,
        **names,
        **own,
        emotion=classes.get(one.emotion, ""),
        corpus=corpus,
        votes=merged(one.votes, classes),
        vad=one.vad and one.vad.on(scale),
    )
