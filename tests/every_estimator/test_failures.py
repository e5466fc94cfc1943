"""What goes wrong says what was wrong, where, and what to do; and leaves nothing broken."""

import warnings

import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from tests.cases import each_case
from tests.estimators import fitted, wide

pytestmark = pytest.mark.usefixtures("unchanged_world")


@each_case(
    "bad, message",
    [
        (lambda X: np.where(X > 2, np.nan, X), "NaN"),
        (lambda X: np.where(X > 2, np.inf, X), "infinity"),
        (lambda X: np.where(X > 2, np.nan, X).astype(np.float16), "NaN|infinity"),
        (lambda X: X[0], "1D array"),
        (lambda X: X.reshape(20, 20, 12), "a row of each position"),
        (lambda X: X[:0], "0 sample"),
        (lambda X: X[:, :0], "0 feature"),
        (lambda X: X + 1j, "Complex"),
        (lambda X: X.astype(str).astype(object) + "?", "X holds texts"),
        (lambda X: 3.0, "array"),
        (lambda X: None, "array|None"),
    ],
)
def test_bad_rows_are_refused(SAE, X, bad, message):
    sae = wide(SAE, max_iter=1)
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(sae, method)(bad(X))
    assert not hasattr(sae, "components_")
    sae = fitted(SAE, X, max_iter=1)
    for method in (sae.transform, sae.score):
        with pytest.raises(ValueError, match=message + "|features"):
            method(bad(X))


def test_sparse_rows_are_refused(SAE, X):
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        wide(SAE).fit(sparse.csr_array(X))


def test_another_width_is_refused(SAE, X):
    sae = fitted(SAE, X, max_iter=1)
    for method in (sae.transform, sae.score):
        with pytest.raises(ValueError, match=r"X has 5 features, but .* is expecting 12 features"):
            method(X[:, :5])
    with pytest.raises(ValueError, match=r"X has 12 columns.*64 components"):
        sae.inverse_transform(X)
    with pytest.raises(ValueError, match="NaN"):
        sae.inverse_transform(np.full((2, 64), np.nan))


def test_nothing_works_before_the_fit(SAE, X):
    for method in ("transform", "score", "inverse_transform", "get_feature_names_out"):
        with pytest.raises(NotFittedError):
            getattr(wide(SAE), method)(*([X] if method != "get_feature_names_out" else []))


@each_case("dtype", [np.float32, np.float64])
def test_a_loss_that_is_no_number_names_the_learning_rate(SAE, X, dtype):
    sae = wide(SAE, learning_rate=1e200)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        sae.fit(X.astype(dtype))
    assert not hasattr(sae, "components_")
    with pytest.raises(FloatingPointError, match="learning_rate"):
        wide(SAE, learning_rate=1e200).partial_fit(X.astype(dtype)).partial_fit(X.astype(dtype))


def test_rows_too_large_for_arithmetic_are_refused(SAE, X):
    with pytest.raises(ValueError, match=r"too large|infinity"):
        wide(SAE, max_iter=1).fit(1e200 * X)


def test_not_a_number_is_found_without_the_check_of_scikit_learn(SAE, X):
    X[17, 3] = np.nan
    with (
        sklearn.config_context(assume_finite=True),
        pytest.raises(ValueError, match="NaN"),
    ):
        wide(SAE, max_iter=1).fit(X)


def test_codes_that_do_not_fit_in_memory_are_refused_before_they_are_made(SAE, X, monkeypatch):
    sae = fitted(SAE, X, max_iter=1)
    monkeypatch.setattr("sksae._arrays._physical_memory", lambda: 400 * 64 * 8 - 1)
    with pytest.raises(MemoryError, match=r"\(400, 64\).*sparse_output=True"):
        sae.transform(X)
    assert sae.transform(X[1:]).shape == (399, 64)
    assert sae.set_params(sparse_output=True).transform(X).shape == (400, 64)
    assert sae.set_params(sparse_output=False).score(X) < 1


@pytest.mark.filterwarnings("ignore::UserWarning")
@each_case("rows", [1, 2, 3])
def test_few_rows_are_a_fit_or_an_error_that_counts_them(SAE, X, rows):
    sae = wide(SAE, max_iter=3).fit(X[:rows])
    assert np.isfinite(sae.components_).all()
    assert sae.transform(X).shape == (400, 64)
    sae = wide(SAE, max_iter=3, early_stopping=True)
    if rows == 1:
        with pytest.raises(ValueError, match=r"n_samples\s*=\s*1"):
            sae.fit(X[:1])
        with pytest.raises(ValueError, match=r"n_samples\s*=\s*1"):
            sae.fit(X, sample_weight=np.eye(len(X))[0])
        with pytest.raises(ValueError, match="n_samples"):
            sae.set_params(validation_fraction=0.999).fit(X[:2])
    else:
        assert np.isfinite(sae.fit(X[:rows]).validation_scores_).all()


