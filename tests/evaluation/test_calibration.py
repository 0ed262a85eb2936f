"""Losses of probabilities, their intervals, and differences between them."""

import numpy as np
import pytest
from pandas import DataFrame
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss
from statsmodels.api import OLS
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from ser_pipeline.evaluation.calibration import BINS, LOSSES, errors, reliability
from ser_pipeline.evaluation.components import components

CLASSES = 4
REPEATS = 600


def test_reliability_of_nothing_is_not_a_number():
    assert np.isnan(reliability(np.empty(0), np.empty(0, bool)).ece)


def test_reliability_is_scikit_learns_calibration_curve():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.01, 1.0, size=2000)
    right = rng.random(2000) < confidence**2
    ours = reliability(confidence, right, bins=10)
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=10)
    assert ours.accuracy == pytest.approx(accuracy)
    assert ours.confidence == pytest.approx(mean_confidence)


def test_a_calibrated_model_has_a_smaller_error_than_an_overconfident_one():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.25, 1.0, size=20_000)
    right = rng.random(20_000) < confidence
    assert reliability(confidence, right).ece < 0.02
    assert reliability(np.sqrt(confidence), right).ece > 0.08


def world(rng, clusters, seeds=1, each=40, sharp=1.0):
    """Draw log-probabilities (R, U, C), truth and cluster (U,) of speakers who are recognised more or less well.

    With `sharp` 1.5 they are about calibrated, with less they are underconfident, with more overconfident.
    """
    cluster = np.repeat(np.arange(clusters), each)
    target = rng.integers(CLASSES, size=len(cluster))
    clear = 1.5 + rng.normal(0, 0.5, clusters)[cluster]
    logits = rng.normal(0, 1, (seeds, len(cluster), CLASSES))
    logits[:, np.arange(len(cluster)), target] += clear
    logits *= sharp
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True), target, cluster


def losses(log_prob, target):
    """Compute the three losses of one seed with scikit-learn and directly."""
    chances = np.exp(log_prob)
    confidence, right = chances.max(1), chances.argmax(1) == target
    gap = 0.0
    for low in np.arange(BINS) / BINS:
        inside = (confidence > low) & (confidence <= low + 1 / BINS)
        gap += abs(confidence[inside].sum() - right[inside].sum()) / len(target)
    brier = np.mean(np.square(chances - np.eye(CLASSES)[target]).sum(1))
    return {"brier": brier, "log_loss": log_loss(target, chances, labels=range(CLASSES)), "ece": gap}


def test_losses_are_scikit_learns_and_those_written_out_the_mean_over_seeds():
    log_prob, target, cluster = world(np.random.default_rng(0), clusters=6, seeds=3)
    found = errors(log_prob, target, cluster)
    each = [losses(seed, target) for seed in log_prob]
    assert tuple(found) == LOSSES
    for name, error in found.items():
        values = [one[name] for one in each]
        assert error.value == pytest.approx(np.mean(values))
        assert error.seed_deviation == pytest.approx(np.std(values, ddof=1))


def corrected(log_prob, target, cluster):
    """Correct the calibration error for chance, with statsmodels' standard errors of a clustered mean in each bin."""
    chances = np.exp(log_prob)
    confidence, gap = chances.max(1), chances.max(1) - (chances.argmax(1) == target)
    left = 0.0
    for low in np.arange(BINS) / BINS:
        own = gap * ((confidence > low) & (confidence <= low + 1 / BINS))
        if not own.any():
            continue
        fit = OLS(own, np.ones(len(own))).fit(
            cov_type="cluster", cov_kwds={"groups": cluster, "df_correction": False, "use_correction": False}
        )
        clusters = len(np.unique(cluster))
        error = fit.bse[0] * np.sqrt(clusters / (clusters - 1))
        folded = stats.foldnorm(abs(own.mean()) / error, scale=error)
        left += abs(own.mean()) - (folded.mean() - abs(own.mean()))
    return left


def test_the_interval_of_a_loss_is_a_jackknife_written_out():
    log_prob, target, cluster = world(np.random.default_rng(1), clusters=8, sharp=4.0)
    found = errors(log_prob, target, cluster)
    left = [losses(log_prob[0][cluster != out], target[cluster != out]) for out in range(8)]
    for name in ("brier", "log_loss"):
        logs = np.log([one[name] for one in left])
        half = stats.t.ppf(0.975, 7) * np.sqrt(7 / 8 * np.sum((logs - logs.mean()) ** 2))
        ends = np.exp(np.log(found[name].value) + half * np.array([-1, 1]))
        assert (found[name].interval.low, found[name].interval.high) == pytest.approx(tuple(ends))
    error = found["ece"]
    assert error.corrected == pytest.approx(corrected(log_prob[0], target, cluster))
    without = [
        corrected(log_prob[0][cluster != out], target[cluster != out], cluster[cluster != out]) for out in range(8)
    ]
    half = stats.t.ppf(0.975, 7) * np.sqrt(7 * np.var(without))
    assert error.interval.low == pytest.approx(error.corrected - half)
    root = np.sqrt(error.corrected)
    assert error.interval.high == pytest.approx((root + half / (2 * root)) ** 2)


