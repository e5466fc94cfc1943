import numpy as np
import pytest
import torch

from sksae import SparseAutoencoder
from sksae.datasets import make_superposition
from sksae.kernels import threshold_codes
from sksae.objectives import L1
from sksae.training import Engine, Normalization, TrainingRun, alive_norm, draw_rows, resample
from tests.autoencoders.fixture_a import (
    FREE,
    UNIT,
    W,
    X,
    assert_close,
    entries_of,
    loss_and_gradients,
    tensor,
    weights,
)


class WithoutPreBias(SparseAutoencoder):
    """The April-2024 form as published: the decoder's bias is not subtracted before encoding."""

    def _make_objective(self, *shape):
        objective = super()._make_objective(*shape)
        objective.pre_bias = False
        return objective


def test_free_norms_without_pre_bias():
    loss, codes, g = loss_and_gradients(WithoutPreBias(), weights(FREE), alpha=0.5)
    assert_close(codes, [[1.2, 1.8, 1.55], [0, 0.55, 0]])
    assert_close(loss, 4.8968125)
    assert_close(g["encoder_coef"], [[5.36, 10.72], [0.1825, 0.64625], [1.98, 3.96]])
    assert_close(g["encoder_intercept"], [5.36, 0.4075, 1.98])
    assert_close(g["components"], [[3.216, 0.408], [4.979, 1.18575], [3.999, 0.837]])
    assert_close(g["intercept"], [3.53, 0.315])


def test_free_norms_with_pre_bias():
    loss, codes, g = loss_and_gradients(SparseAutoencoder(), weights(FREE), alpha=0.5)
    assert_close(codes, [[1.09, 1.6, 1.4], [0, 0.35, 0]])
    assert_close(loss, 4.0059625)
    assert_close(g["encoder_coef"], [[4.266, 8.532], [0.09775, 0.35175], [1.4562, 2.9124]])
    assert_close(g["encoder_intercept"], [4.74, 0.2475, 1.618])
    assert_close(g["components"], [[2.5833, 0.1308], [3.777, 0.63575], [3.178, 0.448]])
    assert_close(g["intercept"], [-1.8055, -1.56025])


def test_unit_norm_fold_changes_codes_and_not_reconstructions():
    w = weights(FREE)
    folded = L1(1.0).fold(w, Normalization(torch.zeros(2, dtype=torch.float64), 1.0))
    codes = torch.relu(X @ folded["encoder_coef"].T + folded["encoder_intercept"])
    assert_close(codes, [[2.18, 0.8, 1.4], [0, 0.175, 0]])
    reconstruction = codes @ folded["components"] + folded["intercept"]
    assert_close(reconstruction, [[3.12, 2.12], [0.1, 0.375]])


def test_unit_norms():
    sae = SparseAutoencoder(decoder_norm="unit")
    loss, _, g = loss_and_gradients(sae, weights(UNIT), alpha=0.5)
    assert_close(loss, 2.6699)
    assert_close(g["encoder_coef"], [[1.152, 2.304], [0.723, 2.196], [1.4436, 2.8872]])
    assert_close(g["encoder_intercept"], [1.28, 1.47, 1.604])
    assert_close(g["components"], [[1.1227, 1.0028], [2.033, 1.4895], [1.442, 1.288]])
    assert_close(g["intercept"], [0.47, -1.577])


@pytest.mark.parametrize(
    ("projected", "expected"),
    [
        (
            True,
            [
                [0.9950371903, -0.0995037180],
                [-0.0995037185, 0.9950371903],
                [0.4856429354, 0.8741572738],
            ],
        ),
        (
            False,
            [
                [0.9938837348, -0.1104315249],
                [-0.1104315255, 0.9938837347],
                [0.5812381938, 0.8137334711],
            ],
        ),
    ],
)
def test_first_step_projects_before_adam(projected, expected, monkeypatch):
    """Projection changes where the atoms go; renormalising alone is another algorithm."""
    run = TrainingRun(
        {name: w.detach() for name, w in weights(UNIT).items()},
        Engine(L1(0.5, unit_norm=True)),
        learning_rate=0.1,
        max_grad_norm=None,
        schedule=lambda step: (0.5, 1.0),
    )
    if not projected:
        monkeypatch.setattr("sksae.training._run._AT_ONCE", 0)  # the loop that projects as well
        run._project = lambda grad, w: None
    run.step(X, W)
    assert_close(run.weights["components"].detach(), expected)


