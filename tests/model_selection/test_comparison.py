import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import NMF, PCA, MiniBatchDictionaryLearning, TruncatedSVD
from sklearn.linear_model import Ridge
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import TopKSAE
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
    table = pd.DataFrame(comparison).set_index("estimator")
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
