"""Contrasts of two sets of documents: the selector, and its tests as score functions."""

from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import SelectFdr, SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sksae import ActivationExtractor, SAEVectorizer, TopKSAE
from sksae.datasets import TINY_LM_PATH, load_corpus
from sksae.interpret import Explanation, FeatureContrast, auroc, log_odds_z, welch_t
from sksae.interpret.contrast._statistics import exchange_skewness, exchange_z, skewed_pvalues
from tests.cases import each_case, tries

SCORES = ["log_odds", "welch_t", "auroc", "mean_difference", "specificity"]
BEYOND = [
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_get_feature_names_out_error,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_global_output_transform_pandas,
]
# On the few random rows of the checks the default selects nothing, and says so.
SELECTING_ALL = [FeatureContrast(score, alpha=1.0, min_documents=1) for score in SCORES]
PERMUTING = FeatureContrast("auroc", alpha=1.0, n_permutations=5, random_state=0, min_documents=1)


@pytest.mark.filterwarnings("ignore:No features were selected:UserWarning")
@parametrize_with_checks([SELECTING_ALL[0]])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No features were selected:UserWarning")
@parametrize_with_checks([FeatureContrast(), *SELECTING_ALL[1:], PERMUTING])
def test_scikit_learn_checks_of_options(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")
@each_case("check", BEYOND)
def test_checks_that_scikit_learn_runs_on_itself(check):
    check("FeatureContrast", clone(SELECTING_ALL[0]))


def draw(rng, n_documents=200, n_features=500, planted=()):
    """Codes that fire in 2 % to 50 % of the documents; planted ones at four times the odds."""
    rate = np.exp(rng.uniform(np.log(0.02), np.log(0.5), n_features))
    y = np.arange(n_documents) < n_documents // 2
    odds = np.repeat(rate / (1 - rate), n_documents).reshape(n_features, -1).T
    odds[np.ix_(y, list(planted))] *= 4
    fires = rng.random((n_documents, n_features)) < odds / (1 + odds)
    return fires * rng.exponential(size=fires.shape) * np.exp(rng.normal(size=n_features)), y


@pytest.fixture
def planted():
    return draw(np.random.default_rng(3), 400, 300, range(30))


@cache
def measures_of_a_loop():
    """The first 60 features of the planted ones, and what a loop finds of them."""
    X, y = draw(np.random.default_rng(3), 400, 300, range(30))
    X = X[:, :60]
    pos, neg = X[y], X[~y]
    variance = (pos.var(0, ddof=1) + neg.var(0, ddof=1)) / 2
    expected = {
        "n_documents_": (X > 0).sum(0),
        "mean_pos_": pos.mean(0),
        "mean_neg_": neg.mean(0),
        "mean_difference_": pos.mean(0) - neg.mean(0),
        "t_": stats.ttest_ind(pos, neg, equal_var=False).statistic,
        "cohen_d_": (pos.mean(0) - neg.mean(0)) / np.sqrt(variance),
        "firing_rate_pos_": (pos > 0).mean(0),
        "firing_rate_neg_": (neg > 0).mean(0),
        "auroc_": [roc_auc_score(y, column) for column in X.T],
        "z_": log_odds_z(X, y, signed=True)[0],
    }  # fmt: skip
    fired, silent = (pos > 0).sum(0) + 0.5, (pos == 0).sum(0) + 0.5
    other, quiet = (neg > 0).sum(0) + 0.5, (neg == 0).sum(0) + 0.5
    expected["log_odds_"] = np.log(fired / silent) - np.log(other / quiet)
    return X, y, expected


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array, sparse.csc_matrix])
@pytest.mark.parametrize("score", SCORES)
def test_measures_are_what_a_loop_finds(container, score):
    X, y, expected = measures_of_a_loop()
    contrast = FeatureContrast(score).fit(container(X), y)
    assert (contrast.n_pos_, contrast.n_neg_) == (200, 200)
    for name, value in expected.items():
        np.testing.assert_allclose(
            getattr(contrast, name), value, rtol=1e-9, atol=1e-12, err_msg=name
        )


