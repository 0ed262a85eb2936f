"""Scores against raters: compared with scikit-learn and scipy where possible, and coverage of their intervals."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, pearsonr
from sklearn.metrics import f1_score

from ser_pipeline.evaluation.attributes import sums_of
from ser_pipeline.evaluation.rated import ATTRIBUTES, VOTES, by_cluster, rated_difference, reading, vote_sums


def draw_shares(rng: np.random.Generator, count: int, classes: int = 4) -> np.ndarray:
    return rng.dirichlet(np.full(classes, 0.6), count)


def test_distances_and_f1_are_those_of_scipy_and_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    wanted, told = draw_shares(rng, 60), draw_shares(rng, 60)
    wanted[0] = (1, 0, 0, 0)
    right = wanted.argmax(1) == told.argmax(1)
    sums = vote_sums(wanted, told[None], right[None]).sum(1)[0]
    assert VOTES["js"].score(sums) == pytest.approx(np.mean(jensenshannon(wanted, told, base=2, axis=1) ** 2))
    assert VOTES["kl"].score(sums) == pytest.approx(np.mean(entropy(wanted, told, base=2, axis=1)))
    assert VOTES["accuracy"].score(sums) == pytest.approx(right.mean())
    assert VOTES["f1"].score(sums) == pytest.approx(f1_score(wanted > 0.25, told > 0.25, average="macro"))


def test_turns_without_a_label_count_for_all_but_the_accuracy() -> None:
    rng = np.random.default_rng(7)
    wanted, told = draw_shares(rng, 40), draw_shares(rng, 40)
    classed = rng.random(40) < 0.7
    right = (wanted.argmax(1) == told.argmax(1)) & classed
    sums = vote_sums(wanted, told[None], right[None], classed).sum(1)[0]
    assert VOTES["accuracy"].score(sums) == pytest.approx(right[classed].mean())
    every = vote_sums(wanted, told[None], right[None]).sum(1)[0]
    assert [VOTES[name].score(sums) for name in ("js", "kl", "f1")] == [
        VOTES[name].score(every) for name in ("js", "kl", "f1")
    ]


def test_correlation_and_error_are_those_of_scipy_and_ccc_is_one_of_equal_values_alone() -> None:
    rng = np.random.default_rng(1)
    true = rng.normal(3, 1, 80)
    told = 0.5 * true + rng.normal(1, 0.5, 80)
    sums = sums_of(true, told).sum(0)
    assert ATTRIBUTES["pearson"].score(sums) == pytest.approx(pearsonr(true, told).statistic)
    assert ATTRIBUTES["mae"].score(sums) == pytest.approx(np.abs(true - told).mean())
    assert ATTRIBUTES["ccc"].score(sums_of(true, true).sum(0)) == pytest.approx(1)
    assert ATTRIBUTES["ccc"].score(sums) < ATTRIBUTES["pearson"].score(sums)
    assert ATTRIBUTES["ccc"].score(sums_of(true, np.full(80, 3.0)).sum(0)) == pytest.approx(0, abs=1e-9)
    assert np.isnan(ATTRIBUTES["pearson"].score(sums_of(true, np.full(80, 3.0)).sum(0)))


SPEAKERS, EACH, TRIALS = 12, 30, 1_500


def people(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Draw true and predicted values (..., SPEAKERS, EACH) of a model that recognises some speakers better."""
    wanted = rng.normal(0, 1, (*shape, SPEAKERS, EACH)) + rng.normal(0, 0.2, (*shape, SPEAKERS, 1))
    skill = 0.6 + 0.1 * rng.normal(0, 1, (*shape, SPEAKERS, 1))
    return wanted, skill * wanted + 0.2 * rng.normal(0, 1, (*shape, SPEAKERS, 1)) + rng.normal(0, 0.6, wanted.shape)


def attribute_sums(rng: np.random.Generator, trials: int) -> np.ndarray:
    return sums_of(*people(rng, (trials,))).sum(2)


def votes(rng: np.random.Generator, trials: int) -> np.ndarray:
    """Draw sums (trials, SPEAKERS, M) of distributions that are closer to the truth for some speakers."""
    wanted = rng.dirichlet(np.full(4, 0.5), (trials, SPEAKERS, EACH))
    skill = np.clip(0.5 + 0.12 * rng.normal(0, 1, (trials, SPEAKERS, 1, 1)), 0.05, 0.95)
    told = skill * wanted + (1 - skill) * rng.dirichlet(np.ones(4), (trials, SPEAKERS, EACH))
    return vote_sums(wanted, told, told.argmax(-1) == wanted.argmax(-1)).sum(2)


@pytest.mark.parametrize(
    ("name", "table", "draw"),
    [(name, ATTRIBUTES, attribute_sums) for name in ATTRIBUTES] + [(name, VOTES, votes) for name in VOTES],
)
def test_intervals_by_speaker_hold_the_truth_in_93_to_97_percent(name: str, table: dict, draw: object) -> None:
    assert callable(draw)
    score = table[name]
    truth = float(score.score(draw(np.random.default_rng(1), 4_000).sum((0, 1))))
    found = [reading(one[None], score).interval for one in draw(np.random.default_rng(2), TRIALS)]
    held = np.mean([interval.low <= truth <= interval.high for interval in found])
    assert 0.93 <= held <= 0.97


def test_paired_tests_find_nothing_where_nothing_is_in_about_5_percent() -> None:
    rng = np.random.default_rng(3)
    wanted, one = people(rng, (TRIALS,))
    skill = 0.6 + 0.1 * rng.normal(0, 1, (TRIALS, SPEAKERS, 1))
    other = skill * wanted + 0.2 * rng.normal(0, 1, (TRIALS, SPEAKERS, 1)) + rng.normal(0, 0.6, wanted.shape)
    score = ATTRIBUTES["ccc"]
    sums = [sums_of(wanted, told).sum(2) for told in (one, other)]
    p = [rated_difference(a[None], b[None], score).p for a, b in zip(*sums, strict=True)]
    assert 0.03 <= np.mean([value is not None and value < 0.05 for value in p]) <= 0.07


def test_a_better_model_is_told_from_a_worse_one() -> None:
    rng = np.random.default_rng(4)
    wanted, told = people(rng, ())
    worse = told + rng.normal(0, 1.5, told.shape)
    one, other = (sums_of(wanted, said).sum(1)[None] for said in (told, worse))
    found = rated_difference(one, other, ATTRIBUTES["ccc"])
    assert found.value > 0
    assert found.p is not None
    assert found.p < 0.001
    assert rated_difference(one, one, ATTRIBUTES["ccc"]).p is None


def test_few_clusters_and_scores_that_cannot_be_told_have_no_interval_and_say_why() -> None:
    rng = np.random.default_rng(5)
    sums = attribute_sums(rng, 1)
    assert "2 clusters; an interval needs 3" in reading(sums[:, :2], ATTRIBUTES["ccc"]).interval.why
    perfect = sums_of(*[people(rng, ())[0]] * 2).sum(1)[None]
    assert "at the end of its range" in reading(perfect, ATTRIBUTES["ccc"]).interval.why


def test_sums_by_cluster_add_up_to_all() -> None:
    rng = np.random.default_rng(6)
    parts, cluster = rng.normal(size=(2, 30, 5)), rng.integers(0, 4, 30)
    found = by_cluster(parts, cluster)
    assert found.shape == (2, 4, 5)
    np.testing.assert_allclose(found.sum(1), parts.sum(1))
    np.testing.assert_allclose(found[:, 2], parts[:, cluster == 2].sum(1))