def test_resampling():
    w = {
        "components": tensor([[2, 0], [0, 0.5], [0.6, 0.8]]),
        "encoder_coef": tensor([[0.9, 0.1], [-0.2, 1.1], [0.5, 0.5]]),
        "encoder_intercept": tensor([0.1, -0.2, 0.05]),
        "intercept": tensor([0.1, 0.2]),
    }
    moments = {name: [torch.ones_like(w[name])] for name in w}
    dead = torch.tensor([0])
    assert_close(alive_norm(w["encoder_coef"], dead), 0.9125703850)
    resample(w, moments, dead, tensor([[1.7090680675, -0.2]]))
    assert_close(w["components"][0], [0.9932223600, -0.1162297019])
    assert_close(w["encoder_coef"][0], [0.1812770623, -0.0212135568])
    assert w["encoder_intercept"][0] == 0
    for name in ("components", "encoder_coef", "encoder_intercept"):
        assert not moments[name][0][0].any()
        assert moments[name][0][1:].all()
    assert moments["intercept"][0].all()


def test_resampling_draws_by_squared_loss():
    """Fixture R: row losses, and the shares in which rows are drawn."""
    rows = tensor([[3, 1], [1, 3], [2, 5], [6, 3]])
    scale = 0.6030226892
    x = (rows - rows.mean(0)) * scale
    w = {name: value.detach() for name, value in weights(FREE).items()}
    entries = entries_of(L1(1.0), w, x, torch.ones(4).double())
    codes = threshold_codes(entries.z, tensor([0.3, 0.2, 0.4]))
    losses = (entries.decode(codes) - x).square().sum(1) / scale**2
    assert_close(losses, [5.4641499161, 4.8008249581, 1.9991624790, 13.0671912060], atol=1e-8)
    assert_close(x[3] - w["intercept"], [1.7090680675, -0.2], atol=1e-9)

    generator = torch.Generator().manual_seed(0)
    ones = torch.ones(4, dtype=torch.float64)
    drawn = torch.cat([draw_rows(losses, ones, 1, generator) for _ in range(20_000)])
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    expected = [0.1311510740, 0.1012414559, 0.0175558889, 0.7500515811]
    assert_close(shares, expected, atol=0.015)


def test_resampling_repeats_rows_only_where_it_must():
    generator = torch.Generator().manual_seed(0)
    ones = torch.ones(5, dtype=torch.float64)
    losses = tensor([1, 2, 0, 3, 4])
    assert sorted(draw_rows(losses, ones, 4, generator).tolist()) == [0, 1, 3, 4]
    assert sorted(draw_rows(losses, tensor([1, 0, 1, 1, 0]), 2, generator).tolist()) == [0, 3]
    many = draw_rows(losses, ones, 100, generator)
    assert set(many.tolist()) == {0, 1, 3, 4}
    assert len(draw_rows(torch.zeros(5), ones, 3, generator)) == 3


def test_resampling_revives_dead_latents(monkeypatch):
    """With resampling on, latents killed at the start fire again."""
    X, _, _ = make_superposition(2000, 8, 16, random_state=0)
    initial_weights = L1.initial_weights

    def killed(self, *args):
        w = initial_weights(self, *args)
        w["encoder_intercept"][:8] = -100.0
        return w

    monkeypatch.setattr(L1, "initial_weights", killed)
    settings = {
        "alpha": 0.5,
        "max_iter": 100,
        "batch_size": 512,
        "dead_window": 500,
        "random_state": 0,
    }
    revived = SparseAutoencoder(16, decoder_norm="unit", **settings).fit(X)
    assert (revived.activation_frequency_[:8] > 0).sum() >= 6
    silent = SparseAutoencoder(16, decoder_norm="free", **settings).fit(X)
    assert not silent.activation_frequency_[:8].any()


def test_more_penalty_is_sparser():
    X, _, _ = make_superposition(3000, 8, 16, random_state=0)
    l0 = [
        (
            SparseAutoencoder(
                16, alpha=a, max_iter=60, batch_size=512, random_state=0
            ).fit_transform(X)
            > 0
        ).mean()
        for a in (0.1, 0.5, 2.0)
    ]
    assert l0 == sorted(l0, reverse=True)
    assert l0[0] > 1.5 * l0[2]


def test_default_alpha():
    rng = np.random.default_rng(0)
    sae = SparseAutoencoder(4, max_iter=1, random_state=0).fit(rng.normal(size=(50, 16)))
    assert sae.alpha_ == pytest.approx(0.35 * np.sqrt(16 / 2))
    sae = SparseAutoencoder(40, max_iter=1, random_state=0).fit(rng.normal(size=(50, 512)))
    assert sae.alpha_ == pytest.approx(0.35 * np.sqrt(512 / 32))
