"""Transcoder: fixture TC of the objective, the fold of two units, and what users do with it."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_regressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksae import (
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    SparseAutoencoder,
    TopKSAE,
    Transcoder,
)
from sksae.autoencoders import fitted
from sksae.metrics import explained_variance_scorer, neg_l0_scorer
from sksae.training import Batches, Normalization, _engine
from tests.autoencoders.fixture_a import (
    ENCODER,
    ENCODER_INTERCEPT,
    X,
    assert_close,
    loss_and_gradients,
    tensor,
)
from tests.cases import each_case, tries
from tests.estimators import arrays_of

AUTOENCODERS = [TopKSAE, BatchTopKSAE, SparseAutoencoder, JumpReLUSAE, GatedSAE]
TARGETS = tensor([[0.5, 1, -0.5], [1, 0, 0.25]])
SKIP = tensor([[0.2, 0], [0, -0.1], [0.1, 0.1]])


def weights(**more):
    values = {
        "components": tensor([[0.5, 0, 0.5], [0, 1, -0.2], [0.3, 0.3, 0.3]]),
        "encoder_coef": ENCODER,
        "encoder_intercept": ENCODER_INTERCEPT,
        "intercept": tensor([0.1, -0.1, 0.2]),
        **more,
    }
    return {name: value.clone().requires_grad_() for name, value in values.items()}


@pytest.fixture
def pairs():
    """A rectified linear layer of eight inputs and five outputs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 8)) + 1
    return X, np.maximum(X @ rng.normal(size=(8, 12)) - 0.5, 0) @ rng.normal(size=(12, 5))


def small(autoencoder=TopKSAE, *, skip=False, **more):
    settings = {"max_iter": 20, "batch_size": 512, "random_state": 0}
    if "k" in autoencoder._param_rules:
        settings["k"] = 4
    return Transcoder(autoencoder(24, **{**settings, **more}), skip=skip)


def test_objective():
    rows = torch.cat([X, TARGETS], 1)
    loss, codes, g = loss_and_gradients(Transcoder(TopKSAE(k=1)), weights(), x=rows)
    assert_close(codes, [[0, 1.8, 0], [0, 0.55, 0]])
    assert_close(loss, 0.90185)
    assert_close(g["encoder_coef"], [[0, 0], [0.15, 1.505], [0, 0]])
    assert_close(g["encoder_intercept"], [0, 1.114, 0])
    assert_close(g["components"], [[0, 0, 0], [-1.215, 1.5075, 0.524], [0, 0, 0]])
    assert_close(g["intercept"], [-1.3, 1.15, 0.18])


def test_objective_with_a_skip_connection():
    rows = torch.cat([X, TARGETS], 1)
    w = weights(skip_coef=SKIP)
    loss, codes, g = loss_and_gradients(Transcoder(TopKSAE(k=1), skip=True), w, x=rows)
    assert_close(codes, [[0, 1.8, 0], [0, 0.55, 0]])
    assert_close(loss, 1.05685)
    assert_close(g["encoder_coef"], [[0, 0], [-0.07, 0.965], [0, 0]])
    assert_close(g["encoder_intercept"], [0, 0.814, 0])
    assert_close(g["components"], [[0, 0, 0], [-0.965, 1.12, 1.0365], [0, 0, 0]])
    assert_close(g["intercept"], [-1.3, 0.9, 0.43])
    assert_close(g["skip_coef"], [[0.9, -0.95], [0.1, 1.2], [0.85, 1.175]])


def test_predictions_of_the_fixture():
    for skip, expected in [
        (None, [[0.1, 1.7, -0.16], [0.1, 0.45, 0.09]]),
        (SKIP, [[0.3, 1.5, 0.14], [-0.1, 0.4, 0.04]]),
    ]:
        arrays = weights() if skip is None else weights(skip_coef=skip)
        arrays = {name: value.detach().numpy() for name, value in arrays.items()}
        model = fitted(Transcoder(TopKSAE(3, k=1), skip=skip is not None), arrays)
        assert_close(model.transform(X.numpy()), [[0, 1.8, 0], [0, 0.55, 0]])
        assert_close(model.predict(X.numpy()), expected)
        assert model.n_features_in_ == 2


