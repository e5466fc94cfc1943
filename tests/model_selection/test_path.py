import joblib
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import SparseAutoencoder, TopKSAE
from sksae.datasets import make_superposition
from sksae.metrics import sae_scorer
from sksae.model_selection import BestExplainedVariance, SparsityPathCV
from tests.cases import each_case


@pytest.fixture(scope="module")
def X():
    return make_superposition(600, 8, 16, density=0.1, random_state=0)[0]


def topk(**settings):
    return TopKSAE(16, **{"max_iter": 16, "batch_size": 100, "random_state": 0, **settings})


@pytest.fixture(scope="module")
def search(X):
    return SparsityPathCV(topk(), [2, 1, 4], cv=3).fit(X)


def test_results_are_in_the_order_of_the_values(search):
    results = search.cv_results_
    assert results["params"] == [{"k": 2}, {"k": 1}, {"k": 4}]
    assert results["param_k"].tolist() == [2, 1, 4]
    l0 = -results["mean_test_neg_l0"]
    assert l0[1] < l0[0] < l0[2]
    ev = results["mean_test_explained_variance"]
    assert ev[1] < ev[0] < ev[2]
    assert results["rank_test_explained_variance"].tolist() == [2, 3, 1]
    splits = [results[f"split{i}_test_explained_variance"] for i in range(3)]
    np.testing.assert_allclose(np.mean(splits, axis=0), ev)
    assert search.n_splits_ == 3


def test_the_path_is_the_fits_one_after_another(X):
    """The first value in full, the next one continued, on the rows of the split alone."""
    splits = [(np.arange(400), np.arange(400, 600))]
    search = SparsityPathCV(topk(), [1, 4], cv=splits, continuation=0.25).fit(X)
    weight = np.r_[np.ones(400), np.zeros(200)]
    sae = topk(k=4).fit(X, sample_weight=weight)
    expected = [sae_scorer(sae, X[400:])]
    sae.set_params(k=1, warm_start=True, max_iter=4).fit(X, sample_weight=weight)
    expected.insert(0, sae_scorer(sae, X[400:]))
    for name in expected[0]:
        column = search.cv_results_[f"mean_test_{name}"]
        np.testing.assert_array_equal(column, [scores[name] for scores in expected])


def test_the_choice_is_fitted_anew_on_all_rows(X, search):
    chosen = topk(k=search.best_params_["k"]).fit(X)
    assert (chosen.components_ == search.best_estimator_.components_).all()
    codes = search.transform(X)
    assert (codes == chosen.transform(X)).all()
    assert (search.inverse_transform(codes) == chosen.inverse_transform(codes)).all()
    assert search.score(X) == chosen.score(X)
    assert search.n_features_in_ == 8
    assert search.get_feature_names_out().tolist() == [f"topksae{i}" for i in range(16)]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # near is enough
def test_penalised_codes_go_from_many_to_few():
    """The values are numbers of active latents, and continued fits reach them."""
    X = make_superposition(1500, 8, 16, density=2 / 16, random_state=0)[0]
    sae = SparseAutoencoder(16, batch_size=50, max_iter=20, random_state=0)
    search = SparsityPathCV(sae, [1.0, 3.0], continuation=1.0, cv=2).fit(X)
    assert search.cv_results_["param_target_l0"].tolist() == [1.0, 3.0]
    assert -search.cv_results_["mean_test_neg_l0"] == pytest.approx([1.0, 3.0], rel=0.25)
    assert search.choice_.params == search.best_params_


def test_a_rule_chooses(X):
    rule = BestExplainedVariance(max_l0=2)
    search = SparsityPathCV(topk(), [1, 2, 4], cv=2, refit=rule).fit(X)
    assert search.best_params_ == {"k": 2}


def test_penalties_go_from_small_to_large(X):
    sae = SparseAutoencoder(16, max_iter=60, batch_size=100, random_state=0)
    search = SparsityPathCV(sae, [3.0, 0.3], param_name="alpha", cv=2).fit(X)
    assert search.cv_results_["param_alpha"].tolist() == [3.0, 0.3]
    sparse_l0, dense_l0 = -search.cv_results_["mean_test_neg_l0"]
    assert sparse_l0 < dense_l0


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_jobs_change_nothing(X, search, backend):
    with joblib.parallel_config(backend):
        again = SparsityPathCV(topk(), [2, 1, 4], cv=3, n_jobs=2).fit(X)
    for name, column in search.cv_results_.items():
        if "test" in name:
            np.testing.assert_allclose(again.cv_results_[name], column, rtol=1e-6)


def test_groups_weights_frames_and_pipelines(X):
    groups = np.repeat(np.arange(6), 100)
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(8)])
    search = SparsityPathCV(topk(max_iter=5, sparse_output=True), [1, 2], cv=GroupKFold(3))
    search.fit(frame, groups=groups, sample_weight=np.linspace(0.5, 1, 600))
    assert search.n_splits_ == 3
    assert search.feature_names_in_.tolist() == list(frame.columns)
    assert sparse.issparse(search.transform(frame))
    pipeline = make_pipeline(StandardScaler(), SparsityPathCV(topk(max_iter=5), [1, 2], cv=2))
    assert pipeline.fit_transform(X).shape == (600, 16)
    assert not hasattr(clone(search), "best_estimator_")
    lists = SparsityPathCV(topk(max_iter=2), [1], cv=ShuffleSplit(1, random_state=0))
    assert lists.fit(X.tolist()).n_splits_ == 1


@each_case(
    "settings, message",
    [
        ({"values": []}, "'values'"),
        ({"values": [1], "param_name": "alpha"}, "TopKSAE has no parameter 'alpha'"),
        ({"values": [1], "continuation": 0.0}, "'continuation'"),
        ({"values": [0]}, "'k' parameter"),
    ],
)
def test_what_is_wrong_is_named(X, settings, message):
    with pytest.raises(ValueError, match=message):
        SparsityPathCV(topk(), cv=2, **settings).fit(X)


def test_other_estimators_are_refused(X):
    with pytest.raises(ValueError, match="StandardScaler has no parameter"):
        SparsityPathCV(StandardScaler(), [1]).fit(X)