@pytest.mark.parametrize("sharp", [1.0, 1.5, 2.5])
@pytest.mark.parametrize("clusters", [4, 5, 10, 24, 60])
def test_an_interval_of_a_loss_holds_the_models_own_as_often_as_it_says(clusters, sharp):
    rng = np.random.default_rng(clusters)
    true = errors(*world(np.random.default_rng(0), clusters=4000, sharp=sharp))
    found = [errors(*world(rng, clusters, sharp=sharp)) for _ in range(REPEATS)]
    for name in LOSSES:
        inside = [one[name].interval.low <= true[name].value <= one[name].interval.high for one in found]
        most = 1 if (name, sharp) == ("ece", 1.5) else 0.98  # errors are at least 0, which is then in the interval too
        assert 0.93 <= np.mean(inside) <= most, name


@pytest.mark.parametrize("clusters", [4, 10, 24, 60])
def test_a_calibrated_model_is_rarely_told_from_one_and_a_wrong_one_often(clusters):
    rng = np.random.default_rng(clusters)

    def told(scale):
        found = []
        for _ in range(400):
            log_prob, _, cluster = world(rng, clusters)
            chances = np.exp(log_prob[0])
            drawn = (chances.cumsum(1) > rng.random((len(chances), 1))).argmax(1)
            sure = scale * log_prob
            found.append(errors(sure - np.logaddexp.reduce(sure, axis=-1, keepdims=True), drawn, cluster)["ece"])
        return np.mean([one.interval.low > 0 for one in found]), np.mean([one.value for one in found]), found

    held, read, found = told(1.0)
    assert held < 0.03
    assert np.mean([one.corrected for one in found]) < 0.7 * read, "the value is chance, most of which is removed"
    assert clusters < 10 or told(2.5)[0] > 0.9


def test_where_one_model_tests_everybody_its_luck_is_in_the_interval_with_seeds_alone():
    log_prob, target, cluster = world(np.random.default_rng(2), clusters=10, seeds=3)
    log_prob = log_prob * np.array([0.3, 1.0, 2.0])[:, None, None]
    wide, narrow = errors(log_prob, target, cluster, crossed=True), errors(log_prob, target, cluster)
    for name in wide:
        assert wide[name].interval.high > narrow[name].interval.high
    assert not errors(log_prob[:1], target, cluster, crossed=True)["brier"].interval.training


def test_two_speakers_and_a_model_that_is_always_right_have_no_interval_of_a_loss():
    log_prob, target, cluster = world(np.random.default_rng(3), clusters=2)
    assert errors(log_prob, target, cluster)["ece"].interval.why == "2 clusters; an interval needs 3"
    target, cluster = np.arange(12) % CLASSES, np.arange(12) // CLASSES
    sure = np.where(np.eye(CLASSES)[target] > 0, 0.0, -np.inf)[None]
    for name, error in errors(sure, target, cluster).items():
        said = "no cluster differs from another" if name == "ece" else "the loss is 0 without one of the clusters"
        assert error.value == 0.0
        assert error.interval.why.startswith(said)


def test_sources_are_statsmodels_analysis_of_variance():
    rng = np.random.default_rng(4)
    seeds, speakers = 5, 12
    scores = rng.normal(0, 0.05, (seeds, speakers)) + rng.normal(0, 0.1, speakers) + rng.normal(0, 0.04, (seeds, 1))
    cells = [(seed, speaker, scores[seed, speaker]) for seed in range(seeds) for speaker in range(speakers)]
    table = anova_lm(ols("ua ~ C(seed) + C(speaker)", DataFrame(cells, columns=["seed", "speaker", "ua"])).fit())
    mean = table["mean_sq"]
    found = components(scores)
    assert found.rest == pytest.approx(mean["Residual"] ** 0.5)
    assert found.speaker == pytest.approx(((mean["C(speaker)"] - mean["Residual"]) / seeds) ** 0.5)
    assert found.seed == pytest.approx(((mean["C(seed)"] - mean["Residual"]) / speakers) ** 0.5)


def test_sources_that_were_planted_are_found_in_the_mean():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(2000):
        scores = rng.normal(0, 0.05, (4, 10)) + rng.normal(0, 0.1, 10) + rng.normal(0, 0.04, (4, 1))
        found.append([value**2 for value in vars(components(scores)).values()])
    assert np.mean(found, axis=0) == pytest.approx([0.01, 0.0016, 0.0025], rel=0.05)


def test_one_seed_tells_speakers_from_nothing_and_one_speaker_tells_nothing():
    one = components(np.array([[0.5, 0.7, 0.9]]))
    assert (one.speaker, one.seed, one.rest) == (pytest.approx(0.2), None, None)
    assert components(np.array([[0.5], [0.7]])).speaker is None
