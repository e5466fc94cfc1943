"""Latent scaling: latents of known kinds, and the least squares that it stands for."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from sksae import Crosscoder, SparseAutoencoder, TopKSAE
from sksae.autoencoders import fitted
from sksae.metrics import LatentScaling, latent_scaling


@pytest.fixture(scope="module")
def planted():
    """Rows of two blocks, of which the second has half of the features of the first."""
    rng = np.random.default_rng(0)
    codes = rng.exponential(size=(500, 24)) * (rng.random((500, 24)) < 0.1)
    directions = rng.normal(size=(24, 20))
    return np.hstack([codes @ directions, codes[:, :12] @ directions[:12]]) + 3


def by_hand():
    """Six latents of a known kind, each with rows on which it fires alone, and these rows.

    Latent 0 is shared, 1 of the first block. The concept of latent 2 is in the second block with
    .4 of its strength, which nothing reconstructs. That of latents 3 and 4 is in both, by a latent
    each. Latent 5 never fires.
    """
    eye = np.eye(5)
    first = eye[[0, 1, 2, 3, 3, 4]] * np.array([1, 1, 1, 1, 0, 1])[:, None]
    second = eye[[0, 1, 2, 3, 3, 4]] * np.array([1, 0, 0, 0, 1, 1])[:, None]
    components = np.hstack([first, second])
    arrays = {
        "components": components,
        "encoder_coef": np.hstack([first, second]) / (components**2).sum(1, keepdims=True),
        "encoder_intercept": np.zeros(6),
        "intercept": np.zeros(10),
        "scale": np.ones(10),
    }
    codes = np.vstack([np.diag([1.0, 2, 3, 4])] * 2 + [np.diag([2.0, 1, 1, 1])])
    rows = np.zeros((len(codes), 10))
    rows[:, :4] = codes
    rows[:, 5:9] = codes * [1, 0, 0.4, 1]
    model = fitted(Crosscoder(SparseAutoencoder(6), blocks={"a": 5, "b": 5}), arrays)
    return model, rows


def test_latent_scaling_of_known_latents():
    model, X = by_hand()
    scaling = latent_scaling(model, X)
    assert scaling.blocks == ("a", "b")
    assert scaling.kinds().tolist() == [
        "shared",
        "exclusive",
        "shrunken",
        "decoupled",
        "decoupled",
        "silent",
    ]
    assert scaling.strongest.tolist() == ["a", "a", "a", "a", "b", "a"]
    assert_allclose(scaling.error, [[1, 1], [1, 0], [1, 0.4], [1, 0], [0, 1], [np.nan] * 2])
    assert_allclose(scaling.reconstruction, [[1, 1], [1, 0], [1, 0], [1, 1], [1, 1], [np.nan] * 2])
    assert_allclose(scaling.cosine, [[1, 1], [1, 0], [1, 0], [1, 0], [0, 1], [1, 1]])
    assert scaling.n_active.tolist() == [3, 3, 3, 3, 3, 0]
    assert scaling.kinds(max_error=0.5)[2] == "exclusive"
    frame = scaling.to_frame(max_error=0.5)
    assert frame.shape == (6, 11)
    assert frame["kind"].tolist()[2] == "exclusive"
    assert_array_equal(frame["error, b"], scaling.error[:, 1])


def test_latent_scaling_is_the_least_squares_that_it_says(planted):
    X = planted
    crosscoder = Crosscoder(TopKSAE(20, k=2, max_iter=3, random_state=0), blocks=2).fit(X)
    scaling, codes = latent_scaling(crosscoder, X), crosscoder.transform(X)
    decoded = codes @ (crosscoder.components_ / crosscoder.scale_)
    residual = (X - crosscoder.intercept_) / crosscoder.scale_ - decoded
    latent = int(codes.sum(0).argmax())
    unit = list(crosscoder.split(crosscoder.components_ / crosscoder.scale_).values())
    strongest = int(scaling.norms[latent].argmax())
    basis = np.outer(codes[:, latent], unit[strongest][latent]).ravel()
    for ratios, rows, own in [(scaling.error, residual, 1), (scaling.reconstruction, decoded, 0)]:
        betas = []
        for part, block in zip(crosscoder.split(rows).values(), unit, strict=True):
            y = part + own * np.outer(codes[:, latent], block[latent])
            betas.append(np.linalg.lstsq(basis[:, None], y.ravel(), rcond=None)[0][0])
        assert_allclose(ratios[latent], np.divide(betas, betas[strongest]), rtol=1e-8)


def test_what_cannot_be_compared_is_refused(planted):
    crosscoder = Crosscoder(TopKSAE(8, k=2, max_iter=1, random_state=0), blocks=[16, 24]).fit(
        planted
    )
    with pytest.raises(ValueError, match="several blocks of one width"):
        latent_scaling(crosscoder, planted)
    with pytest.raises(TypeError, match=r"fitted Crosscoder is needed. Got TopKSAE\(\)"):
        latent_scaling(TopKSAE(), planted)
    with pytest.raises(NotFittedError):
        latent_scaling(Crosscoder(TopKSAE(), blocks=2), planted)


def test_a_record_of_scaling_with_three_blocks():
    """A latent is exclusive only if it is in none of the other blocks."""
    norms = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.5], [1.0, 0.0, 0.0]])
    error = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.5], [1.0, 0.0, 0.3]])
    zeros = np.zeros((3, 3))
    scaling = LatentScaling(("a", "b", "c"), norms, error, zeros, zeros, np.ones(3))
    assert scaling.kinds().tolist() == ["exclusive", "shared", "shrunken"]
