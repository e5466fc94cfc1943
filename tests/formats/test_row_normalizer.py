"""Rows divided by their own size, and given it back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from sksae.formats import RowNormalizer
from tests.cases import tries


@parametrize_with_checks([RowNormalizer()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([RowNormalizer("norm")])
def test_scikit_learn_checks_of_the_other_method(estimator, check):
    check(estimator)


def test_known_numbers():
    X = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 6.0]])
    normal = RowNormalizer().fit_transform(X)
    assert_allclose(normal[0], np.array([-1, 0, 1]) / (1 + 1e-5), rtol=1e-15)
    assert_allclose(normal.mean(axis=1), 0, atol=1e-15)
    assert_allclose(RowNormalizer("norm").fit_transform(X)[1], [0, 0, np.sqrt(3)])


@pytest.mark.parametrize("method", ["layer_norm", "norm"])
def test_constant_rows_are_no_accident(method):
    X = np.array([[0.0, 0.0], [5.0, 5.0]])
    normalizer = RowNormalizer(method).fit(X)
    assert np.isfinite(normalizer.transform(X)).all()
    assert_array_equal(normalizer.transform(X)[0], [0, 0])
    assert_allclose(normalizer.restore(normalizer.transform(X), X), X)


@settings(max_examples=tries(30), deadline=None)
@given(
    method=st.sampled_from(["layer_norm", "norm"]),
    seed=st.integers(0, 2**32 - 1),
    d=st.integers(2, 7),
    scale=st.floats(1.0, 1e6),
)
def test_restore_undoes_transform(method, seed, d, scale):
    """Up to the 1e-5 that keeps a constant row finite."""
    X = scale * np.random.default_rng(seed).normal(size=(5, d))
    normalizer = RowNormalizer(method).fit(X)
    near = {"rtol": 1e-3, "atol": 1e-4} if method == "layer_norm" else {"rtol": 1e-12}
    assert_allclose(normalizer.restore(normalizer.transform(X), X), X, **near)


def test_what_does_not_belong_together_is_refused():
    X = np.ones((3, 4))
    normalizer = clone(RowNormalizer()).fit(X)
    with pytest.raises(ValueError, match="do not belong"):
        normalizer.restore(X[:2], X)
    with pytest.raises(ValueError, match="'method' parameter of RowNormalizer must be one of"):
        RowNormalizer("rows").fit(X)
