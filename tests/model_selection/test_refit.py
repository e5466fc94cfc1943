import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.experimental import enable_halving_search_cv  # noqa: F401, makes the import work
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import GatedSAE, JumpReLUSAE, SparseAutoencoder, TopKSAE
from sksae.datasets import make_superposition
from sksae.metrics import make_penalized_scorer, sae_scorer
from sksae.model_selection import (
    BestExplainedVariance,
    DiminishingReturns,
    Knee,
    OneStandardError,
    choice_report,
)
from tests.cases import each_case

RULES = [OneStandardError(), BestExplainedVariance(max_l0=9), Knee(), DiminishingReturns()]
SETTINGS = {"max_iter": 6, "batch_size": 128, "random_state": 0}
SEARCHES = [
    (TopKSAE, "k", [1, 2, 4, 12]),
    (SparseAutoencoder, "alpha", [0.1, 0.5, 3]),
    (GatedSAE, "alpha", [0.3, 1, 5]),
    (JumpReLUSAE, "alpha", [0.03, 0.3, 3]),
]


def cv_results(splits, l0, **columns):
    """What a search stores; `splits` has one row a candidate, one column a split."""
    splits = np.asarray(splits, dtype=float)
    results = {f"split{i}_test_explained_variance": splits[:, i] for i in range(splits.shape[1])}
    results["mean_test_explained_variance"] = splits.mean(axis=1)
    with np.errstate(invalid="ignore"):  # failed fits, as scikit-learn stores them
        results["std_test_explained_variance"] = splits.std(axis=1)
    results["mean_test_neg_l0"] = -np.asarray(l0, dtype=float)
    return results | columns


@pytest.fixture(scope="module")
def X():
    return make_superposition(600, bias=1.0, random_state=0)[0]


def test_one_standard_error():
    # the best has mean 0.8 and a standard error of 0.1 / sqrt(4)
    spread = np.array([-0.1, 0.1, -0.1, 0.1]) * np.sqrt(3) / 2
    results = cv_results(np.array([[0.8], [0.751], [0.749], [0.76]]) + spread, [40, 10, 5, 20])
    assert OneStandardError()(results) == 1
    assert isinstance(OneStandardError()(results), int)
    # the width of the margin is that of the best candidate, not that of the others
    results = cv_results([[0.8, 0.8], [0.5, 1.0]], [40, 10])
    assert OneStandardError()(results) == 0


def test_one_split_has_no_standard_error():
    assert OneStandardError()(cv_results([[0.7], [0.8], [0.79]], [1, 9, 3])) == 1


@each_case("max_l0, expected", [(4, 0), (8, 1), (15.9, 1), (16, 3), (99, 2)])
def test_best_explained_variance(max_l0, expected):
    results = cv_results([[0.5], [0.7], [0.9], [0.8]], [4, 8, 32, 16])
    assert BestExplainedVariance(max_l0)(results) == expected


def test_no_candidate_is_sparse_enough():
    results = cv_results([[0.5], [0.7], [0.6]], [4, 8, 4])
    with pytest.warns(UserWarning, match=r"at most 3 active latents; the sparsest one, with 4,"):
        assert BestExplainedVariance(max_l0=3)(results) == 2


def test_knee():
    l0 = np.array([32, 1, 2, 4, 8, 16])
    score = 1 - 0.5 ** (l0 / 2)
    # heights above the line from (1, score(1)) to (32, score(32)), by hand
    height = (score - score[1]) / (score[0] - score[1]) - (l0 - 1) / 31
    assert height.argmax() == 4
    assert Knee()(cv_results(score[:, None], l0)) == 4
    # candidates that another one beats in both do not bend the curve
    results = cv_results(np.r_[score, 0.0, 0.98][:, None], np.r_[l0, 64, 100])
    assert Knee()(results) == 4


