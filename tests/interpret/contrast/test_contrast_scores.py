from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse, stats
from sklearn.feature_selection import SelectFdr, SelectKBest
from sklearn.metrics import roc_auc_score

from sksae.interpret import FeatureContrast, auroc, log_odds_z, welch_t
from sksae.interpret.contrast._statistics import exchange_skewness, exchange_z, skewed_pvalues

SCORES = [welch_t, log_odds_z, auroc]
CONTAINERS = [np.asarray, sparse.csr_array, sparse.csc_matrix]


@pytest.fixture
def data():
    """60 rows; sparse, dense, negative, tied, constant and empty columns."""
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(60, 8)) * (rng.random((60, 8)) < [0.05, 0.2, 0.5, 0.9, 1, 1, 1, 1])
    X[:, 2] = X[:, 2].round()
    X[:, 3] -= 0.5 * (X[:, 3] > 0)
    X[:, 4:6] = rng.normal(loc=[0, 1e6], size=(60, 2))
    X[:, 6] = 0
    X[:, 7] = 0.1
    return X, np.where(rng.permutation(60) < 22, "yes", "no")


@pytest.mark.parametrize("container", CONTAINERS)
def test_welch_t_is_that_of_scipy(data, container):
    X, y = data
    t, pvalues = welch_t(container(X), y, signed=True)
    expected = stats.ttest_ind(X[y == "yes", :6], X[y == "no", :6], equal_var=False)
    np.testing.assert_allclose(t[:6], expected.statistic, rtol=1e-7)
    centred = X[:, :6] - X[:, :6].mean(0)
    powers = np.stack([(centred**power).sum(0) for power in (1, 2, 3)])
    z = exchange_z(centred[y == "yes"].sum(0), powers, 22, 38)
    exchanged = skewed_pvalues(z, exchange_skewness(powers, 22, 38))
    np.testing.assert_allclose(pvalues[:6], np.maximum(expected.pvalue, exchanged), rtol=1e-7)
    assert t[6:].tolist() == [0, 0]
    assert pvalues[6:].tolist() == [1, 1]


@pytest.mark.parametrize("container", CONTAINERS)
def test_auroc_is_that_of_scikit_learn_and_its_test_that_of_scipy(data, container):
    X, y = data
    area, pvalues = auroc(container(X), y, signed=True)
    expected = [roc_auc_score(y == "yes", column) for column in X.T]
    np.testing.assert_allclose(area, expected, rtol=1e-12)
    test = stats.mannwhitneyu(X[y == "yes", :6], X[y == "no", :6], method="asymptotic")
    np.testing.assert_allclose(pvalues[3:6], test.pvalue[3:], rtol=1e-3)
    half = np.arange(60) % 2
    test = stats.mannwhitneyu(X[half == 1, :6], X[half == 0, :6], method="asymptotic")
    np.testing.assert_allclose(auroc(container(X), half)[1][:6], test.pvalue, rtol=1e-9)
    assert area[6:].tolist() == [0.5, 0.5]
    assert pvalues[6:].tolist() == [1, 1]


@pytest.mark.parametrize("container", CONTAINERS)
def test_log_odds_are_tested_as_fisher_does(data, container):
    X, y = data
    z, pvalues = log_odds_z(container(X), y, signed=True)
    fires, positive = X > 0, y == "yes"
    for column in range(8):
        table = np.array([[(fires[p, column]).sum(), (~fires[p, column]).sum()]
                          for p in (positive, ~positive)])  # fmt: skip
        assert pvalues[column] == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-9)
        if 0 < table[:, 0].sum() < 60:
            null = stats.hypergeom(60, table[:, 0].sum(), 22)
            assert z[column] == pytest.approx((table[0, 0] - null.mean()) / null.std())
        else:
            assert z[column] == 0


def test_pvalues_of_fisher_for_every_table_of_two_margins():
    """All tables with 9 and 6 documents, of which the first ones fire."""
    y = np.repeat([1, 0], [9, 6])
    pairs = [(a, b) for a in range(10) for b in range(7)]
    X = np.array([np.r_[np.arange(9) < a, np.arange(6) < b] for a, b in pairs], float).T
    expected = [stats.fisher_exact([[a, 9 - a], [b, 6 - b]]).pvalue for a, b in pairs]
    np.testing.assert_allclose(log_odds_z(X, y)[1], expected, rtol=1e-9)


def test_a_feature_of_one_class_alone_scores_higher_than_one_of_both():
    """The log odds over their standard error would order these the other way round."""
    y = np.repeat([1, 0], 200)
    alone, most = np.repeat([1, 0], 200), np.r_[np.arange(200) < 190, np.arange(200) < 10]
    z, _ = log_odds_z(np.column_stack([alone, most]), y)
    assert z[0] == pytest.approx(np.sqrt(399))
    assert z[0] > z[1] == pytest.approx(np.sqrt(399) * 0.9)


def test_a_value_of_its_own_for_each_class_is_infinitely_many_deviations():
    y = [0, 0, 0, 1, 1, 1, 1]
    t, pvalues = welch_t([[0.3 - 0.2 * label] for label in y], y, signed=True)
    assert t.tolist() == [-np.inf]
    assert 1 / 128 < pvalues[0] < 1 / 35 + 0.01  # one of the 35 labellings is as extreme


