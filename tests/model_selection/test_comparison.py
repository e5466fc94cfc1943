import sys

import numpy as np
import pytest
from sklearn.decomposition import NMF, PCA, MiniBatchDictionaryLearning, TruncatedSVD
from sklearn.linear_model import Ridge
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import DummySAE, TopKSAE
from sksae.datasets import load_tiny_lm
from sksae.language_models import ActivationExtractor, downstream_metrics
from sksae.metrics import sae_scorer
from sksae.model_selection import compare


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).uniform(size=(90, 6))


def test_all_are_scored_on_the_same_splits(X):
    cv = ShuffleSplit(3, test_size=30, random_state=0)
    sae = TopKSAE(8, k=2, max_iter=3, random_state=0)
    estimators = {
        "two components": PCA(2),
        "all components": PCA(),
        "nmf": NMF(2, max_iter=1000, random_state=0),
        "dictionary": MiniBatchDictionaryLearning(
            4, transform_algorithm="omp", transform_n_nonzero_coefs=1, random_state=0, max_iter=5
        ),
        "sae": make_pipeline(StandardScaler(), sae),
    }
    comparison = compare(estimators, X, cv=cv)
    table = comparison.to_frame().set_index("estimator")
    assert table["n_fits"].tolist() == [3] * 5
    assert table.index.tolist() == list(estimators)
    assert table.loc["all components", "explained_variance"] == pytest.approx(1.0)
    assert table.loc["all components", "explained_variance_std"] == pytest.approx(0.0, abs=1e-9)
    assert table["l0"].tolist()[:2] == [2, 6]
    assert table.loc["dictionary", "l0"] == 1
    assert (table["fit_seconds"] > 0).all()
    # by hand
    scores = [
        sae_scorer(make_pipeline(StandardScaler(), sae).fit(X[train]), X[test])
        for train, test in cv.split(X)
    ]
    values = [score["explained_variance"] for score in scores]
    assert table.loc["sae", "explained_variance"] == pytest.approx(np.mean(values), rel=1e-9)
    assert table.loc["sae", "explained_variance_std"] == pytest.approx(np.std(values, ddof=1))
    dead = [-score["neg_dead_fraction"] for score in scores]
    assert table.loc["sae", "dead_fraction"] == pytest.approx(np.mean(dead))


def test_names_and_what_cannot_be_compared(X):
    comparison = compare([PCA(1), PCA(2), TruncatedSVD(1)], X, cv=2)
    assert comparison.estimator.tolist() == ["PCA", "PCA 2", "TruncatedSVD"]
    one_split = [(np.arange(60), np.arange(60, 90))]
    assert np.isnan(compare([PCA(1)], X, cv=one_split).l0_std).all()
    with pytest.raises(ValueError, match="no estimator"):
        compare([], X)
    with pytest.raises(TypeError, match="'Ridge' has no method 'transform'"):
        compare([Ridge()], X)
    with pytest.raises(TypeError, match="'pca' has no method"):
        compare({"pca": PCA}, X)
    with pytest.raises(ValueError, match="both an extractor and texts"):
        compare([PCA(1)], X, texts=["a text"])


def test_frontiers_are_lists_and_random_baselines_are_drawn_again(X):
    estimators = {
        "dummies": [DummySAE(12, k=k) for k in (1, 2)],
        "pipelines": [make_pipeline(StandardScaler(), PCA(n)) for n in (1, 2)],
        "seeded": DummySAE(12, k=2, random_state=0),
    }
    comparison = compare(estimators, X, cv=2, n_draws=4, random_state=0)
    assert comparison.estimator.tolist() == [*["dummies"] * 2, *["pipelines"] * 2, "seeded"]
    assert comparison.candidate.tolist() == ["k=1", "k=2", "n_components=1", "n_components=2", ""]
    assert comparison.n_fits.tolist() == [8, 8, 8, 8, 2]
    assert comparison.l0.tolist() == [1, 2, 1, 2, 2]
    # Draws differ, and are the same for the same state.
    again = compare({"dummies": DummySAE(12, k=1)}, X, cv=2, n_draws=4, random_state=0)
    assert again.explained_variance[0] == comparison.explained_variance[0]
    single = compare({"dummies": DummySAE(12, k=1)}, X, cv=2, random_state=0)
    assert single.explained_variance[0] != again.explained_variance[0]


def test_what_a_language_model_recovers():
    texts = ["Return the mean of the values along an axis.", "The shape of the array is the same."]
    model, tokenizer = load_tiny_lm()
    extractor = ActivationExtractor(model, layer=2, tokenizer=tokenizer)
    rows = extractor.transform(texts)
    pca = PCA(4, svd_solver="full")
    splits = [(np.arange(len(rows)), np.arange(5))]
    comparison = compare([pca], rows, cv=splits, extractor=extractor, texts=texts)
    expected = downstream_metrics(extractor, pca.fit(rows), texts)["ce_recovered"]
    assert comparison.ce_recovered[0] == pytest.approx(expected, rel=1e-4)
    assert np.isnan(comparison.ce_recovered_std[0])


def test_a_frame_needs_pandas(X, monkeypatch):
    comparison = compare([PCA(1)], X, cv=2)
    monkeypatch.setitem(sys.modules, "pandas", None)  # an import of it fails
    with pytest.raises(ImportError, match=r"ScoreTable.to_frame needs pandas.*sksae\[pandas\]"):
        comparison.to_frame()
