"""Crosscoder: norms over blocks, planted features of one block and of both, and latent scaling."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

import sksae
from sksae import (
    BatchTopKSAE,
    Crosscoder,
    DummySAE,
    GatedSAE,
    JumpReLUSAE,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
)
from sksae.autoencoders import fitted
from sksae.formats import write_saelens
from sksae.metrics import latent_scaling
from sksae.training import Normalization, _engine, row_norms
from sksae.training._entries import norm_gradients
from tests.autoencoders.fixture_a import FREE, assert_close, loss_and_gradients, tensor, weights
from tests.cases import each_case, tries
from tests.estimators import arrays_of

AUTOENCODERS = [
    TopKSAE(24, k=3),
    BatchTopKSAE(24, k=3),
    SparseAutoencoder(24, alpha=0.5),
    SparseAutoencoder(24, alpha=0.5, decoder_norm="unit"),
    JumpReLUSAE(24, alpha=0.3),
    JumpReLUSAE(24, alpha=0.3, penalty="tanh"),
    GatedSAE(24, alpha=0.5),
]
KINDS = np.repeat(["both", "first", "second", "weak in the first"], [8, 4, 4, 4])


@pytest.fixture(scope="module")
def planted():
    """Rows of two blocks, and the true directions: of both, of one, and of a norm of 1/4 in one."""
    rng = np.random.default_rng(0)
    m, width = len(KINDS), 20
    codes = rng.uniform(0.5, 1.5, size=(4000, m)) * (rng.random((4000, m)) < 0.08)
    directions = rng.normal(size=(2, m, width))
    directions[1] = directions[0] + 0.4 * directions[1]  # similar in both, but not the same
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    directions[0, KINDS == "second"] = directions[1, KINDS == "first"] = 0
    directions[0, KINDS == "weak in the first"] *= 0.25
    X = np.hstack([codes @ block for block in directions])
    X += 0.02 * rng.normal(size=X.shape)
    return X.astype(np.float32), np.hstack(list(directions))


@pytest.fixture
def pair(X):
    """Twelve columns, of which the last eight are a hundred times as large and far from 0."""
    return np.hstack([X[:, :4], 100 * X[:, 4:] + 1000])


def small(estimator, *, blocks=(4, 8), **more):
    options = {"max_iter": 5, "batch_size": 100, "random_state": 0, "dead_window": 150}
    return Crosscoder(clone(estimator).set_params(**{**options, **more}), blocks=blocks)


def partners(crosscoder, directions):
    """The latent of each true direction, and the cosine of the two."""
    unit = [
        rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9)
        for rows in (directions, crosscoder.components_)
    ]
    cosines = unit[0] @ unit[1].T
    return cosines.argmax(1), cosines.max(1)


# The objective ---------------------------------------------------------------------------------


def test_a_penalty_weighs_codes_by_the_sum_of_their_norms_in_the_blocks():
    """Of the rows (2, 0), (0, 1/2) and (.6, .8) only the last has another norm: 1.4, not 1."""
    plain = loss_and_gradients(SparseAutoencoder(3, alpha=0.5), weights(FREE), alpha=0.5)
    crosscoder = Crosscoder(SparseAutoencoder(3, alpha=0.5), blocks=[1, 1])
    loss, codes, gradients = loss_and_gradients(crosscoder, weights(FREE), alpha=0.5)
    third = codes[:, 2].mean()
    assert_close(loss - plain[0], 0.5 * 0.4 * third)
    assert_close(gradients["components"][:2], plain[2]["components"][:2])
    pull = gradients["components"][2] - plain[2]["components"][2]
    assert_close(pull, 0.5 * third * tensor([1 - 0.6, 1 - 0.8]))


@settings(max_examples=tries(50), deadline=None)
@given(seed=st.integers(0, 10**6), blocks=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_gradients_of_norms_are_those_of_autograd(seed, blocks):
    rows = torch.randn(5, sum(blocks), generator=torch.Generator().manual_seed(seed)).double()
    rows[0, : blocks[0]] = 0
    rows.requires_grad_()
    row_norms(rows, tuple(blocks)).sum().backward()
    torch.testing.assert_close(norm_gradients(rows.detach(), tuple(blocks)), rows.grad)


@settings(max_examples=tries(50), deadline=None)
@given(
    seed=st.integers(0, 10**6),
    blocks=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    exponents=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
)
def test_fold_and_unfold_of_blocks_are_the_same_function(seed, blocks, exponents):
    rng = np.random.default_rng(seed)
    d, m = sum(blocks), 6
    scale = torch.from_numpy(np.repeat(10.0 ** np.array(exponents[: len(blocks)]), blocks))
    unit = Normalization(torch.from_numpy(rng.normal(size=d)), scale)
    shapes = {"components": (m, d), "encoder_coef": (m, d), "encoder_intercept": m}
    shapes |= {"intercept": d, "threshold": m}
    w = {name: torch.from_numpy(rng.normal(size=shape)) for name, shape in shapes.items()}
    w["threshold"] = w["threshold"].abs()
    x = torch.from_numpy(rng.normal(size=(20, d)))
    z = (x - w["intercept"]) @ w["encoder_coef"].T + w["encoder_intercept"]
    codes = torch.where(z > w["threshold"], z, 0.0)
    expected = (codes @ w["components"] + w["intercept"]) / scale + unit.mean

    objective = Crosscoder(JumpReLUSAE(alpha=1.0), blocks=blocks)._make_objective(d, m, d)
    folded = objective.fold(w, unit)
    X = x / scale + unit.mean
    z = X @ folded["encoder_coef"].T + folded["encoder_intercept"]
    codes = torch.where(z > folded["threshold"], z, 0.0)
    actual = codes @ folded["components"] + folded["intercept"]
    torch.testing.assert_close(actual * scale, expected * scale, rtol=1e-8, atol=1e-8)
    assert_close(folded["scale"] * scale, torch.ones(d).double())
    again = objective.fold(objective.unfold(folded, unit), unit)
    for name, value in folded.items():
        torch.testing.assert_close(again[name], value, rtol=1e-8, atol=1e-8)


@each_case("estimator", AUTOENCODERS)
def test_the_fast_form_takes_the_steps_of_the_definition(pair, estimator, monkeypatch):
    model = small(estimator)
    fast = clone(model).fit(pair)
    monkeypatch.setattr(_engine, "runs_on", lambda device: False)
    plain = model.fit(pair)
    assert_allclose(fast.loss_curve_, plain.loss_curve_, rtol=1e-9)
    for name, array in arrays_of(plain).items():
        assert_allclose(getattr(fast, name), array, rtol=1e-6, atol=1e-8, err_msg=name)


@each_case("estimator", AUTOENCODERS)
def test_norms_of_components_sum_to_one_over_blocks_in_their_units(pair, estimator):
    model = small(estimator).fit(pair)
    sizes = [np.sqrt(((b - b.mean(0)) ** 2).mean()) for b in model.split(pair).values()]
    assert_allclose(model.scale_, np.repeat(sizes, [4, 8]))
    common = np.sqrt((model.scale_**2).mean())
    parts = model.split(model.components_ * common / model.scale_).values()
    assert_allclose(sum(np.linalg.norm(part, axis=1) for part in parts), 1)


@each_case("estimator", AUTOENCODERS[:2])
def test_no_block_dominates_by_its_size(X, pair, estimator):
    """Codes keep their places, and shares and scores their values, whatever a block's unit."""
    even, uneven = (small(estimator).fit(rows) for rows in (X, pair))
    first, second = even.transform(X), uneven.transform(pair)
    assert_array_equal(first > 0, second > 0)
    ratio = second[second > 0] / first[first > 0]
    assert_allclose(ratio, ratio[0], rtol=1e-5)
    assert_allclose(uneven.relative_norms(), even.relative_norms(), atol=1e-6)
    assert_allclose(uneven.score(pair), even.score(X), rtol=1e-6)