@settings(max_examples=tries(50), deadline=None)
@given(seed=st.integers(0, 10**6), scales=st.tuples(st.floats(1e-2, 1e2), st.floats(1e-2, 1e2)))
def test_fold_and_unfold_of_two_units_are_the_same_function(seed, scales):
    rng = np.random.default_rng(seed)
    d, t, m = (int(n) for n in rng.integers(1, 7, size=3))
    mean = torch.from_numpy(rng.normal(size=d + t))
    unit = Normalization(mean, tensor([scales[0]] * d + [scales[1]] * t))
    shapes = {"components": (m, t), "encoder_coef": (m, d), "encoder_intercept": m}
    shapes |= {"intercept": t, "skip_coef": (t, d), "threshold": m}
    w = {name: torch.from_numpy(rng.normal(size=shape)) for name, shape in shapes.items()}
    w["threshold"] = w["threshold"].abs()
    rows = torch.from_numpy(rng.normal(size=(20, d)))

    x = (rows - mean[:d]) * scales[0]
    z = x @ w["encoder_coef"].T + w["encoder_intercept"]
    codes = torch.where(z > w["threshold"], z, 0.0)
    expected = codes @ w["components"] + w["intercept"] + x @ w["skip_coef"].T
    expected = expected / scales[1] + mean[d:]

    objective = Transcoder(JumpReLUSAE(alpha=1.0), skip=True)._make_objective(d, m, t)
    folded = objective.fold(w, unit)
    z = rows @ folded["encoder_coef"].T + folded["encoder_intercept"]
    codes = torch.where(z > folded["threshold"], z, 0.0)
    actual = codes @ folded["components"] + folded["intercept"] + rows @ folded["skip_coef"].T
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-8)
    again = objective.fold(objective.unfold(folded, unit), unit)
    for name, value in folded.items():
        torch.testing.assert_close(again[name], value, rtol=1e-8, atol=1e-8)


def test_inputs_and_targets_are_normalised_apart(pairs):
    X, Y = pairs
    rows = Batches(X, None, 100, torch.float64, "cpu", targets=Y)
    unit = Normalization.from_rows(rows, "rms")
    x, _ = rows.normalize(unit).take(torch.arange(500))
    assert_allclose(x.mean(0), 0, atol=1e-12)
    assert_allclose((x[:, :8] ** 2).sum(1).mean(), 8)
    assert_allclose((x[:, 8:] ** 2).sum(1).mean(), 5)
    alone = Normalization.from_rows(Batches(X, None, 100, torch.float64, "cpu"), "rms")
    assert unit.part(slice(0, 8)).scale == alone.scale


