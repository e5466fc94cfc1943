"""The fast forms against the definition: the same steps, entry by entry."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae import (
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    SparseAutoencoder,
    TopKSAE,
)
from sksae.autoencoders import Fit
from sksae.datasets import make_superposition
from sksae.kernels import Rule, _search
from sksae.objectives import Objective, TopK, reconstruction_loss
from sksae.training import Engine, resample
from tests.cases import each_case, tries

STEPS = 20


@pytest.fixture(autouse=True, scope="module")
def fast_forms_of_small_batches():
    """Small batches are computed densely: here they are not, unless a test says so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sksae.training._engine._SMALL", 0)
        yield


@dataclass
class AbsTopK(Objective):
    """Signed codes, the k largest by magnitude."""

    k: int
    resolved = ("k",)

    def rule(self, weights):
        return Rule(k=self.k, magnitude=True)

    def loss(self, entries, alpha, dead):
        codes = entries.kept(entries.z)
        return reconstruction_loss(entries, entries.decode(codes)), codes


class AbsTopKSAE(TopKSAE):
    """The estimator of `AbsTopK`."""

    def _make_objective(self, n_features, n_components, n_targets):
        return AbsTopK(min(self.k, n_components))


VARIANTS = [
    TopKSAE(96, k=4, auxk_alpha=0.5, k_aux=3, normalize=None),
    BatchTopKSAE(96, k=3.3),
    AbsTopKSAE(96, k=4),
    MatryoshkaSAE(96, k=3.3, widths=(16, 48)),
    SparseAutoencoder(96, decoder_norm="unit"),
    GatedSAE(96),
    JumpReLUSAE(96),
]
OTHER_OPTIONS = [
    TopKSAE(96, k=4),
    TopKSAE(96, k=96),
    TopKSAE(96, k=4, max_grad_norm=None),
    SparseAutoencoder(96),
    GatedSAE(96, decoder_norm="free"),
    JumpReLUSAE(96, penalty="tanh"),
]
EACH = [*VARIANTS, *(pytest.param(variant, marks=pytest.mark.slow) for variant in OTHER_OPTIONS)]

CLOSED = {
    SparseAutoencoder: "encoder_intercept",
    GatedSAE: "gate_intercept",
    JumpReLUSAE: "threshold",
}


def data(dtype):
    X, _, _ = make_superposition(900, 24, 60, density=0.06, random_state=0)
    return X.astype(dtype)


def make_run(sae, X, sample_weight, *, plain, sparse=False):
    """A run of the variant, by the definition or by the engine; both draw the same batches."""
    sae.set_params(batch_size=200, learning_rate=1e-3, random_state=0)
    fit = Fit(sae, X, sample_weight=sample_weight)
    run, weights = fit.run, fit.run.weights
    if type(sae) in CLOSED:
        name = CLOSED[type(sae)]
        norms = weights["encoder_coef"].norm(dim=1)
        bound = 1.5 * norms if sparse else 0 * norms
        weights[name] = bound + fit.objective.bandwidth / 2 if name == "threshold" else -bound
    if isinstance(sae, AbsTopKSAE):  # latents that never fire: by magnitude, those of zeros
        weights["encoder_coef"][:5] = 0
    else:
        weights["encoder_intercept"][:5] -= 100
    run.engine.plain = plain
    run.dead_window = 500
    return run, fit.rows


def train(run, rows, n_steps=STEPS):
    """Steps, and after three quarters of them dead latents are resampled; return the losses."""
    losses, run.densities = [], []
    while run.n_steps < n_steps:
        for x, w in rows:
            losses.append(float(run.step(x, w)))
            run.densities.append(run.engine.density)
            if run.n_steps == 3 * STEPS // 4:
                dead = run.dead().nonzero().flatten()
                assert len(dead) >= 5
                resample(run.weights, run.moments, dead, x[: len(dead)])
            if run.n_steps == n_steps:
                break
    return losses


def both(sae, dtype, *, weighted, sparse=False):
    X = data(dtype)
    w = torch.from_numpy(np.random.default_rng(0).uniform(0.1, 1, len(X))) if weighted else None
    runs = [make_run(sae, X, w, plain=plain, sparse=sparse) for plain in (True, False)]
    return [(run, train(run, rows)) for run, rows in runs]


