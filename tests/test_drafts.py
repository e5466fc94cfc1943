"""Every fit of the package changes its estimator in one step, or not at all."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sksae
from sksae import GatedSAE, TopKSAE, Transcoder
from sksae.autoencoders import fitted
from sksae.formats import RowNormalizer
from sksae.interpret import FeatureAtlas, FeatureContrast
from sksae.model_selection import SparsityPathCV
from tests.cases import each_case
from tests.estimators import PREDICTORS, SAES, WRAPPERS, arrays_of, wide

PACKAGE = str(Path(sksae.__file__).parent)
SMALL = {"n_components": 16, "max_iter": 2, "batch_size": None, "random_state": 0}


@pytest.fixture
def frame(X):
    return pd.DataFrame(np.abs(X), columns=[f"column {i}" for i in range(X.shape[1])])


def refits():
    """``(name, estimator, rest)``: what is fitted, and what its fit takes beside X."""
    classes = (np.arange(400) % 2,)
    yield from ((cls.__name__, wide(cls, **SMALL), ()) for cls in SAES)
    yield from ((cls.__name__, wide(cls, **SMALL), classes) for cls in PREDICTORS)
    yield "RowNormalizer", RowNormalizer(), ()
    path = SparsityPathCV(TopKSAE(max_iter=1), values=[1, 2], cv=2, continuation=1.0)
    yield "SparsityPathCV", path, ()
    contrast = FeatureContrast(n_permutations=10, held_out=0.3, random_state=0)
    yield "FeatureContrast", contrast, classes
    yield "FeatureAtlas", FeatureAtlas(random_state=0), ()


REFITS = pytest.mark.parametrize(
    ("estimator", "rest"), [pytest.param(e, rest, id=name) for name, e, rest in refits()]
)


def moments(action, estimator):
    """States of an estimator, by identity, at every line of the package that `action` runs."""
    seen, previous = [], sys.gettrace()

    def trace(frame, event, argument):
        if frame.f_code.co_filename.startswith(PACKAGE):
            state = {name: id(value) for name, value in vars(estimator).items()}
            if not seen or state != seen[-1]:
                seen.append(state)
            return trace
        return None

    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(previous)
    return seen


@REFITS
def test_a_refit_has_no_moment_between_old_and_new(estimator, rest, frame):
    narrow = frame.iloc[:, :8]
    estimator.fit(narrow, *rest)
    old = dict(vars(estimator))
    states = moments(lambda: estimator.fit(frame, *rest), estimator)
    assert states[0] == {name: id(value) for name, value in old.items()}
    assert len(states) <= 2
    assert getattr(estimator, "n_features_in_", 12) == 12
    assert old.keys() == vars(estimator).keys()


@REFITS
def test_a_refit_on_bad_rows_changes_nothing(estimator, rest, frame):
    estimator.fit(frame.iloc[:, :8], *rest)
    old = dict(vars(estimator))
    bad = frame.rename(columns=str.upper) * np.nan
    with pytest.raises(ValueError, match=r"NaN|finite"):
        estimator.fit(bad, *rest)
    assert vars(estimator) == old


@each_case("cls", [*SAES, *WRAPPERS])
def test_a_fit_that_diverges_or_is_interrupted_at_its_end_changes_nothing(cls, X, monkeypatch):
    targets = [X[:, :3]] if cls in PREDICTORS else []
    sae = wide(cls, **SMALL).fit(X[:, :8], *targets)
    settings = sae.estimator if cls in WRAPPERS else sae
    settings.set_params(learning_rate=1e200)
    old = dict(vars(sae))
    with pytest.raises(FloatingPointError):
        sae.fit(X, *targets)
    assert vars(sae) == old
    settings.set_params(learning_rate=None)
    old = dict(vars(sae))

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("sksae.autoencoders._fit.firing_frequency", interrupted)
    for fit in (sae.fit, sae.partial_fit):
        with pytest.raises(KeyboardInterrupt):
            fit(X[:, :8], *targets)
        assert vars(sae) == old


def test_nothing_of_an_earlier_fit_stays(X):
    model = Transcoder(GatedSAE(16, max_iter=1, early_stopping=True), skip=True)
    model.fit(X, X[:, 0]).set_feature_names({0: "a name"})
    other = TopKSAE(16, max_iter=1)
    model.set_params(estimator=other, skip=False).fit(X, X)
    once = Transcoder(other).fit(X, X)
    assert vars(model).keys() == vars(once).keys()
    arrays = {name.rstrip("_"): array for name, array in arrays_of(once).items()}
    again = fitted(model, arrays, source={"from": "a test"})
    assert not hasattr(again, "batch_size_")
    assert "source_" not in vars(again.fit(X, X))