@pytest.mark.parametrize(
    ("score", "function"),
    [("log_odds", log_odds_z), ("welch_t", welch_t), ("auroc", auroc)],
)
def test_the_estimator_and_the_score_functions_agree(planted, score, function):
    X, y = planted
    contrast = FeatureContrast(score).fit(X, y)
    scores, pvalues = function(X, y, signed=True)
    np.testing.assert_allclose(contrast.scores_, scores, rtol=1e-12)
    np.testing.assert_allclose(contrast.pvalues_, pvalues, rtol=1e-12)


def test_means_are_tested_by_welch_whatever_they_are_ordered_by(planted):
    X, y = planted
    pvalues = welch_t(X, y)[1]
    for score in ("mean_difference", "specificity"):
        np.testing.assert_array_equal(FeatureContrast(score).fit(X, y).pvalues_, pvalues)


def test_the_false_discoveries_are_counted_over_features_that_fire_often_enough(planted):
    X, y = planted
    contrast = FeatureContrast(min_documents=40).fit(X, y)
    often = (X > 0).sum(0) >= 40
    assert 0 < often.sum() < 300
    expected = np.ones(300)
    expected[often] = stats.false_discovery_control(log_odds_z(X, y)[1][often])
    np.testing.assert_array_equal(contrast.qvalues_, expected)
    np.testing.assert_array_equal(contrast.get_support(), often & (expected <= 0.05))


@each_case("score", ["log_odds", "welch_t", "auroc"])
def test_among_equal_sets_there_is_a_discovery_in_one_of_twenty_at_most(score):
    """40 draws without any difference: at a rate of 0.05, 8 or more have odds of 1 in 1000."""
    rng = np.random.default_rng(0)
    found = [
        FeatureContrast(score).fit(*draw(rng, n_features=250)).get_support().any()
        for _ in range(40)
    ]
    assert sum(found) < 8


def test_pvalues_of_equal_sets_are_uniform():
    """Welch's and the Mann-Whitney test at 5 %; Fisher's, which is discrete, at most that."""
    X, y = draw(np.random.default_rng(1), n_documents=400, n_features=4000)
    often = (X > 0).sum(0) >= 20
    assert often.sum() > 2000
    for score in ("welch_t", "auroc"):
        pvalues = FeatureContrast(score).fit(X, y).pvalues_[often]
        assert (pvalues < 0.05).mean() == pytest.approx(0.05, abs=0.015)
        assert (pvalues < 0.5).mean() == pytest.approx(0.5, abs=0.04)
    assert 0.01 < (FeatureContrast().fit(X, y).pvalues_[often] < 0.05).mean() < 0.05


def test_a_third_of_the_planted_features_are_too_rare_but_what_is_found_is_planted():
    """60 of 16 384 features fire at four times the odds; the numbers are those of this seed."""
    rng = np.random.default_rng(0)
    planted = np.arange(60)
    X, y = draw(rng, 400, 16384, planted)
    X = sparse.csr_array(X)
    contrast = FeatureContrast().fit(X, y)
    found = contrast.get_support(indices=True)
    assert np.isin(found, planted).mean() > 0.9
    assert np.isin(found, planted).sum() >= 30
    precision = {
        name: np.isin(np.argsort(-values)[:60], planted).mean()
        for name, values in [
            ("z", contrast.z_),
            ("t", contrast.t_),
            ("auroc", contrast.auroc_),
            ("mean_difference", contrast.mean_difference_),
            ("ratio", contrast.mean_pos_ / (contrast.mean_neg_ + 1e-9)),
        ]
    }
    assert precision["z"] > 0.6
    assert min(precision["z"], precision["auroc"], precision["t"]) > precision["mean_difference"]
    assert precision["ratio"] < 0.1


