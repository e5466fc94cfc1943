"""Names of the components: what they were found to stand for, or the class and a number."""

from collections import Counter
from dataclasses import asdict, is_dataclass
from numbers import Integral

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils.validation import check_is_fitted

from sksae._signs import visible


class NamedFeaturesMixin(ClassNamePrefixFeaturesOutMixin):
    """Names of the output that can be set once the components are understood."""

    def set_feature_names(self, names):
        """Name components, so that data frames, selectors and reports speak in concepts.

        The names come out of `get_feature_names_out`, and with it out of pipelines, column
        transformers and data frames. They are kept, as ``feature_names_``, a dict by component,
        through copies, pickles and continued training (``warm_start``, ``partial_fit``). A new
        fit learns other components and drops them, and so does ``sklearn.base.clone``.

        Parameters
        ----------
        names : dict of int to str, sequence of length n_components_, or None
            The names, by component or one for each; they take the place of all earlier ones.
            Anything with a text will do. What an `Explanation` says besides, such as its scores,
            is kept as ``explanations_``, a dict of dicts by component:
            ``Explanation(**sae.explanations_[3])`` is one again. None among them leaves a component
            without a name, None alone removes all names. White space is made single spaces, and
            characters that steer a terminal are replaced.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If there is no such component, or a name is empty.
        """
        check_is_fitted(self)
        cleaned = _cleaned(names, self._n_features_out, type(self).__name__)
        explained = _explained(names, cleaned)
        forget_names(self)
        if cleaned:
            self.feature_names_ = cleaned
        if explained:
            self.explanations_ = explained
        return self

    def get_feature_names_out(self, input_features=None):
        """Return the names of the components, all different.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of shape (n_components_,), dtype=object
            What `set_feature_names` was told; elsewhere the name of the class in lower case and
            the number of the component. Where components share a name each has its number in
            parentheses: ``"cold (17)"``.
        """
        generated = super().get_feature_names_out(input_features)
        names = getattr(self, "feature_names_", {})
        return _distinct(generated, names) if names else generated


def forget_names(sae):
    """Remove the names and explanations of components that no longer exist."""
    vars(sae).pop("feature_names_", None)
    vars(sae).pop("explanations_", None)


def forget_fit(sae):
    """Remove all that a fit, or `set_feature_names` after it, has stored."""
    fitted = [name for name in vars(sae) if name.endswith("_") and not name.startswith("_")]
    for name in [*fitted, "_stream", "_objective"]:
        vars(sae).pop(name, None)


def _explained(names, components):
    """Return the records among the names as plain dicts by component."""
    pairs = names.items() if hasattr(names, "items") else enumerate(() if names is None else names)
    records = {int(i): name for i, name in pairs if is_dataclass(name)}
    return {i: asdict(records[i]) for i in components if i in records}


def _cleaned(names, n_components, owner):
    """Return the names by component, each on one line and not empty."""
    if names is None:
        return {}
    if isinstance(names, str):
        raise ValueError(f"names must be a dict or a sequence of names. Got the str {names!r}.")
    items = list(names.items() if hasattr(names, "items") else enumerate(names))
    if not hasattr(names, "items") and len(items) != n_components:
        raise ValueError(
            f"There are {len(items)} names, but this {owner} has {n_components} components. "
            f"Name some of them with a dict from components to names."
        )
    cleaned = {}
    for key, name in items:
        if isinstance(key, (bool, np.bool_)) or not isinstance(key, Integral):
            raise ValueError(f"names must have components as keys, as int. Got {key!r}.")
        if not 0 <= key < n_components:
            raise ValueError(f"There is no component {key}: this {owner} has {n_components}.")
        if name is None or (isinstance(name, float) and np.isnan(name)):  # missing in a Series
            continue
        text = visible(" ".join(str(name).split()))
        if not text:
            raise ValueError(f"The name of component {key} is empty: {str(name)!r}.")
        cleaned[int(key)] = text
    return dict(sorted(cleaned.items()))


def _distinct(generated, names):
    """Return `generated` with `names` in place, numbered where they would not be unique.

    A generated name is never changed. A number that makes one name unique can make it equal to
    another that nobody numbered, which then gets its own, so that there is an end to it.
    """
    result = generated.copy()
    for component, name in names.items():
        result[component] = name
    while True:
        counts = Counter(result.tolist())
        # Names that occur twice, unless they are generated.
        shared = [i for i in names if counts[result[i]] > 1 and result[i] != generated[i]]
        if not shared:
            return result
        for i in shared:
            result[i] = f"{result[i]} ({i})"
