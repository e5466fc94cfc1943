"""Whatever form the same rows come in, the model is the same."""

import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal

from tests.cases import each_case
from tests.estimators import arrays_of, fitted, wide

# Of code that all classes share: two of them stand for it in the default run.
pytestmark = [pytest.mark.usefixtures("unchanged_world"), pytest.mark.costly]


def memmapped(X, tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, X)
    return np.load(path, mmap_mode="r")


def backwards(X):
    return np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]


def columns_of(X):
    return [f"unit{i}" for i in range(X.shape[1])]


FORMS = {
    "read-only memmap": memmapped,
    "negative strides": lambda X, _: backwards(X),
    "big-endian": lambda X, _: X.astype(X.dtype.newbyteorder(">")),
    "Fortran": lambda X, _: np.asfortranarray(X),
    "every second row": lambda X, _: np.repeat(X, 2, axis=0)[::2],
    "broadcast": lambda X, _: np.lib.stride_tricks.as_strided(X, X.shape, X.strides),
    "pandas": lambda X, _: pd.DataFrame(X, columns=columns_of(X)),
    "polars": lambda X, _: pl.DataFrame(dict(zip(columns_of(X), X.T.copy(), strict=True))),
    "CPU tensor": lambda X, _: torch.from_numpy(X.copy()),
    "matrix of objects": lambda X, _: X.astype(object),
}


@each_case("dtype", [np.float32, np.float64])
@each_case("form", [form for form in FORMS if form != "matrix of objects"])
def test_the_form_of_the_input_changes_nothing(SAE, X, form, dtype, tmp_path):
    X = X.astype(dtype)
    settings = {"n_components": 16, "max_iter": 5}
    reference = fitted(SAE, X, **settings)
    given = FORMS[form](X, tmp_path)
    sae = wide(SAE, **settings).fit(given)
    for name, value in arrays_of(reference).items():
        assert_array_equal(getattr(sae, name), value, err_msg=name)
        assert isinstance(value, np.ndarray)
    codes = sae.transform(given)
    assert isinstance(codes, np.ndarray)
    assert codes.dtype == dtype
    assert_array_equal(codes, reference.transform(X))
    assert sae.score(given) == reference.score(X)
    assert_array_equal(sae.partial_fit(given).components_, reference.partial_fit(X).components_)


def test_lists_are_float64_and_integers_and_objects_float32(SAE, X):
    lists = wide(SAE, max_iter=2).fit(X.tolist())
    assert_array_equal(lists.components_, fitted(SAE, X, max_iter=2).components_)
    whole = np.round(10 * X).astype(np.int64)
    integers = wide(SAE, max_iter=2).fit(whole)
    assert integers.components_.dtype == np.float32
    assert integers.transform(whole).dtype == np.float32
    reference = wide(SAE, max_iter=2).fit(whole.astype(np.float32))
    assert_array_equal(integers.components_, reference.components_)
    objects = wide(SAE, max_iter=2).fit(whole.astype(object))
    assert_array_equal(objects.components_, reference.components_)


def test_float16_is_computed_in_float32(SAE, X, tmp_path):
    half = X.astype(np.float16)
    sae = wide(SAE, max_iter=3).fit(memmapped(half, tmp_path))
    reference = wide(SAE, max_iter=3).fit(half.astype(np.float32))
    assert sae.components_.dtype == np.float32
    assert_array_equal(sae.components_, reference.components_)
    codes = sae.transform(half)
    assert codes.dtype == np.float32
    assert_array_equal(codes, reference.transform(half.astype(np.float32)))


def test_a_half_precision_file_is_never_copied_whole(SAE, tmp_path, monkeypatch):
    monkeypatch.setattr("sksae._arrays.CHUNK_ENTRIES", 2**12)
    rows = np.random.default_rng(0).normal(size=(40_000, 32)).astype(np.float16)
    X = memmapped(rows, tmp_path)
    del rows
    sae = wide(SAE, n_components=8, max_iter=1, batch_size=1000, sparse_output=True)
    tracemalloc.start()
    try:
        with sklearn.config_context(assume_finite=True):
            sae.fit(X)
            sae.score(X)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 2.5 MB in the file; batches of 1000 rows take 64 kB, a permutation of the rows 320 kB.
    assert peak < X.nbytes / 2


