"""Fixture M: nested dictionaries, and the autoencoders of the first latents."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sksae import BatchTopKSAE, MatryoshkaSAE
from sksae.datasets import make_superposition
from sksae.training import _engine
from tests.autoencoders.fixture_a import assert_close, loss_and_gradients
from tests.autoencoders.test_batch_topk import weights
from tests.cases import each_case


def test_objective():
    loss, codes, g = loss_and_gradients(MatryoshkaSAE(k=1.5, widths=[2, 4]), weights())
    assert_close(codes, [[1.09, 1.6, 1.4, 0], [0, 0, 0, 0]])
    assert_close(loss, 2.2917)
    assert_close(g["encoder_coef"], [[1.098, 2.196], [0.648, 1.296], [1.2186, 2.4372], [0, 0]])
    assert_close(g["encoder_intercept"], [1.22, 0.72, 1.354, 0])
    assert_close(g["components"], [[1.3298, 0.7848], [1.952, 1.152], [1.442, 1.288], [0, 0]])
    assert_close(g["intercept"], [1.789, -1.471])


def test_one_width_is_batch_topk(X):
    settings = {"n_components": 24, "k": 2, "max_iter": 5, "batch_size": 100, "random_state": 0}
    nested = MatryoshkaSAE(widths=[24], **settings).fit(X)
    expected = BatchTopKSAE(**settings).fit(X).components_
    assert_allclose(nested.components_, expected, rtol=1e-9, atol=1e-12)
    assert nested.widths_ == (24,)


@each_case(
    "m, widths, expected",
    [
        (64, None, (4, 8, 16, 32, 64)),
        (6, None, (1, 3, 6)),
        (1, None, (1,)),
        (10, (3, 7), (3, 7, 10)),
        (10, [5, 10, 20], (5, 10)),
    ],
)
def test_widths(m, widths, expected):
    X = np.random.default_rng(0).normal(size=(30, 4))
    assert MatryoshkaSAE(m, k=1, widths=widths, max_iter=1).fit(X).widths_ == expected


@each_case("widths", [[], [0, 2], [2, 2], [3, 1], [1.5], "12", 4])
def test_widths_that_are_refused(widths):
    with pytest.raises(ValueError, match="'widths' parameter of MatryoshkaSAE must be None or a"):
        MatryoshkaSAE(8, widths=widths).fit(np.ones((5, 3)))


def test_the_fast_form_takes_the_steps_of_the_definition(X, monkeypatch):
    settings = {"k": 2, "widths": [6, 12], "max_iter": 4, "batch_size": 100, "dead_window": 150}
    fast = MatryoshkaSAE(24, random_state=0, **settings).fit(X)
    monkeypatch.setattr(_engine, "runs_on", lambda device: False)
    plain = MatryoshkaSAE(24, random_state=0, **settings).fit(X)
    assert_allclose(fast.loss_curve_, plain.loss_curve_, rtol=1e-9)
    assert_allclose(fast.components_, plain.components_, rtol=1e-7, atol=1e-9)


def test_the_first_latents_reconstruct_by_themselves():
    """A prefix is the first columns, and explains more than the prefix of one dictionary."""
    X, _, _ = make_superposition(4000, 8, 32, random_state=0)
    settings = {"n_components": 32, "k": 2, "max_iter": 15, "batch_size": 200, "random_state": 0}
    nested = MatryoshkaSAE(widths=[8], **settings).fit(X)
    first = nested.prefix(8)
    assert (first.n_components_, first.widths_) == (8, (8,))
    assert_allclose(first.transform(X), nested.transform(X)[:, :8], rtol=1e-5, atol=1e-6)
    whole = BatchTopKSAE(**settings).fit(X)
    codes = whole.transform(X)
    codes[:, 8:] = 0
    residual = ((X - whole.inverse_transform(codes)) ** 2).sum()
    assert first.score(X) > 1 - residual / ((X - X.mean(0)) ** 2).sum() + 0.1
    assert nested.score(X) > first.score(X)
    with pytest.raises(ValueError, match="n_components must be an int in"):
        nested.prefix(33)
