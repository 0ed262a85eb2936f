import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from ser_pipeline.evaluation.metrics import Confusion, ua
from ser_pipeline.evaluation.significance import (
    bootstrap,
    contributions,
    difference,
    holm,
    mcnemar,
    sign_flip,
    speaker_counts,
)

CLASSES = 4


def utterances(rng, speakers=10, each=50):
    """Target and speaker of a balanced set."""
    return rng.integers(CLASSES, size=speakers * each), np.repeat(np.arange(speakers), each)


def predict(rng, target, speaker, skill, spread=0.0):
    """Right with probability `skill` plus the speaker's own `spread`, else any class."""
    own = skill + spread * rng.standard_normal(speaker.max() + 1)
    return np.where(rng.random(len(target)) < own[speaker], target, rng.integers(CLASSES, size=len(target)))


def matrices(target, speaker, *predictions):
    return speaker_counts(target, np.stack(predictions), speaker, speaker.max() + 1, CLASSES)


def test_matrices_of_seeds_and_speakers_are_those_of_each_alone():
    rng = np.random.default_rng(0)
    target, speaker = utterances(rng)
    seeds = [predict(rng, target, speaker, 0.5) for _ in range(2)]
    counts = matrices(target, speaker, *seeds)
    rows = speaker == 3
    assert np.array_equal(counts[1, 3], Confusion.of(target[rows], seeds[1][rows], CLASSES).counts)


def test_the_interval_is_scipys_bootstrap_over_speakers():
    rng = np.random.default_rng(0)
    target, speaker = utterances(rng)
    counts = matrices(target, speaker, predict(rng, target, speaker, 0.5, 0.2))

    def pooled(chosen, axis):
        return np.apply_along_axis(lambda rows: ua(counts[0][rows].sum(0)), axis, chosen)

    theirs = stats.bootstrap(
        (np.arange(10),), pooled, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    ours = bootstrap(counts, "ua")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_the_interval_of_speakers_is_wider_than_one_that_takes_utterances_for_independent():
    rng = np.random.default_rng(0)
    target, speaker = utterances(rng, each=200)
    prediction = predict(rng, target, speaker, 0.5, 0.2)
    by_speaker = bootstrap(matrices(target, speaker, prediction), "wa")
    by_utterance = bootstrap(matrices(target, np.arange(len(target)), prediction), "wa", draws=500)
    assert by_speaker.high - by_speaker.low > 2 * (by_utterance.high - by_utterance.low)


def test_the_interval_holds_the_true_score_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        target, speaker = utterances(rng, speakers=30, each=20)
        interval = bootstrap(matrices(target, speaker, predict(rng, target, speaker, 0.5, 0.1)), "wa", draws=500)
        held += interval.low <= 0.5 + 0.5 / CLASSES <= interval.high
    assert held / 200 == pytest.approx(0.95, abs=0.05)


@pytest.mark.parametrize("speakers", [8, 20])
def test_the_p_value_is_scipys_paired_permutation(speakers):
    shares = np.random.default_rng(0).normal(0.3, 1.0, size=speakers)
    theirs = stats.permutation_test(
        (shares,), np.sum, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    )
    assert sign_flip(shares) == pytest.approx(theirs.pvalue, abs=1e-12 if speakers == 8 else 0.015)


def test_flipping_a_sign_swaps_the_models_within_a_speaker():
    rng = np.random.default_rng(0)
    target, speaker = utterances(rng)
    one, other = (matrices(target, speaker, predict(rng, target, speaker, skill)) for skill in (0.6, 0.5))
    shares = contributions(one, other)
    assert shares.sum() == pytest.approx(ua(one.sum((0, 1))) - ua(other.sum((0, 1))))
    one[:, 4], other[:, 4] = other[:, 4].copy(), one[:, 4].copy()
    swapped = ua(one.sum((0, 1))) - ua(other.sum((0, 1)))
    assert swapped == pytest.approx(shares.sum() - 2 * shares[4])


@pytest.mark.parametrize("speakers", [10, 24])
def test_two_equal_models_are_rarely_told_apart(speakers):
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(200):
        target, speaker = utterances(rng, speakers=speakers)
        one, other = (matrices(target, speaker, predict(rng, target, speaker, 0.5, 0.1)) for _ in range(2))
        found += sign_flip(contributions(one, other), draws=1000) <= 0.05
    assert found / 200 < 0.07


def test_a_better_model_is_told_apart_and_the_interval_holds_its_lead():
    rng = np.random.default_rng(0)
    target, speaker = utterances(rng, each=200)
    one, other = (
        matrices(target, speaker, *[predict(rng, target, speaker, skill) for _ in range(3)]) for skill in (0.6, 0.5)
    )
    found = difference(one, other)
    assert found.p < 0.01
    assert found.interval.low < 0.075 < found.interval.high
    assert found.interval.low > 0


def test_a_model_does_not_differ_from_itself():
    rng = np.random.default_rng(0)
    target, speaker = utterances(rng)
    counts = matrices(target, speaker, predict(rng, target, speaker, 0.5))
    found = difference(counts, counts)
    assert (found.value, found.p, found.interval.low, found.interval.high) == (0.0, 1.0, 0.0, 0.0)


def test_models_of_different_utterances_are_not_compared():
    rng = np.random.default_rng(0)
    target, speaker = utterances(rng)
    prediction = predict(rng, target, speaker, 0.5)
    with pytest.raises(ValueError, match="same utterances"):
        contributions(matrices(target, speaker, prediction), matrices(target[::-1].copy(), speaker, prediction))


def test_corrected_p_values_are_statsmodels():
    p = np.random.default_rng(0).random(9) ** 3
    assert holm(list(p)) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]) == []


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