@each_case(
    "splits, l0, expected",
    [
        ([[0.5]], [3], 0),
        ([[0.5], [0.9]], [3, 9], 1),
        ([[0.1], [0.2], [0.9]], [1, 2, 3], 2),  # bent the other way
        ([[0.1], [0.5], [0.9]], [1, 2, 3], 2),  # straight
        ([[0.9], [0.5], [0.9]], [5, 5, 5], 0),
        ([[0.9], [0.5], [0.1]], [1, 2, 3], 0),  # the sparsest is the best
    ],
)
def test_curves_without_a_knee(splits, l0, expected):
    assert Knee()(cv_results(splits, l0)) == expected


def test_diminishing_returns():
    # score = l0 / 10 up to 5 active latents (elasticity 1), then 0.5 (l0 / 5)^0.2
    l0 = np.array([20, 1, 2, 5, 10])
    score = np.where(l0 <= 5, l0 / 10, 0.5 * (l0 / 5) ** 0.2)
    results = cv_results(score[:, None], l0)
    assert DiminishingReturns()(results) == 3
    assert DiminishingReturns(elasticity=0.19)(results) == 0
    # a longer search changes nothing, nor do candidates that another one beats in both
    longer = np.r_[l0, 40, 80, 6, 5]
    score = np.r_[score, 0.5 * 8**0.2, 0.5 * 16**0.2, 0.4, 0.3]
    assert DiminishingReturns()(cv_results(score[:, None], longer)) == 3


@each_case(
    "splits, l0, expected",
    [
        ([[0.5]], [3], 0),
        ([[0.1], [0.9]], [1, 9], 1),  # proportional
        ([[0.5], [0.52]], [1, 9], 0),
        ([[-0.5], [0.4], [0.41]], [1, 2, 3], 1),  # what explains nothing is passed over
        ([[-0.5], [-0.4]], [1, 2], 1),
        ([[0.2], [0.5]], [0, 1], 1),  # no active latent at all
    ],
)
def test_returns_at_the_ends_of_a_search(splits, l0, expected):
    assert DiminishingReturns()(cv_results(splits, l0)) == expected


def test_a_grid_over_two_parameters_is_one_curve():
    # widths 16 and 64 at k = 1, 2, 4; the wide ones explain more at each k
    l0 = [1, 2, 4, 1, 2, 4]
    results = cv_results([[0.15], [0.3], [0.33], [0.2], [0.4], [0.45]], l0)
    assert DiminishingReturns()(results) == 4


def test_a_report_says_how_close_the_choice_was():
    splits = [[0.2, 0.2, 0.2], [0.4, 0.4, 0.4], [0.45, 0.7, 0.45]]
    results = cv_results(splits, [1, 2, 4], params=[{"k": 1}, {"k": 2}, {"k": 4}])
    for split in range(3):
        results[f"split{split}_test_neg_l0"] = results["mean_test_neg_l0"]
    report = choice_report(DiminishingReturns(), results)
    # the mean of the last is .533: log(.533 / .4) / log 2 = .415
    assert (report.params, report.split_indices.tolist()) == ({"k": 4}, [1, 2, 1])
    assert report.agreement == pytest.approx(1 / 3)
    assert report.runner_up == {"k": 2}
    assert report.interval == [{"k": 2}, {"k": 4}]
    assert report.at_edge
    report = choice_report(DiminishingReturns(elasticity=0.9), results)
    assert (report.params, report.runner_up, report.at_edge) == ({"k": 2}, None, False)
    with pytest.raises(ValueError, match="scores of single splits"):
        choice_report(Knee(), {"params": []})


def test_ties():
    results = cv_results([[0.8], [0.8], [0.7], [0.8]], [8, 4, 2, 4])
    assert OneStandardError()(results) == 1
    assert BestExplainedVariance(max_l0=8)(results) == 1
    # equally sparse: the better one
    within = cv_results([[0.7, 0.9], [0.75, 0.75], [0.78, 0.78]], [8, 4, 4])
    assert OneStandardError()(within) == 2


