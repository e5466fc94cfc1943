import warnings

import numpy as np
import pytest
import torch

from sksae import TopKSAE
from sksae.objectives import TopK
from sksae.training import auxiliary_k_loss, total_variance
from tests.autoencoders.fixture_a import W, assert_close, entries_of, loss_and_gradients, tensor

X = tensor([[1, 2], [1.5, -0.5]])
DEAD = torch.tensor([False, False, True, True])


def weights():
    values = {
        "components": [[1, 0], [0, 1], [0.6, 0.8], [-0.8, 0.6]],
        "encoder_coef": [[0.9, 0.1], [-0.2, 1.1], [0.5, 0.5], [-0.4, 0.3]],
        "encoder_intercept": [0.1, -0.2, 0.05, 0],
        "intercept": [0.1, 0.2],
    }
    return {name: tensor(value).requires_grad_() for name, value in values.items()}


def test_main_loss():
    loss, codes, g = loss_and_gradients(TopKSAE(k=1), weights(), x=X)
    assert_close(codes, [[0, 1.6, 0, 0], [1.29, 0, 0, 0]])
    assert_close(loss, 0.67605)
    assert_close(g["encoder_coef"], [[-0.154, 0.077], [-0.18, -0.36], [0, 0], [0, 0]])
    assert_close(g["encoder_intercept"], [-0.11, -0.2, 0, 0])
    assert_close(g["components"], [[-0.1419, 0.903], [-1.44, -0.32], [0, 0], [0, 0]])
    assert_close(g["intercept"], [-0.951, 0.731])


def test_auxiliary_loss():
    w = weights()
    entries = entries_of(TopK(k=1), w, X)
    reconstruction = entries.decode(entries.kept(torch.relu(entries.z)))
    loss = auxiliary_k_loss(entries, reconstruction, dead=DEAD, k_aux=1)
    assert_close(loss, 2.659926086)
    (loss / 32).backward()
    zero = [0.0, 0.0]
    assert_close(w["encoder_coef"].grad, [zero, zero, [0.1640052995, 0.0552785719], zero])
    assert_close(w["encoder_intercept"].grad, [0, 0, 0.1389373126, 0])
    assert_close(w["components"].grad, [zero, zero, [-0.0027892058, 0.1478279060], zero])
    assert_close(w["intercept"].grad, [-0.0694686563, -0.0694686563])


def test_auxiliary_loss_of_many_rows_is_that_of_some(monkeypatch):
    """Of 2 x 2 pre-activations two are looked at, those of the first row."""
    w = {name: weight.detach() for name, weight in weights().items()}
    entries = entries_of(TopK(k=1), w, X)
    reconstruction = entries.decode(entries.kept(torch.relu(entries.z)))
    residual = X - reconstruction
    monkeypatch.setattr("sksae.training._dead_latents._REVIVING", 2)
    loss = auxiliary_k_loss(entries, reconstruction, dead=DEAD, k_aux=1)
    z = entries.z[0, 2:].relu()
    strongest = int(z.argmax())
    error = z[strongest] * w["components"][2 + strongest] - residual[0]
    assert_close(loss, float(error.square().sum() / total_variance(residual, entries)))


@pytest.mark.parametrize(("normalize", "total"), [("unit", 0.7591726902), ("rms", 0.8422953804)])
def test_auxiliary_loss_is_weighed_by_the_variance(normalize, total):
    """In the unit of mean squared norm 1 the factor is 1, in that of d it is d = 2."""
    sae = TopKSAE(k=1, k_aux=1, normalize=normalize)
    loss, _, _ = loss_and_gradients(sae, weights(), dead=DEAD, x=X)
    assert_close(loss, total)


def test_auxiliary_loss_without_variance_is_zero():
    """One row leaves nothing to explain: neither the loss nor its gradient may be NaN."""
    w = weights()
    sae = TopKSAE(k=1, k_aux=1)
    loss, _, g = loss_and_gradients(sae, w, dead=DEAD, x=X[:1], rows=W[:1])
    plain, _, h = loss_and_gradients(sae, weights(), x=X[:1], rows=W[:1])
    assert loss == plain
    for name in g:
        assert_close(g[name], h[name])


def test_integer_weights_are_repetitions():
    rows = torch.tensor([3.0, 1.0], dtype=torch.float64)
    repeated = X[[0, 0, 0, 1]]
    sae = TopKSAE(k=1, k_aux=1)
    loss, _, g = loss_and_gradients(sae, weights(), dead=DEAD, x=X, rows=rows)
    ones = torch.ones(4, dtype=torch.float64)
    same, _, h = loss_and_gradients(sae, weights(), dead=DEAD, x=repeated, rows=ones)
    assert_close(loss, same, atol=1e-12)
    for name in g:
        assert_close(g[name], h[name], atol=1e-12)


def test_codes_are_the_k_largest():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 12))
    sae = TopKSAE(40, k=5, max_iter=5, random_state=0).fit(X)
    codes = sae.transform(X)
    z = X @ sae.encoder_coef_.T + sae.encoder_intercept_
    expected = np.zeros_like(z)
    for row, values in enumerate(z):
        best = np.argsort(-values, kind="stable")[:5]
        expected[row, best] = np.maximum(values[best], 0)
    np.testing.assert_allclose(codes, expected, rtol=1e-12, atol=1e-12)
    assert ((codes > 0).sum(1) <= 5).all()


def test_k_is_clipped_and_defaulted():
    rng = np.random.default_rng(0)
    with pytest.warns(UserWarning, match="k=10 is greater than the number of components, 3"):
        assert TopKSAE(3, k=10, max_iter=1, random_state=0).fit(rng.normal(size=(20, 4))).k_ == 3
    assert TopKSAE(max_iter=1, random_state=0).fit(rng.normal(size=(20, 24))).k_ == 3
    sae = TopKSAE(100, max_iter=1, random_state=0).fit(rng.normal(size=(120, 512)))
    assert sae.k_ == 32
    assert sae.n_components_ == 100


def test_dead_latents_revive(monkeypatch):
    """Latents that cannot fire at the start come to fire by the auxiliary loss, and only by it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 8))
    initial_weights = TopK.initial_weights

    def killed(self, *args):
        w = initial_weights(self, *args)
        w["encoder_intercept"][:12] = -0.9
        return w

    monkeypatch.setattr(TopK, "initial_weights", killed)
    settings = {"k": 2, "max_iter": 100, "batch_size": 512, "dead_window": 1000, "random_state": 0}
    alive = [
        (TopKSAE(24, auxk_alpha=a, **settings).fit(X).activation_frequency_[:12] > 0).sum()
        for a in (0.0, 1 / 32)
    ]
    assert alive[0] == 0
    assert alive[1] >= 10


@pytest.mark.parametrize("options", [{"early_stopping": True}, {}], ids=["held out", "all rows"])
def test_held_out_rows_that_are_explained_worse_are_said_to_be(options):
    noise = np.random.default_rng(0).normal(size=(60, 12))
    sae = TopKSAE(50, k=2, max_iter=100, random_state=0, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sae.fit(noise)
    assert [" overfits. Lower n_components" in str(w.message) for w in caught] == [True] * len(
        options
    )
