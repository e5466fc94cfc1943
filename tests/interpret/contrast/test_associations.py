"""Associations with targets of all types, within groups and beside covariates."""

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from sklearn.decomposition import NMF
from sklearn.linear_model import lasso_path
from sklearn.preprocessing import SplineTransformer

from sksae.interpret import FeatureContrast, log_odds_z
from sksae.interpret.contrast._score_tests import expanded, make_design, score_tests
from tests.cases import each_case
from tests.interpret.contrast.planted_targets import AUTHORS, NULLS, of_a_square, skewed_codes


@pytest.fixture
def X():
    """The first ten of 40 columns fire on half of the documents."""
    rng = np.random.default_rng(0)
    X = skewed_codes(rng, 40)
    X[:, :10] = rng.exponential(size=(300, 10)) * (rng.random((300, 10)) < 0.5)
    return X


@pytest.fixture
def rating(X):
    return (
        1.5 * np.log1p(X[:, 3])
        - 1.5 * np.log1p(X[:, 5])
        + np.random.default_rng(1).normal(size=len(X))
    )


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_correlations_of_ranks_are_those_of_scipy(X, rating, container):
    contrast = FeatureContrast().fit(container(X), rating)
    expected = [stats.spearmanr(column, rating) for column in X.T]
    np.testing.assert_allclose(contrast.effects_, [e.statistic for e in expected], atol=1e-12)
    often = contrast.n_documents_ > 100
    pvalues = np.array([e.pvalue for e in expected])
    np.testing.assert_allclose(contrast.pvalues_[often], pvalues[often], rtol=0.1, atol=1e-6)
    assert (contrast.target_type_, contrast.statistic_) == ("continuous", "spearman")
    fires = X[:, 3] > 0
    assert contrast.target_firing_[3] == pytest.approx(rating[fires].mean())
    assert contrast.target_silent_[3] == pytest.approx(rating[~fires].mean())
    linear = FeatureContrast("linear").fit(container(X), rating)
    expected = [stats.pearsonr(column, rating).statistic for column in X.T]
    np.testing.assert_allclose(linear.effects_, expected, atol=1e-9)
    assert (linear.pvalues_ >= contrast.pvalues_ - 1e-12).all()


def test_moments_are_those_of_all_permutations_within_the_groups():
    """Groups of 3, 4 and 2 rows: 6 * 24 * 2 arrangements."""
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(9, 3)) * (rng.random((9, 3)) < 0.6)
    y, group = rng.exponential(size=9), np.repeat([0, 1, 2], [3, 4, 2])
    parts = [list(permutations(np.flatnonzero(group == g))) for g in range(3)]
    orders = np.array([np.concatenate(order) for order in product(*parts)])
    sums = (y - np.bincount(group, y)[group] / np.bincount(group)[group])[orders] @ X
    design = make_design(y[:, None], group)
    tested = score_tests(sparse.csc_array(X), design)
    np.testing.assert_allclose(tested.unit[:, 0], sums.std(axis=0))
    deviates = np.abs(sums[0] - sums.mean(axis=0)) / sums.std(axis=0)
    skewness = stats.skew(sums, axis=0)
    pvalues = stats.pearson3.sf(deviates, skewness) + stats.pearson3.cdf(-deviates, skewness)
    np.testing.assert_allclose(tested.pvalues[:, 0], np.minimum(pvalues, 1))


