import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from sksae.datasets import _superposition, make_superposition
from tests.cases import each_case, tries


def forest(n_components, n_roots, n_children):
    return np.maximum((np.arange(n_components) - n_roots) // n_children, -1)


def assert_densities(codes, densities, n_sigmas=4.5):
    """Each firing frequency, and the mean L0, within a few standard errors of the truth."""
    n_samples = len(codes)
    error = np.sqrt(np.maximum(densities * (1 - densities), 1e-9) / n_samples)
    assert (np.abs((codes > 0).mean(axis=0) - densities) <= n_sigmas * error).all()
    counts = (codes > 0).sum(axis=1)
    assert abs(counts.mean() - densities.sum()) <= n_sigmas * counts.std() / math.sqrt(n_samples)


def test_toy_a():
    X, dictionary, codes = make_superposition(
        20_000, n_features=16, n_components=32, density=0.05, bias=1.0, random_state=0
    )
    assert X.shape == (20_000, 16)
    assert X.dtype == dictionary.dtype == codes.dtype == np.float32
    assert_densities(codes, np.full(32, 0.05))  # mean L0 is 1.60
    fired = codes[codes > 0]
    assert_allclose([fired.mean(), fired.std()], [1.0, 0.2], atol=0.01)
    bias = (X - codes @ dictionary).mean(axis=0, dtype=np.float64)
    assert_allclose(np.linalg.norm(bias), 1.0, rtol=1e-6)
    assert_allclose(X, codes @ dictionary + bias, atol=2e-6)


def test_toy_b_in_time():
    start = time.process_time()
    X, dictionary, codes = make_superposition(
        50_000, 32, 128, density=0.10, min_density=0.01, density_exponent=0.5, random_state=0
    )
    assert time.process_time() - start < 2
    powers = np.arange(1, 129) ** -0.5
    densities = 0.01 + 0.09 * (powers - powers[-1]) / (1 - powers[-1])
    assert_allclose(densities.sum(), 2.257, atol=1e-3)
    assert_densities(codes, densities)
    assert_allclose(X, codes @ dictionary, atol=2e-6)


@settings(max_examples=tries(30), deadline=None)
@given(
    n_samples=st.integers(1, 40),
    n_features=st.integers(1, 12),
    n_components=st.integers(1, 30),
    density=st.floats(0, 1),
    correlation=st.floats(0, 1),
    orthogonalize=st.booleans(),
    seed=st.integers(0, 99),
)
def test_shapes_norms_and_the_sum(
    n_samples, n_features, n_components, density, correlation, orthogonalize, seed
):
    bias = np.linspace(-1, 1, n_features)
    X, dictionary, codes = make_superposition(
        n_samples,
        n_features,
        n_components,
        density=density,
        correlation=correlation,
        bias=bias,
        orthogonalize=orthogonalize,
        dtype=np.float64,
        random_state=seed,
    )
    assert X.shape == (n_samples, n_features)
    assert dictionary.shape == (n_components, n_features)
    assert codes.shape == (n_samples, n_components)
    assert X.dtype == dictionary.dtype == codes.dtype == np.float64
    assert_allclose(np.linalg.norm(dictionary, axis=1), 1, atol=1e-12)
    assert (codes >= 0).all()
    assert_allclose(X, codes @ dictionary + bias, atol=1e-12)


@each_case("density, fires", [(0.0, False), (1.0, True)])
@each_case("correlation", [0, 0.5, 1])
def test_densities_at_their_ends(density, fires, correlation):
    _, _, codes = make_superposition(
        density=density, correlation=correlation, magnitude_std=0.0, random_state=0
    )
    assert ((codes == 1) == fires).all()


def test_the_same_seed_gives_the_same_bits():
    options = {"correlation": 0.3, "noise": 0.1, "bias": 1.0}
    global_state = np.random.get_state()[1].copy()  # noqa: NPY002, it must not be touched
    first = make_superposition(random_state=3, **options)
    for again in (
        make_superposition(random_state=3, **options),
        make_superposition(random_state=np.random.RandomState(3), **options),
    ):
        for a, b in zip(first, again, strict=True):
            assert_array_equal(a, b)
    other = make_superposition(random_state=4, **options)
    assert all((a != b).any() for a, b in zip(first, other, strict=True))
    assert_array_equal(np.random.get_state()[1], global_state)  # noqa: NPY002, as above


def test_the_dictionary_depends_on_seed_and_shape_alone():
    _, expected, _ = make_superposition(random_state=0)
    _, found, _ = make_superposition(50, density=0.3, noise=1.0, correlation=0.5, random_state=0)
    assert_array_equal(found, expected)


def test_blocks_and_sparse_output(monkeypatch):
    monkeypatch.setattr(_superposition, "BLOCK_SIZE", 1000)
    X, dictionary, codes = make_superposition(sparse_output=True, random_state=0)
    assert isinstance(codes, sparse.csr_array)
    assert codes.dtype == np.float32
    assert (codes.data > 0).all()
    assert_allclose(X, codes @ dictionary, atol=2e-6)
    dense = make_superposition(random_state=0)[2]
    assert_array_equal(codes.toarray(), dense)


def test_directions_are_spread_evenly():
    def squared_cosines(orthogonalize, n_components):
        dictionary = make_superposition(
            1, 16, n_components, orthogonalize=orthogonalize, random_state=0
        )[1].astype(float)
        cosines = dictionary @ dictionary.T - np.eye(n_components)
        return (cosines**2).sum(), np.abs(cosines).max(axis=1).mean()

    (total, nearest), (total_random, nearest_random) = (
        squared_cosines(True, 32),
        squared_cosines(False, 32),
    )
    assert_allclose(total, 32**2 / 16 - 32, rtol=1e-3)  # the least there is
    assert total < 0.6 * total_random
    assert nearest < nearest_random
    assert squared_cosines(True, 12)[0] < 1e-9  # room for all: orthogonal


def test_correlation_raises_co_firing():
    def excess(correlation):
        codes = make_superposition(
            20_000, density=0.05, correlation=correlation, n_factors=3, random_state=0
        )[2]
        assert_densities(codes, np.full(32, 0.05), n_sigmas=5)
        fires = (codes > 0).astype(float)
        together = fires.T @ fires / len(fires)
        return (together - np.outer(together.diagonal(), together.diagonal()))[
            np.triu_indices(32, 1)
        ].mean()

    independent, some, strong = excess(0.0), excess(0.4), excess(0.8)
    assert abs(independent) < 1e-4
    assert 2e-4 < some < strong


def test_a_child_never_fires_without_its_parent():
    n_components = 60
    parents = forest(n_components, n_roots=6, n_children=3)
    densities = 0.4 * np.arange(1, n_components + 1) ** -0.6
    for correlation in (0.0, 0.7):
        X, dictionary, codes = make_superposition(
            20_000,
            16,
            n_components,
            density=densities,
            parents=parents,
            correlation=correlation,
            random_state=0,
        )
        fires = codes > 0
        for child in np.flatnonzero(parents >= 0):
            assert not (fires[:, child] & ~fires[:, parents[child]]).any()
        assert_densities(codes, densities)
        assert_allclose(X, codes @ dictionary, atol=4e-6)


def test_exclusive_siblings_never_fire_together():
    n_components = 40
    parents = forest(n_components, n_roots=4, n_children=3)
    densities = np.full(n_components, 0.4)
    for child in np.flatnonzero(parents >= 0):
        densities[child] = 0.3 * densities[parents[child]]
    _, _, codes = make_superposition(
        20_000, 16, n_components, density=densities, parents=parents, exclusive=True, random_state=0
    )
    fires = codes > 0
    for parent in range(n_components):
        siblings = fires[:, parents == parent]
        assert (siblings.sum(axis=1) <= 1).all()
        assert not (siblings.any(axis=1) & ~fires[:, parent]).any()
    assert_densities(codes, densities)


def test_magnitudes_bias_and_noise():
    magnitude = np.linspace(5, 1, 32)
    bias = np.arange(16.0)
    X, dictionary, codes = make_superposition(
        20_000,
        magnitude=magnitude,
        magnitude_std=0.0,
        bias=bias,
        noise=0.5,
        dtype=np.float64,
        random_state=0,
    )
    assert_allclose(codes, (codes > 0) * magnitude)
    noise = X - codes @ dictionary - bias
    assert_allclose([noise.mean(), noise.std()], [0, 0.5], atol=5e-3)


def test_negative_magnitudes_become_zero():
    _, _, codes = make_superposition(
        density=1.0, magnitude=0.0, magnitude_std=1.0, sparse_output=True, random_state=0
    )
    assert abs(codes.nnz / (1000 * 32) - 0.5) < 0.02
    assert (codes.data > 0).all()


@each_case(
    "parameters, message",
    [
        ({"n_samples": 0}, "n_samples"),
        ({"n_factors": 0}, "n_factors"),
        ({"correlation": 1.5}, "correlation"),
        ({"noise": -1.0}, "noise"),
        ({"dtype": np.int64}, "dtype"),
        ({"density": 1.5}, "between 0 and 1"),
        ({"density": [0.1, 0.2]}, "density must be a finite number or 32"),
        ({"density": 0.1, "min_density": 0.2}, "min_density"),
        ({"density": [0.1] * 32, "min_density": 0.01}, "min_density"),
        ({"min_density": 0.01, "density_exponent": 0.0}, "density_exponent"),
        ({"magnitude": np.nan}, "magnitude"),
        ({"bias": [1.0, 2.0]}, "bias must be a finite number or 16"),
        ({"parents": [-1]}, "32 integers"),
        ({"parents": np.arange(32)}, "before its children"),
        ({"parents": np.full(32, -2)}, "before its children"),
        ({"parents": forest(32, 4, 3), "exclusive": True}, "siblings are denser than"),
        (
            {"parents": forest(32, 4, 3), "density": np.linspace(0.1, 0.2, 32)},
            "Direction 4 is denser than",
        ),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_superposition(**parameters)
