"""Baselines: what is drawn, what stays as it was, and what PCA makes of the same rows."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA

import sksae
from sksae import DummySAE, TopKSAE, Transcoder
from sksae.formats import read_saelens, write_saelens
from tests.cases import each_case
from tests.estimators import arrays_of

DRAWN = ["random", "data", "pca"]
TRAINED = ["frozen_decoder", "soft_frozen_decoder", "frozen_encoder"]
STRATEGIES = [*DRAWN, *TRAINED]


def dummy(strategy, **settings):
    return DummySAE(
        **{
            "n_components": 24,
            "k": 4,
            "max_iter": 20,
            "batch_size": 100,
            "random_state": 0,
            **settings,
        },
        strategy=strategy,
    )


@each_case("normalize", ["rms", "anthropic", None])
def test_principal_components_reconstruct_as_pca(normalize, X):
    pca = PCA(5).fit(X)
    sae = dummy("pca", n_components=10, k=5, normalize=normalize).fit(X)
    expected = pca.inverse_transform(pca.transform(X))
    assert_allclose(sae.inverse_transform(sae.transform(X)), expected, atol=1e-9)
    assert_allclose(sae.components_[::2], -sae.components_[1::2], atol=1e-12)
    assert_allclose(np.abs(np.sum(sae.components_[::2] * pca.components_, axis=1)), 1, atol=1e-9)
    everything = dummy("pca", n_components=None, k=12).fit(X)
    assert everything.n_components_ == 24
    assert everything.score(X) == pytest.approx(1.0)
    # Where rows do not vary nothing is read.
    flat = dummy("pca").fit(np.c_[X[:, :11], np.zeros(400)])
    assert_array_equal(flat.activation_frequency_ > 0, np.arange(24) < 22)
    # A row of weight 2 is two rows.
    weighted = dummy("pca").fit(X, sample_weight=np.repeat([1.0, 2.0], 200))
    assert_allclose(
        weighted.components_, dummy("pca").fit(np.r_[X, X[200:]]).components_, atol=1e-9
    )


@each_case("strategy", DRAWN)
def test_nothing_is_trained(strategy, X):
    sae = dummy(strategy).fit(X)
    assert (sae.n_steps_, sae.n_iter_, len(sae.loss_curve_)) == (0, 1, 1)
    assert_allclose(sae.intercept_, X.mean(axis=0), atol=1e-9)
    assert_allclose(np.linalg.norm(sae.components_, axis=1), 1.0)
    # One factor for all codes, and that with which they reconstruct best.
    factors = sae.encoder_coef_ / sae.components_
    assert_allclose(factors, factors[0, 0])
    centred, estimate = X - sae.intercept_, sae.transform(X) @ sae.components_
    assert np.sum(centred * estimate) / np.sum(estimate**2) == pytest.approx(1.0)
    # In the internal unit the variance of X is the number of features.
    assert sae.loss_curve_[0] == pytest.approx(12 * (1 - sae.score(X)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stopped = dummy(strategy, early_stopping=True, tol=1e-4).fit(X)
    assert len(stopped.validation_scores_) == 1


def test_rows_of_the_data(X):
    sae = dummy("data").fit(X)
    centred = X - X.mean(axis=0)
    cosines = sae.components_ @ (centred / np.linalg.norm(centred, axis=1, keepdims=True)).T
    assert_allclose(cosines.max(axis=1), 1.0)
    assert len(set(cosines.argmax(axis=1))) > 20


def test_a_frozen_decoder_is_the_random_one_and_its_encoder_learns(X):
    sae, start = dummy("frozen_decoder").fit(X), dummy("random").fit(X)
    assert_allclose(sae.components_, start.components_, atol=1e-12)
    assert np.abs(sae.encoder_coef_ - start.encoder_coef_).max() > 0.01
    assert sae.score(X) > start.score(X) + 0.05


def test_a_softly_frozen_decoder_keeps_its_cosine(X):
    sae = dummy("soft_frozen_decoder", max_iter=50, learning_rate=0.02).fit(X)
    cosines = np.sum(sae.components_ * dummy("random").fit(X).components_, axis=1)
    assert cosines.min() == pytest.approx(0.8, abs=1e-6)
    assert sae._objective._start is None
    assert sae.score(X) > dummy("frozen_decoder", max_iter=50).fit(X).score(X)


def test_a_frozen_encoder_chooses_as_the_random_one_does(X):
    sae, start = dummy("frozen_encoder").fit(X), dummy("random").fit(X)
    assert_allclose(sae.encoder_coef_, start.encoder_coef_, atol=1e-12)
    assert_allclose(sae.encoder_intercept_, start.encoder_intercept_, atol=1e-9)
    assert_array_equal(sae.transform(X) > 0, start.transform(X) > 0)
    assert sae.score(X) > start.score(X) + 0.05
    # A vanishing rate gives back what was learnt, norms of the components included.
    again = sae.set_params(warm_start=True, learning_rate=1e-300, max_iter=1)
    before = sae.components_.copy()
    assert_allclose(again.fit(X).components_, before, rtol=1e-9)


@pytest.mark.usefixtures("unchanged_world")
@each_case("strategy", STRATEGIES)
def test_equal_states_draw_equal_baselines(strategy, X, tmp_path):
    sae, other = (dummy(strategy, max_iter=2, random_state=seed).fit(X) for seed in (0, 1))
    loaded = sksae.load(sae.save(tmp_path / "dummy.safetensors"))
    for name, value in arrays_of(dummy(strategy, max_iter=2).fit(X)).items():
        assert_array_equal(getattr(sae, name), value)
        assert_array_equal(getattr(loaded, name), value)
    if strategy != "pca":
        assert not np.allclose(sae.components_, other.components_)
    assert (sae.transform(X.astype(np.float32)) > 0).sum(axis=1).max() <= 4
    assert sae.get_feature_names_out()[0] == "dummysae0"


@each_case("strategy", ["random", "frozen_encoder"])
def test_other_libraries_read_it_as_a_top_k(strategy, X, tmp_path):
    sae = dummy(strategy, max_iter=2).fit(X)
    write_saelens(tmp_path / "folder", sae)
    again = read_saelens(tmp_path / "folder")
    assert type(again) is TopKSAE
    assert_allclose(again.transform(X), sae.transform(X), atol=1e-5)


def test_streams(X):
    sae = dummy("random").partial_fit(X[:300])
    components = sae.components_
    sae.partial_fit(X[300:])
    assert_allclose(sae.components_, components)
    assert (sae.n_iter_, sae.n_steps_) == (2, 0)
    trained = dummy("frozen_decoder").partial_fit(X[:300]).partial_fit(X[300:])
    assert_allclose(trained.components_, components, atol=1e-12)
    assert trained.n_steps_ == 4


def test_what_is_refused(X):
    with pytest.raises(ValueError, match="n_components=25 is more than"):
        dummy("pca", n_components=25).fit(X)
    with pytest.raises(ValueError, match="strategy"):
        dummy("frozen").fit(X)
    with pytest.raises(ValueError, match="warm_start=True does not support"):
        dummy("soft_frozen_decoder", warm_start=True).fit(X)
    with pytest.raises(AttributeError):
        dummy("soft_frozen_decoder").partial_fit(X)
    with pytest.raises(ValueError, match="continues a fit with strategy='random'"):
        dummy("random").fit(X).set_params(strategy="data").partial_fit(X)
    with pytest.raises(ValueError, match="cannot predict other targets"):
        Transcoder(dummy("random")).fit(X, X[:, :3])
    assert isinstance(dummy("random"), TopKSAE)