@pytest.fixture
def tokens():
    """Tokens of 80 documents, which differ from each other but not by their label."""
    rng = np.random.default_rng(5)
    document = np.repeat(np.arange(80), rng.integers(20, 120, size=80))
    rate = rng.beta(0.5, 4, size=(80, 300))
    X = rng.exponential(size=(len(document), 300)) * (
        rng.random((len(document), 300)) < rate[document]
    )
    return sparse.csr_array(X), np.repeat(["a", "b"], 40)[document], document  # fmt: skip


def test_tokens_are_no_observations_but_documents_are(tokens):
    X, y, document = tokens
    for score in ("welch_t", "auroc"):
        by_token = FeatureContrast(score).fit(X, y)
        assert (by_token.pvalues_ < 0.05).mean() > 0.3
        by_document = FeatureContrast(score, pooling="mean").fit(X, y, groups=document)
        assert (by_document.pvalues_ < 0.05).mean() == pytest.approx(0.05, abs=0.04)
        assert by_document.n_pos_ == by_document.n_neg_ == 40
        assert not by_document.get_support().any()


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array, sparse.csc_array])
@pytest.mark.parametrize("pooling", ["max", "mean", "fired"])
def test_rows_are_pooled_as_a_data_frame_pools(tokens, pooling, container, monkeypatch):
    monkeypatch.setattr("sksae.interpret.contrast._documents._ENTRIES_AT_A_TIME", 3000)
    X, y, document = tokens
    X = X.toarray()
    X[:, 0] -= 0.25  # below zero on most rows
    order = np.random.default_rng(0).permutation(len(y))
    names = np.char.add("text ", document.astype(str))
    groups = pd.DataFrame(X).groupby(names)
    expected = {
        "max": groups.max,
        "mean": groups.mean,
        "fired": lambda: (groups.max() > 0).astype(float),
    }[pooling]()
    labels = pd.Series(y).groupby(names).first()
    contrast = FeatureContrast(pooling=pooling)
    contrast.fit(container(X[order]), y[order], groups=names[order])
    plain = FeatureContrast().fit(expected.to_numpy(), labels.to_numpy())
    for name in ("mean_pos_", "mean_neg_", "t_", "auroc_", "pvalues_", "n_documents_"):
        np.testing.assert_allclose(getattr(contrast, name), getattr(plain, name), rtol=1e-9)


