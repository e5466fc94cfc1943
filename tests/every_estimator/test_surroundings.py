"""A fit inside of somebody else's torch program: its modes must neither break nor change it."""

from contextlib import contextmanager

import numpy as np
import pytest
import sklearn
import torch
from numpy.testing import assert_array_equal

from sksae.autoencoders._inference import Encoder
from tests.cases import each_case
from tests.estimators import arrays_of, fitted, wide

# Of code that all classes share: two of them stand for it in the default run.
pytestmark = [pytest.mark.usefixtures("unchanged_world"), pytest.mark.costly]


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic_algorithms():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "deterministic algorithms": deterministic_algorithms,
}


@each_case("name", SURROUNDINGS)
def test_modes_of_torch_change_nothing(SAE, X, name):
    X = X.astype(np.float32)
    sae = fitted(SAE, X, max_iter=3, early_stopping=True)
    reference = fitted(SAE, X, max_iter=3, early_stopping=True)
    kept = arrays_of(reference)
    codes, score = reference.transform(X), reference.score(X, sample_weight=np.ones(len(X)))
    rows = reference.inverse_transform(codes)
    with SURROUNDINGS[name]():
        sae.fit(X)
        again, rescored = sae.transform(X), sae.score(X, sample_weight=np.ones(len(X)))
        assert_array_equal(sae.inverse_transform(again), rows)
    for attribute, value in kept.items():
        assert_array_equal(getattr(sae, attribute), value, err_msg=attribute)
    assert_array_equal(again, codes)
    assert rescored == score
    streamed = reference.set_params(early_stopping=False).partial_fit(X).components_
    with SURROUNDINGS[name]():
        assert_array_equal(
            sae.set_params(early_stopping=False).partial_fit(X).components_, streamed
        )


@each_case("mode", [torch.no_grad, torch.inference_mode])
def test_tensors_made_in_a_mode_can_be_learnt_from_outside_of_it(SAE, X, mode):
    reference = fitted(SAE, X, max_iter=2)
    with mode():
        tensor = torch.from_numpy(X) * 1.0
    with sklearn.config_context(array_api_dispatch=True):
        sae = wide(SAE, max_iter=2).fit(tensor)
        assert_array_equal(sae.components_.numpy(), reference.components_)
        assert_array_equal(sae.transform(tensor).numpy(), reference.transform(X))


def test_wide_dictionaries_are_measured_in_chunks(SAE, X, monkeypatch):
    """No array of codes of all rows is made on the way: neither of held-out rows nor of all."""
    seen = []
    monkeypatch.setattr("sksae._arrays.CHUNK_ENTRIES", 20 * 64)

    def watched(method):
        return lambda self, x: seen.append(len(x)) or method(self, x)

    monkeypatch.setattr(Encoder, "__call__", watched(Encoder.__call__))
    monkeypatch.setattr(Encoder, "active", watched(Encoder.active))
    sae = wide(SAE, max_iter=2, early_stopping=True).fit(X)
    sae.transform(X)
    sae.score(X)
    sae.set_params(sparse_output=True).transform(X)
    assert max(seen) == 20
    assert sum(seen) == 360 + 3 * 400