@each_case("rule", RULES)
def test_failed_candidates_do_not_compete(rule):
    splits = [[np.nan, 0.9], [0.5, 0.5], [0.8, 0.8], [0.82, 0.82], [-np.inf, 0.9]]
    results = cv_results(splits, [1, 2, 4, 8, 1])
    results["mean_test_neg_l0"][3] = np.nan
    expected = cv_results(splits[1:3], [2, 4])
    assert rule(results) == 1 + rule(expected)
    with pytest.raises(ValueError, match="No candidate has a finite mean"):
        rule(cv_results(np.full((2, 2), np.nan), [1, 2]))


@each_case("rule", RULES)
def test_only_the_last_iteration_of_a_halving_search_competes(rule):
    splits, l0 = [[0.9], [0.95], [0.97], [0.5], [0.8], [0.82]], [1, 1, 1, 2, 4, 8]
    last = cv_results(splits[3:], l0[3:])
    assert rule(cv_results(splits, l0, iter=[0, 0, 0, 1, 1, 1])) == 3 + rule(last)


@each_case("rule", RULES)
def test_missing_columns(rule):
    single = {"mean_test_score": np.ones(2), "std_test_score": np.ones(2)}
    with pytest.raises(ValueError, match=r"no 'mean_test_explained_variance', only.*sae_scorer"):
        rule(single)
    results = cv_results([[0.5], [0.6]], [1, 2])
    del results["mean_test_neg_l0"]
    with pytest.raises(ValueError, match="mean_test_neg_l0"):
        rule(results)


@each_case("rule", RULES)
def test_other_columns(rule):
    results = cv_results([[0.5], [0.7], [0.9], [0.91]], [4, 5, 8, 16])
    renamed = {
        key.replace("explained_variance", "recovered").replace("neg_l0", "few"): value
        for key, value in results.items()
    }
    options = {"score": "recovered", "sparsity": "few"}
    if isinstance(rule, BestExplainedVariance):
        options["max_l0"] = rule.max_l0
    assert type(rule)(**options)(renamed) == rule(results)


@each_case("rule", RULES)
def test_rules_are_parameters(rule):
    search = GridSearchCV(TopKSAE(), {"k": [1]}, scoring=sae_scorer, refit=rule)
    assert clone(search).refit == rule
    assert pickle.loads(pickle.dumps(search)).refit == rule
    assert type(rule).__name__ in repr(search)


def assert_rule_holds(rule, search):
    """The definition of each rule, written out over all candidates."""
    results = search.cv_results_
    score, l0 = results["mean_test_explained_variance"], -results["mean_test_neg_l0"]
    chosen, best = search.best_index_, score.argmax()
    if isinstance(rule, OneStandardError):
        splits = [results[f"split{i}_test_explained_variance"][best] for i in range(3)]
        margin = score[best] - np.std(splits, ddof=1) / np.sqrt(3)
        assert score[chosen] >= margin
        assert l0[chosen] == l0[score >= margin].min()
    elif isinstance(rule, BestExplainedVariance):
        assert l0[chosen] <= rule.max_l0
        assert score[chosen] == score[l0 <= rule.max_l0].max()
    else:
        assert not ((score >= score[chosen]) & (l0 < l0[chosen])).any()


@pytest.mark.parametrize(
    ("estimator", "name", "values", "rule"),
    [
        *((*SEARCHES[0], rule) for rule in RULES),
        *((*search, rule) for search, rule in zip(SEARCHES[1:], RULES[:3], strict=True)),
    ],
)
def test_grid_search_over_sparsity(estimator, name, values, rule, X):
    model = estimator(32, learning_rate=0.01, sparse_output=True, **SETTINGS)
    search = GridSearchCV(model, {name: values}, scoring=sae_scorer, refit=rule, cv=3).fit(X)
    assert search.best_params_[name] == values[search.best_index_]
    assert getattr(search.best_estimator_, name) == values[search.best_index_]
    assert search.transform(X[:5]).shape == (5, 32)
    assert_rule_holds(rule, search)
    # the settings do what they say: L0 follows them from one end of the grid to the other
    l0 = -search.cv_results_["mean_test_neg_l0"]
    assert (l0[0] < l0[-1]) == (name == "k")


