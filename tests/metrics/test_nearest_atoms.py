import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics.pairwise import cosine_similarity

from sksae.metrics import _dictionaries, nearest_atoms
from tests.cases import each_case


@each_case("absolute", [False, True])
@each_case("block_size", [1, 100, 2**23])
def test_against_scikit_learn_in_blocks(absolute, block_size, monkeypatch):
    monkeypatch.setattr(_dictionaries, "BLOCK_SIZE", block_size)
    rng = np.random.default_rng(0)
    atoms, others = rng.standard_normal((25, 6)), rng.standard_normal((13, 6))
    atoms[4] = 0
    for other in (others, None):
        cosines = cosine_similarity(atoms, atoms if other is None else other)
        cosines = np.abs(cosines) if absolute else cosines
        if other is None:
            np.fill_diagonal(cosines, -np.inf)
        similarities, indices = nearest_atoms(atoms, other, absolute=absolute)
        assert_allclose(similarities, cosines.max(axis=1), atol=1e-12)
        nonzero = np.arange(25) != 4
        assert_array_equal(indices[nonzero], cosines.argmax(axis=1)[nonzero])
    assert not np.signbit(atoms[4]).any()


def test_precision_follows_the_input():
    atoms = np.random.default_rng(0).standard_normal((8, 5))
    expected, indices = nearest_atoms(atoms)
    for convert, tolerance in (
        (lambda a: a.astype(np.float32), 1e-6),
        (lambda a: a.astype(np.float16), 1e-2),
        (lambda a: torch.from_numpy(a).to(torch.bfloat16), 5e-2),
        (torch.from_numpy, 1e-12),
    ):
        similarities, found = nearest_atoms(convert(atoms))
        assert similarities.dtype == np.float64
        assert_allclose(similarities, expected, atol=tolerance)
        assert_array_equal(found, indices)


def test_the_first_of_equal_atoms_wins():
    similarities, indices = nearest_atoms([[1, 1]], [[1, 0], [0, 1]])
    assert_allclose(similarities, np.sqrt(0.5))
    assert_array_equal(indices, [0])


def test_bad_input():
    with pytest.raises(ValueError, match="single atom"):
        nearest_atoms([[1, 0]])
    with pytest.raises(ValueError, match="dictionary contains NaN"):
        nearest_atoms([[1, 0], [np.nan, 1]])
    with pytest.raises(ValueError, match="other has shape"):
        nearest_atoms([[1, 0]], [1, 0])