@pytest.mark.parametrize("skip", [False, True], ids=["codes alone", "skip"])
@pytest.mark.parametrize("autoencoder", AUTOENCODERS)
def test_the_fast_form_takes_the_steps_of_the_definition(pairs, autoencoder, skip, monkeypatch):
    X, Y = pairs
    model = small(autoencoder, skip=skip, batch_size=100, max_iter=5, dead_window=150)
    fast = clone(model).fit(X, Y)
    monkeypatch.setattr(_engine, "runs_on", lambda device: False)
    plain = model.fit(X, Y)
    assert_allclose(fast.loss_curve_, plain.loss_curve_, rtol=1e-9)
    for name, array in arrays_of(plain).items():
        assert_allclose(getattr(fast, name), array, rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("skip", [False, True], ids=["codes alone", "skip"])
@pytest.mark.parametrize("autoencoder", AUTOENCODERS)
def test_predict_is_what_the_attributes_say(pairs, autoencoder, skip):
    X, Y = pairs
    model = small(autoencoder, skip=skip).fit(X, Y)
    codes = model.transform(X)
    assert codes.shape == (500, 24)
    assert (codes >= 0).all()
    expected = codes @ model.components_ + model.intercept_
    if skip:
        expected += X @ model.skip_coef_.T
    assert_allclose(model.predict(X), expected, rtol=1e-9, atol=1e-9)
    assert_allclose(np.linalg.norm(model.components_, axis=1), 1)
    pooled = r2_score(Y, model.predict(X), multioutput="variance_weighted")
    assert_allclose(model.score(X, Y), pooled, rtol=1e-12)
    z = X @ model.encoder_coef_.T + model.encoder_intercept_
    assert_allclose(codes[codes > 0], z[codes > 0], rtol=1e-9)
    assert is_regressor(model)


@pytest.mark.parametrize("autoencoder", AUTOENCODERS)
def test_units_do_not_matter(pairs, autoencoder):
    """Codes are in the unit of y; predictions follow y through any shift and scale of X and y."""
    X, Y = pairs
    model = small(autoencoder, max_iter=5)
    first = clone(model).fit(X, Y)
    second = model.fit(3 * X - 7, 0.5 * Y + 2)
    assert_allclose(second.transform(3 * X - 7), 0.5 * first.transform(X), rtol=1e-6, atol=1e-8)
    assert_allclose(second.predict(3 * X - 7), 0.5 * first.predict(X) + 2, rtol=1e-6, atol=1e-8)


def test_a_layer_is_learnt_better_than_a_line(pairs):
    X, Y = pairs
    line = LinearRegression().fit(X, Y)
    pooled = r2_score(Y, line.predict(X), multioutput="variance_weighted")
    model = Transcoder(TopKSAE(48, k=8, max_iter=600, batch_size=512, random_state=0)).fit(X, Y)
    assert pooled < 0.95 < 0.985 < model.score(X, Y)


def test_the_skip_connection_learns_what_is_linear():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(400, 6)) + 3
    Y = X @ rng.normal(size=(4, 6)).T - 1
    codes, both = (
        Transcoder(TopKSAE(1, k=1, max_iter=500, batch_size=512, random_state=0), skip=skip)
        .fit(X, Y)
        .score(X, Y)
        for skip in (False, True)
    )
    assert codes < 0.6 < 0.99 < both


def test_one_target(pairs):
    X, Y = pairs
    single = small().fit(X, Y[:, 0])
    column = small().fit(X, Y[:, :1])
    assert single.predict(X).shape == (500,)
    assert column.predict(X).shape == (500, 1)
    assert_array_equal(single.predict(X), column.predict(X)[:, 0])
    assert single.single_target_
    assert not column.single_target_


def test_codes_alone_predict_only_without_a_skip_connection(pairs):
    X, Y = pairs
    model = small().fit(X, Y)
    assert_allclose(model.inverse_transform(model.transform(X)), model.predict(X), rtol=1e-12)
    skipping = small(skip=True).fit(X, Y)
    assert not hasattr(skipping, "inverse_transform")
    with pytest.raises(AttributeError, match="inverse_transform"):
        skipping.inverse_transform(skipping.transform(X))


@pytest.mark.parametrize("autoencoder", AUTOENCODERS)
def test_integer_weights_are_repetitions(pairs, autoencoder):
    X, Y = (array[:60] for array in pairs)
    weight = np.arange(60) % 3
    index = np.repeat(np.arange(60), weight)
    model = small(autoencoder, normalize="rms", max_iter=5, dead_window=100)
    weighted = clone(model).fit(X, Y, sample_weight=weight)
    repeated = model.fit(X[index], Y[index])
    assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-6, atol=1e-8)


def test_a_stream(pairs):
    """A copy of the stream's state continues as the original, and training goes somewhere."""
    X, Y = pairs
    model = small(skip=True, batch_size=100)
    for _ in range(3):
        model.partial_fit(X, Y)
    twin = pickle.loads(pickle.dumps(model))
    for sae in (model, twin):
        sae.partial_fit(X, Y)
    assert_array_equal(model.predict(X), twin.predict(X))
    assert (model.n_iter_, model.n_steps_) == (4, 20)
    before = model.score(X, Y)
    for _ in range(30):
        model.partial_fit(X, Y)
    assert model.score(X, Y) > before
    with pytest.raises(ValueError, match=r"y has 4 targets, but this Transcoder was fitted with 5"):
        model.partial_fit(X, Y[:, :4])


