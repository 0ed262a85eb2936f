"""The cross-corpus matrix: coverage of its intervals."""

from types import SimpleNamespace

import numpy as np
import pytest

from ser_pipeline.report.groups import Group
from ser_pipeline.report.matrix import Place, _place
from ser_pipeline.runs.records import Run

SPEAKERS, OTHERS, CLASSES, TRIALS = 12, 4, 4, 1_200
EASE = np.array([-0.1, 0.0, 0.0, 0.1])
"""How much better each class is recognised."""


def skills(rng: np.random.Generator, shape: tuple[int, ...], folds: int) -> np.ndarray:
    """Draw recalls (..., CLASSES) of speakers (...), some of whom each fold's model recognises better."""
    luck = 0.04 * rng.normal(size=(*shape[:-1], folds)) * (folds > 1)
    one = 0.6 + 0.1 * rng.normal(size=shape) + np.take(luck, np.arange(shape[-1]) % folds, axis=-1)
    return np.clip(one[..., None] + EASE, 0.02, 0.98)


def one_group(rng: np.random.Generator, folds: int) -> tuple[Group, np.ndarray]:
    """Draw a group whose last fold tests another corpus, and the speakers of its utterances."""
    several = [rng.integers(16, 40, SPEAKERS), np.full(OTHERS, 20)]
    speaker = np.repeat(np.arange(SPEAKERS + OTHERS), np.concatenate(several))
    target = rng.integers(0, CLASSES, len(speaker))
    recall = np.concatenate([skills(rng, (SPEAKERS,), folds), np.full((OTHERS, CLASSES), 0.3)])
    right = rng.random(len(speaker)) < recall[speaker, target]
    prediction = np.where(right, target, (target + rng.integers(1, CLASSES, len(speaker))) % CLASSES)
    fold = np.where(speaker < SPEAKERS, speaker % folds, folds)
    parts = [np.flatnonzero(fold == one) for one in range(folds + 1)]
    made = [SimpleNamespace(rows=rows, target=target[rows], prediction=prediction[rows]) for rows in parts]
    header = SimpleNamespace(labels=tuple("abcd"))
    return Group(header, (Run(header, tuple(made)),), ()), speaker  # type: ignore[arg-type]


def placed(rng: np.random.Generator, folds: int) -> Place:
    group, speaker = one_group(rng, folds)
    return _place(group, "own", speaker < SPEAKERS, speaker)


@pytest.mark.parametrize("folds", [1, 6], ids=["all others train", "its own groups of speakers train"])
def test_intervals_of_the_matrix_hold_the_truth_in_93_to_97_percent(folds: int) -> None:
    truth = float(skills(np.random.default_rng(1), (4_000, SPEAKERS), folds).mean())
    rng = np.random.default_rng(2)
    found = [placed(rng, folds) for _ in range(TRIALS)]
    assert {(one.speakers, one.interval.clusters) for one in found} == {(SPEAKERS, folds if folds > 1 else SPEAKERS)}
    held = np.mean([one.interval.low <= truth <= one.interval.high for one in found])
    assert 0.93 <= held <= 0.97


def test_a_place_counts_its_own_corpus_alone() -> None:
    group, speaker = one_group(np.random.default_rng(3), 1)
    one, other = (_place(group, "any", chosen, speaker) for chosen in (speaker < SPEAKERS, speaker >= SPEAKERS))
    assert one.utterances + other.utterances == len(speaker) and other.speakers == OTHERS
    for place, chosen in ((one, speaker < SPEAKERS), (other, speaker >= SPEAKERS)):
        hits, of = group.predictions[0][chosen] == group.target[chosen], group.target[chosen]
        assert place.ua == pytest.approx(np.mean([hits[of == label].mean() for label in range(CLASSES)]))
        assert place.wa == pytest.approx(hits.mean())
