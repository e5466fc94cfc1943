import numpy as np
import pytest

from sksae import BatchTopKSAE, GatedSAE, JumpReLUSAE, TopKSAE
from sksae.autoencoders import Fit
from sksae.training import (
    default_batch_size,
    default_dead_window,
    default_learning_rate,
    default_max_iter,
    default_width,
)


@pytest.mark.parametrize(
    ("shape", "width", "batch", "steps"),
    [
        ((1, 5), 32, 1, 200),
        ((45, 10), 32, 45, 200),
        ((124, 13), 62, 32, 200),  # half the rows
        ((398, 30), 128, 32, 377),
        ((1257, 64), 256, 32, 1200),  # four per feature
        ((2002, 10), 80, 64, 960),  # eight per feature, as they are few
        ((20_000, 192), 1250, 128, 2041),  # a latent for 16 rows
        ((10**5, 768), 6144, 256, 2346),
        ((10**6, 768), 6144, 1024, 2931),
        ((10**8, 768), 6144, 4096, 24_415),
    ],
)
def test_defaults_follow_the_data(shape, width, batch, steps):
    n_samples, _ = shape
    assert default_width(*shape) == width
    assert default_batch_size(n_samples) == batch
    assert default_max_iter(n_samples, batch) * -(-n_samples // batch) == steps


def test_defaults_of_a_single_code_per_row():
    assert default_batch_size(309, 1) == 309
    assert default_batch_size(10**4, 1) == 512
    assert default_max_iter(309, 309, 1) == 1000
    assert default_max_iter(20, 20, 1) == 1000
    assert default_batch_size(309, 2) == 32


def test_penalties_need_more_steps_of_few_rows():
    X = np.random.default_rng(0).normal(size=(100, 16))
    assert default_max_iter(100, 32, None, 2000) == 500
    assert Fit(TopKSAE(k=2), X).n_steps == 200
    assert Fit(GatedSAE(target_l0=2.0), X).n_steps == 2001  # 667 passes of 3 batches: 90 rows


def test_defaults_of_a_stream():
    assert default_width(None, 10) == 80
    assert default_batch_size(None) == 512


def test_estimators_take_the_defaults_by_rows_that_count():
    X = np.random.default_rng(0).normal(size=(100, 16))
    weight = np.repeat([1.0, 0.0], [80, 20])
    sae = TopKSAE(k=2, max_iter=1).fit(X, sample_weight=weight)
    assert (sae.n_components_, sae.batch_size_, sae.n_steps_) == (40, 32, 3)
    assert TopKSAE(k=1, max_iter=1).fit(X).batch_size_ == 100
    assert BatchTopKSAE(k=1.5, max_iter=1).fit(X).batch_size_ == 32
    assert JumpReLUSAE(alpha=1.0, max_iter=1).fit(X).batch_size_ == 32
    assert TopKSAE(k=2).partial_fit(X).n_components_ == 128
    assert TopKSAE(expansion_factor=1.5, k=2, max_iter=1).fit(X).n_components_ == 24


def test_default_learning_rate():
    assert default_learning_rate(2**14) == pytest.approx(3e-3)
    assert default_learning_rate(2**16) == pytest.approx(1.5e-3)
    assert default_learning_rate(2**12) == pytest.approx(6e-3)
    assert default_learning_rate(32) == 6e-3


def test_default_dead_window():
    assert default_dead_window(512, 20_000) == 5120
    assert default_dead_window(32, 1257, 30) == 3771
    assert default_dead_window(512, 10**6) == 10**5
    assert default_dead_window(4096, 10**9) == 10**7
