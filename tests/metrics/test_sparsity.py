import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from sksae.metrics import dead_fraction, dense_fraction, l0, l0_per_row, l1, latent_density
from tests.cases import each_case, tries

METRICS = [l0, l0_per_row, l1, latent_density, dead_fraction, dense_fraction]
KINDS = [
    sparse.csr_array,
    sparse.csr_matrix,
    sparse.csc_array,
    sparse.coo_matrix,
    torch.from_numpy,
    pd.DataFrame,
    np.asfortranarray,
    np.ndarray.tolist,
]


def random_codes(n=4000, m=150, seed=0):
    # larger than one block; some latents dead, some dense, some explicit zeros of either sign
    rng = np.random.default_rng(seed)
    density = np.r_[np.zeros(20), np.full(5, 0.5), np.full(m - 25, 0.05)]
    fires = rng.random((n, m)) < density
    return np.where(fires, rng.exponential(size=(n, m)), -0.0).astype(np.float32)


def test_against_numpy():
    codes = random_codes()
    fires = codes > 0
    assert_allclose(l0(codes), fires.sum(axis=1).mean(), rtol=1e-12)
    assert_allclose(l0(codes, normalize=True), fires.mean(), rtol=1e-12)
    assert_array_equal(l0_per_row(codes), fires.sum(axis=1))
    assert_allclose(latent_density(codes), fires.mean(axis=0), rtol=1e-12)
    assert dead_fraction(codes) == 20 / 150
    assert dense_fraction(codes) == 5 / 150
    assert dense_fraction(codes, min_density=0.9) == 0
    assert_allclose(l1(codes), codes.sum(axis=1, dtype=float).mean(), rtol=1e-12)


@each_case("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_codes(metric, kind):
    codes = random_codes(300, 40)
    assert_allclose(metric(kind(codes)), metric(codes), rtol=1e-12)


@each_case("metric", METRICS)
def test_large_csr_equals_dense(metric):
    codes = random_codes(20_000, 150)
    assert_allclose(metric(sparse.csr_array(codes)), metric(codes), rtol=1e-12)


@each_case("metric", METRICS)
def test_explicit_zeros_do_not_count_and_stay(metric):
    codes = sparse.csr_array(random_codes(50, 40))
    with_zeros = codes.copy()
    with_zeros.data[::3] = 0
    stored = with_zeros.nnz
    assert_allclose(metric(with_zeros), metric(with_zeros.toarray()), rtol=1e-12)
    assert with_zeros.nnz == stored  # the input is left alone


@each_case("metric", METRICS)
def test_half_precision(metric):
    codes = torch.from_numpy(random_codes(50, 40))
    expected = metric(codes.to(torch.bfloat16).double().numpy())
    assert_allclose(metric(codes.to(torch.bfloat16)), expected, rtol=1e-12)
    expected = metric(codes.half().double().numpy())
    assert_allclose(metric(codes.half().numpy()), expected, rtol=1e-12)


def test_signed_codes():
    codes = np.array([[-1.0, 0, 2], [0, 0, -3]])
    assert l0(codes) == 1.5
    assert l1(codes) == 3.0
    assert l1(sparse.csr_array(codes)) == 3.0


@each_case("kind", [np.asarray, sparse.csr_array])
@each_case("metric", [l0, l1, latent_density])
def test_integer_weights_repeat_rows(metric, kind):
    codes = random_codes(9000, 40)
    weight = np.random.default_rng(1).integers(0, 3, len(codes))
    expected = metric(np.repeat(codes, weight, axis=0))
    assert_allclose(metric(kind(codes), sample_weight=weight), expected, rtol=1e-10)


@each_case("metric", METRICS)
def test_bad_input(metric):
    codes = random_codes(5, 40)
    with pytest.raises(ValueError, match="2-D"):
        metric(codes[0])
    with pytest.raises(ValueError, match="at least one row"):
        metric(sparse.csr_array((0, 4)))
    codes[3, 3] = np.nan
    for kind in (np.asarray, sparse.csr_array, torch.from_numpy):
        with pytest.raises(ValueError, match="codes contains NaN or infinity"):
            metric(kind(codes))
    with pytest.raises(ValueError, match="sparse tensor"):
        metric(torch.eye(3).to_sparse())


@settings(max_examples=tries(30), deadline=None)
@given(n=st.integers(1, 30), m=st.integers(1, 30), p=st.floats(0, 1), seed=st.integers(0, 99))
def test_the_counts_agree_with_each_other(n, m, p, seed):
    rng = np.random.default_rng(seed)
    codes = sparse.csr_array(np.where(rng.random((n, m)) < p, rng.uniform(1, 2, (n, m)), 0))
    assert_allclose(l0_per_row(codes).mean(), l0(codes), atol=1e-12)
    assert_allclose(latent_density(codes).sum(), l0(codes), atol=1e-12)
    assert dead_fraction(codes) == np.mean(latent_density(codes) == 0)
    assert l0(codes) <= l1(codes) <= 2 * l0(codes) + 1e-9
