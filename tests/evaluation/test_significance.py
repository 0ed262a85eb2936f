import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from ser_pipeline.evaluation.metrics import Confusion
from ser_pipeline.evaluation.significance import cluster_counts, holm, mcnemar

CLASSES = 4


def utterances(rng, speakers=10, each=50):
    """Draw target and speaker of a balanced set."""
    return rng.integers(CLASSES, size=speakers * each), np.repeat(np.arange(speakers), each)


def predict(rng, target, speaker, skill, spread=0.0):
    """Predict correctly with probability `skill` plus the speaker's own `spread`, otherwise any class."""
    own = skill + spread * rng.standard_normal(speaker.max() + 1)
    return np.where(rng.random(len(target)) < own[speaker], target, rng.integers(CLASSES, size=len(target)))


def matrices(target, speaker, *predictions):
    return cluster_counts(target, np.stack(predictions), speaker, speaker.max() + 1, CLASSES)


def test_matrices_of_seeds_and_speakers_are_those_of_each_alone():
    rng = np.random.default_rng(0)
    target, speaker = utterances(rng)
    seeds = [predict(rng, target, speaker, 0.5) for _ in range(2)]
    counts = matrices(target, speaker, *seeds)
    rows = speaker == 3
    assert np.array_equal(counts[1, 3], Confusion.of(target[rows], seeds[1][rows], CLASSES).counts)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_every_utterance_is_counted_in_its_cell_though_nothing_falls_into_the_last(classes):
    rng = np.random.default_rng(classes)
    target, speaker = rng.integers(classes - 1, size=40), rng.integers(3, size=40)
    predictions = rng.integers(classes - 1, size=(3, 40))
    wanted = np.zeros((3, 4, classes, classes), int)
    for counts, prediction in zip(wanted, predictions, strict=True):
        np.add.at(counts, (speaker, target, prediction), 1)
    assert np.array_equal(cluster_counts(target, predictions, speaker, 4, classes), wanted)


def test_corrected_p_values_are_statsmodels():
    p = np.random.default_rng(0).random(9) ** 3
    assert holm(list(p)) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]) == []


def test_what_is_no_test_is_not_counted():
    assert holm([None, 0.01, None, 0.02]) == [None, 0.02, None, 0.02]


@pytest.mark.parametrize("skills", [(0.6, 0.5), (0.5, 0.5), (0.9, 0.1)])
def test_mcnemar_is_statsmodels(skills):
    rng = np.random.default_rng(0)
    right, other = (rng.random(300) < skill for skill in skills)
    table = [[np.sum(right & other), np.sum(right & ~other)], [np.sum(~right & other), np.sum(~right & ~other)]]
    first, second, p = mcnemar(right, other)
    assert (first, second) == (table[0][1], table[1][0])
    assert p == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)


def test_mcnemar_of_models_that_never_disagree_finds_nothing():
    right = np.array([True, False])
    assert mcnemar(right, right) == (0, 0, 1.0)