def test_one_block_is_the_autoencoder(X):
    for estimator in AUTOENCODERS:
        crosscoder = small(estimator, blocks=None).fit(X)
        alone = crosscoder.estimator.fit(X)
        assert_array_equal(crosscoder.components_, alone.components_)
        assert_array_equal(crosscoder.transform(X), alone.transform(X))
        assert crosscoder.score(X) == alone.score(X)
        assert crosscoder.blocks_ == {"block0": 12}
        with pytest.raises(ValueError, match="all columns of X are one"):
            crosscoder.relative_norms()
        with pytest.raises(ValueError, match="several blocks of one width"):
            latent_scaling(crosscoder, X)


# What is shared and what is exclusive ------------------------------------------------------------


def test_planted_features_are_found_in_their_blocks(planted):
    """A feature that has 1/4 of its norm in one block is not exclusive to the other."""
    X, directions = planted
    estimator = BatchTopKSAE(len(KINDS) + 12, k=1.6, max_iter=16, random_state=0)
    crosscoder = Crosscoder(estimator, blocks={"first": 20, "second": 20}).fit(X[:3000])
    latents, cosines = partners(crosscoder, directions)
    assert cosines.min() > 0.98
    shares = crosscoder.relative_norms()[latents]
    assert_allclose(shares.sum(1), 1)
    # Blocks differ in size, by the features that only one has.
    sizes = [crosscoder.scale_[0], crosscoder.scale_[-1]]
    for kind, norms in {"both": (1, 1), "first": (1, 0), "second": (0, 1)}.items():
        expected = np.divide(norms, sizes) / np.divide(norms, sizes).sum()
        assert_allclose(
            shares[kind == KINDS], np.tile(expected, (sum(kind == KINDS), 1)), atol=0.06
        )
    kinds = latent_scaling(crosscoder, X[3000:]).kinds()[latents]
    assert set(kinds[np.isin(KINDS, ["both", "weak in the first"])]) == {"shared"}
    assert set(kinds[np.isin(KINDS, ["first", "second"])]) == {"exclusive"}