def test_in_a_pipeline(X):
    rule = Knee()
    pipeline = make_pipeline(StandardScaler(), TopKSAE(32, learning_rate=0.01, **SETTINGS))
    grid = {"topksae__k": [1, 2, 4, 12]}
    search = GridSearchCV(pipeline, grid, scoring=sae_scorer, refit=rule, cv=3).fit(X)
    assert_rule_holds(rule, search)
    restored = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(restored.transform(X[:5]), search.transform(X[:5]))


def test_sample_weight_reaches_fit_and_scores(X):
    search = GridSearchCV(
        TopKSAE(32, **SETTINGS), {"k": [1, 4]}, scoring=sae_scorer, refit=OneStandardError(), cv=2
    )
    weight = np.ones(len(X))
    plain = clone(search).fit(X).cv_results_["mean_test_explained_variance"]
    ones = clone(search).fit(X, sample_weight=weight).cv_results_["mean_test_explained_variance"]
    np.testing.assert_allclose(ones, plain, rtol=1e-4)
    weight[::2] = 0.1
    other = clone(search).fit(X, sample_weight=weight).cv_results_["mean_test_explained_variance"]
    assert (np.abs(other - plain) > 1e-4).all()


@pytest.mark.parametrize(("estimator", "name", "values"), SEARCHES)
def test_halving_search_takes_a_single_score(estimator, name, values, X):
    settings = {**SETTINGS, "learning_rate": 0.01}
    settings.pop("max_iter")
    search = HalvingGridSearchCV(
        estimator(32, **settings),
        {name: values},
        resource="max_iter",
        max_resources=6,
        factor=2,
        scoring=make_penalized_scorer(0.02),
        cv=ShuffleSplit(1, random_state=0),
        random_state=0,
    ).fit(X)
    results = search.cv_results_
    last = results["iter"] == results["iter"].max()
    assert results["iter"].max() >= 1
    assert search.best_score_ == results["mean_test_score"][last].max()
    assert search.best_estimator_.max_iter == search.n_resources_[-1]
    # the single score is no input for a rule, and the rule says so
    with pytest.raises(ValueError, match="mean_test_explained_variance"):
        OneStandardError()(results)


def scores_and_one_to_halve_by(estimator, X, y=None):
    scores = sae_scorer(estimator, X, y)
    return {**scores, "score": scores["explained_variance"] + 0.02 * scores["neg_l0"]}


def test_rules_read_the_results_of_a_halving_search(X):
    search = HalvingGridSearchCV(
        TopKSAE(32, learning_rate=0.01, **SETTINGS),
        {"k": [1, 2, 3, 4, 6, 8]},
        factor=2,
        min_resources=300,
        scoring=scores_and_one_to_halve_by,
        refit=RULES[0],
        cv=ShuffleSplit(2, random_state=0),
        random_state=0,
    ).fit(X)
    results = search.cv_results_
    last = np.flatnonzero(results["iter"] == results["iter"].max())
    assert len(last) < 6
    # the search itself ignores a callable `refit` ...
    assert search.best_index_ == last[results["mean_test_score"][last].argmax()]
    # ... and the rules, called by hand, look at the last iteration only
    of_last = {key: np.asarray(value)[last] for key, value in results.items()}
    of_last.pop("iter")
    for rule in RULES:
        assert rule(results) == last[rule(of_last)]


def test_codes_for_a_classifier():
    X, y = load_digits(return_X_y=True)
    X, y = X[:500], y[:500]
    pipeline = make_pipeline(
        StandardScaler(), TopKSAE(64, **SETTINGS), LogisticRegression(max_iter=1000)
    )
    # the pipeline's own score: accuracy, which needs no rule
    search = GridSearchCV(pipeline, {"topksae__k": [2, 16]}, cv=3).fit(X, y)
    assert search.best_score_ > 0.7