@pytest.mark.costly
@each_case(
    "degenerate",
    [
        lambda X: np.zeros_like(X),
        lambda X: np.ones_like(X),
        lambda X: np.tile(X[:1], (400, 1)),
        lambda X: X * np.eye(12)[0],
        lambda X: np.where(np.arange(400)[:, None] == 3, 1e6, 0.0) * np.ones(12),
        lambda X: X[:, :1],
    ],
)
@each_case("dead_window", [None, 1])
def test_degenerate_rows_are_learnt_and_equal_ones_are_said_to_be(sae, X, degenerate, dead_window):
    rows = degenerate(X)
    sae.set_params(dead_window=dead_window, batch_size=100, max_iter=4)
    equal = (rows == rows[0]).all()
    for dtype in (np.float32, np.float64):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sae.fit(rows.astype(dtype))
        assert [str(w.message)[:24] for w in caught] == ["All rows of X, or all ta"] * int(equal)
        for name in ("components_", "encoder_coef_", "encoder_intercept_", "intercept_"):
            assert np.isfinite(getattr(sae, name)).all(), name
        assert np.isfinite(sae.score(rows.astype(dtype)))


def test_convergence_is_missed_only_where_it_was_asked_for(SAE, X):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wide(SAE, max_iter=2).fit(X)
        wide(SAE, max_iter=100, tol=1e3, n_iter_no_change=2).fit(X)
    with pytest.warns(ConvergenceWarning, match="Increase max_iter"):
        wide(SAE, max_iter=2, tol=1e-9).fit(X)


def test_stopping_on_the_loss_stops(SAE, X):
    sae = wide(SAE, max_iter=100, tol=1e3, n_iter_no_change=3).fit(X)
    assert sae.n_iter_ == len(sae.loss_curve_) == 4


@pytest.mark.costly
def test_early_stopping_scores_every_pass_and_keeps_the_best(SAE, X):
    sae = wide(SAE, max_iter=15, early_stopping=True, n_iter_no_change=5).fit(X)
    scores = np.array(sae.validation_scores_)
    assert len(scores) == sae.n_iter_ == len(sae.loss_curve_)
    assert sae.n_iter_ == 15 or len(scores) - 1 - scores.argmax() == 5
    again = wide(SAE, max_iter=15, early_stopping=True, n_iter_no_change=5).fit(X)
    assert again.validation_scores_ == sae.validation_scores_


@pytest.mark.costly
def test_a_failed_fit_leaves_the_fitted_model_usable(SAE, X):
    sae = fitted(SAE, X)
    before = sae.transform(X)
    sae.set_params(learning_rate=1e200)
    with pytest.raises(FloatingPointError):
        sae.fit(X)
    with pytest.raises(ValueError, match="'max_iter'"):
        sae.set_params(max_iter=0).fit(X)
    assert (sae.transform(X) == before).all()


@pytest.mark.costly
@each_case("exponent", [-126, -118, -100, 90])
def test_rows_of_any_size_are_learnt_alike(SAE, X, exponent):
    """A power of two changes no digit: codes and reconstructions are those times it."""
    X = X.astype(np.float32)
    X -= X.mean(axis=0)
    X = (X / np.float32(2.0**-10)).round() * np.float32(2.0**-10)  # exact below 2 ** -126, too
    size = np.float32(2.0**exponent)
    once, scaled = fitted(SAE, X, max_iter=10), wide(SAE, max_iter=10).fit(X * size)
    assert scaled.score(X * size) == pytest.approx(once.score(X), abs=1e-3)
    codes, expected = scaled.transform(X * size) / size, once.transform(X)
    assert np.abs(codes - expected).max() < 5e-3 * expected.max()


def test_more_codes_than_components_are_all_kept_with_a_warning(SAE, X):
    if "k" not in SAE._param_rules:
        pytest.skip("no k")
    with pytest.warns(UserWarning, match="k=65 is greater than the number of components, 64"):
        sae = wide(SAE, k=65, max_iter=1).fit(X)
    assert sae.k_ == 64
    wide(SAE, k=64, max_iter=1).fit(X)


def test_more_components_than_rows_are_learnt_with_a_warning(SAE, X):
    with pytest.warns(UserWarning, match="learns 64 components from 63 rows") as caught:
        wide(SAE, max_iter=1).fit(X[:63])
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="learns 120 components from 63 rows"):
        wide(SAE, n_components=None, expansion_factor=10, max_iter=1).fit(X[:63])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wide(SAE, max_iter=1).fit(X[:64])
        wide(SAE, n_components=None, max_iter=1).fit(X[:63])  # 32 components


def test_steps_that_were_too_large_are_said_to_be(SAE, X):
    if SAE.__name__ == "GatedSAE":
        pytest.skip("its loss stops being finite first")
    with pytest.warns(ConvergenceWarning, match="Lower learning_rate") as caught:
        sae = wide(SAE, learning_rate=1e3, max_iter=5).fit(X)
    assert sae.score(X) < -1
    assert caught[0].filename == __file__
