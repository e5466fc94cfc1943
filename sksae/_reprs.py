"""Representations of estimators: links to their pages, and models by name only."""

from sklearn.base import BaseEstimator

_PLAIN = (str, bytes, int, float, complex, list, tuple, dict, set, frozenset, range, type(None))


# Packages whose estimators are documented as names of sksae itself.
_AT_THE_TOP = ("autoencoders", "language_models")


class DocLinked:
    """Mixin of estimators whose HTML representation links to their page of the documentation.

    With a link, scikit-learn also shows the descriptions of parameters as tooltips. A class of
    another package that inherits from an estimator has no page, and no link.
    """

    _doc_link_module = "sksae"
    _doc_link_template = "https://sksae.readthedocs.io/en/stable/generated/api/{path}.html"

    def _doc_link_url_param_generator(self):
        cls = type(self)
        package = cls.__module__.split(".")[1]
        module = "sksae" if package in _AT_THE_TOP else f"sksae.{package}"
        return {"path": f"{module}.{cls.__name__}"}


class ShortRepr(DocLinked):
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
    # A class of the same name, whose signature scikit-learn reads.
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
