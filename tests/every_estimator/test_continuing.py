"""Learning on: partial_fit over a stream, warm_start over fits."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal

from tests.estimators import arrays_of, fitted, training_orders, wide

# Of code that all classes share: two of them stand for it in the default run.
pytestmark = [pytest.mark.usefixtures("unchanged_world"), pytest.mark.costly]


def test_a_stream_that_was_pickled_midway_goes_on_as_if_it_had_not(sae, X):
    chunks = np.split(X, 4)
    straight, interrupted = sae, sklearn.clone(sae)
    for number, chunk in enumerate(chunks):
        straight.partial_fit(chunk)
        interrupted.partial_fit(chunk)
        if number == 1:
            interrupted = pickle.loads(pickle.dumps(interrupted))
    for name, value in arrays_of(straight).items():
        assert_array_equal(getattr(interrupted, name), value, err_msg=name)
    assert straight.n_iter_ == len(straight.loss_curve_) == 4
    assert straight.loss_curve_ == interrupted.loss_curve_
    assert straight.n_steps_ == interrupted.n_steps_ == 4


def test_a_stream_learns(SAE, X):
    sae = wide(SAE, learning_rate=3e-3)
    for _ in range(40):
        sae.partial_fit(X)
    assert sae.n_iter_ == 40
    assert sae.n_steps_ == 160
    assert np.mean(sae.loss_curve_[-5:]) < 0.9 * sae.loss_curve_[0]
    assert sae.score(X) > 0.3


def test_a_stream_shuffles_with_one_generator(SAE, X, monkeypatch):
    orders = training_orders(monkeypatch)
    sae = wide(SAE)
    for _ in range(3):
        sae.partial_fit(X)
    assert len(orders) == len({tuple(order) for order in orders}) == 3


def test_a_stream_may_change_its_dtype_and_namespace(SAE, X):
    reference = wide(SAE).partial_fit(X).partial_fit(X)
    single = wide(SAE).partial_fit(X.astype(np.float32)).partial_fit(X)
    assert single.components_.dtype == np.float64
    # A code at the edge of a batch may fall to the other side in float32.
    assert_allclose(single.components_, reference.components_, rtol=1e-3, atol=3e-3)
    back = wide(SAE).partial_fit(X).partial_fit(X.astype(np.float32))
    assert back.components_.dtype == np.float32
    assert_allclose(back.components_, reference.components_, rtol=1e-3, atol=3e-3)
    with sklearn.config_context(array_api_dispatch=True):
        tensors = wide(SAE).partial_fit(X).partial_fit(torch.from_numpy(X))
    assert_array_equal(np.asarray(tensors.components_), reference.components_)


def test_a_stream_has_a_width_of_its_own(SAE, X):
    sae = wide(SAE).partial_fit(X)
    with pytest.raises(ValueError, match="features"):
        sae.partial_fit(X[:, :5])
    with pytest.raises(ValueError, match="64 components"):
        sae.set_params(n_components=32).partial_fit(X)


def test_a_stream_goes_on_from_a_fit_and_a_fit_ends_a_stream(SAE, X):
    sae = fitted(SAE, X, max_iter=5)
    last = sae.loss_curve_[-1]
    sae.partial_fit(X)
    assert (sae.n_iter_, sae.n_steps_) == (6, 24)
    assert sae.loss_curve_[-1] < 1.3 * last
    sae.fit(X)
    assert (sae.n_iter_, sae.n_steps_) == (5, 20)
    assert_array_equal(sae.components_, fitted(SAE, X, max_iter=5).components_)


def test_a_stream_does_not_stop_early(SAE, X):
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        wide(SAE, early_stopping=True).partial_fit(X)


def test_chunks_of_one_row_and_of_unequal_size(SAE, X):
    sae = wide(SAE, n_components=16).partial_fit(X[:100])
    for size in (1, 3, 250, 1):
        sae.partial_fit(X[:size])
    assert np.isfinite(sae.components_).all()
    assert sae.n_iter_ == 5


def test_a_failed_chunk_leaves_the_stream_as_it_was(SAE, X):
    sae = wide(SAE).partial_fit(X)
    before = pickle.dumps(sae)
    with pytest.raises(ValueError, match="NaN"):
        sae.partial_fit(np.full_like(X, np.nan))
    with pytest.raises(ValueError, match="sample_weight"):
        sae.partial_fit(X, sample_weight=np.ones(3))
    assert pickle.dumps(sae) == before


def test_warm_start_goes_on_where_the_last_fit_ended(SAE, X):
    sae = wide(SAE, warm_start=True, learning_rate=2e-3).fit(X)
    curves = [sae.loss_curve_]
    for number in range(2, 4):
        sae.fit(X)
        assert sae.n_iter_ == len(sae.loss_curve_) == 30 * number
        assert sae.n_steps_ == 120 * number
        assert sae.loss_curve_[: 30 * (number - 1)] == curves[-1]
        curves.append(sae.loss_curve_)
    for before, after in pairwise(np.split(np.array(curves[-1]), 3)):
        assert after[0] < before[0]
        assert after[0] < before[-1] + 0.2 * (before[0] - before[-1])


def test_warm_start_begins_with_the_function_that_was_learnt(SAE, X):
    sae = fitted(SAE, X)
    codes, components = sae.transform(X), sae.components_
    for normalize in ("rms", "anthropic", "unit", None):
        # One pass at a vanishing rate: unfolding and folding must give the model back.
        sae.set_params(warm_start=True, learning_rate=1e-12, max_iter=1, normalize=normalize).fit(X)
        assert_allclose(sae.components_, components, atol=1e-8)
        assert_allclose(sae.transform(X), codes, atol=1e-7)


def test_warm_start_keeps_the_width(SAE, X):
    sae = fitted(SAE, X).set_params(warm_start=True)
    with pytest.raises(ValueError, match="n_components"):
        sae.set_params(n_components=32).fit(X)
    with pytest.raises(ValueError, match="features"):
        sae.set_params(n_components=64).fit(X[:, :5])
    rate = sae.learning_rate_
    for expansion_factor in (1, 100):
        sae.set_params(n_components=None, expansion_factor=expansion_factor, max_iter=1).fit(X)
        assert sae.n_components_ == len(sae.components_) == 64
        assert sae.learning_rate_ == rate
        if "k" in sae._param_rules:
            assert sae.set_params(k=20).fit(X).k_ == 20


def test_warm_start_of_an_unfitted_estimator_is_a_fit(SAE, X):
    one, other = fitted(SAE, X, max_iter=3), wide(SAE, max_iter=3, warm_start=True).fit(X)
    assert_array_equal(one.components_, other.components_)