@each_case(
    "weighted, sparse, small",
    [(False, True, 0), (True, False, 0), (True, True, 2**20), (False, False, 2**20)],
)
@pytest.mark.parametrize("variant", EACH, ids=str)
def test_the_engine_takes_the_steps_of_the_definition(
    variant, weighted, sparse, small, monkeypatch
):
    """Twenty steps in float64, with clipping, dead latents and resampling."""
    monkeypatch.setattr("sksae.training._engine._SMALL", small)
    (plain, expected), (fast, losses) = both(variant, np.float64, weighted=weighted, sparse=sparse)
    assert losses == pytest.approx(expected, rel=1e-10)
    for name, value in plain.weights.items():
        torch.testing.assert_close(fast.weights[name], value, rtol=1e-9, atol=1e-9)
        for own, other in zip(fast.moments[name], plain.moments[name], strict=True):
            torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-10)
    assert torch.equal(fast.since_fired, plain.since_fired)
    if sparse and not small and type(variant) in CLOSED:
        assert sum(0 < density < 0.15 for density in fast.densities) >= 5


@each_case("worth", [0, 2**60])
@pytest.mark.parametrize("variant", EACH, ids=str)
def test_steps_in_float32(variant, worth, monkeypatch):
    """A near tie may be decided the other way, and Adam makes a small gradient a whole step."""
    monkeypatch.setattr(_search, "_WORTH_HALVING", worth)
    monkeypatch.setattr(_search, "_has_bfloat16", lambda kind: True)
    (plain, expected), (fast, losses) = both(variant, np.float32, weighted=False, sparse=True)
    assert losses == pytest.approx(expected, rel=1e-4)
    for name, value in plain.weights.items():
        scale = max(float(value.square().mean().sqrt()), 1e-2)
        difference = (fast.weights[name] - value).square().mean().sqrt()
        assert float(difference) < 1e-3 * scale, name


@pytest.mark.parametrize("variant", EACH, ids=str)
def test_bfloat16_is_near(variant, monkeypatch):
    monkeypatch.setattr(_search, "_WORTH_HALVING", 0)
    monkeypatch.setattr(_search, "_has_bfloat16", lambda kind: True)
    variant.set_params(precision="bfloat16")
    try:
        (_, expected), (_, losses) = both(variant, np.float32, weighted=False)
    finally:
        variant.set_params(precision="auto")
    assert losses == pytest.approx(expected, rel=0.02)
    assert losses != expected


@pytest.mark.parametrize("small", [0, 2**20])
def test_an_estimated_auxiliary_loss_has_its_gradients(small, monkeypatch):
    monkeypatch.setattr("sksae.training._engine._SMALL", small)
    monkeypatch.setattr("sksae.objectives._topk.compiled_for", lambda x: None)
    sae = TopKSAE(96, k=4, auxk_alpha=0.5, k_aux=3)
    (_, of_all_rows), _ = both(sae, np.float64, weighted=True, sparse=True)
    monkeypatch.setattr("sksae.training._dead_latents._REVIVING", 300)
    (plain, expected), (fast, losses) = both(sae, np.float64, weighted=True, sparse=True)
    assert losses == pytest.approx(expected, rel=1e-10)
    assert expected != of_all_rows
    for name, value in plain.weights.items():
        torch.testing.assert_close(fast.weights[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "made twice"])
