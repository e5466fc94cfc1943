import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from sksae.interpret.explanation import _intervals as intervals
from tests.cases import each_case


@each_case("hits, n", [(0, 5), (3, 7), (40, 41), (9, 9)])
def test_wilson_is_that_of_scipy(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(intervals.share_interval(hits, n), expected, atol=1e-12)


def test_wilson_of_nothing_is_nothing():
    assert np.isnan(intervals.share_interval(0, 0)).all()


def test_the_mean_of_twice_the_same_share_is_narrower_than_the_share_itself():
    single, mean = intervals.share_interval(6, 10), intervals.mean_share_interval((6, 10), (6, 10))
    for s, m in zip(single, mean, strict=True):
        assert m - 0.6 == pytest.approx((s - 0.6) / math.sqrt(2))


def test_intervals_of_perfect_and_of_hopeless_scores_are_not_points():
    low, high = intervals.mean_share_interval((10, 10), (10, 10))
    assert low < 0.9
    assert high == 1.0
    low, high = intervals.auroc_interval(1.0, 10, 10)
    assert 0.6 < low < 0.95
    assert high == 1.0
    low, high = intervals.auroc_interval(0.0, 10, 10)
    assert low == 0.0
    assert 0.05 < high < 0.4


def test_the_auroc_interval_is_symmetric_and_its_ends_solve_its_equation():
    low, high = intervals.auroc_interval(0.8, 12, 15)
    mirrored = intervals.auroc_interval(0.2, 12, 15)
    np.testing.assert_allclose(mirrored, (1 - high, 1 - low), atol=1e-9)
    for end in (low, high):
        parts = (1 - end) / (2 - end) + end / (1 + end)
        variance = end * (1 - end) * (1 + 12.5 * parts) / 180
        assert abs(0.8 - end) == pytest.approx(stats.norm.ppf(0.975) * math.sqrt(variance))
    assert np.isnan(intervals.auroc_interval(math.nan, 0, 4)).all()


def test_the_auroc_interval_covers():
    """Normal scores with a known AUROC: about 95 of 100 intervals hold it."""
    rng = np.random.default_rng(0)
    true = stats.norm.cdf(1 / math.sqrt(2))
    covered = 0
    for _ in range(200):
        positive, negative = rng.normal(1, 1, 20), rng.normal(0, 1, 20)
        low, high = intervals.auroc_interval(np.mean(positive[:, None] > negative), 20, 20)
        covered += low <= true <= high
    assert 182 <= covered <= 199


def test_correlations_are_nan_where_nothing_varies():
    assert math.isnan(intervals.pearson([1, 1], [0, 1]))
    assert math.isnan(intervals.pearson([1], [1]))
    assert intervals.pearson([0, 1, 2], [0, 2, 4]) == pytest.approx(1)


def test_the_bootstrap_of_a_correlation_holds_the_value():
    rng = np.random.default_rng(1)
    pairs = [(t, t + rng.normal(size=30)) for t in rng.normal(size=(20, 30))]
    value = intervals.pearson(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
    low, high = intervals.correlation_interval(pairs, np.random.default_rng(0))
    assert low < value < high
    # Fisher's, since the tokens are independent here.
    width = math.tanh(math.atanh(value) + 1.96 / math.sqrt(597)) - value
    assert high - value == pytest.approx(width, rel=0.5)
    again = intervals.correlation_interval(pairs, np.random.default_rng(0))
    assert again == (low, high)
    assert np.isnan(intervals.correlation_interval(pairs[:1], rng)).all()


def test_the_bootstrap_of_a_perfect_correlation_is_a_point_and_of_none_is_nothing():
    pairs = [(np.array([0.0, i]), np.array([0.0, 2.0 * i])) for i in range(1, 6)]
    low, high = intervals.correlation_interval(pairs, np.random.default_rng(0))
    assert low == pytest.approx(1)
    assert high == pytest.approx(1)
    silent = [(t, np.zeros(2)) for t, _ in pairs]
    assert np.isnan(intervals.correlation_interval(silent, np.random.default_rng(0))).all()


def test_chance_is_what_random_orders_score():
    rng = np.random.default_rng(0)
    truth = np.repeat([1, 0], [12, 18])
    said = np.repeat([1, 0], [10, 20])
    found = [balanced_accuracy_score(truth, rng.permutation(said)) for _ in range(1000)]
    chance = intervals.permutation_threshold(12, 10, 30)
    assert np.mean(np.array(found) <= chance + 1e-12) >= 0.93
    assert np.mean(np.array(found) < chance - 1e-12) <= 0.97
    assert math.isnan(intervals.permutation_threshold(0, 3, 9))
    assert intervals.auroc_threshold(1, 1) == 1.0
    assert intervals.auroc_threshold(5000, 5000) == pytest.approx(0.5095, abs=1e-3)
    assert math.isnan(intervals.auroc_threshold(0, 4))
