import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import metrics
from sksae.metrics import _scorers
from tests.cases import each_case

SCORERS = {
    "explained_variance": metrics.explained_variance_scorer,
    "neg_mean_squared_error": metrics.neg_mean_squared_error_scorer,
    "mean_cosine_similarity": metrics.mean_cosine_similarity_scorer,
    "neg_l0": metrics.neg_l0_scorer,
    "neg_dead_fraction": metrics.neg_dead_fraction_scorer,
}


class FakeSAE(TransformerMixin, BaseEstimator):
    """Rectified projections on fixed random directions, dense or CSR; counts the rows it sees."""

    def __init__(self, n_components=40, threshold=0.5, sparse_output=False):
        self.n_components = n_components
        self.threshold = threshold
        self.sparse_output = sparse_output

    def fit(self, X, y=None, sample_weight=None):
        self.intercept_ = np.asarray(X, dtype=float).mean(axis=0)
        atoms = np.random.default_rng(0).standard_normal((self.n_components, X.shape[1]))
        self.components_ = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
        self.largest_call_ = 0
        return self

    def transform(self, X):
        self.largest_call_ = max(self.largest_call_, len(X))
        Z = (np.asarray(X, dtype=float) - self.intercept_) @ self.components_.T
        codes = np.where(self.threshold < Z, Z, 0)
        return sparse.csr_array(codes) if self.sparse_output else codes

    def inverse_transform(self, X):
        return 0.3 * (X @ self.components_) + self.intercept_


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return rng.standard_normal((900, 12)) * rng.uniform(0.5, 2, 12) + 3


def expected_scores(estimator, X, weight=None):
    codes = estimator.transform(X)
    X_hat = estimator.inverse_transform(codes)
    weighted = {"sample_weight": weight}
    counted = slice(None) if weight is None else np.asarray(weight) > 0
    return {
        "explained_variance": metrics.explained_variance(X, X_hat, **weighted),
        "neg_mean_squared_error": -metrics.mean_squared_reconstruction_error(X, X_hat, **weighted),
        "mean_cosine_similarity": metrics.mean_cosine_similarity(X, X_hat, **weighted),
        "neg_l0": -metrics.l0(codes, **weighted),
        "neg_dead_fraction": -metrics.dead_fraction(codes[counted]),
    }


@each_case("weighted", [False, True])
@each_case("sparse_output", [False, True])
def test_scorers_are_the_metrics(X, sparse_output, weighted, monkeypatch):
    monkeypatch.setattr(_scorers, "BLOCK_SIZE", 4000)
    sae = FakeSAE(threshold=5.0, sparse_output=sparse_output).fit(X)
    # the first block has no weight at all
    weight = np.r_[np.zeros(256), np.arange(644) % 3] if weighted else None
    expected = expected_scores(sae, X, weight)
    assert expected["neg_dead_fraction"] < 0
    sae.fit(X)
    found = metrics.sae_scorer(sae, X, sample_weight=weight)
    assert sae.largest_call_ == 256  # blocks of rows, never all of them
    assert found.keys() == expected.keys() == SCORERS.keys()
    for name, scorer in SCORERS.items():
        assert isinstance(found[name], float)
        assert_allclose(found[name], expected[name], rtol=1e-10)
        assert_allclose(scorer(sae, X, None, weight), expected[name], rtol=1e-10)


def test_blocks_shrink_for_wide_codes(X, monkeypatch):
    monkeypatch.setattr(_scorers, "FIRST_BLOCK_ROWS", 5)
    monkeypatch.setattr(_scorers, "BLOCK_SIZE", 4000)
    sae = FakeSAE().fit(X)
    metrics.neg_l0_scorer(sae, X)
    assert sae.largest_call_ == 4000 // 40


def test_kinds_of_input(X):
    sae = FakeSAE().fit(X)
    expected = metrics.sae_scorer(sae, X)
    for kind in (pd.DataFrame, pl.DataFrame, torch.from_numpy, np.ndarray.tolist):
        assert metrics.sae_scorer(sae, kind(X)) == pytest.approx(expected)


def test_data_frames_keep_their_feature_names(X):
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(12)])
    pca = PCA(3).fit(frame)  # would warn about an array without names
    expected = metrics.sae_scorer(PCA(3).fit(X), X)
    assert metrics.sae_scorer(pca, frame) == pytest.approx(expected)


def test_pandas_codes(X):
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(12)])
    pca = PCA(3).set_output(transform="pandas").fit(frame)
    assert metrics.neg_l0_scorer(pca, frame) == -3.0


def test_a_pipeline_is_scored_in_its_input_space(X):
    pipeline = make_pipeline(StandardScaler(), FakeSAE()).fit(X)
    X_hat = pipeline.inverse_transform(pipeline.transform(X))
    found = metrics.sae_scorer(pipeline, X)["explained_variance"]
    assert_allclose(found, metrics.explained_variance(X, X_hat))
    # the other space, as the docstring says
    scaled = pipeline[:-1].transform(X)
    inner = metrics.explained_variance_scorer(pipeline[-1], scaled)
    scaled_hat = pipeline[-1].inverse_transform(pipeline[-1].transform(scaled))
    assert_allclose(inner, metrics.explained_variance(scaled, scaled_hat))
    assert abs(inner - found) > 1e-3


def test_estimators_that_cannot_be_scored(X):
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, X[:, 0] > 3)
    with pytest.raises(TypeError, match=r"Pipeline has no transform.*its own score"):
        metrics.sae_scorer(classifier, X)

    class Encoder(TransformerMixin, BaseEstimator):
        def transform(self, X):
            return np.maximum(X, 0)

    with pytest.raises(TypeError, match="Encoder has no inverse_transform"):
        metrics.explained_variance_scorer(Encoder(), X)
    assert metrics.neg_l0_scorer(Encoder(), X) < 0


def test_bad_input(X):
    sae = FakeSAE().fit(X)
    with pytest.raises(ValueError, match="sparse matrix"):
        metrics.sae_scorer(sae, sparse.csr_array(X))
    with pytest.raises(ValueError, match="NaN"):
        metrics.sae_scorer(sae, X * np.nan)
    with pytest.raises(ValueError, match="sample_weight has shape"):
        metrics.sae_scorer(sae, X, sample_weight=[1.0])


@each_case("scorer", [metrics.sae_scorer, *SCORERS.values()])
def test_scorers_in_a_search(X, scorer):
    search = GridSearchCV(FakeSAE(), {"threshold": [0.5, 1.5]}, scoring=scorer, refit=False, cv=2)
    search.fit(X, sample_weight=np.arange(900) % 3)
    names = list(SCORERS) if scorer is metrics.sae_scorer else ["score"]
    for name in names:
        assert np.isfinite(search.cv_results_[f"mean_test_{name}"]).all()
    results = cross_validate(FakeSAE(), X, scoring=scorer, cv=2)
    assert {f"test_{name}" for name in names} <= results.keys()
    pickle.loads(pickle.dumps(scorer))


def test_penalized_scorer(X):
    sae = FakeSAE().fit(X)
    scores = metrics.sae_scorer(sae, X)
    scorer = pickle.loads(pickle.dumps(metrics.make_penalized_scorer(0.01)))
    expected = scores["explained_variance"] + 0.01 * scores["neg_l0"]
    assert_allclose(scorer(sae, X), expected)
    for penalty in (-0.1, np.nan):
        with pytest.raises(ValueError, match="l0_penalty"):
            metrics.make_penalized_scorer(penalty)
