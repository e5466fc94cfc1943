import numpy as np
import pytest

from sksae import JumpReLUSAE
from sksae.autoencoders import Fit
from sksae.kernels import jump_relu
from tests.autoencoders.fixture_a import (
    FREE,
    UNIT,
    assert_close,
    loss_and_gradients,
    tensor,
    weights,
)


def test_l0_penalty():
    w = weights(UNIT, threshold=tensor([1, 0.4, 1.5]))
    loss, codes, g = loss_and_gradients(JumpReLUSAE(bandwidth=0.5), w, alpha=0.3)
    assert_close(codes, [[1.09, 1.6, 0], [0, 0, 0]])
    assert_close(loss, 0.98805)
    assert_close(g["threshold"], [-0.68, -0.06, -0.162])
    assert_close(g["encoder_coef"], [[0.171, 0.342], [-0.18, -0.36], [0, 0]])
    assert_close(g["encoder_intercept"], [0.19, -0.2, 0])
    assert_close(g["components"], [[0.2071, -0.218], [0.304, -0.32], [0, 0]])
    assert_close(g["intercept"], [1.079, -0.299])


def test_the_two_parts_of_the_threshold_gradient():
    threshold = tensor([1, 0.4, 1.5])
    sae = JumpReLUSAE(bandwidth=0.5)
    _, _, g = loss_and_gradients(sae, weights(UNIT, threshold=threshold), alpha=0.0)
    assert_close(g["threshold"], [-0.38, 0.24, 0.138])
    _, _, h = loss_and_gradients(sae, weights(UNIT, threshold=threshold), alpha=0.3)
    assert_close(h["threshold"] - g["threshold"], [-0.3, -0.3, -0.3])


def test_tanh_penalty():
    sae = JumpReLUSAE(penalty="tanh", bandwidth=0.5, pre_activation_alpha=0.01)
    w = weights(FREE, threshold=tensor([1, 0.6, 1.6]))
    loss, codes, g = loss_and_gradients(sae, w, alpha=0.3)
    assert_close(codes, [[1.2, 1.8, 0], [0, 0, 0]])
    assert_close(loss, 2.50665119, atol=5e-9)
    assert_close(g["threshold"], [-5.990000044, -0.1775, -2.486], atol=5e-9)
    encoder = [[9.0100000661, 17.9950001321], [-0.6266054333, -0.8094608665], [2.496, 4.9795]]
    assert_close(g["encoder_coef"], encoder)
    assert_close(g["encoder_intercept"], [8.9900000661, -0.2716054333, 2.486])
    assert_close(g["components"], [[1.8087500132, -1.08], [2.7, -1.6165295598], [0.00555, 0.0074]])
    assert_close(g["intercept"], [2.6, -1.2])


def test_tanh_penalty_with_the_estimate_for_thresholds_alone(monkeypatch):
    """The variant without the estimated gradient of the inputs: thresholds do not notice."""

    def to_threshold(z, threshold, bandwidth, to_input):
        return jump_relu(z, threshold, bandwidth, to_input=False)

    monkeypatch.setattr("sksae.objectives._jumprelu.jump_relu", to_threshold)
    sae = JumpReLUSAE(penalty="tanh", bandwidth=0.5, pre_activation_alpha=0.01)
    w = weights(FREE, threshold=tensor([1, 0.6, 1.6]))
    _, _, g = loss_and_gradients(sae, w, alpha=0.3)
    assert_close(g["threshold"], [-5.990000044, -0.1775, -2.486], atol=5e-9)
    encoder = [[3.0100, 5.9950], [-0.4466, -0.8995], [0, -0.0125]]
    assert_close(g["encoder_coef"], encoder, atol=5e-5)


def test_thresholds_reach_their_place_in_few_steps():
    """Their learning rate is raised so that ``3 sqrt(alpha)`` is within reach, and only then."""
    X = np.random.default_rng(0).normal(size=(100, 16))
    for rate, passes, scale in [(1e-3, 300, 20.0), (1e-2, 1000, 1.0)]:
        sae = JumpReLUSAE(alpha=4.0, learning_rate=rate, max_iter=passes, batch_size=100)
        fit = Fit(sae, X)
        assert fit.run.rate_scales == {"encoder_coef": 0.5, "threshold": pytest.approx(scale)}


def test_defaults_of_the_penalties():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 8))
    for penalty, threshold, unit in [("l0", 1.0, True), ("tanh", 0.1, False)]:
        settings = {"alpha": 0.0, "max_iter": 1, "learning_rate": 1e-9, "random_state": 0}
        sae = JumpReLUSAE(4, penalty=penalty, **settings).fit(X)
        scale = np.sqrt(8 / (X.var(axis=0).sum()))
        size = 1.0 if unit else 0.3
        np.testing.assert_allclose(sae.threshold_, threshold * size / scale, rtol=1e-6)


def test_threshold_is_never_negative_and_strict():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 6))
    sae = JumpReLUSAE(12, alpha=0.01, max_iter=50, batch_size=512, random_state=0).fit(X)
    assert (sae.threshold_ >= 0).all()
    z = X @ sae.encoder_coef_.T + sae.encoder_intercept_
    np.testing.assert_allclose(sae.transform(X), np.where(z > sae.threshold_, z, 0), atol=1e-12)
