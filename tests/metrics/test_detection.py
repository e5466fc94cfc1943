import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.metrics import precision_recall_fscore_support

from sksae.metrics import latent_precision_recall_f1
from tests.cases import each_case


def random_codes(n=6000, g=12, m=20, seed=0):
    rng = np.random.default_rng(seed)
    true = (rng.random((n, g)) < 0.2) * rng.uniform(1, 2, (n, g))
    noise = (rng.random((n, m)) < 0.05) * rng.uniform(1, 2, (n, m))
    codes = true[:, rng.integers(0, g, m)] * (rng.random((n, m)) < 0.8) + noise
    codes[:, 3] = 0
    return codes, true


@each_case("kind", [np.asarray, sparse.csr_array, torch.from_numpy])
def test_against_scikit_learn(kind):
    codes, true = random_codes()
    matches = np.random.default_rng(1).integers(0, 12, 20)
    precision, recall, f1, found = latent_precision_recall_f1(
        kind(codes), kind(true), matches=matches
    )
    assert_array_equal(found, matches)
    expected = precision_recall_fscore_support(true[:, matches] > 0, codes > 0, zero_division=0)
    for values, reference in zip((precision, recall, f1), expected[:3], strict=True):
        assert_allclose(values, reference, rtol=1e-12)


def test_best_f1_is_the_best_of_all_matches():
    codes, true = random_codes()
    all_f1 = np.array(
        [latent_precision_recall_f1(codes, true, matches=np.full(20, g))[2] for g in range(12)]
    )
    _, _, f1, matches = latent_precision_recall_f1(codes, true)
    assert_allclose(f1, all_f1.max(axis=0), rtol=1e-12)
    assert_array_equal(matches, all_f1.argmax(axis=0))
    assert f1[3] == 0


def test_perfect_codes():
    _, true = random_codes()
    precision, recall, f1, matches = latent_precision_recall_f1(true[:, ::-1], true)
    for values in (precision, recall, f1):
        assert_array_equal(values, 1)
    assert_array_equal(matches, np.arange(12)[::-1])


def test_silence_on_either_side_scores_zero():
    silent = np.zeros((4, 2))
    for values in latent_precision_recall_f1(silent, silent)[:3]:
        assert_array_equal(values, 0)


def test_bad_input():
    codes, true = random_codes(10)
    with pytest.raises(ValueError, match="codes has 9 rows, codes_true has 10"):
        latent_precision_recall_f1(codes[:9], true)
    with pytest.raises(ValueError, match="20 integers"):
        latent_precision_recall_f1(codes, true, matches=[0])
    with pytest.raises(ValueError, match="20 integers"):
        latent_precision_recall_f1(codes, true, matches=np.zeros(20))
    with pytest.raises(ValueError, match="between 0 and 11"):
        latent_precision_recall_f1(codes, true, matches=np.full(20, 12))
    with pytest.raises(ValueError, match="codes_true contains NaN"):
        latent_precision_recall_f1(codes, true * np.nan)
