"""Every public object is documented as numpydoc wants, and the documents tell the truth."""

import importlib
import inspect
import pkgutil
import warnings

import pandas as pd
from numpydoc import docscrape
from numpydoc.validate import validate

import sksae
from sksae.objectives import Objective
from tests.estimators import wide

# Packages that only other packages of the library use.
INTERNAL = {f"sksae.{name}" for name in ("_files", "_signs", "command_line", "kernels", "training")}

IGNORED = {
    "RT02",  # scikit-learn names what a function returns; so do we
    "GL01",  # one-line summaries start on the line of the quotes (D212 and D213 are both in use)
    "GL02",  # and the closing quotes may follow them
}
# The base is not for use: its parameters are documented on every variant, where they are accepted.
ABSTRACT = {"sksae.autoencoders.BaseSAE"}

# A method or function whose summary says it all needs no second paragraph, no neighbours, and no
# example beside that of its class; a class needs all three.
IGNORED_BELOW_CLASSES = {"ES01", "SA01", "EX01"}


def public_packages():
    yield sksae
    for module in pkgutil.iter_modules(sksae.__path__, "sksae."):
        if module.ispkg and module.name not in INTERNAL:
            yield importlib.import_module(module.name)


def public_objects():
    """Import paths of the exported classes and functions and of the classes' own public methods."""
    paths = {}
    for package in public_packages():
        for name in package.__all__:
            thing = getattr(package, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            paths.setdefault(thing, f"{package.__name__}.{name}")
    for thing, path in list(paths.items()):
        yield path
        for name, member in inspect.getmembers(thing) if inspect.isclass(thing) else []:
            ours = getattr(member, "__module__", None) or ""
            if issubclass(thing, Objective) and thing is not Objective and hasattr(Objective, name):
                continue  # a hook, documented where it is declared
            if name.startswith("_") or not ours.startswith("sksae"):
                continue
            if inspect.isfunction(member) or isinstance(member, property):
                yield f"{path}.{name}"


def errors_of(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # numpydoc warns where it also reports
        result = validate(path)
    ignored = IGNORED if result["type"] == "type" else IGNORED | IGNORED_BELOW_CLASSES
    return [f"{code}: {text}" for code, text in result["errors"] if code not in ignored]


def test_docstrings_are_complete():
    found = {path: errors_of(path) for path in sorted(set(public_objects()) - ABSTRACT)}
    assert len(found) > 200
    assert {path: errors for path, errors in found.items() if errors} == {}


def test_every_package_exports_a_sorted_all():
    for package in public_packages():
        assert package.__doc__
        assert all(hasattr(package, name) for name in package.__all__)
        assert sorted(package.__all__) == sorted(set(package.__all__))


def documented(cls, section):
    return {
        name: kind
        for entry in docscrape.ClassDoc(cls)[section]
        for name, kind in [(n.strip(), entry.type) for n in entry.name.split(",")]
    }


def test_documented_parameters_are_the_parameters(SAE):
    assert list(documented(SAE, "Parameters")) == list(inspect.signature(SAE).parameters)


def test_documented_defaults_are_the_defaults(SAE):
    for name, kind in documented(SAE, "Parameters").items():
        default = inspect.signature(SAE).parameters[name].default
        shown = kind.rpartition("default=")[2]
        assert shown, f"{name}: {kind}"
        assert eval(shown, {}) == default, f"{name}: {kind}"  # our own docstrings


def test_documented_options_are_the_options(SAE):
    kinds = documented(SAE, "Parameters")
    for name, rule in SAE._param_rules.items():
        if hasattr(rule, "options"):
            options = kinds[name][kinds[name].index("{") + 1 : kinds[name].index("}")]
            assert tuple(eval(f"[{options}]", {})) == rule.options, name  # our own docstrings


def test_documented_attributes_are_the_fitted_attributes(SAE, X):
    """Both ways; those of early stopping and of named columns appear with them."""
    names = set(documented(SAE, "Attributes"))
    learnt = {
        n for n in vars(wide(SAE, max_iter=2).fit(X)) if n.endswith("_") and not n.startswith("_")
    }
    optional = {"feature_names_in_", "validation_scores_"}
    assert names - optional == learnt
    assert names >= optional
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    sae = wide(SAE, max_iter=2, early_stopping=True).fit(frame)
    assert {n for n in vars(sae) if n.endswith("_") and not n.startswith("_")} == names
    stream = {n for n in vars(wide(SAE).partial_fit(X)) if n.endswith("_") and n[0] != "_"}
    assert stream == learnt


def test_documented_shapes_are_the_shapes(SAE, X):
    sae = wide(SAE, max_iter=2, early_stopping=True).fit(X)
    sizes = {"n_components_": 64, "n_features_in_": 12, "n_iter_": sae.n_iter_}
    for name, kind in documented(SAE, "Attributes").items():
        if "of shape (" not in kind or not hasattr(sae, name):
            continue
        shape = kind.partition("of shape (")[2].partition(")")[0]
        expected = tuple(sizes[axis.strip()] for axis in shape.split(",") if axis.strip())
        assert getattr(sae, name).shape == expected, name
    assert len(sae.loss_curve_) == len(sae.validation_scores_) == sae.n_iter_


def test_units_and_formulas_are_those_of_the_class_itself(SAE):
    """The page of a variant is its own, not an inherited one."""
    assert SAE.__doc__ not in [base.__doc__ for base in SAE.__mro__[1:]]
    for section in ("See Also", "References", "Examples"):
        assert docscrape.ClassDoc(SAE)[section], section
