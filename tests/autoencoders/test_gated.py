import numpy as np
import torch

from sksae import GatedSAE
from sksae.objectives import Gated
from sksae.training import Normalization
from tests.autoencoders.fixture_a import (
    INTERCEPT,
    assert_close,
    entries_of,
    loss_and_gradients,
    tensor,
)


def weights():
    values = {
        "components": tensor([[1, 0], [0.6, 0.8]]),
        "encoder_coef": tensor([[0.9, 0.1], [-0.2, 1.1]]),
        "encoder_intercept": tensor([0.05, 0.2]),
        "intercept": INTERCEPT,
        "gate_intercept": tensor([0.1, -0.4]),
        "log_gain": tensor([0.2, -0.1]),
    }
    return {name: value.clone().requires_grad_() for name, value in values.items()}


def check(decoder_norm, components, intercept):
    loss, codes, g = loss_and_gradients(GatedSAE(decoder_norm=decoder_norm), weights(), alpha=0.5)
    assert_close(codes, [[1.2591887306, 1.8287073525], [0, 0.6976605799]])
    assert_close(loss, 4.4496482045)
    encoder = [[2.7529803259, 5.5059606517], [-1.2307819653, 2.1166888528]]
    assert_close(g["encoder_coef"], encoder)
    assert_close(g["gate_intercept"], [1.28, 1.144])
    assert_close(g["encoder_intercept"], [1.4564131421, 1.7218811707])
    assert_close(g["log_gain"], [1.7610783584, 1.5403141311])
    assert_close(g["components"], components)
    assert_close(g["intercept"], intercept)


def test_frozen_dictionary_in_the_auxiliary_term():
    components = [[1.8338990155, -0.4243895632], [3.7228182299, -0.4362507158]]
    check("unit", components, [0.7624336667, -3.3570171209])


def test_reparametrisation_invariant_form():
    components = [[3.2290990155, -1.1655895632], [5.5758182299, -1.1052507158]]
    check("free", components, [2.9824336667, -4.2170171209])


def test_fold_to_a_threshold():
    """In the unit of training itself, thresholds are ``max(0, b_mag - e^r b_gate)``."""
    unit = Normalization(torch.zeros(2, dtype=torch.float64), 1.0)
    folded = Gated(1.0).fold(weights(), unit)
    assert_close(folded["threshold"], [0, 0.5619349672])
    assert_close(folded["encoder_coef"][0], np.exp(0.2) * np.array([0.9, 0.1]))


def test_fold_is_exact():
    """One threshold a latent says the same as gate and magnitude, in raw units."""
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.normal(3.0, 2.0, size=(500, 2)))
    unit = Normalization(tensor([3.0, 2.5]), 0.7)
    w = weights()
    x = (X - unit.mean) * unit.scale
    gated = Gated(1.0)
    _, codes = gated.loss(entries_of(gated, w, x, torch.ones(500).double()), 0.0, None)
    folded = Gated(1.0).fold(w, unit)
    z = X @ folded["encoder_coef"].T + folded["encoder_intercept"]
    raw = torch.where(z > folded["threshold"], z, 0.0)
    assert_close(raw, codes.detach() / unit.scale, atol=1e-12)
    assert 0.1 < float((raw > 0).double().mean()) < 0.9


def test_unfold_continues_from_the_fold():
    unit, other = Normalization(tensor([3.0, 2.5]), 0.7), Normalization(tensor([-1.0, 0.5]), 1.3)
    w = {name: value.detach() for name, value in weights().items()}
    gated = Gated(1.0)
    back = gated.unfold(gated.fold(w, unit), unit)
    for name, value in w.items():
        assert_close(back[name], value, atol=1e-12)
    # Through another unit of training it is still the same function of raw rows.
    again = gated.fold(gated.unfold(gated.fold(w, unit), other), other)
    for name, value in gated.fold(w, unit).items():
        assert_close(again[name], value, atol=1e-12)
