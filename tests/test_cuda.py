"""On a CUDA device: the model of the CPU, the same bits every time, pickles that load anywhere."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal

from tests.estimators import arrays_of, wide

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("unchanged_world"),
]

# Other kernels sum in another order: the difference grows with the steps, slowly in float64.
NEAR = {np.float64: {"rtol": 1e-6, "atol": 1e-8}, np.float32: {"rtol": 1e-2, "atol": 2e-3}}
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@each_dtype
def test_the_model_is_that_of_the_cpu(SAE, X, dtype):
    X = X.astype(dtype)
    cpu = wide(SAE, max_iter=5, device="cpu").fit(X)
    cuda = wide(SAE, max_iter=5, device="cuda").fit(X)
    for name, value in arrays_of(cpu).items():
        if name != "activation_frequency_":
            assert_allclose(getattr(cuda, name), value, err_msg=name, **NEAR[dtype])
            assert isinstance(getattr(cuda, name), np.ndarray)
    assert_allclose(cuda.loss_curve_, cpu.loss_curve_, rtol=1e-3)
    assert_allclose(cuda.activation_frequency_, cpu.activation_frequency_, atol=0.05)


@each_dtype
def test_codes_and_scores_are_those_of_the_cpu(SAE, X, dtype):
    X = X.astype(dtype)
    sae = wide(SAE, device="cpu").fit(X)
    codes, score = sae.transform(X), sae.score(X)
    sae.set_params(device="cuda")
    near = {"rtol": 1e-3, "atol": 1e-4} if dtype is np.float32 else {"rtol": 1e-9, "atol": 1e-10}
    assert_allclose(sae.transform(X), codes, **near)
    assert sae.score(X) == pytest.approx(score, rel=1e-4)
    sparse = sae.set_params(sparse_output=True).transform(X)
    assert_array_equal(sparse.toarray(), sae.set_params(sparse_output=False).transform(X))


@each_dtype
def test_two_fits_are_bit_identical(sae, X, dtype):
    X = X.astype(dtype)
    sae.set_params(device="cuda", batch_size=100, n_components=64)
    first = sklearn.clone(sae).fit(X)
    second = sklearn.clone(sae).fit(X)
    for name, value in arrays_of(first).items():
        assert_array_equal(getattr(second, name), value, err_msg=name)
    assert first.loss_curve_ == second.loss_curve_


@each_dtype
def test_a_row_does_not_depend_on_the_others(SAE, X, dtype):
    X = X.astype(dtype)
    sae = wide(SAE, device="cuda").fit(X)
    whole = sae.transform(X)
    near = {"rtol": 1e-4, "atol": 5e-5} if dtype is np.float32 else {"rtol": 1e-7, "atol": 1e-10}
    assert_allclose(np.vstack([sae.transform(row[None]) for row in X[:50]]), whole[:50], **near)
    order = np.random.default_rng(0).permutation(len(X))
    assert_allclose(sae.transform(X[order]), whole[order], **near)


def test_auto_takes_the_device(SAE, X):
    auto, cuda = wide(SAE, max_iter=2).fit(X), wide(SAE, max_iter=2, device="cuda").fit(X)
    assert_array_equal(auto.components_, cuda.components_)


@each_dtype
def test_tensors_stay_on_the_device_under_dispatch(SAE, X, dtype):
    tensor = torch.from_numpy(X.astype(dtype)).cuda()
    kept = tensor.clone()
    weight = np.linspace(0.5, 1, len(X))
    with sklearn.config_context(array_api_dispatch=True):
        sae = wide(SAE).fit(tensor, sample_weight=weight)
        assert all(value.is_cuda for value in arrays_of(sae).values())
        codes = sae.transform(tensor)
        assert codes.is_cuda
        assert codes.dtype == tensor.dtype
        assert sae.inverse_transform(codes).is_cuda
        assert type(sae.score(tensor)) is float
        sae.partial_fit(tensor, sample_weight=torch.from_numpy(weight).cuda())
        assert sae.components_.is_cuda
        with pytest.raises(ValueError, match="namespace"):
            sae.transform(X)
        with pytest.raises(ValueError, match="'device' parameter"):
            sae.set_params(device="cpu").transform(tensor)
    assert torch.equal(tensor, kept)


def test_a_model_of_tensors_equals_that_of_numpy(SAE, X):
    reference = wide(SAE, device="cuda").fit(X)
    with sklearn.config_context(array_api_dispatch=True):
        sae = wide(SAE).fit(torch.from_numpy(X).cuda())
    for name, value in arrays_of(reference).items():
        assert_array_equal(getattr(sae, name).cpu().numpy(), value, err_msg=name)


@pytest.mark.parametrize("tensors", [False, True])
def test_a_pickle_loads_without_a_device(SAE, X, tmp_path, tensors):
    rows = torch.from_numpy(X).cuda() if tensors else X
    with sklearn.config_context(array_api_dispatch=tensors):
        sae = wide(SAE, device="auto").fit(rows)
        stream = wide(SAE, device="auto").partial_fit(rows)
        codes = sae.transform(rows)
    codes = codes.cpu().numpy() if tensors else codes
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps((sae, stream, X, codes, tensors)))
    code = f"""
import pickle, numpy as np, sklearn, torch
assert not torch.cuda.is_available()
sae, stream, X, codes, tensors = pickle.load(open({str(path)!r}, "rb"))
with sklearn.config_context(array_api_dispatch=tensors):
    rows = torch.from_numpy(X) if tensors else X
    np.testing.assert_allclose(np.asarray(sae.transform(rows)), codes, rtol=1e-7, atol=1e-9)
    stream.partial_fit(rows)
assert np.isfinite(np.asarray(stream.components_)).all()
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_a_stream_moves_between_devices(SAE, X):
    reference = wide(SAE, device="cpu").partial_fit(X).partial_fit(X)
    sae = wide(SAE, device="cuda").partial_fit(X)
    sae.set_params(device="cpu").partial_fit(X)
    assert_allclose(sae.components_, reference.components_, rtol=1e-5, atol=1e-7)


def test_no_memory_of_the_device_survives(SAE, X):
    wide(SAE, max_iter=1, device="cuda").fit(X)
    before = torch.cuda.memory_allocated()
    sae = wide(SAE, max_iter=1, device="cuda").fit(X)
    sae.transform(X)
    assert torch.cuda.memory_allocated() == before


def test_random_state_of_the_device_is_not_touched(SAE, X):
    before = torch.cuda.get_rng_state()
    wide(SAE, max_iter=1, device="cuda").fit(X).transform(X)
    assert torch.equal(torch.cuda.get_rng_state(), before)