def test_blocks_of_latents_change_nothing(kept, monkeypatch):
    monkeypatch.setattr("sksae.training._run._BLOCK_ENTRIES", 24 * 7)
    if not kept:
        monkeypatch.setattr("sksae.training._run._KEPT_ENTRIES", 0)
    (plain, _), (fast, _) = both(TopKSAE(96, k=4), np.float64, weighted=False)
    for name, value in plain.weights.items():
        torch.testing.assert_close(fast.weights[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sparse_output", [False, True])
def test_signed_codes_at_inference(sparse_output):
    """Codes of both signs, in a dense and in a sparse matrix, and latents that fire by either."""
    X = data(np.float64)
    sae = AbsTopKSAE(96, k=4, max_iter=4, random_state=0, sparse_output=sparse_output).fit(X)
    codes = sae.transform(X)
    codes = codes.toarray() if sparse_output else codes
    z = X @ sae.encoder_coef_.T + sae.encoder_intercept_
    order = np.argsort(-np.abs(z), axis=1, kind="stable")[:, :4]
    expected = np.zeros_like(z)
    np.put_along_axis(expected, order, np.take_along_axis(z, order, 1), 1)
    np.testing.assert_allclose(codes, expected, rtol=1e-9, atol=1e-9)
    assert (codes < 0).any()
    assert (codes > 0).any()
    np.testing.assert_allclose(sae.activation_frequency_, (codes != 0).mean(0), atol=1e-12)


def test_chunks_of_rows_change_nothing(monkeypatch):
    monkeypatch.setattr("sksae._arrays.CHUNK_ENTRIES", 96 * 37)
    for sae in {type(variant): variant for variant in VARIANTS}.values():
        (plain, _), (fast, _) = both(sae, np.float64, weighted=True)
        for name, value in plain.weights.items():
            torch.testing.assert_close(fast.weights[name], value, rtol=1e-9, atol=1e-9)


def test_codes_that_grow_sparse_are_computed_sparsely():
    """The form follows the density measured at the last step, and its state travels."""
    run, rows = make_run(SparseAutoencoder(96), data(np.float64), None, plain=False)
    train(run, rows, 2)
    assert run.engine.density > 0.3
    run.weights["encoder_intercept"] -= 0.2
    train(run, rows, 4)
    assert 0 < run.engine.density < 0.1
    state = run.state()
    again, _ = make_run(SparseAutoencoder(96), data(np.float64), None, plain=False)
    again.restore(state)
    assert again.engine.density == run.engine.density


@pytest.mark.filterwarnings("ignore::UserWarning")  # of more latents than rows, or k than latents
@settings(max_examples=tries(30), deadline=None)
@given(
    n=st.integers(1, 40),
    d=st.integers(1, 9),
    m=st.integers(1, 40),
    k=st.integers(1, 12),
    seed=st.integers(0, 2**16),
)
def test_any_shape(n, d, m, k, seed):
    """One step of TopK and BatchTopK on rows of any shape, ties and duplicates included."""
    rng = np.random.default_rng(seed)
    X = np.round(rng.normal(size=(n, d)), 1)
    for sae in (TopKSAE(m, k=k), BatchTopKSAE(m, k=k / 3)):
        (plain, rows), (fast, _) = (make_run(sae, X, None, plain=plain) for plain in (True, False))
        x, w = next(iter(rows))
        assert float(fast.step(x, w)) == pytest.approx(float(plain.step(x, w)), rel=1e-9, abs=1e-9)
        for name, value in plain.weights.items():
            torch.testing.assert_close(fast.weights[name], value, rtol=1e-7, atol=1e-9)


@dataclass
class Cubed(TopK):
    """Another loss than that of its base class."""

    def loss(self, entries, alpha, dead):
        loss, codes = super().loss(entries, alpha, dead)
        return loss**3, codes


def test_another_loss_has_its_own_gradients(monkeypatch):
    """Those of `TopK`, times 3 loss^2: a closed form is not inherited by another loss."""
    monkeypatch.setattr("sksae.training._engine._SMALL", 2**20)
    x = torch.as_tensor(data(np.float64)[:100])
    run, _ = make_run(TopKSAE(96, k=5, auxk_alpha=0), x.numpy(), None, plain=False)
    args = x, torch.ones(len(x), dtype=x.dtype), run.weights, 0.0, run.dead()
    known, own = (Engine(objective(5)).gradient(*args) for objective in (TopK, Cubed))
    assert float(own.loss) == pytest.approx(float(known.loss) ** 3)
    expected = 3 * known.loss**2 * known.rows("components", 0, 96)
    torch.testing.assert_close(own.rows("components", 0, 96), expected)
    assert TopK(5).knows_gradients
    assert not Cubed(5).knows_gradients
