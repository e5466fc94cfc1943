"""Names of latents, and the labels that are made of them."""

import re
from collections.abc import Mapping

from sksae._coding import estimator_layers
from sksae._signs import fit_columns, visible

_NAME_COLUMNS = 32


def names_by_latent(names, n_latents):
    """Return names as a mapping from latents, however they were given.

    Parameters
    ----------
    names : mapping of int to str, sequence of str, or None
        Names of some latents by number, or of all.
    n_latents : int
        Number of latents.

    Returns
    -------
    names : mapping of int to str
        Names by latent; empty for None.

    Raises
    ------
    ValueError
        If a sequence has not one name per latent, or a key is no latent.
    """
    if names is None:
        return {}
    if isinstance(names, Mapping):
        unknown = [latent for latent in names if latent not in range(n_latents)]
        if unknown:
            raise ValueError(
                f"names must have latents between 0 and {n_latents - 1} as keys. "
                f"Got {unknown[0]!r} instead."
            )
        return names
    if isinstance(names, str) or len(names) != n_latents:
        raise ValueError(f"names must be a mapping, or have one name for each of {n_latents}.")
    return dict(enumerate(names))


def set_names(estimator):
    """Return the names that were given to the latents of an estimator, by latent.

    Names that scikit-learn generates, such as "pca3" for latent 3, are left out.
    """
    *_, estimator = estimator_layers(estimator)  # earlier steps of a pipeline need not have names
    try:
        names = list(map(str, estimator.get_feature_names_out()))
    except (AttributeError, ValueError):  # a transformer without names, or made of such
        names = []
    return {i: name for i, name in enumerate(names) if not re.fullmatch(rf"[^\W\d]+{i}", name)}


def latent_labels(latents, names, columns=_NAME_COLUMNS):
    """Return the label of each latent, its number and its name, in at most `columns`.

    A name that consists of a word and a number, such as the "topksae7" of a data frame, stands
    alone.
    """
    labels = []
    for latent in latents:
        name = visible(str(names.get(latent, ""))).strip()
        alone = re.fullmatch(r"[^\W\d]+\d+", name)
        labels.append(fit_columns(name if alone else f"{latent} {name}".strip(), columns))
    return labels
