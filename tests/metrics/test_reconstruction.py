import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.metrics import mean_squared_error, r2_score

from sksae.metrics import (
    explained_variance,
    fraction_of_variance_unexplained,
    mean_squared_reconstruction_error,
    relative_reconstruction_bias,
)
from tests.cases import each_case, tries

METRICS = [
    explained_variance,
    fraction_of_variance_unexplained,
    mean_squared_reconstruction_error,
    relative_reconstruction_bias,
]
X = np.array([[1.0, 0], [2, 1], [0, 3], [4, 2]])
X_HAT = np.array([[0.8, 0.3], [1.5, 1.1], [0.2, 2.4], [3.2, 1.9]])


def random_pair(n=3000, d=200, offset=0.0, seed=0):
    # larger than one block, so that merging is tested
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * rng.uniform(0.1, 3, d) + offset
    return x, 0.9 * x + 0.1 * offset + 0.2 * rng.standard_normal((n, d))


def test_fixture():
    assert_allclose(mean_squared_reconstruction_error(X, X_HAT), 0.18)
    assert_allclose(mean_squared_reconstruction_error(X, X_HAT, per="row"), 0.36)
    assert_allclose(fraction_of_variance_unexplained(X, X_HAT), 0.1047272727, atol=1e-10)
    assert_allclose(explained_variance(X, X_HAT), 0.8952727273, atol=1e-10)
    assert_allclose(relative_reconstruction_bias(X, X_HAT), 0.8306620209, atol=1e-10)
    gamma = relative_reconstruction_bias(X, X_HAT, centered=True)
    assert_allclose(gamma, 0.7901719902, atol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_against_scikit_learn(weighted):
    x, x_hat = random_pair()
    weight = np.random.default_rng(1).uniform(0, 2, len(x)) if weighted else None
    expected = r2_score(x, x_hat, multioutput="variance_weighted", sample_weight=weight)
    assert_allclose(explained_variance(x, x_hat, sample_weight=weight), expected, rtol=1e-12)
    expected = mean_squared_error(x, x_hat, sample_weight=weight)
    found = mean_squared_reconstruction_error(x, x_hat, sample_weight=weight)
    assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("centered", [False, True])
def test_bias_against_numpy(centered):
    x, x_hat = random_pair(offset=2.0)
    found = relative_reconstruction_bias(x, x_hat, centered=centered)
    shift = x.mean(axis=0) if centered else 0.0
    x, x_hat = x - shift, x_hat - shift
    assert_allclose(found, (x_hat**2).sum() / (x * x_hat).sum(), rtol=1e-10)


@each_case("metric", METRICS)
def test_integer_weights_repeat_rows(metric):
    x, x_hat = random_pair(500, 7)
    weight = np.random.default_rng(1).integers(0, 3, len(x))
    repeated = metric(np.repeat(x, weight, axis=0), np.repeat(x_hat, weight, axis=0))
    assert_allclose(metric(x, x_hat, sample_weight=weight), repeated, rtol=1e-10)
    assert_allclose(metric(x, x_hat, sample_weight=list(weight)), repeated, rtol=1e-10)


def test_blocks_whose_weights_are_zero():
    x, x_hat = random_pair()
    weight = np.r_[np.zeros(2000), np.ones(1000)]
    found = explained_variance(x, x_hat, sample_weight=weight)
    assert_allclose(found, explained_variance(x[2000:], x_hat[2000:]), rtol=1e-12)


def test_a_large_mean_loses_no_digits():
    x, x_hat = random_pair()
    expected = explained_variance(x, x_hat)
    assert_allclose(explained_variance(x + 1e7, x_hat + 1e7), expected, rtol=1e-7)
    # a mean that drifts from block to block
    drift = np.linspace(0, 1e3, len(x))[:, None]
    expected = r2_score(x + drift, x_hat + drift, multioutput="variance_weighted")
    assert_allclose(explained_variance(x + drift, x_hat + drift), expected, rtol=1e-10)


def test_a_constant_column_counts():
    # the pooled definition; scikit-learn leaves the error of such a column out
    x = np.c_[X, np.ones(4)]
    x_hat = np.c_[X_HAT, [1, 1, 1, 2]]
    error, variance = ((x - x_hat) ** 2).sum(), ((x - x.mean(axis=0)) ** 2).sum()
    assert_allclose(explained_variance(x, x_hat), 1 - error / variance)
    assert r2_score(x, x_hat, multioutput="variance_weighted") > explained_variance(x, x_hat)


@pytest.mark.filterwarnings("ignore:R.2 score is not well-defined")
def test_data_without_variance():
    x = np.ones((3, 2))
    assert explained_variance(x, x) == r2_score(x, x, multioutput="variance_weighted") == 1.0
    assert explained_variance(x, x + 1) == r2_score(x, x + 1, multioutput="variance_weighted") == 0
    assert explained_variance(x[:1], x[:1]) == 1.0


def test_bias_of_degenerate_reconstructions():
    assert relative_reconstruction_bias(X, np.zeros_like(X)) == 0
    assert relative_reconstruction_bias([[1, 0]], [[0, 1]]) == np.inf
    mean = np.broadcast_to(X.mean(axis=0), X.shape)
    assert relative_reconstruction_bias(X, mean, centered=True) == 0
    assert_allclose(relative_reconstruction_bias(X, X), 1)


@each_case("metric", METRICS)
def test_kinds_of_input(metric, tmp_path):
    x, x_hat = (a.astype(np.float32) for a in random_pair(60, 5))
    expected = metric(x.astype(np.float64), x_hat.astype(np.float64))
    assert isinstance(expected, float)
    for convert in (
        np.asfortranarray,
        pd.DataFrame,
        torch.from_numpy,
        np.ndarray.tolist,
        lambda a: torch.from_numpy(a).requires_grad_(),
    ):
        assert_allclose(metric(convert(x), convert(x_hat)), expected, rtol=1e-10)
    assert_allclose(metric(torch.from_numpy(x), x_hat), expected, rtol=1e-12)
    halves = torch.from_numpy(x).to(torch.bfloat16)
    assert_allclose(metric(halves, x_hat), metric(halves.double().numpy(), x_hat), rtol=1e-12)
    assert np.isfinite(metric(np.eye(5, dtype=bool), np.eye(5, dtype=np.int8)))


@each_case("metric", METRICS)
def test_memory_mapped_float16_is_read_in_blocks(metric, tmp_path):
    n, d = 40_000, 128
    x = (3 + np.random.default_rng(0).standard_normal((n, d))).astype(np.float16)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "x_hat.npy", x + np.float16(0.25))
    x, x_hat = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("x", "x_hat"))
    tracemalloc.start()
    found = metric(x, x_hat)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6 < n * d * 8 / 2  # less than half a float64 copy of one of them
    assert_allclose(found, metric(x.astype(float), x_hat.astype(float)), rtol=1e-12)


