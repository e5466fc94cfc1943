import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.pairwise import cosine_similarity

from sksae.metrics import (
    dictionary_redundancy,
    dictionary_uniqueness,
    encoder_decoder_cosine,
    matched_cosine_similarity,
    mean_max_cosine_similarity,
)
from tests.cases import each_case

TRUE = np.array([[1, 0], [0, 1], [0.6, 0.8]])
LEARNED = np.array([[0.8, 0.6], [0, 1], [-1, 0]])


def test_fixture():
    assert_allclose(mean_max_cosine_similarity(TRUE, LEARNED), 0.92)
    assert_allclose(mean_max_cosine_similarity(TRUE, LEARNED, absolute=True), 0.9866666667)
    assert_allclose(mean_max_cosine_similarity(LEARNED, TRUE), 0.6533333333)
    assert_allclose(matched_cosine_similarity(TRUE, LEARNED), 0.5333333333)
    assert_allclose(matched_cosine_similarity(TRUE, LEARNED, absolute=True), 0.9866666667)
    assert_allclose(dictionary_redundancy(LEARNED), 0.4)
    assert_allclose(dictionary_redundancy(LEARNED, absolute=True), 0.7333333333)


@pytest.mark.parametrize("absolute", [False, True])
def test_against_scikit_learn(absolute):
    rng = np.random.default_rng(0)
    true, learned = rng.standard_normal((20, 6)), rng.standard_normal((35, 6))
    cosines = cosine_similarity(true, learned)
    cosines = np.abs(cosines) if absolute else cosines
    found = mean_max_cosine_similarity(true, learned, absolute=absolute)
    assert_allclose(found, cosines.max(axis=1).mean(), rtol=1e-12)
    expected = cosines[linear_sum_assignment(-cosines)].mean()
    for pair in ((true, learned), (learned, true)):
        assert_allclose(matched_cosine_similarity(*pair, absolute=absolute), expected, rtol=1e-12)
    unique = len(set(cosines.argmax(axis=0))) / 35
    assert dictionary_uniqueness(learned, true, absolute=absolute) == unique


def test_a_copy_is_found_whole():
    atoms = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    shuffled = 3 * atoms[::-1]
    assert_allclose(mean_max_cosine_similarity(atoms, shuffled), 1, rtol=1e-6)
    assert_allclose(matched_cosine_similarity(atoms, shuffled), 1, rtol=1e-6)
    assert_allclose(matched_cosine_similarity(atoms, -shuffled, absolute=True), 1, rtol=1e-6)
    assert dictionary_uniqueness(shuffled, atoms) == 1
    assert_allclose(dictionary_redundancy(np.vstack([atoms, shuffled])), 1, rtol=1e-6)


def test_encoder_decoder_cosine():
    rng = np.random.default_rng(0)
    encoder, decoder = rng.standard_normal((2, 9, 5))
    encoder[2] = 0
    expected = np.diag(cosine_similarity(encoder, decoder))
    assert_allclose(encoder_decoder_cosine(encoder, decoder), expected, rtol=1e-12)
    found = encoder_decoder_cosine(torch.from_numpy(encoder), torch.from_numpy(decoder))
    assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="encoder_coef has shape"):
        encoder_decoder_cosine(encoder, decoder[:3])


@each_case("metric", [mean_max_cosine_similarity, matched_cosine_similarity, dictionary_uniqueness])
def test_bad_input(metric):
    with pytest.raises(ValueError, match=r"atoms of 2 features.* of 3"):
        metric(TRUE, np.ones((4, 3)))
    with pytest.raises(ValueError, match="contains NaN"):
        metric(TRUE, LEARNED * np.nan)
    with pytest.raises(ValueError, match="2-D"):
        metric(TRUE[0], LEARNED)