def test_a_document_has_one_label():
    X, y = np.eye(6), [0, 0, 1, 1, 1, 0]
    message = r"group 'b' have both labels; .* \(row 1 differs from row 2\)"
    with pytest.raises(ValueError, match=message):
        FeatureContrast().fit(X, y, groups=["a", "b", "b", "c", "d", "e"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        FeatureContrast().fit(X, y, groups=["a", "b"])


@pytest.mark.parametrize("score", ["log_odds", "welch_t", "auroc"])
def test_permutations_find_what_is_planted_and_little_else(planted, score):
    X, y = planted
    contrast = FeatureContrast(score, n_permutations=200, random_state=0).fit(X, y)
    again = FeatureContrast(score, n_permutations=200, random_state=0).fit(sparse.csr_array(X), y)
    np.testing.assert_array_equal(contrast.family_pvalues_, again.family_pvalues_)
    assert contrast.family_pvalues_.min() == 1 / 201
    found = contrast.get_support(indices=True)
    np.testing.assert_array_equal(found, np.flatnonzero(contrast.family_pvalues_ <= 0.05))
    assert len(found) > 5
    assert (found >= 30).sum() <= 1
    # Corrected for all features, a p-value is larger than for one alone.
    alone = FeatureContrast(score).fit(X, y).pvalues_
    assert (contrast.family_pvalues_ + 0.02 > alone).all()


def test_every_labelling_of_few_documents_gives_the_exact_pvalue():
    """One feature, 3 of 3 documents against 0 of 3: 2 of the 20 labellings are as extreme."""
    X, y = [[1], [1], [1], [0], [0], [0]], [1, 1, 1, 0, 0, 0]
    for score in ("log_odds", "auroc"):
        contrast = FeatureContrast(score, n_permutations=4000, min_documents=1, random_state=0)
        assert contrast.fit(X, y).family_pvalues_[0] == pytest.approx(0.1, abs=0.02)


def test_permutation_keeps_the_family_wise_error():
    rng = np.random.default_rng(2)
    contrast = FeatureContrast("welch_t", n_permutations=60, alpha=0.1, random_state=0)
    found = [contrast.fit(*draw(rng, 60, 60)).get_support().any() for _ in range(100)]
    assert sum(found) < 22  # 10 are expected at most; 22 have odds of 1 in 3000


def test_the_held_out_documents_are_neither_tested_nor_flattering(planted):
    X, y = planted
    contrast = FeatureContrast(held_out=0.5, random_state=0).fit(sparse.csr_array(X), y)
    assert (contrast.n_pos_, contrast.n_neg_) == (100, 100)
    both = (contrast.auroc_ + contrast.held_out_auroc_) / 2
    whole = FeatureContrast().fit(X, y).auroc_
    np.testing.assert_allclose(both, whole, atol=0.05)
    best = np.argsort(-contrast.auroc_[30:])[:20] + 30  # the luckiest of those without effect
    assert contrast.auroc_[best].mean() > 0.53
    assert contrast.held_out_auroc_[best].mean() == pytest.approx(0.5, abs=0.015)
    contrast.set_params(held_out=0).fit(X, y)
    assert not hasattr(contrast, "held_out_auroc_")
    with pytest.raises(ValueError, match=r"held_out=0\.001 of n_samples=400"):
        FeatureContrast(held_out=0.001).fit(X, y)


def test_intervals_of_the_auroc_are_those_of_its_placements():
    rng = np.random.default_rng(0)
    X = np.maximum(rng.normal(loc=[-1, 0, 1, 4, 0], size=(90, 5)), 0).round(1)
    X[:, 4] -= 0.5
    y = np.arange(90) < 30
    X[y] += 0.3 * (X[y] > 0)
    contrast = FeatureContrast().fit(sparse.csr_array(X), y)
    for column in range(5):
        pos, neg = X[y, column], X[~y, column]
        order = (pos[:, None] > neg) + (pos[:, None] == neg) / 2
        variance = order.mean(1).var(ddof=1) / 30 + order.mean(0).var(ddof=1) / 60
        area = order.mean()
        width = stats.norm.ppf(0.975) * np.sqrt(variance) / (area * (1 - area))
        ends = 1 / (1 + np.exp(-(np.log(area / (1 - area)) + np.array([-width, width]))))
        np.testing.assert_allclose(contrast.auroc_low_[column], ends[0])
        np.testing.assert_allclose(contrast.auroc_high_[column], ends[1])


def test_intervals_cover_the_truth():
    """An exponential shifted in scale by 2 has an AUROC of 2 / 3."""
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(120, 1000)) * np.where(np.arange(120) < 60, 2, 1)[:, None]
    contrast = FeatureContrast().fit(X, np.arange(120) < 60)
    covered = (contrast.auroc_low_ < 2 / 3) & (contrast.auroc_high_ > 2 / 3)
    assert covered.mean() == pytest.approx(0.95, abs=0.025)


def test_specificity_is_smoothed_by_one_document_of_the_feature_itself():
    """Three firings of 5 in one class, none in the other: 15 + 5 against 0 + 5 in equal classes."""
    X = np.zeros((20, 3))
    X[:3, 0] = 5
    X[::4, 1] = 7
    y = np.arange(20) < 10
    contrast = FeatureContrast("specificity").fit(X, y)
    np.testing.assert_allclose(contrast.specificity_, [4, 4 / 3, 1])
    np.testing.assert_allclose(contrast.effects_, np.log([4, 4 / 3, 1]))


def test_what_never_changes_has_no_effect():
    X = np.column_stack([np.zeros(20), np.full(20, 0.1), np.full(20, -3.0)])
    for score in SCORES:
        contrast = FeatureContrast(score, n_permutations=5).fit(X, np.arange(20) % 2)
        for name in ("t_", "cohen_d_", "z_", "effects_"):
            np.testing.assert_allclose(getattr(contrast, name), 0, atol=1e-12)
        assert contrast.auroc_.tolist() == [0.5] * 3
        assert contrast.auroc_low_.tolist() == contrast.auroc_high_.tolist() == [0.5] * 3
        assert (contrast.pvalues_ == 1).all()
        assert (contrast.qvalues_ == 1).all()
        assert (contrast.family_pvalues_ == 1).all()


def test_no_measure_is_nan_on_odd_columns():
    """Separated, alone, infinitesimal, huge."""
    X = np.array([[1, 0, 1e-300, 1e150], [1, 0, 0, 2e150], [0, 0, 0, 0], [0, 3, 0, -1e150]])
    for container in (np.asarray, sparse.csr_array):
        contrast = FeatureContrast(min_documents=1).fit(container(X), [1, 1, 0, 0])
        frame = contrast.table()
        assert not frame.isna().any().any()
        assert contrast.t_[0] == np.inf


def test_the_smallest_effect_is_in_the_units_of_the_score(planted):
    X, y = planted
    for score in SCORES:
        contrast = FeatureContrast(score).fit(X, y)
        sizes = np.sort(np.abs(contrast.effects_[contrast.get_support()]))
        assert len(sizes) > 4
        contrast.set_params(min_effect=sizes[2])
        assert contrast.get_support().sum() == len(sizes) - 2


def test_labels_the_other_way_round(planted):
    X, y = planted
    here = FeatureContrast().fit(X, y)
    there = FeatureContrast(pos_label=False).fit(X, y)
    assert there.classes_.tolist() == here.classes_.tolist() == [False, True]
    assert (here.pos_label_, there.pos_label_) == (True, False)
    for name in ("t_", "z_", "log_odds_", "effects_", "mean_difference_"):
        np.testing.assert_allclose(getattr(here, name), -getattr(there, name), atol=1e-9)
    np.testing.assert_allclose(here.auroc_low_, 1 - there.auroc_high_, atol=1e-9)
    np.testing.assert_allclose(here.specificity_, 1 / there.specificity_)
    np.testing.assert_array_equal(here.get_support(), there.get_support())


def test_the_table_begins_with_what_is_selected_and_ends_with_what_is_rare(planted):
    X, y = planted
    X[:, 40] = 0
    X[:4, 40] = 9
    for score in SCORES:
        contrast = FeatureContrast(score).fit(X, y)
        table = contrast.table()
        n_selected = contrast.get_support().sum()
        assert table["selected"].tolist() == [True] * n_selected + [False] * (300 - n_selected)
        rare = np.flatnonzero(contrast.n_documents_ < 5)
        assert sorted(table.index[300 - len(rare) :]) == rare.tolist()
        assert 40 in rare
        assert sorted(table.index) == list(range(300))
        np.testing.assert_array_equal(table["auroc"], contrast.auroc_[table.index])
        centre = {"auroc": 0.5, "specificity": 1}.get(score, 0)
        side = table["score"].iloc[:n_selected]
        strength = np.abs(np.log(side) if score == "specificity" else side - centre)
        assert (np.diff(strength) <= 1e-12).all()


def test_names_come_from_columns_or_from_the_caller():
    X, y = draw(np.random.default_rng(3), 100, 6, [2])
    frame = pd.DataFrame(X, columns=[f"주제 {i}" for i in range(6)])
    contrast = FeatureContrast(alpha=1.0, min_documents=1).fit(frame, y)
    assert contrast.table().loc[2, "name"] == "주제 2"
    selected = frame.columns[contrast.get_support()]
    assert contrast.get_feature_names_out().tolist() == selected.tolist()
    assert contrast.table([f"🙂{i}" for i in range(6)]).loc[5, "name"] == "🙂5"
    with pytest.raises(ValueError, match="feature_names has 2 names; 6 are needed"):
        contrast.table(["a", "b"])
    out = contrast.set_output(transform="pandas").transform(frame)
    assert list(out) == selected.tolist()
    assert len(selected) > 2


def test_it_selects_in_a_pipeline_and_a_search():
    texts = [f"the {kind} story number {i}" for kind in ("good", "bad") for i in range(20)]
    y = np.repeat(["fine", "harmful"], 20)
    selector = FeatureContrast()
    pipeline = make_pipeline(CountVectorizer(), selector, LogisticRegression())
    search = GridSearchCV(pipeline, {"featurecontrast__statistic": ["log_odds", "auroc"]}, cv=3)
    search.fit(texts, y)
    assert search.best_score_ == 1
    chosen = search.best_estimator_[:2].get_feature_names_out()
    assert chosen.tolist() == ["bad", "good"]


def test_it_selects_features_of_texts():
    texts, target = load_corpus(return_X_y=True)
    names = np.unique(target)[:2]
    kept = [i for i, label in enumerate(target) if label in names][::3]
    texts, y = [texts[i][:500] for i in kept], np.asarray(target)[kept]
    sae = TopKSAE(64, k=4, max_iter=5, random_state=0)
    vectorizer = SAEVectorizer(ActivationExtractor(TINY_LM_PATH, layer=2), sae)
    contrast = FeatureContrast("auroc", alpha=0.5)
    pipeline = make_pipeline(vectorizer, contrast, LogisticRegression(max_iter=1000))
    pipeline.fit(texts, y)
    features = vectorizer.transform(texts)
    assert sparse.issparse(features)
    chosen = pipeline[1].get_support()
    assert 0 < chosen.sum() < 64
    np.testing.assert_array_equal(pipeline[1].transform(features).toarray(),
                                  features.toarray()[:, chosen])  # fmt: skip
    assert pipeline.score(texts, y) > 0.6
    assert pipeline[:2].get_feature_names_out()[0].startswith("topksae")


def test_groups_reach_it_through_a_pipeline(tokens):
    X, y, document = tokens
    pipeline = make_pipeline(FeatureContrast(alpha=1.0, pooling="mean"), LogisticRegression())
    pipeline.fit(X, y, featurecontrast__groups=document)
    assert pipeline[0].n_pos_ == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"statistic": "ratio"},
            "'statistic' parameter of FeatureContrast must be one of 'log_odds'",
        ),
        ({"alpha": 0}, "'alpha' parameter"),
        ({"min_documents": 0}, "'min_documents' parameter"),
        ({"min_effect": -1}, "'min_effect' parameter"),
        ({"pooling": "last"}, "'pooling' parameter"),
        ({"n_permutations": -1}, "'n_permutations' parameter"),
        ({"held_out": 1}, "'held_out' parameter"),
        ({"random_state": "x"}, "'random_state' parameter"),
        ({"pos_label": 7}, "pos_label=7 is not one of the classes of y: False, True"),
    ],
)
def test_wrong_parameters_are_named(planted, options, message):
    with pytest.raises(ValueError, match=message):
        FeatureContrast(**options).fit(*planted)


