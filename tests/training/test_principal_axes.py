"""Principal axes of rows, and fits along them."""

import numpy as np
import pytest
import torch

from sksae import (
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
)
from sksae.autoencoders import Fit
from sksae.training import Batches, Normalization, principal_axes

WHERE = "sksae.training._principal_axes"


@pytest.fixture
def on_few_rows(monkeypatch):
    monkeypatch.setattr(WHERE + ".MANY_ROWS", 0)
    monkeypatch.setattr(WHERE + "._PER_LATENT", 0)


def rows(n=600, d=6, seed=0):
    """Sparse mixtures of more directions than columns, of unequal variance along the columns."""
    random = np.random.default_rng(seed)
    codes = random.exponential(size=(n, 2 * d)) * (random.uniform(size=(n, 2 * d)) < 0.2)
    return codes @ random.normal(size=(2 * d, d)) * np.linspace(0.3, 3, d)


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def batches(X, weight=None):
    made = Batches(X, weight, 50, torch.float64, "cpu")
    return made.normalize(Normalization.from_rows(made, "rms"))


def test_rows_are_uncorrelated_along_them(on_few_rows):
    X, weight = rows(), torch.linspace(0.1, 1, 600, dtype=torch.float64)
    made = batches(X, weight)
    axes = principal_axes(made, 4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(6), atol=1e-12)
    x, w = made.normalize(made._normalization._replace(axes=axes)).take(torch.arange(600))
    covariance = (w[:, None] * x).T @ x / w.sum()
    expected = np.cov(X.T, aweights=weight.numpy(), ddof=0)
    expected *= 6 / np.trace(expected)
    np.testing.assert_allclose(covariance, np.diag(np.linalg.eigvalsh(expected)), atol=1e-12)
    np.testing.assert_allclose(made.average(), np.zeros(6), atol=1e-12)
    few = made.thinned(10)
    mean = few.average()
    assert mean.norm() > 0.1
    np.testing.assert_allclose(mean, few.average(lambda x: x), atol=1e-12)


def test_what_does_not_vary_has_no_axis(on_few_rows):
    """A column that is another's double leaves one direction without variance."""
    X = rows()
    axes = principal_axes(batches(np.column_stack([X, 2 * X[:, 0]])), 4)
    kept = axes.abs().sum(0) > 0
    assert kept.tolist() == [False] + 6 * [True]
    along_nothing = np.r_[2.0, np.zeros(5), -1.0]
    np.testing.assert_allclose(along_nothing @ axes.numpy(), 0, atol=1e-10)


def test_few_rows_keep_their_axes(monkeypatch):
    monkeypatch.setattr(WHERE + ".MANY_ROWS", 600)
    monkeypatch.setattr(WHERE + "._PER_LATENT", 50)
    made = batches(rows())
    assert principal_axes(made, 12) is not None
    assert principal_axes(made, 13) is None
    monkeypatch.setattr(WHERE + ".MANY_ROWS", 601)
    assert principal_axes(made, 12) is None


TURNED = [
    TopKSAE(12, k=2, early_stopping=True),
    BatchTopKSAE(12, k=2),
    MatryoshkaSAE(12, k=2),
    GatedSAE(12, alpha=0.1),
    JumpReLUSAE(12, alpha=0.01),
]


@pytest.mark.parametrize("variant", TURNED, ids=str)
def test_a_fit_does_not_depend_on_the_axes_of_the_rows(variant, on_few_rows, monkeypatch):
    def oriented(made, n_components):
        """Principal axes whose ends are told apart by the rows: the start is drawn along them."""
        axes = principal_axes(made, n_components)
        x, _ = made.take(torch.arange(made.n_samples))
        return axes * (x @ axes).pow(3).sum(0).sign()

    monkeypatch.setattr("sksae.autoencoders._fit.principal_axes", oriented)
    X, R = rows(), rotation(6)
    sae = variant.set_params(max_iter=10, batch_size=50, random_state=0)
    codes = sae.fit(X).transform(X)
    reconstructed = sae.inverse_transform(codes)
    assert (codes > 0).any()
    turned = sae.fit(X @ R)
    np.testing.assert_allclose(turned.transform(X @ R), codes, rtol=1e-6, atol=1e-8)
    again = turned.inverse_transform(codes) @ R.T
    np.testing.assert_allclose(again, reconstructed, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(turned.components_, axis=1), 1, rtol=1e-12)


def test_a_fit_sees_no_more_columns_than_there_are(on_few_rows):
    """Of two equal columns, every weight has two equal columns."""
    X = rows()
    X = np.column_stack([X, X[:, 2]])
    sae = TopKSAE(12, k=2, max_iter=10, random_state=0).fit(X)
    for weights in (sae.components_, sae.encoder_coef_):
        np.testing.assert_allclose(weights[:, 6], weights[:, 2], rtol=1e-9, atol=1e-12)


def test_what_is_not_turned(on_few_rows):
    X = rows()
    assert Fit(TopKSAE(12, k=2), X).normalization.axes is not None
    unit = Normalization(torch.zeros(6, dtype=torch.float64), 1.0)
    assert Fit(TopKSAE(12, k=2), X, normalization=unit).normalization.axes is None
    assert Fit(TopKSAE(12, k=2), X, streams=True).normalization.axes is None
    assert Fit(TopKSAE(12, k=2, normalize="unit"), X).normalization.axes is None
    assert Fit(TopKSAE(12, k=2, warm_start=True).fit(X), X).normalization.axes is None
    assert Fit(SparseAutoencoder(12, alpha=1.0), X).normalization.axes is None
    with pytest.warns(UserWarning, match="nothing to learn"):
        assert Fit(TopKSAE(12, k=2), np.ones((600, 6))).normalization.axes is None
    transcoder = Transcoder(TopKSAE(12, k=2, max_iter=1)).fit(X, X)
    assert transcoder.components_.shape == (12, 6)
