"""Agreement of raters against the worked examples of the original papers."""

import numpy as np
import pytest

from ser_pipeline.evaluation.raters import (
    alpha_of_values,
    alpha_of_votes,
    one_against_others,
    reliability_of_means,
)

KRIPPENDORFF = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)
"""Four observers of twelve units, with missing values: Computing Krippendorff's Alpha-Reliability, 2011, section D."""

SHROUT_FLEISS = ((9, 2, 5, 8), (6, 1, 3, 2), (8, 4, 6, 8), (7, 1, 2, 6), (10, 5, 6, 9), (6, 2, 4, 7))
"""Four ratings of six targets: Shrout and Fleiss 1979, table 2."""


def by_unit() -> list[list[int]]:
    return [[value for value in unit if value is not None] for unit in zip(*KRIPPENDORFF, strict=True)]


def test_alpha_is_krippendorffs_of_his_example() -> None:
    counts = [[unit.count(category) for category in range(1, 6)] for unit in by_unit()]
    assert alpha_of_votes(counts) == pytest.approx(0.743, abs=5e-4)
    assert alpha_of_values(by_unit()) == pytest.approx(0.849, abs=5e-4)


def test_reliability_of_means_is_shrout_and_fleiss_of_theirs() -> None:
    assert reliability_of_means(SHROUT_FLEISS) == pytest.approx(0.44, abs=5e-3)


def test_alpha_of_many_raters_nears_fleiss_kappa_of_statsmodels() -> None:
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    counts = np.random.default_rng(0).multinomial(5, [0.5, 0.3, 0.2], 4_000) + np.eye(3, dtype=int)[[0, 1, 2, 0] * 1000]
    assert alpha_of_votes(counts) == pytest.approx(inter_rater.fleiss_kappa(counts), abs=1e-4)


def test_a_listeners_ceiling_is_how_often_one_says_what_most_others_do() -> None:
    rng = np.random.default_rng(1)
    ballots = rng.choice(3, (200, 5), p=[0.6, 0.3, 0.1])
    counts = np.stack([(ballots == category).sum(1) for category in range(3)], 1)
    right = []
    for row in ballots:
        for place, choice in enumerate(row):
            others = np.bincount(np.delete(row, place), minlength=3)
            top = np.flatnonzero(others == others.max())
            right.append(1 / len(top) if choice in top else 0.0)
    assert one_against_others(counts) == pytest.approx(np.mean(right))


@pytest.mark.parametrize("measure", [alpha_of_values, reliability_of_means])
def test_nothing_is_said_of_single_raters(measure: object) -> None:
    assert callable(measure)
    assert np.isnan(measure([[1.0], [2.0]]))
    assert np.isnan(alpha_of_votes([[1, 0], [0, 1]]))
    assert np.isnan(one_against_others(np.zeros((0, 2))))
