"""Short representations of estimators that have a model as a parameter."""

from sklearn.base import BaseEstimator

_PLAIN = (str, bytes, int, float, complex, list, tuple, dict, set, frozenset, range, type(None))


class ShortRepr:
    """Mixin of estimators with parameters that are models or tokenizers: those by name only."""

    def __repr__(self, N_CHAR_MAX=700):  # scikit-learn's own parameter
        return BaseEstimator.__repr__(_stand_in(self), N_CHAR_MAX)


class _Named:
    """A value that is shown by a name."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name


def _stand_in(estimator):
    """Return an estimator of the same name with values that are short to show."""
    cls = type(estimator)
    params = estimator.get_params(deep=False)
    shown = type(cls.__name__, (BaseEstimator,), {"__init__": cls.__init__})
    return shown(**{name: _short(value) for name, value in params.items()})


def _short(value):
    if isinstance(value, ShortRepr):
        return _stand_in(value)
    if isinstance(value, _PLAIN) or hasattr(value, "get_params"):
        return value
    source = getattr(value, "name_or_path", None)  # of models and tokenizers of transformers
    kind = type(value).__name__
    return _Named(f"{kind}({source!r})" if isinstance(source, str) and source else f"<{kind}>")
