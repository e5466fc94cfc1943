import numpy as np
import pytest

from sksae import JumpReLUSAE, SparseAutoencoder, TopKSAE
from sksae.autoencoders import Fit
from sksae.training import ramp_down, ramp_up

X = np.random.default_rng(0).normal(size=(10, 8))


def schedule_of(sae, n_steps=100):
    fit = Fit(sae, X)
    assert fit.n_steps == n_steps
    return fit.run.schedule


def test_penalty_warms_up_and_rate_decays():
    schedule = schedule_of(SparseAutoencoder(alpha=2.0, max_iter=100))
    assert [schedule(t)[0] for t in (0, 1, 5, 99)] == [0, pytest.approx(0.4), 2, 2]
    rates = [schedule(t)[1] for t in (0, 59, 60, 80, 99)]
    assert rates == pytest.approx([1, 1, 1, 0.5, 0.025])


def test_tanh_penalty_rises_all_along():
    schedule = schedule_of(JumpReLUSAE(penalty="tanh", alpha=1.0, max_iter=100))
    assert [schedule(t)[0] for t in (0, 50, 99)] == pytest.approx([0, 0.5, 0.99])


def test_learning_rate_warm_up_is_never_zero():
    schedule = schedule_of(TopKSAE(learning_rate_warm_up=0.1, max_iter=100))
    assert [schedule(t)[1] for t in (0, 4, 9, 50)] == pytest.approx([0.1, 0.5, 1, 1])
    assert schedule(0)[0] == 0


def test_a_stream_has_no_end_to_decay_towards():
    schedule = Fit(SparseAutoencoder(alpha=1.0), X, streams=True).run.schedule
    assert schedule(10**6) == (1.0, 1.0)
    assert schedule(50)[0] == pytest.approx(0.5)


def test_ramps():
    assert ramp_up(0, 0) == 1
    assert ramp_down(99, 100, 0.0) == 1
