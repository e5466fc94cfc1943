"""Recovery of known dictionaries: the least similarities that every variant has to reach.

Toy A has twice as many directions as dimensions, toy B four times as many with a power law of
frequencies. A random dictionary scores a mean max cosine of .50 on the first and .45 on the second.
"""

from functools import cache

import numpy as np
import pytest
from sklearn.base import clone

from sksae import BatchTopKSAE, GatedSAE, JumpReLUSAE, SparseAutoencoder, TopKSAE
from sksae.datasets import make_superposition
from sksae.metrics import relative_reconstruction_bias

TOY_A = [
    (SparseAutoencoder(32, alpha=1.0), 0.93),
    (SparseAutoencoder(32, alpha=1.0, decoder_norm="unit"), 0.93),
    (TopKSAE(32, k=2), 0.93),
    (BatchTopKSAE(32, k=1.6), 0.93),
    (GatedSAE(32, alpha=4.0), 0.93),
    (GatedSAE(32, alpha=4.0, decoder_norm="free"), 0.93),
    (JumpReLUSAE(32, alpha=1.5), 0.90),
    (JumpReLUSAE(32, alpha=1.0, penalty="tanh"), 0.90),
]
TOY_B = [
    (SparseAutoencoder(128, alpha=1.0), 0.90),
    (TopKSAE(128, k=3), 0.90),
    (BatchTopKSAE(128, k=2.9), 0.90),
    (GatedSAE(128, alpha=4.0), 0.90),
    (JumpReLUSAE(128, alpha=2.0, bandwidth=0.5), 0.87),
]
# An L1 penalty, k codes per sample, and thresholds: the fits of the default run.
IN_SHORT = [SparseAutoencoder(32, alpha=1.0), TopKSAE(32, k=2), JumpReLUSAE(32, alpha=1.5)]
CONTROLLED = [
    SparseAutoencoder(32),
    SparseAutoencoder(32, decoder_norm="unit"),
    GatedSAE(32),
    JumpReLUSAE(32),
    JumpReLUSAE(32, penalty="tanh"),
]


@cache
def toy_a():
    return make_superposition(20_000, 16, 32, density=0.05, bias=1.0, random_state=100)


@cache
def toy_b():
    law = {"density": 0.10, "min_density": 0.01, "density_exponent": 0.5}
    return make_superposition(25_000, 32, 128, bias=1.0, random_state=100, **law)


FITTED = {}
SHORT = {"max_iter": 40, "batch_size": 256}  # 1280 steps of 8000 rows


def fitted_on_toy_a(variant, n_samples=None, **settings):
    """Fit a variant once for all tests that ask for its like."""
    key = str(clone(variant).set_params(**settings))
    if key not in FITTED:
        sae = clone(variant).set_params(random_state=1, **settings)
        FITTED[key] = sae.fit(toy_a()[0][:n_samples])
    return FITTED[key]


def best_cosines(sae, dictionary):
    return (dictionary @ sae.components_.T).max(axis=1)


@pytest.mark.parametrize(
    ("variant", "floor"),
    [(variant, floor) for variant, floor in TOY_A if str(variant) in map(str, IN_SHORT)],
    ids=str,
)
def test_toy_a_in_short(variant, floor):
    assert_recovered(fitted_on_toy_a(variant, 8000, **SHORT), floor)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "floor"), TOY_A, ids=str)
def test_toy_a(variant, floor):
    sae = fitted_on_toy_a(variant)
    assert_recovered(sae, floor)
    assert sae.n_steps_ >= 2000


def assert_recovered(sae, floor):
    X, dictionary, _ = toy_a()
    cosines = best_cosines(sae, dictionary)
    assert cosines.mean() >= floor
    assert (cosines > 0.9).mean() >= 0.75
    assert sae.score(X) >= 0.78
    assert (sae.activation_frequency_ == 0).mean() <= 0.10


@pytest.mark.slow  # four times as many directions as dimensions; toy A is the quick twin
@pytest.mark.parametrize(("variant", "floor"), TOY_B, ids=str)
def test_toy_b(variant, floor):
    X, dictionary, _ = toy_b()
    sae = variant.set_params(random_state=1, max_iter=40, batch_size=512).fit(X[:20_000])
    assert best_cosines(sae, dictionary).mean() >= floor
    assert sae.score(X) >= 0.78


@pytest.mark.slow
@pytest.mark.parametrize("target", [1.6, 3.0])
@pytest.mark.parametrize("variant", CONTROLLED, ids=str)
def test_target_l0(variant, target):
    """The asked sparsity holds, within a tenth, on rows that the fit has not seen."""
    X, _, _ = toy_a()
    sae = variant.set_params(target_l0=target, random_state=1).fit(X[:15_000])
    l0 = (sae.transform(X[15_000:]) > 0).sum(axis=1).mean()
    assert l0 == pytest.approx(target, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("target", [2.3, 5.0])
@pytest.mark.parametrize("cls", [SparseAutoencoder, GatedSAE, JumpReLUSAE])
def test_target_l0_on_toy_b(cls, target):
    X, _, _ = toy_b()
    sae = cls(128, target_l0=target, random_state=1).fit(X[:15_000])
    l0 = (sae.transform(X[15_000:]) > 0).sum(axis=1).mean()
    assert l0 == pytest.approx(target, rel=0.1)


def bias_of(sae):
    X, _, _ = toy_a()
    reconstruction = sae.inverse_transform(sae.transform(X))
    return relative_reconstruction_bias(X, reconstruction, centered=True)


def test_l1_shrinks_and_thresholds_do_not():
    l1, _, jump_relu = (fitted_on_toy_a(variant, 8000, **SHORT) for variant in IN_SHORT)
    assert bias_of(l1) < 0.9
    assert bias_of(jump_relu) == pytest.approx(1.0, abs=0.03)


@pytest.mark.slow
def test_gates_do_not_shrink():
    assert bias_of(fitted_on_toy_a(GatedSAE(32, alpha=4.0))) == pytest.approx(1.0, abs=0.03)


def test_an_unreachable_target_is_said():
    X, _, _ = toy_a()
    with pytest.warns(UserWarning, match="target_l0 asked for 30"):
        JumpReLUSAE(32, target_l0=30.0, max_iter=2, random_state=0).fit(X[:2000])
    with pytest.raises(ValueError, match="'target_l0' parameter of JumpReLUSAE"):
        JumpReLUSAE(32, target_l0=32.0, max_iter=2).fit(X[:2000])


def test_a_stream_has_no_target():
    with pytest.raises(ValueError, match="partial_fit does not support target_l0"):
        JumpReLUSAE(32, target_l0=2.0).partial_fit(toy_a()[0][:100])


def test_defaults_on_a_small_table():
    """Untouched defaults on 100 rows of 6 features that lie in 3 dimensions."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 3)) @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(100, 6))
    sae = TopKSAE(random_state=0).fit(X)
    assert sae.components_.shape == (48, 6)
    assert (sae.batch_size_, sae.n_steps_) == (100, 1000)
    assert sae.score(X) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("cls", [TopKSAE, SparseAutoencoder, GatedSAE, JumpReLUSAE])
def test_defaults_on_tabular_data(cls):
    """Untouched defaults on 500 rows of 20 features: better than as many principal components."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 5)) @ rng.normal(size=(5, 20)) + 0.1 * rng.normal(size=(500, 20))
    sae = cls(random_state=0).fit(X)
    assert sae.components_.shape == (128, 20)
    assert (sae.batch_size_, sae.n_steps_) == (32, 944 if cls is TopKSAE else 2000)
    assert sae.score(X) > 0.7
