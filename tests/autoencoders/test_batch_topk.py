"""Fixture B: the largest entries of a batch, and the threshold that takes their place."""

import numpy as np
import pytest
import torch
from scipy import sparse

from sksae import BatchTopKSAE
from sksae.datasets import make_superposition
from sksae.kernels import pooled_cut
from sksae.objectives import BatchTopK
from sksae.training import Engine
from tests.autoencoders.fixture_a import W, X, assert_close, entries_of, loss_and_gradients, tensor
from tests.cases import each_case


def weights():
    values = {
        "components": [[1, 0], [0, 1], [0.6, 0.8], [-0.8, 0.6]],
        "encoder_coef": [[0.9, 0.1], [-0.2, 1.1], [0.5, 0.5], [-0.4, 0.3]],
        "encoder_intercept": [0.1, -0.2, 0.05, 0],
        "intercept": [0.1, 0.2],
    }
    return {name: tensor(value).requires_grad_() for name, value in values.items()}


@pytest.mark.parametrize(
    ("k", "codes", "reconstruction_error"),
    [
        (1, [[0, 1.6, 1.4, 0], [0, 0, 0, 0]], 1.075),
        (1.5, [[1.09, 1.6, 1.4, 0], [0, 0, 0, 0]], 1.60365),
    ],
)
def test_the_batch_shares_its_codes(k, codes, reconstruction_error):
    loss, actual, _ = loss_and_gradients(BatchTopKSAE(k=k), weights())
    assert_close(actual, codes)
    assert_close(loss, reconstruction_error)


def test_reconstruction():
    entries = entries_of(BatchTopK(k=1.5), weights())
    codes = entries.kept(torch.relu(entries.z))
    assert_close(entries.decode(codes).detach(), [[2.03, 2.92], [0.1, 0.2]])


@each_case("plain", [True, False])
@each_case("k, cut", [(1, (1.4 + 1.09) / 2), (1.5, (1.09 + 0.53) / 2)])
def test_the_threshold_lies_midway(k, cut, plain):
    """A threshold at the smallest kept entry would drop that entry: two of three units remain."""
    objective = BatchTopK(k)
    engine = Engine(objective, plain=plain)
    w = {name: value.detach() for name, value in weights().items()}
    calibrated = objective.calibrated(w, engine, [(X, W), (X, W)])
    assert_close(calibrated["threshold"], [cut] * 4)


def test_fewer_positive_entries_than_asked():
    z = tensor([[1.0, -1.0], [0.5, -2.0]])
    assert pooled_cut(z, 2, W) == 0
    assert pooled_cut(z, 1, W) == 0
    assert pooled_cut(z, 0.5, W) == pytest.approx(0.5, rel=1e-12)


def test_weights_count_as_repetitions():
    """Equal entries stay or fall together, so that a row of weight 2 is that row twice."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        z = torch.from_numpy(rng.normal(size=(6, 5)).round(1))
        times = torch.from_numpy(rng.integers(1, 4, 6))
        repeated = torch.repeat_interleave(z, times, dim=0)
        for k in (0.4, 1, 2.5):
            even = torch.ones(len(repeated), dtype=torch.float64)
            expected = pooled_cut(repeated, k, even)
            assert pooled_cut(z, k, times / 3.0) == expected
            assert (repeated > expected).sum() <= k * len(repeated)


SHORT = {"max_iter": 10, "batch_size": 250, "random_state": 1}


@pytest.fixture(scope="module")
def toy():
    X, _, _ = make_superposition(20_000, 16, 32, density=0.05, bias=1.0, random_state=100)
    return X, BatchTopKSAE(32, k=1.6, **SHORT).fit(X[:10_000])


def test_l0_is_as_asked_on_rows_not_seen(toy):
    X, sae = toy
    codes = sae.transform(X[10_000:])
    assert (codes > 0).sum(axis=1).mean() == pytest.approx(1.6, rel=0.05)


def test_transform_is_a_threshold_row_by_row(toy):
    X, sae = toy
    z = X[:50] @ sae.encoder_coef_.T + sae.encoder_intercept_
    expected = np.where(z > sae.threshold_, z, 0)
    np.testing.assert_allclose(sae.transform(X[:50]), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sae.transform(X[7:8]), expected[7:8], rtol=1e-5, atol=1e-6)
    counts = (expected > 0).sum(axis=1)
    assert counts.min() < counts.max()
    assert sparse.issparse(sae.set_params(sparse_output=True).transform(X[:50]))
    sae.set_params(sparse_output=False)


def test_every_threshold_is_the_same_in_the_unit_of_training(toy):
    """Decoder rows of norm 1 leave one number, folded with the scale of the data."""
    X, sae = toy
    assert np.ptp(sae.threshold_) < 1e-6 * sae.threshold_[0]
    X = X[:10_000]
    scale = np.sqrt(16 / ((X - X.mean(0)) ** 2).sum(1).mean())
    again = BatchTopKSAE(32, k=1.6, **SHORT).fit(10 * X)
    np.testing.assert_allclose(again.threshold_, 10 * sae.threshold_, rtol=1e-2)
    assert 0.1 < sae.threshold_[0] * scale < 5


@pytest.mark.slow
def test_partial_fit_has_a_threshold(toy):
    X, _ = toy
    sae = BatchTopKSAE(32, k=1.6, random_state=1)
    for _ in range(60):
        sae.partial_fit(X[:5000])
    assert (sae.transform(X) > 0).sum(axis=1).mean() == pytest.approx(1.6, rel=0.05)
