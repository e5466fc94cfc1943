"""Models survive the disk: pickle, joblib with and without memory mapping, skops, copies."""

import copy
import pickle

import joblib
import numpy as np
import pytest
import skops.io
import torch
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import clone

from tests.cases import each_case
from tests.estimators import arrays_of, fitted, predictors, wide

pytestmark = pytest.mark.usefixtures("unchanged_world")


def through_pickle(sae, _):
    return pickle.loads(pickle.dumps(sae))


def through_joblib(sae, tmp_path):
    joblib.dump(sae, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib")


def through_memory_map(sae, tmp_path):
    joblib.dump(sae, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib", mmap_mode="r")


def through_skops(sae, _):
    data = skops.io.dumps(sae)
    nested = sae.get_params(deep=False).get("estimator")
    classes = {type(part) for part in (sae, sae._objective, nested) if part is not None}
    trusted = skops.io.get_untrusted_types(data=data)
    others = set(trusted) - {f"{cls.__module__}.{cls.__name__}" for cls in classes}
    assert others <= {"sksae.objectives._objective.Weight"}
    return skops.io.loads(data, trusted=trusted)


def through_copy(sae, _):
    return copy.deepcopy(sae)


ROUTES = [through_pickle, through_joblib, through_memory_map, through_skops, through_copy]


@pytest.mark.costly
@each_case("route", ROUTES)
def test_a_fitted_model_comes_back_whole(sae, X, route, tmp_path):
    sae.fit(X)
    back = route(sae, tmp_path)
    assert type(back) is type(sae)
    assert back.get_params() == sae.get_params()
    assert vars(back).keys() == vars(sae).keys()
    for name, value in arrays_of(sae).items():
        assert_array_equal(getattr(back, name), value)
        assert getattr(back, name).dtype == value.dtype
    one, other = sae.transform(X), back.transform(X)
    assert_array_equal(getattr(one, "data", one), getattr(other, "data", other))
    assert back.score(X) == sae.score(X)
    assert_array_equal(back.inverse_transform(other), sae.inverse_transform(one))


@each_case("route", ROUTES)
@each_case("model", predictors(n_components=24, max_iter=3))
def test_a_fitted_predictor_comes_back_whole(model, X, route, tmp_path):
    model = clone(model).set_params(estimator__random_state=0).partial_fit(X, X[:, :3])
    back = route(model, tmp_path)
    assert repr(back) == repr(model)
    assert vars(back).keys() == vars(model).keys()
    assert_array_equal(back.predict(X), model.predict(X))
    for sae in (back, model):
        sae.partial_fit(X, X[:, :3])
    assert_array_equal(back.predict(X), model.predict(X))


@pytest.mark.costly
@each_case("route", ROUTES)
def test_a_restored_model_learns_on_like_the_original(SAE, X, route, tmp_path):
    sae = fitted(SAE, X, max_iter=2).set_params(warm_start=True)
    back = route(sae, tmp_path)
    assert_array_equal(back.fit(X).components_, sae.fit(X).components_)
    stream = wide(SAE).partial_fit(X[:200])
    back = route(stream, tmp_path)
    stream.partial_fit(X[200:])
    assert_array_equal(back.partial_fit(X[200:]).components_, stream.components_)


def test_a_model_of_tensors_is_pickled_without_their_storage(SAE, X):
    tensor = torch.from_numpy(X).float()
    with config_context(array_api_dispatch=True):
        sae = wide(SAE, max_iter=2).fit(tensor)
        data = pickle.dumps(sae)
        back = pickle.loads(data)
        assert torch.equal(back.transform(tensor), sae.transform(tensor))
    entries = sum(value.numel() for value in arrays_of(sae).values())
    assert len(data) < 2 * 4 * entries + 8192


def test_an_unfitted_model_is_small_and_comes_back_unfitted(SAE):
    data = pickle.dumps(SAE())
    assert len(data) < 2000
    assert not hasattr(pickle.loads(data), "components_")


def test_a_fitted_model_is_no_larger_than_its_arrays(SAE, X):
    sae = wide(SAE, n_components=400, max_iter=1).fit(X.astype(np.float32))
    size = sum(value.nbytes for value in arrays_of(sae).values())
    assert len(pickle.dumps(sae)) < 1.05 * size + 8192
