import tarfile
from dataclasses import dataclass, replace

import numpy as np
import pytest
from pandas import DataFrame
from scipy import stats
from statsmodels.api import OLS, Logit
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from ser_pipeline.evaluation.intervals import (
    difference,
    group_difference,
    link,
    recall_intervals,
    share_interval,
    share_limits,
    sizes,
)
from ser_pipeline.evaluation.jackknife import variation
from ser_pipeline.evaluation.metrics import METRICS, macro_f1, recalls, ua, wa
from ser_pipeline.report.groups import panels, speakers
from ser_pipeline.runs.reading import read_run, scan
from ser_pipeline.runs.records import UtteranceTable
from support.places import DATA

CLUSTERS = (4, 5, 10, 24, 60)
REPEATS = 1000
BASE = np.array([1.2, 0.4, -0.2, 0.7])
"""Logit of each class's recall for a typical speaker."""
SIZES = np.array([6, 14, 9, 11])
"""Mean number of utterances of each class and speaker."""


@dataclass(frozen=True)
class World:
    """Deviations of the logits of all recalls by speaker, by training, and by their interaction."""

    speaker: float = 0.5
    training: float = 0.0  # of a seed, for all speakers
    fold: float = 0.2  # of a speaker and seed
    gain: float = 0.0  # of the second model over the first
    ease: float = 0.0  # of all
    size: float = 1.0  # of `SIZES`

    @property
    def recalls(self):
        """Return the true recall of each class: the mean over speakers and trainings, by quadrature."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        logits = BASE[:, None] + self.ease + np.sqrt(self.speaker**2 + self.training**2 + self.fold**2) * nodes
        return (1 / (1 + np.exp(-logits))) @ weights / weights.sum()

    @property
    def truth(self):
        """Return the score in the limit of infinitely many speakers and utterances."""
        return {name: float(metric(confused(self.recalls * SIZES, SIZES))) for name, metric in METRICS.items()}

    def counts(self, rng, seeds, clusters, repeats=REPEATS, models=1):
        """Draw confusion matrices (models, repeats, seeds, clusters, C, C); models share speakers and utterances."""
        size = rng.poisson(self.size * SIZES * rng.uniform(0.5, 1.5, (repeats, 1, clusters, 1)))
        size = np.maximum(size, 1)
        person = rng.normal(0, self.speaker, (repeats, 1, clusters, 1))
        training = rng.normal(0, self.training, (models, repeats, seeds, 1, 1))
        fold = rng.normal(0, self.fold, (models, repeats, seeds, clusters, 1))
        gain = self.gain * np.arange(models).reshape(-1, 1, 1, 1, 1)
        right = rng.binomial(size, 1 / (1 + np.exp(-(BASE + self.ease + gain + person + training + fold))))
        return confused(right, np.broadcast_to(size, right.shape))


def confused(right, size):
    """Return matrices (..., C, C) with `right` (..., C) of `size` (..., C) correct; errors are the next class."""
    classes = len(BASE)
    matrices = np.zeros((*right.shape, classes), dtype=right.dtype)
    own = np.arange(classes)
    matrices[..., own, own] = right
    matrices[..., own, (own + 1) % classes] = size - right
    return matrices


def coverage(limits, truth):
    """Return the shares of intervals that contain the truth, are above it and are below it."""
    low, high = limits
    return np.mean((low <= truth) & (truth <= high)), np.mean(low > truth), np.mean(high < truth)


def several(counts, metric, **how):
    return share_limits(counts, METRICS[metric], sizes(counts, metric), **how)


def each(one, other, **how):
    """Return the difference in each repetition, of UA unless another score is requested."""
    return [difference(first, second, **how) for first, second in zip(one, other, strict=True)]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("clusters", CLUSTERS)
def test_an_interval_holds_the_truth_as_often_as_it_says_and_misses_on_both_sides(clusters, metric):
    world = World()
    counts = world.counts(np.random.default_rng(clusters), 2, clusters, 2 * REPEATS)[0]
    held, above, below = coverage(several(counts, metric), world.truth[metric])
    assert 0.93 <= held <= 0.97
    assert abs(above - below) < 0.025


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("ease", "size", "speaker"), [(2.5, 1.0, 0.5), (1.5, 0.25, 0.5), (0.0, 0.25, 0.5), (1.5, 1.0, 1.0)]
)
@pytest.mark.parametrize("clusters", [5, 10, 24])
def test_of_few_utterances_high_scores_and_unlike_speakers_too(clusters, ease, size, speaker, metric):
    world = World(speaker=speaker, ease=ease, size=size)
    counts = world.counts(np.random.default_rng(clusters), 1, clusters, REPEATS)[0]
    assert 0.925 <= coverage(several(counts, metric), world.truth[metric])[0] <= 0.985


@pytest.mark.parametrize("clusters", CLUSTERS)
def test_the_interval_of_a_recall_holds_it_as_often_as_it_says(clusters):
    world = World()
    counts = world.counts(np.random.default_rng(clusters), 1, clusters, 2 * REPEATS)[0]
    limits = share_limits(counts, lambda matrices: recalls(matrices)[..., 1], counts[:, 0, :, 1].sum((-1, -2)))
    assert 0.93 <= coverage(limits, world.recalls[1])[0] <= 0.97


@pytest.mark.parametrize("training", [0.0, 0.1, 0.3], ids="training varies by {} logits".format)
@pytest.mark.parametrize("clusters", CLUSTERS)
def test_an_interval_of_models_that_test_everybody_holds_the_truth_as_often_as_it_says_or_rather_more(
    clusters, training
):
    world = World(training=training)
    counts = world.counts(np.random.default_rng(clusters), 5, clusters, 2 * REPEATS)[0]
    held, above, below = coverage(several(counts, "ua", crossed=True), world.truth["ua"])
    assert 0.93 <= held <= 0.98
    assert abs(above - below) < 0.025


def test_an_interval_of_speakers_alone_fails_where_one_model_tests_everybody():
    world = World(training=0.3)
    counts = world.counts(np.random.default_rng(0), 3, 60)[0]
    assert coverage(several(counts, "ua"), world.truth["ua"])[0] < 0.6


@pytest.mark.parametrize("clusters", CLUSTERS)
def test_equal_models_are_told_apart_in_a_twentieth_of_cases_and_the_interval_agrees_with_the_test(clusters):
    found = each(*World().counts(np.random.default_rng(clusters), 2, clusters, models=2))
    rejected = np.array([one.p <= 0.05 for one in found])
    assert 0.03 <= rejected.mean() < 0.07
    assert np.array_equal(rejected, [one.interval.low > 0 or one.interval.high < 0 for one in found])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("clusters", CLUSTERS)
def test_the_interval_of_a_difference_holds_the_true_one_as_often_as_it_says(clusters, metric):
    world, better = World(), World(gain=0.4, ease=0.4)
    other, one = replace(world, gain=0.4).counts(np.random.default_rng(clusters), 1, clusters, models=2)
    found = each(one, other, metric=metric)
    true = better.truth[metric] - world.truth[metric]
    assert 0.03 < true < 0.12
    assert 0.93 <= np.mean([one.interval.low <= true <= one.interval.high for one in found]) <= 0.97


def halves(counts, how):
    """Return the utterances of two groups of speakers: those of every second cluster, or some of every cluster."""
    first = np.arange(counts.shape[-3]) % 2 == 0
    if how == "clusters of their own":
        return counts * first[:, None, None], counts * ~first[:, None, None]
    pairs = counts.reshape(*counts.shape[:-3], -1, 2, *counts.shape[-2:])
    return pairs[..., 0, :, :], pairs[..., 1, :, :]


@pytest.mark.parametrize("how", ["clusters of their own", "clusters of both"])
@pytest.mark.parametrize("speakers", [8, 10, 24, 60])
def test_the_gap_between_groups_holds_the_true_one_as_often_as_it_says(speakers, how):
    world = World()
    counts = world.counts(np.random.default_rng(speakers), 2, speakers)[0]
    found = [group_difference(*halves(one, how)) for one in counts]
    held = np.mean([one.interval.low <= 0 <= one.interval.high for one in found])
    assert 0.93 <= held <= 0.985, "more for four speakers each, as their degrees of freedom are counted separately"
    assert np.mean([one.p <= 0.05 for one in found]) == pytest.approx(1 - held, abs=1e-9)


def test_what_moves_two_groups_apart_within_a_cluster_is_in_their_gap():
    """A training that is better for women is worse for men: as if independent, the interval would be too narrow."""
    rng = np.random.default_rng(0)
    apart = rng.normal(0, 0.5, (REPEATS, 1, 10, 1))
    size = np.full((REPEATS, 1, 10, len(BASE)), 20)
    one, other = (confused(rng.binomial(size, 1 / (1 + np.exp(-(BASE + side * apart)))), size) for side in (1, -1))
    found = [group_difference(*pair) for pair in zip(one, other, strict=True)]
    assert 0.93 <= np.mean([one.interval.low <= 0 <= one.interval.high for one in found]) <= 0.97
    free = [np.concatenate([counts, np.zeros_like(counts)], axis=2) for counts in (one, other[:, :, ::-1])]
    free[1] = np.roll(free[1], 10, axis=2)
    alone = [group_difference(*pair) for pair in zip(*free, strict=True)]
    assert np.mean([one.interval.low <= 0 <= one.interval.high for one in alone]) < 0.9


def test_the_luck_of_a_training_that_serves_one_group_is_in_their_gap_where_one_model_tests_everybody():
    rng = np.random.default_rng(0)
    training = rng.normal(0, 0.3, (400, 3, 1, 1)) * np.where(np.arange(24) % 2, 1, -1)[:, None]
    size = np.full((400, 3, 24, len(BASE)), 10)
    person = rng.normal(0, 0.3, (400, 1, 24, 1))
    counts = confused(rng.binomial(size, 1 / (1 + np.exp(-(BASE + training + person)))), size)
    found = [group_difference(*halves(one, "clusters of their own"), crossed=True) for one in counts]
    assert np.mean([one.p <= 0.05 for one in found]) < 0.07


def test_groups_that_lack_a_class_of_the_other_have_no_gap():
    one, other = equal_clusters(np.random.default_rng(0))
    other[:, :, 2] = 0
    assert "lacks a class" in group_difference(one, other).interval.why
    assert not group_difference(one, other, "wa").interval.why


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize(("clusters", "training"), [(4, 0.1), (5, 0.1), (10, 0.1), (24, 0.1), (60, 0.05), (300, 0.05)])
def test_equal_models_that_test_everybody_are_rarely_told_apart(clusters, training, seeds):
    world = World(training=training)
    rng = np.random.default_rng(clusters)
    one, other = world.counts(rng, seeds, clusters, REPEATS if clusters < 300 else 500, models=2)
    found = each(one, other, crossed=True)
    assert np.mean([one.p <= 0.05 for one in found]) < 0.07


def test_speakers_alone_tell_equal_models_apart_where_one_model_tests_everybody():
    world = World(training=0.05)  # a point of UA
    one, other = world.counts(np.random.default_rng(0), 1, 300, 200, models=2)
    assert np.mean([one.p <= 0.05 for one in each(one, other)]) > 0.15


def test_a_difference_of_the_detectable_size_is_found_in_four_of_five_cases():
    rng = np.random.default_rng(0)
    gains = rng.normal(0, 0.05, (4000, 10))
    spread = variation((gains.sum(1, keepdims=True) - gains)[:, None] / 9)
    true = 2.262 * 0.05 / np.sqrt(10) + 0.883 * 0.05 / np.sqrt(10)
    assert spread.detectable().mean() == pytest.approx(true, rel=0.05)
    assert np.mean(spread.p_value(gains.mean(1) + true) <= 0.05) == pytest.approx(0.8, abs=0.03)
    exact = TTestPower().solve_power(nobs=10, alpha=0.05, power=0.8) * 0.05 / np.sqrt(1)
    assert true == pytest.approx(exact, rel=0.02)


def equal_clusters(rng, seeds=1, clusters=8, models=2):
    """Draw ten utterances of each class for every speaker, so that pooled scores are means over speakers."""
    size = np.full((models, seeds, clusters, len(BASE)), 10)
    person = rng.normal(0, 0.5, (1, 1, clusters, 1))
    return confused(rng.binomial(size, 1 / (1 + np.exp(-(BASE + person)))), size)


def test_a_difference_is_scipys_paired_t_test_where_speakers_are_of_one_size():
    one, other = equal_clusters(np.random.default_rng(1), seeds=2)
    found = difference(one, other, "ua")
    theirs = stats.ttest_rel(ua(one).mean(0), ua(other).mean(0))
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    interval = theirs.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.value == pytest.approx(theirs.statistic * (ua(one) - ua(other)).mean(0).std(ddof=1) / np.sqrt(8))


@pytest.mark.parametrize(("seeds", "clusters"), [(4, 7), (5, 5), (9, 4)])
def test_crossed_sources_are_statsmodels_analysis_of_variance(seeds, clusters):
    rng = np.random.default_rng(2)
    one, other = equal_clusters(rng, seeds=seeds, clusters=clusters)
    gains = ua(one) - ua(other)
    seed, speaker = np.indices(gains.shape)
    table = anova_lm(
        ols("y ~ C(a) + C(b)", DataFrame({"y": gains.ravel(), "a": seed.ravel(), "b": speaker.ravel()})).fit()
    )
    luck, own, both = (table["mean_sq"] / gains.size).tolist()
    if clusters >= seeds:
        own -= both
    else:
        luck -= both
    parts = [(max(own, 0), clusters - 1), (max(luck, 0), seeds - 1)]
    half = np.sqrt(sum(part * stats.t.ppf(0.975, degrees) ** 2 for part, degrees in parts))
    found = difference(one, other, crossed=True)
    assert (found.interval.high - found.interval.low) / 2 == pytest.approx(half, rel=1e-9)
    at = np.sqrt(sum(part * stats.t.ppf(found.p / 2, degrees) ** 2 for part, degrees in parts))
    assert at == pytest.approx(abs(found.value), rel=1e-6)


def test_the_interval_of_a_share_is_near_statsmodels_logistic_regression_with_clusters():
    counts = World().counts(np.random.default_rng(3), 1, 60, repeats=1)[0, 0]
    right, size = np.trace(counts[0], axis1=1, axis2=2), counts[0].sum((1, 2))
    speaker = np.repeat(np.arange(60), size)
    hit = np.concatenate([np.arange(n) < k for k, n in zip(right, size, strict=True)])
    fit = Logit(hit.astype(float), np.ones(len(hit))).fit(disp=0, cov_type="cluster", cov_kwds={"groups": speaker})
    half = stats.t.ppf(0.975, 59) * fit.bse[0]
    theirs = 1 / (1 + np.exp(-(fit.params[0] + np.array([-half, half]))))
    found = share_interval(counts, "wa")
    assert (found.low, found.high) == pytest.approx(theirs, abs=0.002)


@pytest.mark.parametrize("metric", METRICS)
def test_an_interval_is_a_jackknife_written_out(metric):
    counts = World().counts(np.random.default_rng(4), 3, 6, repeats=1)[0, 0]
    score = {"wa": wa, "ua": ua, "macro_f1": macro_f1}[metric]

    def logit(kept):
        share = np.mean([score(seed[kept].sum(0)) for seed in counts])
        return np.log(share / (1 - share))

    everybody = np.arange(6)
    pseudo = [6 * logit(everybody) - 5 * logit(np.delete(everybody, one)) for one in everybody]
    error = OLS(pseudo, np.ones(6)).fit().bse[0]
    ends = logit(everybody) + np.array([-1, 1]) * stats.t.ppf(0.975, 5) * error
    found = share_interval(counts, metric)
    assert (found.low, found.high) == pytest.approx(1 / (1 + np.exp(-ends)), rel=1e-9)


def crossed_ends(counts, transform):
    """Return the limits of WA over speakers and seeds that are both drawn, with the two jackknives written out."""
    seeds, clusters = counts.shape[:2]
    whole = transform(np.mean([wa(seed.sum(0)) for seed in counts]))
    left = np.array([[wa(np.delete(seed, one, axis=0).sum(0)) for one in range(clusters)] for seed in counts])
    own = np.array([transform(left[:, one].mean()) for one in range(clusters)])
    both = np.array([[transform(np.delete(left[:, k], r).mean()) for k in range(clusters)] for r in range(seeds)])
    luck = both.mean(1)
    rest = both - both.mean(0) - both.mean(1)[:, None] + both.mean()
    shared = (seeds - 1) * (clusters - 1) / (seeds * clusters) * (rest**2).sum()
    parts = [
        (max((clusters - 1) * own.var() - shared, 0), clusters - 1),
        ((seeds - 1) * luck.var(), seeds - 1),
    ]
    half = np.sqrt(sum(part * stats.t.ppf(0.975, degrees) ** 2 for part, degrees in parts))
    return 1 / (1 + np.exp(-(whole + np.array([-half, half]))))


def test_an_interval_over_speakers_and_seeds_is_two_jackknives_written_out():
    counts = World(training=0.4).counts(np.random.default_rng(5), 4, 6, repeats=1)[0, 0]
    found = share_interval(counts, "wa", crossed=True)
    assert (found.low, found.high) == pytest.approx(crossed_ends(counts, lambda share: np.log(share / (1 - share))))


@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("right", [True, False])
def test_half_an_utterance_is_added_where_one_speaker_alone_is_unlike_the_others(right, crossed):
    size = np.full((3, 5, len(BASE)), 5)
    hits = size * right
    hits[0, 2, 1], hits[1:, 2, 0] = (3, 4) if right else (2, 1)
    counts = confused(hits, size)

    def smoothed(share):
        inside = (share * 100 + 0.5) / 101
        return np.log(inside / (1 - inside))

    found = share_interval(counts, "wa", crossed=crossed)
    if crossed:
        ends = crossed_ends(counts, smoothed)
    else:
        own = [smoothed(np.mean([wa(np.delete(seed, one, axis=0).sum(0)) for seed in counts])) for one in range(5)]
        half = stats.t.ppf(0.975, 4) * np.sqrt(4 * np.var(own))
        ends = 1 / (1 + np.exp(-(smoothed(np.mean([wa(seed.sum(0)) for seed in counts])) + np.array([-half, half]))))
    assert (found.low, found.high) == pytest.approx(ends)


def test_half_an_utterance_is_added_where_one_seed_alone_is_right_without_a_speaker():
    size = np.full((2, 5, len(BASE)), 5)
    hits = size.copy()
    hits[0, :, 0] -= [1, 2, 3, 1, 2]
    hits[1, 2, 1] = 3

    def smoothed(share):
        inside = (share * 100 + 0.5) / 101
        return np.log(inside / (1 - inside))

    counts = confused(hits, size)
    found = share_interval(counts, "wa", crossed=True)
    assert (found.low, found.high) == pytest.approx(crossed_ends(counts, smoothed))


def test_the_gap_of_groups_of_other_speakers_adds_their_variances_with_their_own_degrees_of_freedom():
    counts = World().counts(np.random.default_rng(6), 2, 9, repeats=1)[0, 0]
    first = np.arange(9) < 3
    one, other = counts * first[:, None, None], counts * ~first[:, None, None]
    parts = []
    for group in (counts[:, first], counts[:, ~first]):
        size = group.shape[1]
        left = [np.mean([wa(np.delete(seed, k, axis=0).sum(0)) for seed in group]) for k in range(size)]
        parts.append(((size - 1) * np.var(left), size - 1))
    half = np.sqrt(sum(part * stats.t.ppf(0.975, degrees) ** 2 for part, degrees in parts))
    found = group_difference(one, other, "wa")
    assert (found.interval.high - found.interval.low) / 2 == pytest.approx(half)


def test_a_class_that_is_true_in_one_cluster_and_predicted_in_another_has_a_macro_f1_with_an_interval():
    counts = World().counts(np.random.default_rng(7), 1, 4, repeats=1)[0, 0]
    counts[:, 1:, 3] = 0
    counts[:, :, :3, 3] = 0
    assert "one cluster only" in share_interval(counts, "macro_f1").why
    counts[:, 2, 0, 3] = 1
    assert not share_interval(counts, "macro_f1").why


def test_ua_has_the_variance_of_a_share_of_so_many_utterances():
    counts = np.array([[[[3, 1, 0, 0], [0, 8, 0, 0], [4, 0, 4, 0], [0, 0, 0, 0]]]])
    assert sizes(counts, "ua") == pytest.approx(3**2 / (1 / 4 + 1 / 8 + 1 / 8))
    assert sizes(counts, "wa") == 20


def test_emodbs_table_reads_as_the_jackknife_says(tmp_path):
    with tarfile.open(DATA / "emodb-grid.tar.xz") as kept:
        kept.extractall(tmp_path, filter="data")
    roll = UtteranceTable()
    (panel,), _ = panels([read_run(header, roll) for header in scan(tmp_path / "runs")[0]])
    counts = panel.full.counts(speakers(roll)[1])
    found = share_interval(counts, "ua")
    assert (round(100 * found.low, 1), round(100 * found.high, 1)) == (72.2, 85.9)
    assert found.clusters == 10
    assert found.training
    mean = next(group for group in panel.whole if group.name == "full-mean")
    gain = difference(counts, mean.counts(speakers(roll)[1]))
    numbers = (gain.value, gain.interval.low, gain.interval.high, gain.detectable)
    assert [round(100 * number, 1) for number in numbers] == [0.5, -1.3, 2.3, 2.5], "as in the README"


def test_under_three_clusters_there_is_no_interval_and_no_test():
    for clusters in (1, 2):
        one, other = equal_clusters(np.random.default_rng(0), clusters=clusters)
        found = share_interval(one)
        assert np.isnan([found.low, found.high]).all()
        assert "an interval needs 3" in found.why
        gap = difference(one, other)
        assert np.isnan(gap.interval.low)
        assert (gap.p, gap.detectable) == (None, None)
        assert gap.value == pytest.approx(float((ua(one.sum(1)) - ua(other.sum(1))).mean()))


def test_with_one_seed_that_tests_everybody_training_luck_is_not_in_the_interval_and_there_is_no_p():
    one, other = equal_clusters(np.random.default_rng(0))
    found = difference(one, other, crossed=True)
    assert not found.interval.training
    assert found.interval.high > found.interval.low
    assert (found.p, found.detectable) == (None, None)
    assert not share_interval(one, crossed=True).training
    assert share_interval(one, crossed=False).training


@pytest.mark.parametrize("seeds", [2, 3])
def test_with_several_seeds_that_test_everybody_training_luck_widens_the_interval(seeds):
    counts = World(training=0.3).counts(np.random.default_rng(0), seeds, 20, repeats=1)[0, 0]
    alone, both = share_interval(counts), share_interval(counts, crossed=True)
    assert both.training
    assert both.high - both.low > alone.high - alone.low


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_reads_as_clopper_and_pearson_at_a_reduced_size(right):
    size = np.full((1, 10, len(BASE)), 5)
    found = share_interval(confused(size * right, size), "wa")
    reduced = 200 * (stats.t.ppf(0.975, 199) / stats.t.ppf(0.975, 9)) ** 2
    theirs = proportion_confint(reduced * right, reduced, method="beta")
    assert (found.low, found.high) == pytest.approx(theirs, abs=1e-9)
    assert found.high - found.low > 0.01


def test_speakers_who_do_not_differ_have_an_interval_all_the_same():
    size = np.full((1, 5, len(BASE)), 4)
    found = share_interval(confused(size - 1, size), "ua")
    assert found.low < 0.65
    assert 0.85 < found.high < 1


def test_one_speaker_with_all_the_errors_gives_an_interval_within_0_and_1():
    size = np.full((1, 8, len(BASE)), 10)
    right = size.copy()
    right[0, 3] -= 2
    found = share_interval(confused(right, size), "ua")
    assert 0 < found.low < ua(confused(right, size).sum(1))[0] < found.high < 1


def test_a_class_of_one_speaker_alone_leaves_no_interval_of_ua_and_one_of_wa():
    size = np.full((1, 6, len(BASE)), 10)
    size[0, 1:, 2] = 0
    right = np.minimum(size, np.random.default_rng(0).integers(4, 9, size.shape))
    counts = confused(right, size)
    assert "1 class is in one cluster only" in share_interval(counts, "ua").why
    assert share_interval(counts, "wa").high > 0
    by_class = recall_intervals(counts)
    assert [one.clusters for one in by_class] == [6, 6, 1, 6]
    assert np.isnan(by_class[2].low)
    assert by_class[0].low < recalls(counts[0].sum(0))[0] < by_class[0].high


def test_a_recall_counts_the_speakers_that_hold_the_class():
    rng = np.random.default_rng(0)
    size = np.full((1, 9, len(BASE)), 10)
    size[0, 4:, 2] = 0
    counts = confused(rng.binomial(size, 0.7), size)
    few = confused(rng.binomial(size, 0.7), size)[:, :4]
    few[..., 2, :] = counts[:, :4, 2]
    held, alone = recall_intervals(counts)[2], recall_intervals(few)[2]
    assert (held.low, held.high, held.clusters) == (alone.low, alone.high, 4)


def test_a_model_does_not_differ_from_itself():
    counts = equal_clusters(np.random.default_rng(0))[0]
    found = difference(counts, counts)
    assert (found.value, found.p, found.interval.low, found.interval.high) == (0.0, 1.0, 0.0, 0.0)


def test_a_difference_that_is_the_same_for_all_speakers_has_no_test():
    size = np.full((1, 5, len(BASE)), 4)
    found = difference(confused(size - 1, size), confused(size - 2, size))
    assert found.value == pytest.approx(0.25)
    assert found.p is None
    assert "same amount" in found.interval.why


def test_models_of_different_utterances_are_not_compared():
    one, other = equal_clusters(np.random.default_rng(0))
    with pytest.raises(ValueError, match="same seeds, clusters and utterances"):
        difference(one, other + 1)
    with pytest.raises(ValueError, match="same seeds, clusters and utterances"):
        difference(one, other[:, :5])


def test_a_cluster_is_what_one_model_tests_with_all_that_shares_a_speaker_with_it():
    fold = np.array([0, 0, 1, 1, 2, 3, 3])
    speaker = np.array([7, 8, 9, 9, 6, 5, 6])
    assert link(fold).tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert link(fold, speaker).tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert link(np.array([], dtype=np.int64)).tolist() == []