def test_what_is_not_finite_is_refused(planted):
    X, y = planted
    X[7, 3] = np.nan
    for container in (np.asarray, sparse.csr_array):
        with pytest.raises(ValueError, match="contains NaN"):
            FeatureContrast().fit(container(X), y)


def test_names_may_be_explanations_by_feature():
    X = np.eye(6)[np.arange(60) % 6]
    contrast = FeatureContrast(min_documents=1, alpha=1).fit(X, np.arange(60) % 6 < 3)
    names = contrast.table({2: Explanation(2, "강"), 0: "rivers"})["name"].sort_index()
    assert names.tolist() == ["rivers", "", "강", "", "", ""]


def test_names_in_the_table_cannot_steer_a_terminal():
    X = np.eye(6)[:, :2]
    contrast = FeatureContrast(min_documents=1).fit(X, [0, 1] * 3)
    for names in (["a\x1b[2J", "b"], {0: "a\x1b[2J", 1: "b"}):
        assert sorted(contrast.table(names)["name"]) == ["a\ufffd[2J", "b"]


FUNCTIONS = [welch_t, log_odds_z, auroc]
CONTAINERS = [np.asarray, sparse.csr_array, sparse.csc_matrix]


@pytest.fixture
def columns_of_all_kinds():
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
def test_welch_t_is_that_of_scipy(columns_of_all_kinds, container):
    X, y = columns_of_all_kinds
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
def test_auroc_is_that_of_scikit_learn_and_its_test_that_of_scipy(columns_of_all_kinds, container):
    X, y = columns_of_all_kinds
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
def test_log_odds_are_tested_as_fisher_does(columns_of_all_kinds, container):
    X, y = columns_of_all_kinds
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


