import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from sksae import BatchTopKSAE, GatedSAE, JumpReLUSAE, TopKSAE, Transcoder
from sksae.autoencoders import Fit
from sksae.training import (
    default_batch_size,
    default_betas,
    default_dead_window,
    default_haste,
    default_learning_rate,
    default_max_iter,
    default_width,
)


@pytest.mark.parametrize(
    ("shape", "width", "width_of_several", "batch", "steps"),
    [
        ((1, 5), 32, 32, 1, 200),
        ((64, 40), 32, 32, 64, 200),
        ((124, 13), 62, 104, 32, 200),  # half the rows; eight per feature
        ((301, 192), 150, 301, 32, 290),  # a latent per row, and 30 passes
        ((398, 30), 128, 128, 32, 754),  # nearly 60 passes
        ((980, 192), 490, 512, 32, 930),
        ((1257, 64), 256, 256, 32, 960),  # four per feature
        ((2002, 10), 80, 80, 64, 960),  # eight per feature, as they are few
        ((20_000, 192), 1250, 1250, 128, 2041),  # a latent for 16 rows
        ((10**5, 768), 6144, 6144, 256, 2346),
        ((10**6, 768), 6144, 6144, 1024, 2931),
        ((10**8, 768), 6144, 6144, 4096, 24_415),
    ],
)
def test_defaults_follow_the_data(shape, width, width_of_several, batch, steps):
    n_samples, _ = shape
    assert default_width(*shape) == width
    assert default_width(*shape, 3) == width_of_several
    assert default_batch_size(n_samples) == batch
    n_batches = -(-n_samples // batch)
    assert default_max_iter(n_samples, width_of_several, batch) * n_batches == steps


@given(st.integers(1, 10**6), st.integers(1, 2000), st.sampled_from([None, 1, 1.5, 8]))
def test_more_rows_never_have_fewer_latents(n_samples, n_features, k):
    width, wider = (default_width(n, n_features, k) for n in (n_samples, n_samples + 1))
    assert 1 <= width <= wider
    assert width <= min(8 * n_features, max(n_samples, 32))


@pytest.mark.parametrize(
    ("n_samples", "n_components", "max_iter"),
    [
        (490, 490, 29),  # 459 steps of 30 passes of batches of 32
        (490, 245, 58),  # two rows per latent: twice as many
        (490, 49, 58),  # and no more
        (1952, 1952, 8),  # 480 steps
        (1952, 1301, 12),  # half as many again
        (1952, 10**5, 8),
    ],
)
def test_latents_with_few_rows_make_fewer_steps(n_samples, n_components, max_iter):
    assert default_max_iter(n_samples, n_components, 32) == max_iter


def test_defaults_of_a_single_code_per_row():
    assert default_width(124, 13, 1) == 62
    assert default_width(124, 13, 1.5) == 104
    assert default_batch_size(309, 1) == 309
    assert default_batch_size(10**4, 1) == 512
    assert default_max_iter(309, 80, 309, 1) == 1000
    assert default_max_iter(20, 32, 20, 1) == 1000
    assert default_batch_size(309, 2) == 32


def test_penalties_need_more_steps_and_fewer_latents_of_few_rows():
    X = np.random.default_rng(0).normal(size=(100, 16))
    assert default_max_iter(100, 50, 32, None, 2000) == 500
    topk, gated = Fit(TopKSAE(k=2), X), Fit(GatedSAE(target_l0=2.0), X)
    assert (topk.n_components, topk.n_steps) == (100, 200)
    assert (gated.n_components, gated.n_steps) == (50, 2001)  # 667 passes of 3 batches: 90 rows


def test_rows_held_out_have_no_latents():
    X = np.random.default_rng(0).normal(size=(101, 16))
    fit = Fit(TopKSAE(k=2, early_stopping=True), X)
    assert fit.n_components == fit.rows.n_samples == 90
    assert Fit(Transcoder(TopKSAE(k=2)), X, X[:, :3]).n_components == 101


def test_defaults_of_a_stream():
    assert default_width(None, 10) == 80
    assert default_batch_size(None) == 512


def test_estimators_take_the_defaults_by_rows_that_count():
    X = np.random.default_rng(0).normal(size=(100, 16))
    weight = np.repeat([1.0, 0.0], [80, 20])
    sae = TopKSAE(k=2, max_iter=1).fit(X, sample_weight=weight)
    assert (sae.n_components_, sae.batch_size_, sae.n_steps_) == (80, 32, 3)
    assert TopKSAE(k=1, max_iter=1).fit(X).batch_size_ == 100
    assert BatchTopKSAE(k=1.5, max_iter=1).fit(X).batch_size_ == 32
    assert JumpReLUSAE(alpha=1.0, max_iter=1).fit(X).batch_size_ == 32
    assert TopKSAE(k=2).partial_fit(X).n_components_ == 128
    assert TopKSAE(expansion_factor=1.5, k=2, max_iter=1).fit(X).n_components_ == 24


@pytest.mark.parametrize(
    ("n_samples", "batch_size", "n_steps", "haste"),
    [
        (32_768, 1024, 400, 2.0),
        (32_768, 1024, 10, 2.0),
        (32_768, 1024, 800, 1.0),
        (32_768, 256, 400, 1.0),
        (32_768, 64, 400, 0.5),
        (32_767, 1024, 400, 0.0),
        (32_768, 1024, None, 0.0),
    ],
)
def test_short_fits_of_many_rows_make_haste(n_samples, batch_size, n_steps, haste):
    assert default_haste(n_samples, batch_size, n_steps) == haste


def test_default_learning_rate():
    assert default_learning_rate(2**14) == pytest.approx(3e-3)
    assert default_learning_rate(2**16) == pytest.approx(1.5e-3)
    assert default_learning_rate(2**12) == pytest.approx(6e-3)
    assert default_learning_rate(32) == default_learning_rate(32, 0.5) == 6e-3
    # Up to what the width allows.
    assert default_learning_rate(32, 2.0) == pytest.approx(12e-3)
    assert default_learning_rate(2**12, 2.0) == pytest.approx(6e-3)


def test_default_betas():
    assert default_betas() == default_betas(0.99) == (0.9, 0.99)
    assert default_betas(1.0) == (0.8, 0.97)


@pytest.mark.parametrize(
    ("n_rows", "streams", "rate", "betas"),
    [
        (32_768, False, 12e-3, (0.8, 0.97)),
        (32_767, False, 6e-3, (0.9, 0.99)),
        (32_768, True, 6e-3, (0.9, 0.99)),
    ],
)
def test_a_fit_in_haste_takes_longer_steps(n_rows, streams, rate, betas):
    X = np.random.default_rng(0).normal(size=(n_rows, 4))
    sae = TopKSAE(8, k=2, batch_size=1024, max_iter=1, random_state=0)
    run = Fit(sae, X, streams=streams).run
    assert (run.learning_rate, run.betas) == (pytest.approx(rate), betas)
    continued = Fit(clone(sae).set_params(warm_start=True).fit(X), X).run
    assert (continued.learning_rate, continued.betas) == (6e-3, (0.9, 0.99))
    sae.set_params(learning_rate=1e-3, betas=[0.5, 0.75])
    run = Fit(sae, X, streams=streams).run
    assert (run.learning_rate, run.betas) == (1e-3, (0.5, 0.75))


def test_default_dead_window():
    assert default_dead_window(512, 20_000) == 5120
    assert default_dead_window(32, 1257, 30) == 3771
    assert default_dead_window(512, 10**6) == 10**5
    assert default_dead_window(4096, 10**9) == 10**7
