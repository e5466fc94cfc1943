"""Parameters: refused by name at fit, never touched by the constructor, taken as documented."""

import inspect

import numpy as np
import pytest
from sklearn.base import clone

from sksae._params import Bool, Float, Int
from tests.cases import each_case
from tests.estimators import fitted, wide

pytestmark = pytest.mark.usefixtures("unchanged_world")

STRANGE = [
    None,
    True,
    np.bool_(True),
    "nonsense",
    b"rms",
    -1,
    0,
    1,
    1.5,
    np.float64(2.5),
    float("nan"),
    float("inf"),
    -float("inf"),
    1e400,
    1j,
    object,
    [],
    {},
    [0.5],
    (0.5, 1.5),
    (0.5, "0.5"),
    np.array([1, 2]),
    np.array("rms"),
    lambda: 1,
]


def test_a_value_against_the_rule_is_refused_by_name(SAE, X):
    for name, rule in SAE._param_rules.items():
        refused = [value for value in STRANGE if not rule.accepts(value)]
        assert len(refused) > 8
        for value in refused:
            sae = SAE(**{name: value})
            assert getattr(sae, name) is value
            for method in (sae.fit, sae.partial_fit):
                with pytest.raises(ValueError, match=f"'{name}' parameter of {SAE.__name__}"):
                    method(X)
            assert not hasattr(sae, "n_features_in_")


def test_every_parameter_has_a_rule_and_every_rule_a_parameter(SAE):
    assert set(SAE._param_rules) == set(inspect.signature(SAE).parameters)


def test_the_defaults_satisfy_the_rules(SAE):
    for name, rule in SAE._param_rules.items():
        assert rule.accepts(getattr(SAE(), name)), name


@each_case("value", ["tomorrow", -1, 2**32, 1.5, [1], np.random.default_rng(0)])
def test_a_seed_that_is_none_is_refused_by_name(SAE, X, value):
    with pytest.raises(ValueError, match="'random_state' parameter"):
        wide(SAE, random_state=value).fit(X)


def test_numpy_scalars_are_as_good_as_python_numbers(SAE, X):
    settings = dict(wide(SAE, max_iter=2).get_params())
    plain = SAE(**settings).fit(X)
    for name, rule in SAE._param_rules.items():
        value = settings[name]
        if value is None:
            continue
        if isinstance(rule, Int):
            settings[name] = np.int32(value)
        elif isinstance(rule, Float):
            settings[name] = np.float64(value)
        elif isinstance(rule, Bool):
            settings[name] = np.bool_(value)
    sae = SAE(**settings).fit(X)
    assert (sae.components_ == plain.components_).all()


def edges(rule):
    """Values at the ends of a rule that it accepts."""
    low, high = getattr(rule, "low", None), getattr(rule, "high", None)
    ends = [None, low, high, 1e-12, 1.0, 1, True, False, 7]
    return [end for end in ends if rule.accepts(end)] + list(getattr(rule, "options", ()))


@pytest.mark.costly
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_edge_that_a_rule_accepts_can_be_fitted(SAE, X, capsys):
    settings = {"n_components": 16, "max_iter": 1, "batch_size": 100, "random_state": 0}
    X = X[:200, :5]
    accepted = [(name, value) for name, rule in SAE._param_rules.items() for value in edges(rule)]
    for name, value in accepted:
        if (name, value) in [("max_iter", None), ("random_state", None)]:
            continue  # 2000 steps; the global random state, which it is a user's right to use
        sae = SAE(**{**settings, name: value}).fit(X)
        assert np.isfinite(sae.components_).all()
        assert np.isfinite(sae.loss_curve_).all()
        assert sae.set_params(sparse_output=False).transform(X).shape[0] == len(X)
        assert bool(capsys.readouterr().out) == bool(sae.verbose)


def test_the_constructor_and_set_params_only_store(SAE):
    marker = object()
    sae = SAE(**dict.fromkeys(inspect.signature(SAE).parameters, marker))
    assert all(value is marker for value in sae.get_params().values())
    assert set(vars(sae)) == set(sae.get_params())
    sae.set_params(batch_size=3)
    assert sae.batch_size == 3


def test_only_the_width_is_positional(SAE):
    kinds = [p.kind for p in inspect.signature(SAE).parameters.values()]
    assert kinds[0] is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds[1:]) == {inspect.Parameter.KEYWORD_ONLY}
    assert next(iter(inspect.signature(SAE).parameters)) == "n_components"


def test_a_clone_is_unfitted_and_equal(SAE, X):
    sae = fitted(SAE, X, max_iter=1)
    copy = clone(sae)
    assert copy.get_params() == sae.get_params()
    assert set(vars(copy)) == set(sae.get_params())
    assert repr(copy) == repr(sae)


def test_set_params_after_the_fit_waits_for_the_next_fit(SAE, X):
    sae = fitted(SAE, X)
    before = sae.transform(X)
    changed = {
        name: rule.options[-1]
        for name, rule in sae._param_rules.items()
        if hasattr(rule, "options")
    }
    changed |= {name: 1 for name in ("k", "k_aux") if name in sae._param_rules}
    sae.set_params(n_components=3, expansion_factor=1, **changed)
    assert (sae.transform(X) == before).all()
    assert sae.get_feature_names_out().shape == (64,)


@each_case("device", ["nonsense", "cuda:99", "meta", "", "cpu:cpu", "gpu"])
def test_an_unknown_device_is_refused_by_name(SAE, X, device):
    with pytest.raises(ValueError, match="'device' parameter"):
        wide(SAE, device=device).fit(X)
    sae = fitted(SAE, X, max_iter=1).set_params(device=device)
    for method in (sae.transform, sae.score):
        with pytest.raises(ValueError, match="'device' parameter"):
            method(X)
