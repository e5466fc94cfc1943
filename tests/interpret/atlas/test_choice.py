import numpy as np
import pytest
from sklearn.base import BaseEstimator

from sksae.interpret import FeatureAtlas, choose_features
from tests.cases import each_case


class Coder(BaseEstimator):
    """Rows that are codes already, and directions."""

    def __init__(self, components):
        self.components = components
        self.components_ = components

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X

    def get_feature_names_out(self):
        return [f"coder{i}" for i in range(len(self.components_))]


@pytest.fixture
def planted():
    """Latent 0 fires on half of all " b", latent 1 on every "c", latent 2 everywhere."""
    rng = np.random.default_rng(0)
    string = rng.choice(["a", " b", "c", " d", "e", "f"], size=1000).astype(object)
    b, c = (np.flatnonzero(string == s) for s in (" b", "c"))
    codes = np.zeros((1000, 8))
    codes[b[: len(b) // 2], 0] = codes[c, 1] = codes[::2, 2] = 1
    codes[b[: len(b) // 2 : 2], 3] = 1
    codes[np.flatnonzero(string == "f")[:3], 4] = 1
    return codes, {"text": np.repeat(np.arange(40), 25), "string": string}


def test_features_on_one_token_in_some_places_come_first(planted):
    codes, table = planted
    chosen = choose_features(FeatureAtlas().fit(codes, tokens=table), n_features=2)
    # 3 is more selective, 0 has the same main token; 2 fires too often, 4 on too few rows.
    assert chosen.tolist() == [3, 1]


def test_directions_differ(planted):
    codes, table = planted
    components = np.eye(8)
    components[1] = components[3]
    atlas = FeatureAtlas(Coder(components)).fit(codes, tokens=table)
    assert choose_features(atlas, n_features=2).tolist() == [3]


def test_bounds_give_way_where_too_few_features_are_known(planted):
    codes, table = planted
    atlas = FeatureAtlas().fit(codes, tokens=table)
    assert set(choose_features(atlas, n_features=4).tolist()) == {1, 3, 4}


def test_labels_and_nothing_that_fires():
    codes = np.zeros((30, 3))
    codes[:25, 0] = codes[5, 1] = 1
    atlas = FeatureAtlas().fit(codes, tokens=[f"row {i}" for i in range(30)])
    assert choose_features(atlas, n_features=2).tolist() == [1]
    assert choose_features(FeatureAtlas().fit(np.zeros((5, 2)))).tolist() == []


@each_case("name", ["n_features", "min_active", "min_texts"])
def test_counts_are_checked(name):
    atlas = FeatureAtlas().fit(np.ones((2, 2)))
    with pytest.raises(ValueError, match=f"{name} must be an int >= 1"):
        choose_features(atlas, **{name: 0})
