"""An estimator from given arrays is as good as one that learnt them."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sksae import BatchTopKSAE, GatedSAE, JumpReLUSAE, SparseAutoencoder, TopKSAE
from sksae.autoencoders import fitted
from tests.cases import each_case
from tests.estimators import arrays_of, wide


def weights_of(sae):
    return {name.rstrip("_"): array for name, array in arrays_of(sae).items()}


def test_a_fit_taken_apart_and_put_together(SAE, X):
    learnt = wide(SAE, max_iter=3).fit(X)
    again = fitted(clone(learnt), weights_of(learnt), source={"format": "mine"})
    assert_array_equal(again.transform(X), learnt.transform(X))
    assert again.score(X) == learnt.score(X)
    assert again.source_ == {"format": "mine"}
    assert (again.n_iter_, again.n_steps_, again.loss_curve_) == (0, 0, [])
    assert_array_equal(again.get_feature_names_out(), learnt.get_feature_names_out())
    assert_array_equal(pickle.loads(pickle.dumps(again)).transform(X), learnt.transform(X))
    assert not hasattr(clone(again), "components_")


def test_training_goes_on_from_given_weights(SAE, X):
    """As from a fit of its own: the same numbers."""
    learnt = wide(SAE, max_iter=3, warm_start=True).fit(X)
    again = fitted(clone(learnt), weights_of(learnt))
    for sae in (learnt, again):
        sae.set_params(max_iter=2).fit(X)
    assert_array_equal(again.components_, learnt.components_)
    assert (again.n_iter_, learnt.n_iter_) == (2, 5)
    stream = fitted(wide(SAE), weights_of(learnt))
    assert stream.partial_fit(X).n_iter_ == 1
    assert not np.array_equal(stream.components_, learnt.components_)


def test_names_do_not_outlive_their_components(X):
    learnt = wide(TopKSAE, max_iter=1).fit(X).set_feature_names({0: "cold"})
    fitted(learnt, weights_of(learnt))
    assert "cold" not in learnt.get_feature_names_out()


@each_case("cls", [BatchTopKSAE, GatedSAE, JumpReLUSAE])
def test_a_threshold_belongs_to_these(cls, X):
    learnt = wide(cls, max_iter=1).fit(X)
    weights = weights_of(learnt)
    del weights["threshold"]
    with pytest.raises(ValueError, match=f"{cls.__name__} needs weights .*: threshold"):
        fitted(cls(64), weights)


@each_case(
    "change, message",
    [
        ({"components": np.ones(3)}, "components must be a matrix"),
        ({"components": np.ones((0, 3))}, "not empty"),
        ({"encoder_coef": np.ones((3, 2))}, r"encoder_coef has shape \(3, 2\); \(2, 3\) is needed"),
        ({"intercept": np.ones(2)}, "intercept has shape"),
        ({"encoder_intercept": np.array([0, np.nan])}, "encoder_intercept has entries"),
        ({"bias": np.ones(2)}, "no such weights: bias"),
    ],
)
def test_arrays_that_do_not_fit_leave_the_estimator_alone(change, message):
    weights = {
        "components": np.ones((2, 3)),
        "encoder_coef": np.ones((2, 3)),
        "encoder_intercept": np.ones(2),
        "intercept": np.ones(3),
    }
    sae = SparseAutoencoder(2)
    before = copy.deepcopy(vars(sae))
    with pytest.raises(ValueError, match=message):
        fitted(sae, {**weights, **change})
    assert vars(sae) == before
    with pytest.raises(ValueError, match="'n_components' parameter"):
        fitted(SparseAutoencoder(0), weights)


@each_case("cls", [SparseAutoencoder, BatchTopKSAE, GatedSAE, JumpReLUSAE])
def test_training_starts_from_the_function_of_rows_of_any_norm(cls, X):
    """A step of no size changes the unit of the codes, and nothing that they reconstruct."""
    learnt = wide(cls, max_iter=3).fit(X)
    weights = weights_of(learnt)
    sizes = np.random.default_rng(0).uniform(0.5, 2, len(learnt.components_))
    weights["components"] = weights["components"] * sizes[:, None]
    weights["encoder_coef"] = weights["encoder_coef"] / sizes[:, None]
    for name in {"encoder_intercept", "threshold", "gate_intercept"} & set(weights):
        weights[name] = weights[name] / sizes
    ours = {"warm_start": True, "max_iter": 1, "learning_rate": 1e-12, "dead_window": 10**6}
    again = fitted(clone(learnt).set_params(**ours), weights)
    expected = again.inverse_transform(again.transform(X))
    assert_allclose(again.transform(X) * sizes, learnt.transform(X), rtol=1e-9, atol=1e-12)
    if cls is BatchTopKSAE:  # its threshold is found anew, from the batches of this fit
        again.fit(X)
        assert_allclose(again.components_, learnt.components_, rtol=1e-7, atol=1e-9)
        assert_allclose(again.encoder_coef_, learnt.encoder_coef_, rtol=1e-7, atol=1e-9)
    else:
        again.fit(X)
        reconstruction = again.inverse_transform(again.transform(X))
        assert_allclose(reconstruction, expected, rtol=1e-6, atol=1e-8)
    assert_allclose(np.linalg.norm(again.components_, axis=1), 1)