def test_what_a_penalty_shrinks_away_is_flagged(planted):
    """With an L1 penalty the weak features look exclusive, and latent scaling tells."""
    X, directions = planted
    estimator = SparseAutoencoder(len(KINDS) + 12, alpha=2.0, max_iter=16, random_state=0)
    crosscoder = Crosscoder(estimator, blocks=2).fit(X[:3000])
    latents, cosines = partners(crosscoder, directions)
    assert np.median(cosines) > 0.95
    scaling = latent_scaling(crosscoder, X[3000:])
    weak = latents[KINDS == "weak in the first"]
    ratio = scaling.norms[weak, 0] / scaling.norms[weak, 1]
    assert ratio.max() < 0.2
    assert set(scaling.kinds()[weak]) == {"shrunken"}
    assert set(scaling.kinds()[latents[KINDS == "both"]]) == {"shared"}
    assert set(scaling.kinds()[latents[np.isin(KINDS, ["first", "second"])]]) == {"exclusive"}


@pytest.mark.slow
@each_case(
    "estimator",
    [
        TopKSAE(36, k=2, max_iter=20, random_state=0),
        JumpReLUSAE(36, target_l0=1.6, random_state=0),
    ],
)
def test_planted_features_are_found_by_the_other_objectives(planted, estimator):
    X, directions = planted
    crosscoder = Crosscoder(estimator, blocks=2).fit(X[:3000])
    latents, cosines = partners(crosscoder, directions)
    assert np.median(cosines) > 0.98
    kinds = latent_scaling(crosscoder, X[3000:]).kinds()[latents]
    assert np.mean(kinds[np.isin(KINDS, ["both", "weak in the first"])] == "shared") > 0.9
    assert np.mean(kinds[np.isin(KINDS, ["first", "second"])] == "exclusive") > 0.8


# The estimator -----------------------------------------------------------------------------------


@each_case(
    "blocks, layout",
    [
        (2, {"block0": 6, "block1": 6}),
        ([4, 8], {"block0": 4, "block1": 8}),
        ({"base": 4, "tuned": 8}, {"base": 4, "tuned": 8}),
        (None, {"block0": 12}),
    ],
)
def test_blocks_as_told(X, blocks, layout):
    model = small(TopKSAE(8, k=2), blocks=blocks).fit(X)
    assert list(model.blocks_.items()) == list(layout.items())
    parts = model.split(X)
    assert {name: part.shape[1] for name, part in parts.items()} == layout
    assert_array_equal(np.hstack(list(parts.values())), X)
    assert_array_equal(np.hstack(list(model.split(model.intercept_).values())), model.intercept_)


def test_blocks_by_the_names_of_columns(X, tmp_path):
    names = [f"2.mlp_out_{i}" for i in range(4)] + [f"layer7.{i}" for i in range(8)]
    frame = pd.DataFrame(X, columns=names)
    model = small(TopKSAE(8, k=2), blocks=None).fit(frame)
    assert model.blocks_ == {"2.mlp_out": 4, "layer7": 8}
    told = small(TopKSAE(8, k=2)).fit(X)
    assert_array_equal(model.components_, told.components_)
    again = sksae.load(model.save(tmp_path / "crosscoder.safetensors"))
    assert again.blocks_ == model.blocks_
    assert_array_equal(again.relative_norms(), model.relative_norms())
    assert pickle.loads(pickle.dumps(model)).blocks_ == model.blocks_
    assert clone(model).fit(X).blocks_ == {"block0": 12}
    with pytest.raises(ValueError, match="not side by side"):
        small(TopKSAE(8, k=2), blocks=None).fit(frame[names[::2] + names[1::2]])
    assert small(TopKSAE(8), blocks=None).fit(frame.rename(columns=str.upper)).blocks_ == {
        "2.MLP_OUT": 4,
        "LAYER7": 8,
    }
    plain = frame.rename(columns={names[0]: "age"})
    assert small(TopKSAE(8, k=2), blocks=None).fit(plain).blocks_ == {"block0": 12}


