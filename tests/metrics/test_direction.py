import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics.pairwise import cosine_similarity

from sksae.metrics import l2_ratio, mean_cosine_similarity

X = np.array([[1.0, 0], [2, 1], [0, 3], [4, 2]])
X_HAT = np.array([[0.8, 0.3], [1.5, 1.1], [0.2, 2.4], [3.2, 1.9]])


def test_fixture():
    assert_allclose(mean_cosine_similarity(X, X_HAT), 0.9790021741, atol=1e-10)
    assert_allclose(l2_ratio(X, X_HAT), 0.8303011423, atol=1e-10)


@pytest.mark.parametrize("centered", [False, True])
def test_against_scikit_learn(centered):
    rng = np.random.default_rng(0)
    x, x_hat = rng.standard_normal((2, 700, 500)) + 1.0
    x_hat[5] = 0  # as in scikit-learn, its cosine is 0
    shift = x.mean(axis=0) if centered else 0.0
    expected = np.diag(cosine_similarity(x - shift, x_hat - shift))
    found = mean_cosine_similarity(x, x_hat, centered=centered)
    assert_allclose(found, expected.mean(), rtol=1e-10)
    weight = rng.uniform(0, 1, 700)
    shift = np.average(x, axis=0, weights=weight) if centered else 0.0
    expected = np.diag(cosine_similarity(x - shift, x_hat - shift))
    found = mean_cosine_similarity(x, x_hat, centered=centered, sample_weight=weight)
    assert_allclose(found, np.average(expected, weights=weight), rtol=1e-10)


def test_cosine_leaves_zero_rows_of_the_data_out():
    x, x_hat = np.vstack([X, np.zeros((2, 2))]), np.vstack([X_HAT, np.ones((2, 2))])
    assert_allclose(mean_cosine_similarity(x, x_hat), mean_cosine_similarity(X, X_HAT))
    with pytest.raises(ValueError, match="no direction"):
        mean_cosine_similarity(x[4:], x_hat[4:])


def test_l2_ratio_leaves_zero_rows_out():
    x = np.vstack([X, np.zeros((2, 2))])
    x_hat = np.vstack([X_HAT, np.ones((2, 2))])
    assert_allclose(l2_ratio(x, x_hat), l2_ratio(X, X_HAT))
    weight = [1, 2, 0, 1, 5, 5]
    ratios = np.linalg.norm(X_HAT, axis=1) / np.linalg.norm(X, axis=1)
    expected = np.average(ratios, weights=weight[:4])
    assert_allclose(l2_ratio(x, x_hat, sample_weight=weight), expected)
    with pytest.raises(ValueError, match="zero"):
        l2_ratio(x, x_hat, sample_weight=[0, 0, 0, 0, 1, 1])


@pytest.mark.parametrize("metric", [mean_cosine_similarity, l2_ratio])
def test_bad_input(metric):
    with pytest.raises(ValueError, match="must be equal"):
        metric(X, X_HAT[:, :1])
    with pytest.raises(ValueError, match="NaN"):
        metric(X, X_HAT * np.nan)
    with pytest.raises(ValueError, match="sample_weight"):
        metric(X, X_HAT, sample_weight=[1.0])