@each_case("score", FUNCTIONS)
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


@each_case("score", FUNCTIONS)
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


@settings(max_examples=tries(40), deadline=None)
@given(TABLES, st.integers(2, 4), st.randoms(use_true_random=False))
def test_scores_know_neither_the_order_of_rows_nor_the_container(X, n_pos, random):
    y = np.arange(len(X)) < n_pos
    order = random.sample(range(len(X)), len(X))
    for score in FUNCTIONS:
        expected = score(X, y, signed=True)
        assert all(np.isfinite(part).all() for part in expected[1:])
        for found in (
            score(X[order], y[order], signed=True),
            score(sparse.csr_array(X), y, signed=True),
            score(sparse.csc_array(X), y, signed=True),
        ):
            np.testing.assert_allclose(found, expected, atol=1e-12)


@settings(max_examples=tries(40), deadline=None)
@given(TABLES, st.integers(2, 4))
def test_swapped_labels_turn_the_signs(X, n_pos):
    y = np.arange(len(X)) < n_pos
    for score in FUNCTIONS:
        here, there = score(X, y, signed=True), score(X, y, signed=True, pos_label=False)
        middle = 0.5 if score is auroc else 0
        np.testing.assert_allclose(here[0] - middle, middle - there[0], atol=1e-9)
        np.testing.assert_allclose(here[1], there[1], atol=1e-12)
        np.testing.assert_allclose(score(X, y)[0], score(X, ~y)[0], atol=1e-9)