def test_inputs_are_never_written_to(SAE, X):
    tensor, weight = torch.from_numpy(X.copy()), np.linspace(0.5, 1, len(X))
    kept, kept_weight = X.copy(), weight.copy()
    wide(SAE, max_iter=2).fit(X, sample_weight=weight).transform(X)
    wide(SAE, max_iter=2).fit(tensor)
    with sklearn.config_context(array_api_dispatch=True):
        wide(SAE, max_iter=2).fit(tensor).partial_fit(tensor).transform(tensor)
    assert_array_equal(X, kept)
    assert_array_equal(weight, kept_weight)
    assert_array_equal(tensor.numpy(), kept)


@each_case("dtype", [torch.float32, torch.float64])
def test_tensors_under_dispatch_give_the_model_that_numpy_gives(SAE, X, dtype):
    tensor = torch.from_numpy(X).to(dtype)
    reference = fitted(SAE, tensor.numpy(), max_iter=5)
    with sklearn.config_context(array_api_dispatch=True):
        sae = wide(SAE, max_iter=5).fit(tensor.requires_grad_())
        for name, value in arrays_of(reference).items():
            assert getattr(sae, name).dtype == dtype
            assert not getattr(sae, name).requires_grad
            assert_array_equal(getattr(sae, name).numpy(), value, err_msg=name)
        codes = sae.transform(tensor)
        assert not codes.requires_grad
        assert_array_equal(codes.numpy(), reference.transform(tensor.detach().numpy()))
        rebuilt = sae.inverse_transform(codes)
        assert (type(rebuilt), rebuilt.dtype) == (torch.Tensor, dtype)
        score = sae.score(tensor)
        assert type(score) is float
        assert score == reference.score(tensor.detach().numpy())


def test_tensors_of_training_code_are_taken_as_they_are(SAE, X):
    reference = fitted(SAE, X, max_iter=2)
    sae = wide(SAE, max_iter=2).fit(torch.from_numpy(X).requires_grad_())
    assert_array_equal(sae.components_, reference.components_)
    brain = torch.from_numpy(X).bfloat16()
    single = brain.float().numpy()
    reference = wide(SAE, max_iter=2).fit(single)
    for dispatch in (False, True):
        with sklearn.config_context(array_api_dispatch=dispatch):
            sae = wide(SAE, max_iter=2).fit(brain.requires_grad_())
            codes = sae.transform(brain)
            assert_array_equal(np.asarray(sae.components_), reference.components_)
            assert_array_equal(np.asarray(codes), reference.transform(single))
            assert sae.inverse_transform(codes).shape == X.shape


def test_sparse_output_of_a_tensor_is_refused(SAE, X):
    tensor = torch.from_numpy(X)
    with sklearn.config_context(array_api_dispatch=True):
        sae = wide(SAE, max_iter=2, sparse_output=True).fit(tensor)
        with pytest.raises(ValueError, match="sparse_output=True is available for numpy"):
            sae.transform(tensor)


def test_weights_come_in_any_form(SAE, X):
    weight = np.linspace(0, 2, len(X))
    reference = wide(SAE, max_iter=2).fit(X, sample_weight=weight)
    forms = [
        weight.tolist(),
        pd.Series(weight),
        torch.from_numpy(weight),
        weight[::-1].copy()[::-1],
        weight.astype(">f8"),
    ]
    for form in forms:
        sae = wide(SAE, max_iter=2).fit(X, sample_weight=form)
        assert_array_equal(sae.components_, reference.components_)
        assert_allclose(sae.score(X, sample_weight=form), reference.score(X, sample_weight=weight))