def test_a_warm_start_goes_on(pairs):
    X, Y = pairs
    model = small(SparseAutoencoder, skip=True, warm_start=True).fit(X, Y)
    predicted, score = model.predict(X), model.score(X, Y)
    model.set_params(estimator__learning_rate=1e-12, estimator__max_iter=1).fit(X, Y)
    assert_allclose(model.predict(X), predicted, rtol=1e-6, atol=1e-7)
    model.set_params(
        estimator__learning_rate=None, estimator__max_iter=200, estimator__batch_size=512
    ).fit(X, Y)
    assert model.score(X, Y) > score
    assert model.n_iter_ == 221


def test_another_autoencoder_leaves_nothing_of_the_first(pairs):
    X, Y = pairs
    model = small(GatedSAE, skip=True).fit(X, Y)
    model.set_params(estimator=small(k=2).estimator, skip=False).fit(X, Y)
    assert not {"threshold_", "gain_", "gate_intercept_", "skip_coef_", "alpha_"} & set(vars(model))
    assert ((model.transform(X) > 0).sum(1) <= 2).all()
    fresh = small(k=2).fit(X, Y)
    assert_array_equal(model.predict(X), fresh.predict(X))


def test_another_autoencoder_cannot_continue(pairs):
    X, Y = pairs
    for first, fit in [
        (small(warm_start=True).fit(X, Y), "fit"),
        (small().partial_fit(X, Y), "partial_fit"),
    ]:
        first.set_params(estimator=small(GatedSAE, warm_start=True).estimator)
        before = vars(first).copy()
        with pytest.raises(ValueError, match=r"continues a fit with other .* no gate_intercept"):
            getattr(first, fit)(X, Y)
        assert vars(first) == before


def test_an_asked_l0_is_met(pairs):
    X, Y = pairs
    model = Transcoder(
        JumpReLUSAE(48, target_l0=3, max_iter=300, batch_size=512, random_state=0)
    ).fit(X, Y)
    assert 2.5 <= (model.transform(X) > 0).sum(1).mean() <= 3.5
    assert model.score(X, Y) > 0.9


def test_early_stopping_scores_the_targets(pairs):
    X, Y = pairs
    model = small(early_stopping=True, max_iter=8).fit(X, Y)
    assert len(model.validation_scores_) == 8
    assert model.validation_scores_[0] < max(model.validation_scores_) <= 1


def test_kinds_of_input(pairs, tmp_path):
    X, Y = (array.astype(np.float16).astype(np.float32) for array in pairs)
    expected = small(batch_size=100).fit(X, Y)
    maps = []
    for name, array in [("x", X), ("y", Y)]:
        np.save(tmp_path / f"{name}.npy", array.astype(np.float16))
        maps.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    frame = pd.DataFrame(Y, columns=list("abcde"))
    for a, b in [maps, (X, frame), (X, torch.from_numpy(Y)), (X, Y.astype(np.float64))]:
        assert_array_equal(small(batch_size=100).fit(a, b).components_, expected.components_)
    assert expected.predict(X).dtype == np.float32


def test_in_a_search_and_a_pipeline(pairs):
    X, Y = pairs
    pipeline = make_pipeline(StandardScaler(), small())
    search = GridSearchCV(pipeline, {"transcoder__estimator__k": [1, 6]}, cv=3).fit(X, Y)
    assert search.best_params_ == {"transcoder__estimator__k": 6}
    assert search.predict(X).shape == Y.shape
    names = search.best_estimator_.get_feature_names_out()
    assert names[0] == "transcoder0"
    frame = small().set_output(transform="pandas").fit(X, Y).transform(X)
    assert list(frame.columns[:2]) == ["transcoder0", "transcoder1"]


