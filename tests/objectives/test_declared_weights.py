"""A weight that a user's objective declares: its start, its constraint, its unit, its attribute."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sksae.autoencoders import BaseSAE, fitted
from sksae.formats import write_saelens
from sksae.objectives import Objective, Rule, Weight, reconstruction_loss


@dataclass
class Pushed(Objective):
    """Codes above a level per latent, which the loss pushes down."""

    push: float

    weights = {"level": Weight("m", unit="code", nonnegative=True, initial=0.5)}

    def rule(self, weights):
        return Rule(bound=weights["level"])

    def loss(self, entries, alpha, dead):
        codes = torch.where(entries.z > entries.at(entries.weights["level"]), entries.z, 0.0)
        loss = reconstruction_loss(entries, entries.decode(codes))
        return loss + self.push * entries.weights["level"].sum(), codes


class PushedSAE(BaseSAE):
    """The estimator of `Pushed`."""

    def __init__(self, n_components=None, *, push=0.0, max_iter=5, warm_start=False):
        super().__init__(
            n_components, max_iter=max_iter, warm_start=warm_start, random_state=0, batch_size=100
        )
        self.push = push

    def _make_objective(self, n_features, n_components, n_targets):
        return Pushed(self.push)


def scale_of(X):
    return np.sqrt(X.shape[1] / ((X - X.mean(0)) ** 2).sum(1).mean())


def test_it_starts_as_declared_and_changes_its_unit_with_the_codes(X):
    """Nothing moves it: it stays at 0.5 in the internal unit, ``0.5 / scale`` in that of X."""
    sae = PushedSAE(24).fit(X)
    assert_allclose(sae.level_, 0.5 / scale_of(X), rtol=1e-12)
    z = X @ sae.encoder_coef_.T + sae.encoder_intercept_
    assert_allclose(sae.transform(X), np.where(z > sae.level_, z, 0), rtol=1e-9, atol=1e-12)


def test_it_is_clamped_at_zero(X):
    assert_array_equal(PushedSAE(24, push=1.0, max_iter=100).fit(X).level_, 0.0)


def test_it_is_continued(X):
    """By a stream and by a warm start: Adam moves it by less than its rate per step."""
    sae = PushedSAE(24, push=1e-3, warm_start=True).fit(X)
    first = sae.level_.copy()
    assert (first < 0.5 / scale_of(X)).all()
    assert (sae.fit(X).level_ < first).all()
    stream = PushedSAE(24, push=1e-3).partial_fit(X)
    before = stream.level_.copy()
    stream = pickle.loads(pickle.dumps(stream)).partial_fit(X)
    assert (stream.level_ < before).all()


def test_given_arrays_need_it(X):
    sae = PushedSAE(24).fit(X)
    names = ("components", "encoder_coef", "encoder_intercept", "intercept", "level")
    weights = {name: getattr(sae, name + "_") for name in names}
    assert_array_equal(fitted(PushedSAE(24), weights).transform(X), sae.transform(X))
    with pytest.raises(ValueError, match="PushedSAE needs weights that are missing: level"):
        fitted(PushedSAE(24), {name: weights[name] for name in names[:-1]})
    with pytest.raises(ValueError, match=r"level has shape \(2,\); \(24,\) is needed"):
        fitted(PushedSAE(24), {**weights, "level": np.zeros(2)})


def test_formats_and_save_refuse_what_they_do_not_know(X, tmp_path):
    sae = PushedSAE(24).fit(X)
    with pytest.raises(TypeError, match="No format can hold a PushedSAE"):
        write_saelens(tmp_path, sae)
    with pytest.raises(TypeError, match="PushedSAE is a class of your own"):
        sae.save(tmp_path / "sae.safetensors")