@each_case("metric", METRICS)
def test_bad_input(metric):
    with pytest.raises(ValueError, match=r"X has shape \(4, 2\).*\(3, 2\)"):
        metric(X, X_HAT[:3])
    with pytest.raises(ValueError, match="2-D"):
        metric(X[0], X_HAT[0])
    with pytest.raises(ValueError, match="at least one row"):
        metric(X[:0], X_HAT[:0])
    with pytest.raises(ValueError, match="X_reconstructed contains NaN or infinity"):
        metric(X, np.where(X_HAT > 3, np.nan, X_HAT))
    with pytest.raises(ValueError, match="X contains NaN or infinity"):
        metric(np.where(X > 3, np.inf, X), X_HAT)
    with pytest.raises(ValueError, match="X is a sparse matrix"):
        metric(sparse.csr_array(X), X_HAT)
    with pytest.raises(ValueError, match="real numbers"):
        metric([["a", "b"]], [[1, 2]])
    with pytest.raises(ValueError, match=r"sample_weight has shape \(3,\)"):
        metric(X, X_HAT, sample_weight=[1, 1, 1])
    for weight in ([1, 1, 1, -1], [0, 0, 0, 0], [1, 1, 1, np.nan]):
        with pytest.raises(ValueError, match="non-negative"):
            metric(X, X_HAT, sample_weight=weight)


def test_unknown_per():
    with pytest.raises(ValueError, match="'element' or 'row'"):
        mean_squared_reconstruction_error(X, X_HAT, per="sample")


@settings(max_examples=tries(30), deadline=None)
@given(
    n=st.integers(2, 40), d=st.integers(1, 8), seed=st.integers(0, 99), scale=st.floats(0.01, 100)
)
def test_invariances(n, d, seed, scale):
    rng = np.random.default_rng(seed)
    x, x_hat = rng.standard_normal((2, n, d))
    shift = rng.standard_normal(d)
    score = explained_variance(x, x_hat)
    assert_allclose(explained_variance(scale * x + shift, scale * x_hat + shift), score, rtol=1e-6)
    order = rng.permutation(n)
    assert_allclose(explained_variance(x[order], x_hat[order]), score, rtol=1e-9)
    assert_allclose(fraction_of_variance_unexplained(x, x_hat), 1 - score, rtol=1e-12)
    # rescaling by 1 / gamma is the best rescaling
    gamma = relative_reconstruction_bias(x, x_hat)
    errors = [mean_squared_reconstruction_error(x, x_hat * s / gamma) for s in (1, 0.99, 1.01)]
    assert errors[0] == min(errors)
