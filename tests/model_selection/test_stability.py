import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import NMF
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import TopKSAE
from sksae.model_selection import feature_stability


class Seeded(TransformerMixin, BaseEstimator):
    """Components: the first `same` unit vectors, all else by the seed."""

    def __init__(self, same=4, random_state=None):
        self.same, self.random_state = same, random_state

    def fit(self, X, y=None):
        rng = np.random.default_rng(self.random_state)
        components = np.eye(X.shape[1])
        components[self.same :] = rng.normal(size=(X.shape[1] - self.same, X.shape[1]))
        self.components_ = 3.0 * rng.permutation(components)
        return self

    def transform(self, X):
        return X


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).uniform(size=(60, 16))


def test_components_that_do_not_depend_on_the_seed_are_all_found_again(X):
    stability = feature_stability(Seeded(same=16), X, n_seeds=4, random_state=0)
    assert stability.share == 1.0
    assert stability.cosines.shape == (3, 16)
    np.testing.assert_allclose(stability.component_cosines, 1.0)
    assert len(set(stability.seeds.tolist())) == 4


def test_the_share_counts_those_that_are_found_again(X):
    stability = feature_stability(Seeded(same=4), X, random_state=0)
    assert stability.share == 4 / 16
    assert (stability.component_cosines > 0.999).sum() == 4
    again = feature_stability(make_pipeline(StandardScaler(), Seeded(4)), X, random_state=0)
    np.testing.assert_array_equal(again.cosines, stability.cosines)


def test_a_direction_and_its_opposite_are_different(X):
    class Signed(Seeded):
        def fit(self, X, y=None):
            super().fit(X)
            signs = np.random.default_rng(self.random_state).choice([-1.0, 1.0], size=(16, 1))
            self.components_ = signs * np.eye(16)
            return self

    share = feature_stability(Signed(), X, n_seeds=2, random_state=0).share
    assert 0 < share < 1


def test_other_estimators_and_what_cannot_be_measured(X):
    assert feature_stability(NMF(2, max_iter=500, tol=1e-3), X, random_state=0).cosines.min() > 0
    sae = TopKSAE(8, k=2, max_iter=2)
    stability = feature_stability(sae, X, n_seeds=2, random_state=0)
    assert [fitted.random_state for fitted in stability.estimators] == stability.seeds.tolist()
    assert sae.random_state is None
    with pytest.raises(ValueError, match="no components_ after fit"):
        feature_stability(_WithoutComponents(), X, n_seeds=2)
    with pytest.raises(ValueError, match="StandardScaler has no parameter 'random_state'"):
        feature_stability(StandardScaler(), X)
    with pytest.raises(TypeError, match=r"must be an estimator\. Got <class"):
        feature_stability(TopKSAE, X)
    with pytest.raises(ValueError, match="n_seeds must be"):
        feature_stability(sae, X, n_seeds=1)


class _WithoutComponents(Seeded):
    def fit(self, X, y=None):
        return self
