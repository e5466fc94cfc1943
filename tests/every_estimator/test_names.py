"""Components have names once they are understood, and everything that passes names on says them."""

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import Ridge
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import SAEVectorizer, TopKSAE
from sksae.datasets import TINY_LM_PATH
from sksae.language_models import ActivationExtractor
from tests.cases import each_case, tries
from tests.estimators import fitted, wide

# Of code that all classes share: two of them stand for it in the default run.
pytestmark = pytest.mark.costly

WIDTH = 64


def expected(SAE, names):
    """The generated names with some in place."""
    generated = [f"{SAE.__name__.lower()}{i}" for i in range(WIDTH)]
    return [names.get(i, name) for i, name in enumerate(generated)]


class Explained:
    """Anything that a text can be had from."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text


def test_names_come_out(SAE, X):
    sae = fitted(SAE, X, max_iter=1)
    assert sae.set_feature_names({3: "cold", 17: Explained("차가운 🥶")}) is sae
    names = expected(SAE, {3: "cold", 17: "차가운 🥶"})
    out = sae.get_feature_names_out()
    assert out.tolist() == names
    assert out.dtype == object
    assert sae.feature_names_ == {3: "cold", 17: "차가운 🥶"}


def test_names_are_replaced_and_removed(SAE, X):
    sae = fitted(SAE, X, max_iter=1).set_feature_names({3: "cold"}).set_feature_names({4: "warm"})
    assert sae.get_feature_names_out().tolist() == expected(SAE, {4: "warm"})
    sae.set_feature_names(None)
    assert sae.get_feature_names_out().tolist() == expected(SAE, {})
    assert not hasattr(sae, "feature_names_")


def named(X, names, width=5):
    sae = TopKSAE(width, k=1, max_iter=1, random_state=0).fit(X)
    return sae.set_feature_names(names).get_feature_names_out().tolist()


@each_case(
    "names",
    [
        ["a", "b", "c", "d", "e"],
        np.array(["a", "b", "c", "d", "e"], dtype=object),
        pd.Series(["a", "b", "c", "d", "e"]),
        dict(zip(np.arange(5), "abcde", strict=True)),
    ],
)
def test_names_come_in_many_forms(X, names):
    assert named(X, names) == ["a", "b", "c", "d", "e"]


def test_missing_names_are_generated(X):
    some = ["topksae0", "b", "topksae2", "topksae3", "e"]
    assert named(X, [None, "b", None, None, "e"]) == some
    assert named(X, pd.Series([np.nan, "b", np.nan, np.nan, "e"], dtype=object)) == some
    assert named(X, pd.Series({4: "e", 1: "b"})) == some


def test_shared_names_are_numbered(X):
    assert named(X, {1: "cold", 3: "cold"}) == [
        "topksae0",
        "cold (1)",
        "topksae2",
        "cold (3)",
        "topksae4",
    ]
    # The name of another component, and a name that is what the numbering makes of two others.
    assert named(X, {1: "topksae2", 4: "topksae4"})[1:] == [
        "topksae2 (1)",
        "topksae2",
        "topksae3",
        "topksae4",
    ]
    assert named(X, {0: "a (1)", 1: "a", 2: "a"})[:3] == ["a (1) (0)", "a (1) (1)", "a (2)"]


def test_names_are_one_clean_line(X):
    names = {0: "  two\n lines\t", 1: "a\x1b[2Jb", 2: "half \ud83d", 3: "spaced\u3000\xa0out", 4: 7}
    cleaned = ["two lines", "a\ufffd[2Jb", "half \ufffd", "spaced out", "7"]
    assert named(X, names) == cleaned


@given(
    names=st.dictionaries(
        st.integers(0, 9),
        st.sampled_from(["a", "a (1)", "a (2)", "a (1) (1)", "topksae1", "topksae3", "b"])
        | st.text(min_size=1).filter(str.strip),
    )
)
@settings(max_examples=tries(50), deadline=None)
def test_names_are_always_unique_and_clean(names):
    sae = TopKSAE(10)
    sae.components_ = np.eye(10)
    out = sae.set_feature_names(names).get_feature_names_out().tolist()
    assert len(set(out)) == 10
    assert all(name == name.strip() and "\n" not in name and name for name in out)
    kept = getattr(sae, "feature_names_", {})
    assert kept.keys() == names.keys()
    assert all(name.startswith(kept.get(i, f"topksae{i}")) for i, name in enumerate(out))
    assert sae.set_feature_names(out).get_feature_names_out().tolist() == out


@each_case(
    "names, message",
    [
        ({5: "a"}, "no component 5: this TopKSAE has 5"),
        ({-1: "a"}, "no component -1"),
        ({"1": "a"}, r"keys, as int. Got '1'"),
        ({True: "a"}, "Got True"),
        ({1.0: "a"}, "Got 1.0"),
        (["a", "b"], "2 names, but this TopKSAE has 5 components"),
        ("abcde", "Got the str 'abcde'"),
        ({2: " \n"}, "name of component 2 is empty"),
    ],
)
def test_what_is_no_name_is_refused_and_changes_nothing(X, names, message):
    sae = TopKSAE(5, k=1, max_iter=1).fit(X).set_feature_names({0: "kept"})
    with pytest.raises(ValueError, match=message):
        sae.set_feature_names(names)
    assert sae.feature_names_ == {0: "kept"}


def test_only_a_fitted_estimator_has_components_to_name(SAE):
    with pytest.raises(ValueError, match="not fitted"):
        SAE().set_feature_names({0: "a"})


ROUTES = {
    "pickle": lambda sae, _: pickle.loads(pickle.dumps(sae)),
    "joblib": lambda sae, path: joblib.load(joblib.dump(sae, path / "m.joblib")[0]),
    "deepcopy": lambda sae, _: copy.deepcopy(sae),
    "copy": lambda sae, _: copy.copy(sae),
    "skops": lambda sae, _: skops.io.loads(
        skops.io.dumps(sae), trusted=skops.io.get_untrusted_types(data=skops.io.dumps(sae))
    ),
}


@each_case("route", ROUTES)
def test_names_survive_the_disk(SAE, X, route, tmp_path):
    sae = fitted(SAE, X, max_iter=1).set_feature_names({3: "cold", 4: "차가운", 5: "cold"})
    back = ROUTES[route](sae, tmp_path)
    assert back.feature_names_ == sae.feature_names_
    assert_array_equal(back.get_feature_names_out(), sae.get_feature_names_out())


def test_a_new_fit_and_a_clone_drop_names(SAE, X):
    sae = fitted(SAE, X, max_iter=1).set_feature_names({3: "cold"})
    assert not hasattr(clone(sae), "feature_names_")
    assert sae.fit(X).get_feature_names_out().tolist() == expected(SAE, {})


def test_a_fit_that_fails_leaves_model_and_names(X):
    sae = fitted(TopKSAE, X, max_iter=1).set_feature_names({3: "cold"})
    with pytest.raises(ValueError, match="NaN"):
        sae.fit(np.full_like(X, np.nan))
    assert sae.get_feature_names_out()[3] == "cold"


def test_continued_training_keeps_names(SAE, X):
    sae = fitted(SAE, X, max_iter=1).set_feature_names({3: "cold"})
    assert sae.partial_fit(X).get_feature_names_out()[3] == "cold"
    assert sae.set_params(warm_start=True).fit(X).get_feature_names_out()[3] == "cold"


def test_frames_have_named_columns(SAE, X):
    sae = fitted(SAE, X, max_iter=1).set_feature_names({3: "cold", 5: "cold"})
    names = expected(SAE, {3: "cold (3)", 5: "cold (5)"})
    assert sae.set_output(transform="pandas").transform(X).columns.tolist() == names
    frame = sae.set_output(transform="polars").transform(X)
    assert isinstance(frame, pl.DataFrame)
    assert frame.columns == names


def test_selectors_unions_and_columns_speak_in_names(SAE, X):
    sae = FrozenEstimator(
        fitted(SAE, X, max_iter=1).set_feature_names(dict.fromkeys(range(WIDTH), "n"))
    )
    numbered = [f"n ({i})" for i in range(WIDTH)]
    pipeline = make_pipeline(StandardScaler(with_std=False), sae).fit(X)
    assert pipeline.get_feature_names_out().tolist() == numbered
    target = sae.transform(X)[:, 9] + np.linspace(0, 1e-3, len(X))
    strongest = make_pipeline(sae, SelectKBest(lambda A, y: np.abs(A.T @ y), k=1)).fit(X, target)
    score = np.abs(sae.transform(X).T @ target)
    assert strongest.get_feature_names_out().tolist() == [f"n ({score.argmax()})"]
    union = FeatureUnion([("a", sae), ("b", StandardScaler())]).fit(X)
    assert union.get_feature_names_out()[9] == "a__n (9)"
    columns = ColumnTransformer([("c", sae, list(range(12)))], verbose_feature_names_out=False)
    assert columns.fit(X).get_feature_names_out().tolist() == numbered


def test_importances_come_by_name(X):
    sae = wide(TopKSAE, max_iter=5).fit(X)
    target = sae.transform(X)[:, 9]
    sae.set_feature_names({9: "cold"}).set_output(transform="pandas")
    codes = sae.transform(X)
    model = Ridge(alpha=1e-6).fit(codes, target)
    found = permutation_importance(model, codes, target, n_repeats=2, random_state=0)
    importances = pd.Series(found.importances_mean, model.feature_names_in_)
    assert importances.idxmax() == "cold"


def test_texts_become_named_features():
    extractor = ActivationExtractor(TINY_LM_PATH, layer=2)
    texts = ["The cold river.", "Numbers: 1, 2, 3."]
    rows = extractor.transform(texts)
    sae = TopKSAE(8, k=2, max_iter=2, random_state=0).fit(rows).set_feature_names({0: "cold"})
    refitted = SAEVectorizer(extractor, sae, prefit=False).fit(texts)
    assert refitted.get_feature_names_out()[0] == "topksae0"
    for held in (sae, FrozenEstimator(sae)):
        vectorizer = SAEVectorizer(extractor, held)
        assert vectorizer.fit(texts).get_feature_names_out()[0] == "cold"
    scaled = make_pipeline(vectorizer, StandardScaler(with_mean=False)).fit(texts)
    assert scaled.get_feature_names_out()[:2].tolist() == ["cold", "topksae1"]