@settings(max_examples=tries(40), deadline=None)
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
    for score in FUNCTIONS:
        np.testing.assert_array_equal(score(X, y), score(X.toarray(), y))
    FeatureContrast().fit(X.tocsc(), y)
    assert X.nnz == before.nnz == 8


def test_columns_go_by_in_blocks(monkeypatch, columns_of_all_kinds):
    X, y = columns_of_all_kinds
    expected = [score(X, y) for score in FUNCTIONS]
    monkeypatch.setattr("sksae._arrays.CHUNK_ENTRIES", 180)
    for score, in_one_block in zip(FUNCTIONS, expected, strict=True):
        for container in CONTAINERS:
            np.testing.assert_allclose(score(container(X), y), in_one_block, rtol=1e-12)


@each_case("score", FUNCTIONS)
@each_case(
    "y, options, message",
    [
        ([0, 1, 2, 0], {}, r"y has 3 classes \(0, 1, 2\); two are needed"),
        (["a"] * 4, {}, r"y has 1 class \('a'\); two are needed"),
        ([0, 1, 1, 1], {}, "Two documents of each class are needed. Got n_samples=4, of which 3"),
        ([0, 1, 0, 1], {"pos_label": "x"}, "pos_label='x' is not one of the classes of y: 0, 1"),
        ([0, 1, 0, 1], {"signed": "yes"}, "signed must be a bool"),
        ([0.5, 1.5, 0.25, 1], {}, "Unknown label type"),
    ],
)
def test_wrong_labels_of_a_score_function_are_named(score, y, options, message):
    with pytest.raises(ValueError, match=message):
        score(np.eye(4), y, **options)
