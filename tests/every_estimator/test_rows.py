"""transform is a function of each row alone, at real width and across internal chunks."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from sksae import _arrays
from sksae.kernels import keep_top_k, threshold_codes
from tests.cases import each_case
from tests.estimators import fitted, wide

pytestmark = pytest.mark.usefixtures("unchanged_world")

# One row and many rows go through different matrix kernels, which round differently.
TOLERANCE = {np.float32: {"rtol": 1e-4, "atol": 2e-5}, np.float64: {"rtol": 1e-7, "atol": 1e-11}}


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 7 rows of 64 latents."""
    monkeypatch.setattr(_arrays, "CHUNK_ENTRIES", 7 * 64)


@pytest.mark.costly
@each_case("dtype", [np.float32, np.float64])
def test_a_row_does_not_depend_on_the_others(SAE, X, dtype, monkeypatch):
    X = X.astype(dtype)
    sae = fitted(SAE, X)
    whole = sae.transform(X)
    assert 0 < (whole > 0).sum(axis=1).mean() < 64
    near = TOLERANCE[dtype]
    assert_allclose(np.vstack([sae.transform(row[None]) for row in X[:50]]), whole[:50], **near)
    assert_allclose(sae.transform(X[100:150]), whole[100:150], **near)
    order = np.random.default_rng(0).permutation(len(X))
    assert_allclose(sae.transform(X[order]), whole[order], **near)
    outliers = np.vstack([1e3 * X[:5], X])
    assert_allclose(sae.transform(outliers)[5:], whole, **near)
    monkeypatch.setattr(_arrays, "CHUNK_ENTRIES", 7 * 64)
    assert_allclose(sae.transform(X), whole, **near)
    assert_allclose(sae.transform(X[order]), whole[order], **near)


@pytest.mark.costly
def test_chunks_change_no_score_and_no_fit(SAE, X, monkeypatch):
    reference = fitted(SAE, X, max_iter=5)
    monkeypatch.setattr(_arrays, "CHUNK_ENTRIES", 7 * 64)
    assert_allclose(reference.score(X), wide(SAE, max_iter=5).fit(X).score(X), rtol=1e-6)
    weight = np.random.default_rng(0).random(len(X))
    chunked = reference.score(X, sample_weight=weight)
    monkeypatch.undo()
    assert_allclose(reference.score(X, sample_weight=weight), chunked, rtol=1e-12)


def test_rows_are_permuted_with_their_codes_and_leave_a_full_batch_fit_alone(SAE, X):
    order = np.random.default_rng(1).permutation(len(X))
    one = wide(SAE, batch_size=len(X), max_iter=5).fit(X)
    other = wide(SAE, batch_size=len(X), max_iter=5).fit(X[order])
    assert_allclose(other.components_, one.components_, rtol=1e-6, atol=1e-9)
    assert_allclose(other.transform(X[order]), one.transform(X)[order], rtol=1e-5, atol=1e-8)


@pytest.mark.costly
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_csr_codes_equal_dense_ones(SAE, X, dtype, small_chunks):
    X = X.astype(dtype)
    sae = fitted(SAE, X)
    dense = sae.transform(X)
    codes = sae.set_params(sparse_output=True).transform(X)
    assert sparse.issparse(codes)
    assert codes.format == "csr"
    assert codes.dtype == dense.dtype == dtype
    assert_array_equal(codes.toarray(), dense)
    assert (codes.data > 0).all()
    assert codes.has_sorted_indices
    assert all(
        (np.diff(codes.indices[a:b]) > 0).all()
        for a, b in zip(codes.indptr[:-1], codes.indptr[1:], strict=True)
    )
    assert codes.indices.dtype == codes.indptr.dtype == np.int32
    assert_allclose(
        sae.inverse_transform(codes), sae.inverse_transform(dense), rtol=1e-4, atol=1e-5
    )


def test_csr_codes_of_rows_on_which_nothing_fires(SAE, X):
    sae = fitted(SAE, X).set_params(sparse_output=True)
    sae.encoder_intercept_ = np.full_like(sae.encoder_intercept_, -1e6)
    codes = sae.transform(X)
    assert codes.shape == (400, 64)
    assert codes.nnz == 0
    assert sae.inverse_transform(codes) == pytest.approx(np.tile(sae.intercept_, (400, 1)))


def test_codes_are_neither_negative_nor_minus_zero(SAE, X):
    sae = fitted(SAE, X)
    assert not np.signbit(sae.transform(X)).any()
    sae.encoder_coef_ = np.zeros_like(sae.encoder_coef_)
    sae.encoder_intercept_ = np.full_like(sae.encoder_intercept_, -0.0)
    assert not np.signbit(sae.transform(X)).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_never_return_minus_zero(dtype):
    z = torch.tensor([[-0.0, -1.0, 2.0, 0.0], [-0.0, -0.0, -0.0, -0.0]], dtype=dtype)
    for codes in (keep_top_k(z, 3), threshold_codes(z), threshold_codes(z, torch.zeros(4).to(z))):
        assert not torch.signbit(codes).any()
        assert codes[0].tolist() == [0, 0, 2, 0]


def test_codes_follow_the_documented_formula(SAE, X):
    sae = fitted(SAE, X)
    z = X @ sae.encoder_coef_.T + sae.encoder_intercept_
    threshold = np.maximum(getattr(sae, "threshold_", 0.0), 0)
    expected = np.where(z > threshold, z, 0)
    if hasattr(sae, "k_") and not hasattr(sae, "threshold_"):
        kth = np.sort(z, axis=1)[:, [-sae.k_]]
        expected = np.where(z >= kth, expected, 0)
    assert_allclose(sae.transform(X), expected, rtol=1e-10, atol=1e-10)
    norms = np.linalg.norm(sae.components_, axis=1)
    assert_allclose(norms[norms > 0], 1, rtol=1e-12)
    rebuilt = expected @ sae.components_ + sae.intercept_
    assert_allclose(sae.inverse_transform(sae.transform(X)), rebuilt, rtol=1e-10, atol=1e-10)
    error, spread = ((X - rebuilt) ** 2).sum(), ((X - X.mean(axis=0)) ** 2).sum()
    assert sae.score(X) == pytest.approx(1 - error / spread, rel=1e-10)
    assert_allclose(sae.activation_frequency_, (expected > 0).mean(axis=0), atol=1e-12)


@pytest.mark.costly
@each_case("offset", [2.0**10, 2.0**20])
def test_rows_far_from_the_origin_keep_their_digits(SAE, X, offset):
    """The mean is a million times the deviation: each code is that of exact arithmetic."""
    X = (X + offset).astype(np.float32)
    sae = wide(SAE, max_iter=10).fit(X)
    codes = sae.transform(X)
    alone = np.vstack([sae.transform(row[None]) for row in X[:40]])
    assert np.abs(alone - codes[:40]).max() < 2e-6 * codes.max()
    assert np.abs(sae.transform(X.astype(np.float64)) - codes).max() < 2e-6 * codes.max()
    double = wide(SAE, max_iter=10).fit(X.astype(np.float64))
    assert sae.score(X) == pytest.approx(double.score(X.astype(np.float64)), abs=0.02)