def test_each_class_is_tested_against_the_rest(X):
    y = np.random.default_rng(0).choice(["a", "b", "c"], len(X), p=[0.1, 0.3, 0.6])
    X[:, 7] += y == "b"
    contrast = FeatureContrast().fit(sparse.csr_array(X), y)
    expected = np.stack([log_odds_z(X, y == label)[1] for label in "abc"], axis=1)
    np.testing.assert_allclose(contrast.class_pvalues_, expected)
    np.testing.assert_allclose(contrast.pvalues_, np.minimum(3 * expected.min(axis=1), 1))
    assert contrast.strongest_class_[7] == "b"
    assert contrast.get_support(indices=True).tolist() == [7]
    assert (contrast.class_qvalues_[:, 1] <= 0.05).nonzero()[0].tolist() == [7]
    table = contrast.table()
    assert table.index[0] == 7
    assert table.loc[7, "effect: b"] == table.loc[7, "effect"] > table.loc[7, "effect_low"] > 0
    ranks = FeatureContrast("auroc").fit(X, y)
    of_one = FeatureContrast("auroc").fit(X, y == "a")
    np.testing.assert_allclose(ranks.class_effects_[:, 0], of_one.effects_)
    np.testing.assert_allclose(ranks.class_pvalues_[:, 0], of_one.pvalues_)
    means = FeatureContrast("welch_t").fit(X, y)
    np.testing.assert_allclose(
        means.class_effects_[:, 2], FeatureContrast().fit(X, y == "c").cohen_d_
    )


def test_matched_pairs_have_the_test_of_wilcoxon(X):
    order = np.random.default_rng(2).permutation(len(X))
    pair, y = np.arange(len(X)) // 2, np.arange(len(X)) % 2
    X[1::2, 4] += 0.5
    contrast = FeatureContrast(pooling=None)
    contrast.fit(sparse.csr_array(X[order]), y[order], groups=pair[order])
    assert contrast.statistic_ == "wilcoxon"
    difference = X[1::2] - X[::2]
    for column in (0, 4, 8):
        d = difference[:, column][difference[:, column] != 0]
        expected = stats.wilcoxon(d, correction=True, method="asymptotic")
        assert contrast.pvalues_[column] == pytest.approx(expected.pvalue, rel=1e-9)
        rank = stats.rankdata(np.abs(d))
        assert contrast.effects_[column] == pytest.approx((rank * np.sign(d)).sum() / rank.sum())
    assert contrast.get_support(indices=True).tolist() == [4]
    permuted = FeatureContrast(pooling=None, n_permutations=199, random_state=0)
    permuted.fit(X, y, groups=pair)
    assert permuted.get_support(indices=True).tolist() == [4]


def test_groups_with_one_target_each_are_the_observations(X):
    y = np.random.default_rng(0).normal(size=60)
    here = FeatureContrast(pooling=None).fit(X, y[AUTHORS], groups=AUTHORS)
    means = X.reshape(60, 5, -1).mean(axis=1)
    there = FeatureContrast().fit(means, y)
    np.testing.assert_allclose(here.pvalues_, there.pvalues_)
    np.testing.assert_array_equal(here.n_documents_, (means > 0).sum(axis=0))


def test_authors_who_rate_high_are_no_association_but_what_they_say_is(X):
    rng = np.random.default_rng(0)
    mood = 3 * rng.normal(size=60)[AUTHORS]
    X[:, 0] += np.maximum(mood, 0)  # the author, not the document
    y = mood + np.log1p(X[:, 1]) + 0.5 * rng.normal(size=len(X))
    assert FeatureContrast().fit(X, y).get_support()[0]
    for options in ({}, {"n_permutations": 99, "random_state": 0}):
        contrast = FeatureContrast(pooling=None, **options).fit(X, y, groups=AUTHORS)
        assert contrast.get_support(indices=True).tolist() == [1]