@each_case(
    "blocks", [0, -1, 1.5, True, "ab", [], {}, [4, 0], [4.0, 8], {1: 4}, {"a": "4"}, [[4], [8]]]
)
def test_blocks_that_are_none(X, blocks):
    with pytest.raises(ValueError, match="'blocks' parameter of Crosscoder must be"):
        small(TopKSAE(8), blocks=blocks).fit(X)


@each_case("blocks", [5, 13, [4, 9], {"a": 12, "b": 1}])
def test_blocks_that_are_not_those_of_the_columns(X, blocks):
    with pytest.raises(ValueError, match="X has 12 columns, which are not the blocks"):
        small(TopKSAE(8), blocks=blocks).fit(X)


def test_a_fit_that_goes_on_keeps_its_blocks(X):
    model = small(TopKSAE(8, k=2), warm_start=True).fit(X)
    assert model.partial_fit(X).blocks_ == {"block0": 4, "block1": 8}
    model.set_params(blocks=[8, 4])
    for fit in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match="continues a fit with the blocks"):
            fit(X)
    assert model.set_params(estimator__warm_start=False).fit(X).blocks_["block0"] == 8


def test_scores(pair):
    model = small(BatchTopKSAE(24, k=3)).fit(pair)
    codes = model.transform(pair)
    reconstructed = model.inverse_transform(codes)
    assert_allclose(reconstructed, codes @ model.components_ + model.intercept_)
    scores, weight = model.block_scores(pair), np.arange(1.0, len(pair) + 1)
    parts = zip(model.split(pair).values(), model.split(reconstructed).values(), strict=True)
    expected = [r2_score(*part, multioutput="variance_weighted") for part in parts]
    assert_allclose(list(scores.values()), expected, rtol=1e-9)
    assert model.score(pair) == np.mean(list(scores.values()))
    assert model.score(pair, sample_weight=weight) != model.score(pair)
    with pytest.raises(ValueError, match=r"has 12 columns. Got shape \(400, 5\)"):
        model.split(pair[:, :5])


def test_early_stopping_and_weights_and_tensors(pair):
    model = small(TopKSAE(8, k=2), early_stopping=True).fit(pair, sample_weight=np.ones(len(pair)))
    assert 0 < model.validation_scores_[-1] <= 1
    even = small(TopKSAE(8, k=2), blocks=2)
    scalings = [
        latent_scaling(clone(even).fit(rows), rows) for rows in (pair, torch.from_numpy(pair))
    ]
    assert_array_equal(scalings[0].norms, scalings[1].norms)
    assert_array_equal(scalings[0].error, scalings[1].error)


def test_in_a_search_and_a_pipeline(pair):
    pipeline = make_pipeline(MaxAbsScaler(), small(BatchTopKSAE(16)))
    search = GridSearchCV(pipeline, {"crosscoder__estimator__k": [0.5, 4]}, cv=2).fit(pair)
    assert search.best_params_ == {"crosscoder__estimator__k": 4}
    assert search.best_estimator_.get_feature_names_out()[0] == "crosscoder0"


def test_taken_apart_and_put_together(pair):
    for estimator in AUTOENCODERS:
        learnt = small(estimator).fit(pair)
        arrays = {name.rstrip("_"): array for name, array in arrays_of(learnt).items()}
        again = fitted(clone(learnt), arrays)
        assert_array_equal(again.transform(pair), learnt.transform(pair))
        assert_array_equal(again.relative_norms(), learnt.relative_norms())
        del arrays["scale"]
        with pytest.raises(ValueError, match="weights that are missing: scale"):
            fitted(clone(learnt), arrays)


def test_what_has_no_blocks_is_refused(X, pair, tmp_path):
    for estimator in (None, small(TopKSAE(8)), Transcoder(TopKSAE(8))):
        with pytest.raises(ValueError, match="'estimator' parameter of Crosscoder must be"):
            Crosscoder(estimator, blocks=2).fit(X)
    with pytest.raises(ValueError, match="'estimator' parameter of Transcoder must be"):
        Transcoder(small(TopKSAE(8))).fit(X, X)
    with pytest.raises(ValueError, match="has no blocks"):
        small(DummySAE(8)).fit(X)
    with pytest.raises(TypeError, match="No format can hold a Crosscoder"):
        write_saelens(tmp_path / "folder", small(TopKSAE(8, k=2)).fit(pair))
