"""The same seed gives the same bits, whatever else the process does."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils import check_random_state

from sksae.autoencoders._inference import Encoder
from sksae.training import Engine
from tests.cases import each_case
from tests.estimators import arrays_of, fitted, training_orders, wide

# Of code that all classes share: two of them stand for it in the default run.
pytestmark = [pytest.mark.usefixtures("unchanged_world"), pytest.mark.costly]


def assert_same(one, other):
    assert arrays_of(one).keys() == arrays_of(other).keys()
    for name, value in arrays_of(one).items():
        assert_array_equal(getattr(other, name), value, err_msg=name)
    assert one.loss_curve_ == other.loss_curve_


@each_case("dtype", [np.float32, np.float64])
def test_two_fits_are_bit_identical(sae, X, dtype):
    X = X.astype(dtype)
    sae.set_params(batch_size=100, max_iter=3)
    first = clone(sae).fit(X)
    other = clone(sae).fit(X[:37]).fit(X)
    assert_same(first, other)
    assert vars(first).keys() == vars(other).keys()
    assert_same(first, clone(other).fit(X))


def test_global_random_state_neither_moves_nor_matters(SAE, X):
    reference = fitted(SAE, X, max_iter=5)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002 - put back
    try:
        torch.manual_seed(123)
        np.random.seed(123)  # noqa: NPY002 - the legacy state must not matter
        torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        sae = wide(SAE, max_iter=5).fit(X)
        sae.transform(X)
        sae.score(X)
        sae.partial_fit(X)
        assert torch.equal(torch.get_rng_state(), torch_before)
        assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
    assert_same(reference, wide(SAE, max_iter=5).fit(X))


def test_seeds_differ_and_a_random_state_instance_moves_on(SAE, X):
    one = wide(SAE, max_iter=1, random_state=1).fit(X)
    assert np.abs(wide(SAE, max_iter=1, random_state=2).fit(X).components_ - one.components_).max()
    source = check_random_state(1)
    first = wide(SAE, max_iter=1, random_state=source).fit(X)
    assert_same(first, one)
    second = wide(SAE, max_iter=1, random_state=source).fit(X)
    assert np.abs(second.components_ - first.components_).max() > 0.01


def test_the_order_of_the_rows_is_shuffled_anew_every_pass(SAE, X, monkeypatch):
    passes = training_orders(monkeypatch)
    wide(SAE, max_iter=3, device="cpu").fit(X)
    assert len(passes) == 3
    assert all(sorted(order) == list(range(len(X))) for order in passes)
    assert len({tuple(order) for order in passes}) == 3


def test_threads_are_given_back_also_after_an_error(SAE, X, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        sae = wide(SAE, max_iter=2).fit(X)
        sae.transform(X)
        assert torch.get_num_threads() == 2
        with pytest.raises(FloatingPointError):
            wide(SAE, learning_rate=1e200, max_iter=3).fit(X)
        assert torch.get_num_threads() == 2

        def broken(*_):
            raise RuntimeError("broken on purpose")

        monkeypatch.setattr(Engine, "gradient", broken)
        with pytest.raises(RuntimeError, match="on purpose"):
            wide(SAE).fit(X)
        monkeypatch.setattr(Encoder, "__call__", broken)
        with pytest.raises(RuntimeError, match="on purpose"):
            sae.transform(X)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_number_of_threads_changes_no_more_than_rounding(SAE, X):
    before = torch.get_num_threads()
    one = fitted(SAE, X, max_iter=5)
    torch.set_num_threads(2)
    try:
        two = wide(SAE, max_iter=5).fit(X)
    finally:
        torch.set_num_threads(before)
    assert_allclose(two.components_, one.components_, rtol=1e-6, atol=1e-9)


def test_nothing_of_the_data_survives_the_fit(SAE, X):
    sae = wide(SAE, max_iter=2).fit(X)
    for name, value in vars(sae).items():
        if isinstance(value, np.ndarray):
            assert not np.may_share_memory(value, X), name
        assert not isinstance(value, (torch.nn.Module, torch.optim.Optimizer, torch.Generator))
    public = {name for name in vars(sae) if not name.startswith("_")}
    learnt = public - set(sae.get_params())
    assert all(name.endswith("_") for name in learnt)
    assert all(value.flags.c_contiguous for value in arrays_of(sae).values())
    assert all(value.flags.writeable for value in arrays_of(sae).values())


def test_a_second_fit_forgets_the_first(SAE, X):
    sae = wide(SAE, early_stopping=True, max_iter=3).fit(X)
    sae.set_params(early_stopping=False)
    sae.partial_fit(X).fit(X[:, :5])
    fresh = wide(SAE, max_iter=3).fit(X[:, :5])
    assert_same(fresh, sae)
    assert vars(sae).keys() == vars(fresh).keys()
    assert (sae.n_iter_, sae.n_steps_) == (fresh.n_iter_, fresh.n_steps_) == (3, 12)


def test_counts_and_scalars_are_python_numbers(SAE, X):
    sae = wide(SAE, n_components=np.int64(16), max_iter=np.int32(3), batch_size=np.int64(64)).fit(X)
    assert type(sae.n_components_) is type(sae.n_iter_) is type(sae.n_steps_) is int
    assert type(sae.batch_size_) is int
    assert type(sae.learning_rate_) is float
    assert (sae.n_components_, sae.n_iter_, sae.n_steps_) == (16, 3, 3 * 7)
    assert [type(loss) for loss in sae.loss_curve_] == [float] * 3
    for name in ("k_", "alpha_"):
        if hasattr(sae, name):
            assert type(getattr(sae, name)) in (int, float)