def test_what_a_covariate_explains_is_no_association(X):
    rng = np.random.default_rng(0)
    length = rng.exponential(size=300)
    X[:, 0] += np.maximum(length - 1, 0)
    y = np.sqrt(length) + 0.2 * np.log1p(X[:, 1]) + 0.1 * rng.normal(size=300)
    assert FeatureContrast().fit(X, y).get_support()[0]
    frame = pd.DataFrame({"length": length, "place": rng.choice(["x", "y"], 300)})
    contrast = FeatureContrast().fit(X, y, covariates=frame)
    assert contrast.get_support(indices=True).tolist() == [1]
    score = stats.norm.ppf((stats.rankdata(length) - 0.5) / 300)[:, None]
    splines = SplineTransformer(n_knots=3, knots="quantile").fit_transform(score)
    design = np.c_[splines, frame["place"] == "x"]
    columns = np.c_[stats.rankdata(X[:, 1]), stats.rankdata(y)]
    residual = columns - design @ np.linalg.lstsq(design, columns, rcond=None)[0]
    assert contrast.effects_[1] == pytest.approx(np.corrcoef(residual.T)[0, 1])


def test_intervals_cover_the_truth():
    """1000 columns fire alike where the target is high; the truth is that of their mean."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    fires = rng.random((400, 1000)) < stats.norm.cdf(y - 1)[:, None]
    contrast = FeatureContrast().fit(fires * rng.exponential(size=fires.shape), y)
    truth = contrast.effects_.mean()
    assert truth > 0.3
    covered = (contrast.effects_low_ < truth) & (contrast.effects_high_ > truth)
    assert covered.mean() == pytest.approx(0.95, abs=0.04)
    assert (contrast.effects_low_ <= contrast.effects_).all()
    assert (contrast.effects_ <= contrast.effects_high_).all()


@each_case("name", ["heavy tails", "authors, 10 %"])
def test_of_targets_without_association_one_in_twenty_has_a_discovery(name):
    """4 sets; 3 or more have odds of 1 in 2000."""
    assert sum(discoveries(name, seed) for seed in range(4)) < 3


@pytest.mark.slow
@pytest.mark.parametrize("name", NULLS)
def test_of_100_targets_without_association_at_most_8_have_a_discovery(name):
    assert sum(discoveries(name, seed) for seed in range(100)) <= 8


@pytest.mark.slow
def test_codes_and_a_class_of_the_square_of_a_covariate_have_no_association():
    """Each of 20 sets has a false discovery with a probability of 5 % at most."""
    n_sets = 0
    for seed in range(20):
        X, y, covariate = of_a_square(np.random.default_rng(seed))
        n_sets += FeatureContrast().fit(X, y, covariates=covariate).get_support().any()
    assert n_sets <= 3


def discoveries(name, seed):
    X, y, options, given = NULLS[name](np.random.default_rng(seed))
    return FeatureContrast(**options).fit(X, y, **given).get_support().any()


@pytest.mark.filterwarnings("ignore:No features were selected:UserWarning")
def test_planted_effects_are_found():
    """5 of 400 features move the target where they fire."""
    rng = np.random.default_rng(0)
    X = skewed_codes(rng)
    often = np.flatnonzero((X > 0).mean(axis=0) > 0.3)[:5]
    number = rng.normal(size=len(X)) + 1.5 * (X[:, often] > 0).sum(axis=1)
    targets = {
        "continuous": number,
        "counts": rng.poisson(np.exp(number - 2)),
        "ordinal": np.digitize(number, np.quantile(number, [0.2, 0.5, 0.7, 0.9])),
    }
    for kind, y in targets.items():
        found = FeatureContrast(target_type=kind).fit(X, y).get_support(indices=True)
        assert np.isin(often, found).all(), kind
        assert len(found) <= 6, kind


@each_case("selection", ["greedy", "lasso"])
def test_a_small_set_does_not_repeat_itself(rating, X, selection):
    X = np.c_[X, X[:, [3] * 10] * np.linspace(0.9, 1.1, 10), X[:, [5] * 5]]
    every = FeatureContrast().fit(X, rating)
    assert every.get_support().sum() >= 17
    few = FeatureContrast(n_features_to_select=4, selection=selection, random_state=0)
    few.fit(sparse.csr_array(X), rating)
    support = few.get_support(indices=True)
    assert (every.get_support()[support]).all()
    assert sorted(few.chosen_.tolist()) == support.tolist()
    of_three, of_five = [3, *range(40, 50)], [5, *range(50, 55)]
    assert np.isin(few.chosen_[:2], of_three).sum() == np.isin(few.chosen_[:2], of_five).sum() == 1
    assert not np.isin(few.chosen_[2:], of_three + of_five).any()
    assert few.gains_[0] >= few.gains_[1] > 0.05
    assert few.transform(X).shape == (300, len(support))


@each_case("kind", ["number", "authors and length", "classes"])
def test_the_lasso_is_that_of_scikit_learn(rating, X, kind):
    """On standardised codes without means of groups and covariates, in the form of ranks."""
    length = np.exp(X[:, 7] + np.linspace(0, 1, len(X)))
    grouped = {"groups": AUTHORS, "covariates": length} if kind == "authors and length" else {}
    y = np.digitize(rating, [-1, 0.5]) if kind == "classes" else rating
    statistic = "auroc" if kind == "classes" else "auto"
    options = {"alpha": 1, "n_features_to_select": 5, "selection": "lasso", "random_state": 0}
    contrast = FeatureContrast(statistic, pooling=None, **options).fit(X, y, **grouped)
    fires = FeatureContrast(alpha=1).fit(X, rating).get_support(indices=True)
    indicators = (y[:, None] == np.unique(y)).astype(float)
    Z = stats.rankdata(X[:, fires], axis=0)
    target = indicators if kind == "classes" else stats.rankdata(y)[:, None]
    beside = np.ones((len(X), 1))
    if grouped:
        beside = np.c_[AUTHORS[:, None] == np.arange(60), expanded([length])]
    Z, target = (Q - beside @ np.linalg.lstsq(beside, Q)[0] for Q in (Z, target))
    Z, target = Z / Z.std(axis=0), target if kind == "classes" else target[:, 0]
    path = lasso_path(Z, target, eps=0.01, max_iter=10_000)
    sizes = np.abs(path[1]).reshape(-1, len(fires), 100).sum(axis=0)
    largest = sizes[:, ((sizes > 0).sum(0) >= 5).argmax()].argsort()[::-1][:5]
    # Less what gains nothing on held-out documents.
    n_chosen = len(contrast.chosen_)
    assert 2 <= n_chosen <= 5
    assert set(contrast.chosen_) == set(fires[largest[:n_chosen]])
    assert contrast.gains_.sum() > 0.05


def test_another_code_is_set_beside(rating, X):
    contrast = FeatureContrast(n_features_to_select=3, random_state=0)
    noise = skewed_codes(np.random.default_rng(9), 25)
    comparison = contrast.fit(X, rating, baseline=noise).compare()
    assert comparison.index.tolist() == ["features", "baseline"]
    assert comparison["n_features"].tolist() == [40, 25]
    assert comparison.loc["features", "n_selected"] >= 2 > comparison.loc["baseline", "n_selected"]
    assert comparison.loc["features", "gain"] > 0.1 > comparison.loc["baseline", "gain"]
    coder = NMF(5, init="random", max_iter=500, tol=1e-2, random_state=0).fit(X)
    contrast.fit(X, rating, baseline=(coder, X))
    alone = FeatureContrast().fit(coder.transform(X), rating)
    np.testing.assert_allclose(contrast.baseline_.pvalues_, alone.pvalues_)
    with pytest.raises(ValueError, match="pass it with the rows that it codes"):
        contrast.fit(X, rating, baseline=coder)
    with pytest.raises(AttributeError, match="There is no baseline"):
        contrast.fit(X, rating).compare()


def test_documents_held_out_measure_effects_again(X, rating):
    contrast = FeatureContrast(held_out=0.5, random_state=0, pooling=None)
    contrast.fit(X, rating, groups=AUTHORS)
    assert contrast.effects_[3] > 0.15 < contrast.held_out_effects_[3]
    assert contrast.held_out_pvalues_[3] < 0.05
    contrast.fit(X, np.digitize(rating, [-0.5, 0.5]))
    assert contrast.held_out_effects_.shape == (40,)


def test_an_ordered_categorical_is_ordinal(X, rating):
    words = pd.cut(rating, [-np.inf, -0.5, 0.5, np.inf], labels=["poor", "fair", "good"])
    contrast = FeatureContrast().fit(X, pd.Series(words))
    assert contrast.target_type_ == "ordinal"
    numbers = FeatureContrast(target_type="ordinal").fit(X, words.codes)
    np.testing.assert_array_equal(contrast.effects_, numbers.effects_)


@each_case(
    "options, y, given, message",
    [
        ({}, np.arange(300), {}, "y has 300 different whole numbers. Say what they are"),
        ({"target_type": "counts"}, np.arange(300) - 5, {}, "needs whole numbers of at least 0"),
        ({"target_type": "ordinal"}, ["a", "b"] * 150, {}, "needs numbers, or an ordered"),
        ({"target_type": "continuous"}, [1.0] * 300, {}, "two different numbers are needed"),
        ({"statistic": "spearman"}, [0, 1] * 150, {}, "'spearman' is not for two classes"),
        ({"statistic": "auroc"}, np.arange(300) / 7, {}, "is not for a target of numbers"),
        ({"statistic": "wilcoxon"}, [0, 1] * 150, {}, "'wilcoxon' is not for two classes"),
        ({"pos_label": 1}, np.arange(300) / 7, {}, "pos_label is for two classes"),
        ({}, np.arange(300) / 7, {"groups": AUTHORS}, "With pooling=None, rows are documents"),
        ({}, [0, 1, 2] * 100, {"covariates": [np.nan] * 300}, "covariates contain NaN"),
        ({}, [0, 1, 2] * 100, {"covariates": [1.0]}, "inconsistent numbers of samples"),
    ],
)
def test_what_does_not_fit_the_target_is_named(X, options, y, given, message):
    with pytest.raises(ValueError, match=message):
        FeatureContrast(**options).fit(X, y, **given)


TARGETS = [
    ({}, np.arange(40) / 7, {}),
    ({"statistic": "linear"}, np.arange(40) / 7, {}),
    ({"statistic": "auroc"}, np.arange(40) % 3, {}),
    ({"statistic": "welch_t"}, np.arange(40) % 3, {}),
    ({"pooling": None}, np.arange(40) % 2, {"groups": np.arange(40) // 2}),
    ({}, np.arange(40) / 7, {"covariates": np.ones(40)}),
    ({}, np.arange(40) / 7, {"covariates": np.arange(40)}),
]


@each_case("options, y, given", TARGETS)
def test_codes_that_never_fire_at_all_go_along_with_nothing(options, y, given):
    for X in (np.zeros((40, 3)), sparse.csr_array((40, 3))):
        contrast = FeatureContrast(**options).fit(X, y, **given)
        assert (contrast.pvalues_ == 1).all()
        assert (contrast.effects_ == 0).all()


@each_case("options, y, given", TARGETS)
def test_what_never_changes_goes_along_with_nothing(options, y, given):
    """Silent, constant, constant below zero and huge; infinitesimal ones on a single document."""
    X = np.zeros((40, 6))
    X[:, 1:4] = [0.1, -3, 1e200]
    X[0, 4:] = [1, 1e-300]
    for container in (np.asarray, sparse.csr_array):
        contrast = FeatureContrast(n_permutations=5, random_state=0, **options)
        contrast.fit(container(X), y, **given)
        assert (contrast.pvalues_[:4] == 1).all()
        assert np.isfinite(contrast.pvalues_).all()
        np.testing.assert_allclose(contrast.effects_[:4], 0, atol=1e-12)
        assert (contrast.family_pvalues_ == 1).all()
