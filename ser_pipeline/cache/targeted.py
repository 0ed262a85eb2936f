"""Select the utterances that a target can learn from, and compute their target values.

Shapes: U utterances, C classes.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

import numpy as np

from ser_pipeline.arrays import Floats
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.corpora.ratings import CENTRED, DIMENSIONS, moved_to, vote_weights, votes_for_classes
from ser_pipeline.errors import PipelineError
from ser_pipeline.targets import TARGETS, Target
from ser_pipeline.text import plural

log = logging.getLogger(__name__)


def targeted(manifest: Manifest, name: str) -> Manifest:
    """The utterances with the values that the target `name` needs; those without a class can train, but not be tested.

    Args:
        manifest: all utterances of the corpus.
        name: key of `TARGETS`.

    Raises:
        PipelineError: no utterance with a class has these values; the message says what the corpus has.
    """
    row = TARGETS[name]
    kept = np.array([_has(row, utterance) for utterance in manifest.utterances], bool)
    if kept.all():
        return manifest
    chosen = np.flatnonzero(kept)
    if not any(manifest.utterances[place].emotion for place in chosen):
        other = [one for one in TARGETS if any(_has(TARGETS[one], utterance) for utterance in manifest.utterances)]
        wanted = "votes" if row.votes else ", ".join(DIMENSIONS)
        raise PipelineError(
            f"{manifest.corpus} has no {wanted} of raters, so --target {name} is impossible; it supports --target "
            f"{' or '.join(other)}, and `ser-pipeline features` reads label files again"
        )
    return replace(
        manifest,
        utterances=tuple(manifest.utterances[place] for place in chosen),
        keys=tuple(manifest.keys[place] for place in chosen),
        samples=manifest.samples[chosen],
    )


def told(manifest: Manifest, name: str) -> str:
    """Describe what a target uses of a corpus; "" if it uses all utterances and their classes.

    Args:
        manifest: all utterances of the corpus.
        name: key of `TARGETS`.
    """
    there = targeted(manifest, name)
    left, unclassed = len(manifest.utterances) - len(there.utterances), int((there.target < 0).sum())
    parts = [f"target {name}: {plural(len(there.utterances), 'utterance')}"] if name != "class" else []
    if unclassed:
        parts.append(f"{unclassed} of them have no class: they train, and are only tested against raters")
    if left:
        others = f"{left} others" if parts else plural(left, "utterance")
        parts.append(f"{others} without {'a class' if name == 'class' else 'the values that it needs'} left out")
    if TARGETS[name].attributes:
        low, high = there.scale
        parts.append(f"attributes from {low:g} to {high:g} are scaled to -1 to 1")
    return ", ".join(parts)


def values_of(manifest: Manifest, row: Target) -> Floats:
    """The target values of each utterance: shares of classes, then attributes from -1 to 1; float64 (U, K).

    The shares are 1 for the class, or each class's share of the votes for any class; all 0 without a class.

    Args:
        manifest: utterances that have the values.
        row: row of `TARGETS`.
    """
    parts: list[Floats] = []
    if row.votes:
        weights = votes_of(manifest)
        parts.append(weights / weights.sum(1, keepdims=True))
    elif row.classes:
        one = np.zeros((len(manifest.utterances), len(manifest.labels)))
        classed = np.flatnonzero(manifest.target >= 0)
        one[classed, manifest.target[classed]] = 1
        parts.append(one)
    if row.attributes:
        parts.append(moved_to(CENTRED, manifest.attributes, manifest.scale))
    return np.concatenate(parts, axis=1)


def votes_of(manifest: Manifest) -> Floats:
    """Weight of the raters who chose each class, (U, C)."""
    return vote_weights([utterance.votes for utterance in manifest.utterances], manifest.labels)


def digest_of(manifest: Manifest, row: Target) -> str:
    """SHA-256 of the target values of each utterance, part of a run's key."""
    return hashlib.sha256(values_of(manifest, row).round(9).astype("<f8").tobytes()).hexdigest()


def _has(row: Target, utterance: Utterance) -> bool:
    """Whether an utterance has the values that a target needs."""
    has_classes = votes_for_classes(utterance.votes) > 0 if row.votes else bool(utterance.emotion or row.attributes)
    return has_classes and (utterance.vad is not None or not row.attributes)
