"""The estimators that every suite runs over, found from what the package exports."""

import copy
import inspect

import torch
from sklearn.base import RegressorMixin

import sksae
from sksae._params import Option
from sksae.autoencoders import BaseSAE
from sksae.training import TrainingRun

EXPORTED = [getattr(sksae, name) for name in sksae.__all__]
FAMILY = [c for c in EXPORTED if inspect.isclass(c) and issubclass(c, BaseSAE)]
PREDICTORS = [c for c in FAMILY if issubclass(c, RegressorMixin)]
WRAPPERS = [c for c in FAMILY if "estimator" in c._param_rules]
# A DummySAE is a TopKSAE that learns less: the suites about learning are not for it.
SAES = [c for c in FAMILY if c not in (*WRAPPERS, sksae.DummySAE)]
REPRESENTATIVES = [sksae.TopKSAE, sksae.JumpReLUSAE]  # k largest codes, and a bound per latent

OTHERS = [c for c in EXPORTED if inspect.isclass(c) and c not in FAMILY]


def unfitted(cls):
    """An instance with a name for each parameter that has no default."""
    required = [n for n, p in inspect.signature(cls).parameters.items() if p.default is p.empty]
    if cls in WRAPPERS:
        return cls(sksae.TopKSAE(random_state=0))
    return cls(**{name: f"a {name}" for name in required})


def own_options(cls):
    """A variant's own choices other than the defaults, such as ``{"decoder_norm": "unit"}``."""
    defaults = inspect.signature(cls).parameters
    return [
        {name: option}
        for name, rule in cls._param_rules.items()
        if isinstance(rule, Option) and name not in BaseSAE._param_rules
        for option in rule.options
        if option != defaults[name].default
    ]


def defaults(**settings):
    """One instance per variant, without options."""
    return [cls(**settings) for cls in SAES]


def instances(**settings):
    """One instance per variant and choice, and one per variant with sparse output."""
    return [
        cls(**settings, **own)
        for cls in SAES
        for own in [{}, {"sparse_output": True}, *own_options(cls)]
    ]


def dummies(**settings):
    """One baseline per strategy."""
    cls = sksae.DummySAE
    return [cls(**settings, **own) for own in [{}, *own_options(cls)]]


def predictors(**settings):
    """One instance per autoencoder at its defaults, and one with a skip connection."""
    return [
        cls(autoencoder(**settings), skip=skip)
        for cls in PREDICTORS
        for autoencoder, skip in [*((sae, False) for sae in SAES), (sksae.TopKSAE, True)]
    ]


def name_of(estimator):
    """A short test id: the class and what the constructor was told."""
    defaults = inspect.signature(type(estimator)).parameters
    changed = [
        f"{name}={value}"
        for name, value in estimator.get_params(deep=False).items()
        if value != defaults[name].default and name not in ("max_iter", "random_state")
    ]
    return ",".join([type(estimator).__name__, *changed])


def wide(cls, **settings):
    """An instance as wide as in use, trained until its codes are sparse but not zero."""
    if cls is sksae.Crosscoder:
        return cls(wide(sksae.BatchTopKSAE, **settings), blocks=2)
    if cls in PREDICTORS:
        return cls(wide(sksae.TopKSAE, **settings))
    ours = {"n_components": 64, "max_iter": 30, "batch_size": 100, "random_state": 0}
    if "k" in cls._param_rules:
        ours["k"] = 5
    return cls(**{**ours, **settings})


FITTED = {}  # by class, settings and rows


def fitted(cls, X, **settings):
    """A copy of ``wide(cls, **settings).fit(X)``, which is fitted once for all tests."""
    key = (cls, repr(sorted(settings.items())), X.dtype.str, X.shape, X.tobytes())
    if key not in FITTED:
        FITTED[key] = wide(cls, **settings).fit(X)
    return copy.deepcopy(FITTED[key])


def training_orders(monkeypatch):
    """A list that every pass of training from now on adds its order of rows to."""
    orders, original = [], TrainingRun.run_pass

    def recorded(self, batches, **options):
        draw = batches._order
        batches._order = lambda: orders.append(draw().tolist()) or torch.tensor(orders[-1])
        try:
            return original(self, batches, **options)
        finally:
            del batches._order

    monkeypatch.setattr(TrainingRun, "run_pass", recorded)
    return orders


def arrays_of(estimator):
    """The fitted arrays of an estimator, by name."""
    return {
        name: value
        for name, value in vars(estimator).items()
        if name.endswith("_") and not name.startswith("_") and hasattr(value, "shape")
    }
