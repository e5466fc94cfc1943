"""A weight counts as that many rows; the unit of the data does not matter."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.cases import each_case
from tests.estimators import arrays_of, fitted, wide

pytestmark = pytest.mark.usefixtures("unchanged_world")

# Sums in another order round differently, and steps amplify it.
NEAR = {"rtol": 1e-6, "atol": 1e-8}


def assert_same_model(one, other, **near):
    for name in ("components_", "intercept_", "encoder_coef_", "encoder_intercept_"):
        assert_allclose(getattr(one, name), getattr(other, name), err_msg=name, **(near or NEAR))
    assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-6)


@pytest.mark.costly
def test_weights_count_as_repeated_rows(sae, X):
    weight = np.random.default_rng(3).integers(0, 4, size=len(X)).astype(float)
    repeated = np.repeat(X, weight.astype(int), axis=0)
    sae.set_params(n_components=64, batch_size=2000)
    weighted = sae.fit(X, sample_weight=weight)
    codes, score = weighted.transform(X), weighted.score(X, sample_weight=weight)
    frequency = weighted.activation_frequency_
    loss, components = weighted.loss_curve_, weighted.components_
    sae.fit(repeated)
    assert_allclose(sae.components_, components, **NEAR)
    assert_allclose(sae.loss_curve_, loss, rtol=1e-8)
    assert_allclose(sae.score(repeated), score, rtol=1e-6)
    assert_allclose(sae.activation_frequency_, frequency, atol=1e-12)
    other = sae.transform(X)
    one, other = (getattr(c, "toarray", lambda c=c: c)() for c in (codes, other))
    assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_rows_of_weight_zero_are_not_there(SAE, X):
    weight = np.ones(len(X))
    weight[::3] = 0
    poisoned = X.copy()
    poisoned[::3] = 1e6
    one = wide(SAE, max_iter=5).fit(poisoned, sample_weight=weight)
    other = wide(SAE, max_iter=5).fit(X[weight > 0])
    assert_array_equal(one.components_, other.components_)
    assert one.loss_curve_ == other.loss_curve_
    assert one.n_steps_ == other.n_steps_


@pytest.mark.costly
def test_only_the_ratios_of_the_weights_matter(SAE, X):
    weight = np.random.default_rng(0).exponential(size=len(X))
    reference = wide(SAE, max_iter=5).fit(X, sample_weight=weight)
    for unit in (7.0, 1e-12, 1e12):
        assert_same_model(wide(SAE, max_iter=5).fit(X, sample_weight=unit * weight), reference)
    reference = wide(SAE, max_iter=5).fit(X.astype(np.float32), sample_weight=weight)
    for unit in (1e-42, 1e-300, 1e38, 1e300):
        single = wide(SAE, max_iter=5).fit(X.astype(np.float32), sample_weight=unit * weight)
        assert_same_model(single, reference, rtol=1e-3, atol=1e-4)
        assert np.isfinite(single.score(X.astype(np.float32), sample_weight=unit * weight))


def test_weights_below_all_precision_are_no_weights(SAE, X):
    weight = np.where(np.arange(len(X)) < 100, 1.0, 1e-60)
    sae = wide(SAE, max_iter=5).fit(X.astype(np.float32), sample_weight=weight)
    assert_array_equal(
        sae.components_, wide(SAE, max_iter=5).fit(X[:100].astype(np.float32)).components_
    )


def test_equal_weights_are_no_weights(SAE, X):
    weighted = wide(SAE, max_iter=5).fit(X, sample_weight=np.full(len(X), 3.0))
    assert_same_model(weighted, fitted(SAE, X, max_iter=5))


@pytest.mark.costly
def test_weights_matter_beyond_one_batch(SAE, X):
    """Statistically: rows of one half weigh 50 times those of the other."""
    half = np.arange(len(X)) % 2
    X[half == 1] = 3 * np.roll(X[half == 1], 5, axis=1)
    weight = np.where(half == 1, 50.0, 1.0)
    settings = {"n_components": 24, "max_iter": 60, "learning_rate": 3e-3}
    heavy = wide(SAE, **settings).fit(X, sample_weight=weight)
    repeated = np.repeat(X, np.where(half == 1, 50, 1), axis=0)
    rows = np.random.default_rng(0).permutation(len(repeated))[: len(X)]
    sampled = wide(SAE, **settings).fit(repeated[rows])
    light = wide(SAE, **settings).fit(X, sample_weight=50 / weight)
    own, other = X[half == 1], X[half == 0]
    assert heavy.score(own) - heavy.score(other) > light.score(own) - light.score(other) + 0.05
    assert abs(heavy.score(own) - sampled.score(own)) < 0.15


@each_case(
    "weight, message",
    [
        (np.zeros(400), "zero"),
        (-np.ones(400), "negative"),
        (np.ones(399), "sample_weight"),
        (np.ones((400, 1)), "sample_weight"),
        (np.full(400, np.nan), "sample_weight"),
        (np.full(400, np.inf), "sample_weight"),
        (["heavy"] * 400, "."),
    ],
)
def test_impossible_weights_are_refused(SAE, X, weight, message):
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(wide(SAE, max_iter=1), method)(X, sample_weight=weight)
    sae = fitted(SAE, X, max_iter=1)
    with pytest.raises(ValueError, match=message):
        sae.score(X, sample_weight=weight)


@pytest.mark.costly
@each_case("normalize", ["rms", "anthropic", "unit"])
def test_the_unit_of_the_data_does_not_matter(sae, X, normalize):
    """fit(a X + c) is the model of X, moved; without centring, for c = 0."""
    sae.set_params(n_components=64, batch_size=100, max_iter=3, normalize=normalize)
    sae.set_params(sparse_output=False)
    shift = np.arange(12.0) if normalize == "rms" else np.zeros(12)
    components, intercept = sae.fit(X).components_, sae.intercept_
    codes, score, loss = sae.transform(X), sae.score(X), sae.loss_curve_
    for factor in (1e-3, 1e4):
        moved = factor * X + factor * shift
        sae.fit(moved)
        assert_allclose(sae.components_, components, rtol=1e-6, atol=1e-8)
        assert_allclose(sae.intercept_, factor * (intercept + shift), rtol=1e-6, atol=1e-8 * factor)
        assert_allclose(sae.transform(moved), factor * codes, rtol=1e-6, atol=1e-8 * factor)
        assert sae.score(moved) == pytest.approx(score, rel=1e-7, abs=1e-10)
        assert_allclose(sae.loss_curve_, loss, rtol=1e-7)


@pytest.mark.costly
@each_case("factor", [1e-280, 1e-200, 1e-150, 1e150])
def test_extreme_units_are_learnt_as_well_in_double_precision(SAE, X, factor):
    reference = fitted(SAE, X, max_iter=10).score(X)
    assert wide(SAE, max_iter=10).fit(X * factor).score(X * factor) == pytest.approx(
        reference, abs=0.05
    )


@pytest.mark.costly
@each_case("normalize", ["rms", "anthropic", "unit", None])
@each_case("dtype, factor", [(np.float32, 1e-40), (np.float64, 1e-310)])
def test_rows_that_are_nothing_but_rounding_are_a_fit(SAE, X, dtype, factor, normalize):
    rows = (X * factor).astype(dtype)
    sae = wide(SAE, max_iter=2, normalize=normalize).fit(rows)
    assert all(np.isfinite(value).all() for value in arrays_of(sae).values())
    # Without a scale the weights are much larger than such rows: no better than any other error.
    assert sae.score(rows) <= 1


@pytest.mark.costly
@each_case("factor", [1e-30, 1e-12, 1e12, 1e18])
def test_extreme_units_are_learnt_as_well_in_single_precision(SAE, X, factor):
    reference = fitted(SAE, X.astype(np.float32), max_iter=10).score(X.astype(np.float32))
    scaled = (X * factor).astype(np.float32)
    sae = wide(SAE, max_iter=10).fit(scaled)
    assert np.isfinite(sae.components_).all()
    assert sae.score(scaled) == pytest.approx(reference, abs=0.05)


@pytest.mark.costly
def test_a_far_offset_is_learnt_as_well(SAE, X):
    reference = fitted(SAE, X).score(X)
    assert wide(SAE).fit(X + 1e6).score(X + 1e6) == pytest.approx(reference, abs=1e-3)
