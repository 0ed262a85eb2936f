import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, recall_score

from ser_pipeline.evaluation.metrics import (
    SCORES,
    WEIGHTED,
    Confusion,
    macro_f1,
    probabilities,
    recalls,
    ua,
    utterance_scores,
    wa,
)
from ser_pipeline.settings import UTTERANCE_SCORES

labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(labels)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_scores_are_those_of_scikit_learn(pairs):
    target, prediction = np.array(pairs).T
    ours = Confusion.of(target, prediction, classes=4)
    assert np.array_equal(ours.counts, confusion_matrix(target, prediction, labels=range(4)))
    assert ours.wa == pytest.approx(accuracy_score(target, prediction))
    assert ours.ua == pytest.approx(balanced_accuracy_score(target, prediction))
    assert ours.macro_f1 == pytest.approx(f1_score(target, prediction, average="macro", zero_division=0))


def test_recalls_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    target, prediction = rng.integers(4, size=(2, 300))
    assert Confusion.of(target, prediction, 4).recalls == pytest.approx(recall_score(target, prediction, average=None))


def test_a_class_without_utterances_has_no_recall_and_does_not_lower_ua():
    scores = Confusion.of([0, 0, 1], [0, 0, 1], classes=3)
    assert np.isnan(scores.recalls[2])
    assert scores.ua == 1.0


def test_no_utterances_have_no_score_and_no_warning():
    empty = Confusion.of([], [], classes=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan([empty.wa, empty.ua, empty.macro_f1]).all()


def test_a_matrix_equals_one_with_the_same_counts_and_nothing_else():
    matrix = Confusion.of([0, 1], [0, 1], classes=2)
    assert matrix == Confusion.of([1, 0], [1, 0], classes=2)
    assert matrix != Confusion.of([0, 1], [0, 0], classes=2)
    assert matrix != matrix.counts.tolist()


@given(labels, labels)
def test_summed_folds_are_the_pooled_utterances(first, second):
    def matrix(pairs):
        return Confusion.of(*np.array(pairs).T, classes=4)

    assert matrix(first) + matrix(second) == matrix(first + second)


@pytest.mark.parametrize("how", SCORES)
def test_an_utterance_of_one_segment_keeps_the_segments_class(how):
    log_prob = np.log(np.random.default_rng(0).dirichlet(np.ones(4), size=20))
    scores = utterance_scores(log_prob, np.arange(20), 20, how, np.arange(20))
    assert np.array_equal(scores.argmax(1), log_prob.argmax(1))


@pytest.mark.parametrize("how", SCORES)
def test_the_order_of_segments_does_not_matter(how):
    rng = np.random.default_rng(1)
    log_prob = np.log(rng.dirichlet(np.ones(4), size=50))
    utterance = np.concatenate([np.arange(10), rng.integers(10, size=40)])
    order = rng.permutation(50)
    real = rng.integers(1, 48_000, size=50)
    assert utterance_scores(log_prob[order], utterance[order], 10, how, real[order]) == pytest.approx(
        utterance_scores(log_prob, utterance, 10, how, real)
    )


def test_mean_log_probability_and_mean_probability_are_means():
    log_prob = np.log([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    utterance = np.array([0, 0, 1])
    logs = utterance_scores(log_prob, utterance, 2)
    assert logs == pytest.approx(np.array([log_prob[:2].mean(0), log_prob[2]]))
    means = utterance_scores(log_prob, utterance, 2, "probability")
    assert np.exp(means) == pytest.approx(np.array([[0.7, 0.3], [0.2, 0.8]]))


def test_by_duration_a_segment_weighs_what_its_real_samples_are():
    log_prob = np.log([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    utterance, real = np.array([0, 0, 1, 1]), np.array([30, 10, 0, 0])
    scores = utterance_scores(log_prob, utterance, 2, "duration", real)
    assert scores[0] == pytest.approx(0.75 * log_prob[0] + 0.25 * log_prob[1])
    assert scores[1] == pytest.approx(log_prob[2:].mean(0)), "segments without real samples have equal weights"
    with pytest.raises(ValueError, match="real samples"):
        utterance_scores(log_prob, utterance, 2, "duration")


@given(st.integers(1, 20), st.integers(0, 48_000), st.integers(0, 2**32 - 1))
def test_by_duration_a_short_last_segment_moves_the_score_by_no_more_than_its_share(whole, real, seed):
    log_prob = np.log(np.random.default_rng(seed).dirichlet(np.ones(4), size=whole + 1))
    samples = np.array([48_000] * whole + [real])
    before = utterance_scores(log_prob[:-1], np.zeros(whole, int), 1, "duration", samples[:-1])
    after = utterance_scores(log_prob, np.zeros(whole + 1, int), 1, "duration", samples)
    assert np.abs(after - before).max() <= real / samples.sum() * np.ptp(log_prob, axis=0).max() + 1e-12


def test_every_way_that_a_setting_names_is_there():
    assert tuple(SCORES) == UTTERANCE_SCORES
    assert set(WEIGHTED) < set(SCORES)


def test_a_tie_of_votes_goes_to_the_surer_segment_and_a_majority_is_never_overruled():
    sure, unsure = np.log([[0.999999, 0.000001], [0.49, 0.51]])
    tie = utterance_scores(np.array([sure, unsure]), np.zeros(2, int), 1, "vote")
    majority = utterance_scores(np.array([sure, unsure, unsure]), np.zeros(3, int), 1, "vote")
    assert (tie.argmax(), majority.argmax()) == (0, 1)


def test_votes_are_shares_with_half_a_vote_split_by_probability():
    segments = np.log([[0.8, 0.1, 0.1], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6]])
    scores = utterance_scores(segments, np.array([0, 0, 1]), 2, "vote")
    split = np.exp(segments[:2].mean(0))
    expected = [np.array([2, 0, 0]) + 0.5 * split / split.sum(), np.array([0, 0, 1]) + 0.5 * np.array([0.2, 0.2, 0.6])]
    np.testing.assert_allclose(np.exp(scores), expected / np.array([[2.5], [1.5]]), rtol=1e-12)


def test_probabilities_sum_to_one_even_of_very_small_scores():
    assert probabilities(np.array([[-1000.0, -1001.0]])).sum() == pytest.approx(1.0)


def test_probabilities_of_each_utterance_are_its_own_however_far_apart_utterances_are():
    scores = np.array([[0.0, 0.0, -2000.0], [-3000.0, -1000.0, -1000.0], [-9000.0, -9000.0, -9000.0]])
    expected = [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(probabilities(scores), expected, rtol=1e-12)


@pytest.mark.parametrize("score", [wa, ua, macro_f1, recalls])
def test_matrices_in_stacks_are_scored_each_alone(score):
    counts = np.random.default_rng(0).integers(
        0, 4, (2, 3, 3, 3)
    )  # as many classes as matrices, so that no axis is told by length
    counts[1, 2, 0] = 0
    expected = [[score(matrix) for matrix in stack] for stack in counts]
    np.testing.assert_array_equal(score(counts), expected)