def test_moments_are_those_of_all_labellings():
    """A rank sum and a sum of values, 3 of 9 rows, all 84 of them."""
    rng = np.random.default_rng(0)
    X = np.maximum(rng.normal(size=(9, 5)), 0)
    labels = np.array([np.isin(np.arange(9), few) for few in combinations(range(9), 3)], float).T
    sums = X.T @ labels
    powers = np.stack([(X**power).sum(0) for power in (1, 2, 3)])
    np.testing.assert_allclose(exchange_skewness(powers, 3, 6), stats.skew(sums, axis=1))
    expected = stats.zscore(sums, axis=1)[:, 7]
    np.testing.assert_allclose(exchange_z(sums[:, 7], powers, 3, 6), expected)
    np.testing.assert_allclose(skewed_pvalues(expected, 0), 2 * stats.norm.sf(abs(expected)))


@pytest.mark.parametrize("score", SCORES)
def test_a_small_class_makes_no_discoveries_of_its_own(score):
    """40 of 400 documents: where it never fires there, Welch's test finds the difference sure."""
    rng = np.random.default_rng(0)
    y = np.arange(400) < 40
    fires = rng.random((400, 4000)) < np.exp(rng.uniform(np.log(0.02), np.log(0.5), 4000))
    X = sparse.csr_array(rng.exponential(size=fires.shape) * fires)
    _, pvalues = score(X, y)
    assert stats.false_discovery_control(pvalues).min() > 0.05
    if score is welch_t:
        plain = stats.ttest_ind(X.toarray()[y], X.toarray()[~y], equal_var=False).pvalue
        assert (stats.false_discovery_control(plain) < 0.05).sum() > 100


@pytest.mark.parametrize("score", SCORES)
def test_select_k_best_finds_differences_of_either_sign(score):
    rng = np.random.default_rng(1)
    X = rng.exponential(size=(200, 20)) * (rng.random((200, 20)) < 0.2)
    y = np.repeat(["a", "b"], 100)
    X[:60, 3] += 1
    X[100:160, 11] += 1
    for container in CONTAINERS:
        best = SelectKBest(score, k=2).fit(container(X), y)
        assert best.get_support(indices=True).tolist() == [3, 11]
    assert SelectFdr(score).fit(X, y).get_support(indices=True).tolist() == [3, 11]
    signed = score(X, y, signed=True)[0] - (0.5 if score is auroc else 0)
    assert signed[3] < 0 < signed[11]


VALUES = st.sampled_from([-2.0, -1.0, 0.0, 0.0, 0.0, 0.5, 1.0, 3.0])
TABLES = arrays(np.float64, st.tuples(st.integers(6, 12), st.integers(1, 4)), elements=VALUES)


@settings(max_examples=40, deadline=None)
@given(TABLES, st.integers(2, 4), st.randoms(use_true_random=False))
def test_scores_know_neither_the_order_of_rows_nor_the_container(X, n_pos, random):
    y = np.arange(len(X)) < n_pos
    order = random.sample(range(len(X)), len(X))
    for score in SCORES:
        expected = score(X, y, signed=True)
        assert all(np.isfinite(part).all() for part in expected[1:])
        for found in (
            score(X[order], y[order], signed=True),
            score(sparse.csr_array(X), y, signed=True),
            score(sparse.csc_array(X), y, signed=True),
        ):
            np.testing.assert_allclose(found, expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(TABLES, st.integers(2, 4))
def test_labels_the_other_way_round_turn_the_signs(X, n_pos):
    y = np.arange(len(X)) < n_pos
    for score in SCORES:
        here, there = score(X, y, signed=True), score(X, y, signed=True, pos_label=False)
        middle = 0.5 if score is auroc else 0
        np.testing.assert_allclose(here[0] - middle, middle - there[0], atol=1e-9)
        np.testing.assert_allclose(here[1], there[1], atol=1e-12)
        np.testing.assert_allclose(score(X, y)[0], score(X, ~y)[0], atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(TABLES, st.integers(2, 4))
def test_auroc_is_the_share_of_pairs_in_order(X, n_pos):
    y = np.arange(len(X)) < n_pos
    pairs = X[y][:, None] - X[~y][None]
    expected = ((pairs > 0) + (pairs == 0) / 2).mean((0, 1))
    np.testing.assert_allclose(auroc(X, y, signed=True)[0], expected, atol=1e-12)


def test_stored_zeros_are_zeros():
    X = sparse.csr_array((np.zeros(8), ([0, 1, 2, 3, 4, 5, 6, 7], [0] * 8)), shape=(8, 1))
    X.data[:2] = 1
    before = X.copy()
    y = [1, 1, 0, 0, 0, 0, 0, 0]
    for score in SCORES:
        np.testing.assert_array_equal(score(X, y), score(X.toarray(), y))
    FeatureContrast().fit(X.tocsc(), y)
    assert X.nnz == before.nnz == 8


def test_columns_go_by_in_blocks(monkeypatch, data):
    X, y = data
    expected = [score(X, y) for score in SCORES]
    monkeypatch.setattr("sksae._arrays.CHUNK_ENTRIES", 180)
    for score, whole in zip(SCORES, expected, strict=True):
        for container in CONTAINERS:
            np.testing.assert_allclose(score(container(X), y), whole, rtol=1e-12)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        ([0, 1, 2, 0], {}, r"y has 3 classes \(0, 1, 2\); two are needed"),
        (["a"] * 4, {}, r"y has 1 class \('a'\); two are needed"),
        ([0, 1, 1, 1], {}, "Two documents of each class are needed. Got n_samples=4, of which 3"),
        ([0, 1, 0, 1], {"pos_label": "x"}, "pos_label='x' is not one of the classes of y: 0, 1"),
        ([0, 1, 0, 1], {"signed": "yes"}, "signed must be a bool"),
        ([0.5, 1.5, 0.25, 1], {}, "Unknown label type"),
    ],
)
def test_wrong_labels_are_named(score, y, options, message):
    with pytest.raises(ValueError, match=message):
        score(np.eye(4), y, **options)