def test_wrong_input(pairs):
    X, Y = pairs
    for y, message in [
        (None, "requires y"),
        (Y[:-1], "inconsistent numbers of samples"),
        (np.where(Y.max() == Y, np.nan, Y), "Input y contains NaN"),
        (Y[:, :, None], r"y has shape \(500, 5, 1\)"),
        (np.full(500, "a"), "y holds texts"),
    ]:
        with pytest.raises(ValueError, match=message):
            small().fit(X, y)
    with pytest.raises(ValueError, match="'k' parameter"):
        small(k=2.5).fit(X, Y)
    for other in (LinearRegression(), TopKSAE, small(), None):
        with pytest.raises(ValueError, match="'estimator' parameter of Transcoder"):
            Transcoder(other).fit(X, Y)
    with pytest.raises(ValueError, match="target_l0"):
        small(SparseAutoencoder, target_l0=3).partial_fit(X, Y)
    with pytest.raises(ValueError, match="has 7 features"):
        small().fit(X, Y).predict(X[:, :7])


def test_taken_apart_and_put_together(pairs):
    X, Y = pairs
    for autoencoder in AUTOENCODERS:
        learnt = small(autoencoder, skip=True).fit(X, Y)
        arrays = {name.rstrip("_"): array for name, array in arrays_of(learnt).items()}
        again = fitted(clone(learnt), arrays)
        assert_array_equal(again.predict(X), learnt.predict(X))
        assert_array_equal(again.transform(X), learnt.transform(X))
        without = clone(learnt).set_params(skip=False)
        with pytest.raises(ValueError, match="no such weights: skip_coef"):
            fitted(without, arrays)
    with pytest.raises(ValueError, match=r"intercept has shape \(4,\)"):
        fitted(clone(learnt), {**arrays, "intercept": arrays["intercept"][:4]})


def test_scorers_of_reconstructions_say_what_to_use(pairs):
    X, Y = pairs
    model = small().fit(X, Y)
    with pytest.raises(TypeError, match=r"its own score\(X, y\)"):
        explained_variance_scorer(model, X)
    assert neg_l0_scorer(model, X) == -(model.transform(X) > 0).sum(1).mean()


@each_case(
    "dtype, scale",
    [("f4", 1), ("f4", 2.0**100), ("f4", 2.0**-100), ("f8", 2.0**600), ("f8", 2.0**-600)],
)
@each_case("weighted", [False, True])
def test_the_score_is_summed_in_float64_at_every_scale(dtype, scale, weighted):
    """Targets 4096 +- 1 predicted by 4095.5: 1 - 1.25 / 1, or 1 - 7 / 3 with weights 3 and 1."""
    n = 200_000
    y = np.tile(np.array([4097, 4095], dtype) * dtype_scale(scale, dtype), n // 2)
    X = np.ones((n, 1), dtype)
    weights = {
        "components": np.ones((1, 1), dtype),
        "encoder_coef": -np.ones((1, 1), dtype),
        "encoder_intercept": np.zeros(1, dtype),
        "intercept": np.array([4095.5], dtype) * dtype_scale(scale, dtype),
    }
    predicting = fitted(Transcoder(SparseAutoencoder(1)), weights)
    reconstructing = fitted(SparseAutoencoder(1), weights)
    weight = np.tile([3.0, 1.0], n // 2) if weighted else None
    expected = 1 - 7 / 3 if weighted else -0.25
    assert_allclose(predicting.score(X, y, sample_weight=weight), expected, rtol=1e-9)
    score = reconstructing.score(y[:, None], sample_weight=weight)
    assert_allclose(score, expected, rtol=1e-9)
    assert predicting.score(X, np.full_like(y, weights["intercept"][0])) == 1


def dtype_scale(scale, dtype):
    return np.dtype(dtype).type(scale)


def test_a_score_without_targets_or_with_others_is_refused(pairs):
    X, Y = pairs
    model = small().fit(X, Y)
    with pytest.raises(ValueError, match="requires y to be passed"):
        model.score(X)
    with pytest.raises(ValueError, match=r"y has 1 targets, but this Transcoder was fitted with"):
        model.score(X, Y[:, 0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.score(X, Y[:-1])
    constant = np.full_like(Y, 0.1)
    assert model.score(X, constant) == 0
