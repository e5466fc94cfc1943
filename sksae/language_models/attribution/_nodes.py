"""What can be given part of the credit at a site: active features and errors, with a baseline."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from sksae.language_models._dictionary import Dictionary
from sksae.language_models._hooks import Place
from sksae.language_models._identities import attach, check_runs_once
from sksae.language_models._sites import SITES, base_of, find_blocks, split_site
from sksae.language_models.extraction._extractor import ActivationExtractor

STREAMS = ("resid_pre", "resid_mid", "resid_post", "embeddings")
_POSITIONS_AT_A_TIME = 64  # dense codes of as many positions exist at once
_ROWS_AT_A_TIME = 1024


class Site(NamedTuple):
    """One site as a user gives it, and the dictionary for it."""

    layer: int | None
    site: str
    label: str
    place: Place
    dictionary: Dictionary
    names: Mapping


class Nodes(NamedTuple):
    """The nodes of one site: features where they fire in the prompt or its baseline, and errors."""

    site: Site
    x: torch.Tensor  # (n_tokens, width): what passes the site
    baseline: torch.Tensor  # (n_tokens, width)
    error: torch.Tensor  # (n_tokens, width): what the dictionary leaves out of `x`
    baseline_error: torch.Tensor  # (n_tokens, width)
    position: torch.Tensor  # (n,)
    feature: torch.Tensor  # (n,)
    code: torch.Tensor  # (n,)
    baseline_code: torch.Tensor  # (n,)

    def change(self, position, feature):
        """Return what putting one node at its baseline adds to `x` at its position, (width,)."""
        if feature < 0:
            return self.baseline_error[position] - self.error[position]
        (entry,) = ((self.position == position) & (self.feature == feature)).nonzero()
        step = self.baseline_code[entry] - self.code[entry]
        return step * self.site.dictionary.components(self.x)[feature]

    def effects(self, gradient):
        """Return what each feature, (n,), and each error, (n_tokens,), contributes.

        It is the distance from the baseline times the derivative; `gradient` is the one with
        respect to what passes the site, (n_tokens, width).
        """
        along = along_features(self.site.dictionary, gradient, self.position, self.feature)
        errors = ((self.error - self.baseline_error) * gradient).sum(-1)
        return (self.code - self.baseline_code) * along, errors


def along_features(dictionary, gradient, position, feature):
    """Return the derivatives with respect to codes, ``gradient[..., position] @ W[feature]``.

    Parameters
    ----------
    dictionary : Dictionary
        The autoencoder.
    gradient : Tensor of shape (..., n_tokens, width)
        Derivatives with respect to what passes the site.
    position, feature : Tensor of shape (n,)
        The codes.

    Returns
    -------
    derivatives : Tensor of shape (..., n)
        One for each code.
    """
    found = gradient.new_zeros(*gradient.shape[:-2], len(position))
    components = dictionary.components(gradient)
    for first in range(0, gradient.shape[-2], _POSITIONS_AT_A_TIME):
        some = gradient[..., first : first + _POSITIONS_AT_A_TIME, :]
        here = ((position >= first) & (position < first + _POSITIONS_AT_A_TIME)).nonzero()[:, 0]
        columns, slot = feature[here].unique(return_inverse=True)
        products = some @ components[columns].T
        found[..., here] = products[..., position[here] - first, slot]
    return found


def read_sites(model, sites, saes, names):
    """Return a `Site` for each site that a user gives.

    Raises
    ------
    TypeError
        If the names are no mapping, or an autoencoder lacks what it needs.
    ValueError
        If the numbers of sites, autoencoders and names differ, or a site is there twice.
    """
    sites = [sites] if _is_site(sites) else list(sites)
    saes = list(saes) if isinstance(saes, (list, tuple)) else [saes]
    if not sites or len(sites) != len(saes):
        raise ValueError(
            f"Each site needs its autoencoder: got {len(sites)} sites and {len(saes)} autoencoders."
        )
    names = list(names) if isinstance(names, (list, tuple)) else [names] * len(sites)
    if len(names) != len(sites):
        raise ValueError(f"Got names for {len(names)} sites, but {len(sites)} sites.")
    found = []
    for given, sae, named in zip(sites, saes, names, strict=True):
        if named is not None and not isinstance(named, Mapping):
            raise TypeError(
                f"names must map features to names, one mapping or one a site. Got {named!r}."
            )
        layer, site = split_site(given)
        place = attach(model, layer, site)
        check_runs_once(base_of(model), place)
        if place in [other.place for other in found]:
            raise ValueError(f"The site {given!r} is there twice.")
        label = _label(model, layer, site)
        found.append(Site(layer, site, label, place, Dictionary(sae), named or {}))
    return found


def read_nodes(site, x, baseline, codes_of):
    """Return the `Nodes` of a site.

    Parameters
    ----------
    site : Site
        The site.
    x, baseline : Tensor of shape (n_tokens, width)
        What passes it, and what would in the baseline.
    codes_of : callable
        From a slice of positions to the codes of the baseline there, (n, n_features).
    """
    dictionary = site.dictionary
    dictionary.check_width(x.shape[-1])
    error, baseline_error = torch.empty_like(x), torch.empty_like(x)
    parts = []
    for first in range(0, len(x), _POSITIONS_AT_A_TIME):
        here = slice(first, min(first + _POSITIONS_AT_A_TIME, len(x)))
        codes, others = dictionary.encode(x[here]), codes_of(here)
        error[here] = x[here] - dictionary.decode(codes)
        baseline_error[here] = baseline[here] - dictionary.decode(others)
        row, column = ((codes != 0) | (others != 0)).nonzero(as_tuple=True)
        parts.append((row + first, column, codes[row, column], others[row, column]))
    columns = (torch.cat(column) for column in zip(*parts, strict=True))
    return Nodes(site, x, baseline, error, baseline_error, *columns)


def baseline_of(kind, site, x, other=None, background=None):
    """Return what passes `site` in the baseline, and the codes there, as for `read_nodes`.

    Parameters
    ----------
    kind : {"patch", "mean", "zero"}
        Which baseline.
    site : Site
        The site.
    x : Tensor of shape (n_tokens, width)
        What passes it.
    other : Tensor of shape (n_tokens, width), default=None
        What passes it in the counterfactual prompt.
    background : (ndarray of shape (n_rows, width), Tensor of shape (n_tokens,)), default=None
        What passes it in the background, and which tokens of the prompt stay as they are.
    """
    dictionary = site.dictionary
    if kind == "patch":
        return other, lambda here: dictionary.encode(other[here])
    if kind == "zero":
        nothing = x.new_zeros(1, dictionary.n_features)
        value = dictionary.intercept(x).expand_as(x)
        return value, lambda here: nothing.expand(here.stop - here.start, -1)
    rows, stays = background
    mean, codes = _means(dictionary, rows, x)
    value = torch.where(stays[:, None], x, mean)
    return value, lambda here: torch.where(stays[here, None], dictionary.encode(x[here]), codes)


def _means(dictionary, rows, x):
    """Return the mean of rows and of their codes, next to `x`."""
    total = torch.zeros(dictionary.n_features, dtype=torch.float64)
    for first in range(0, len(rows), _ROWS_AT_A_TIME):
        some = torch.from_numpy(rows[first : first + _ROWS_AT_A_TIME])
        total += dictionary.encode(some).sum(0, dtype=torch.float64)
    mean = torch.from_numpy(rows.mean(0, dtype=np.float64))
    return mean.to(x.device, x.dtype), (total / len(rows)).to(x.device, x.dtype)


def rows_of_background(model, tokenizer, site, background):
    """Return what passes a site in some texts, one row a token, special tokens left out."""
    extractor = ActivationExtractor(
        model, layer=site.layer, site=site.site, tokenizer=tokenizer, include_special_tokens=False
    )
    rows = extractor.transform(background)
    if not len(rows):
        raise ValueError("The background has no tokens.")
    return rows


def _is_site(value):
    """Whether `value` is one site rather than several."""
    if isinstance(value, str):
        return True
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"sites must be one site or a list of them. Got {value!r}.")
    return (
        len(value) == 2
        and isinstance(value[1], str)
        and not isinstance(value[0], (str, tuple, list))
    )


def _label(model, layer, site):
    if layer is None or site not in SITES:
        return site
    base = base_of(model)
    return f"{layer % len(base.get_submodule(find_blocks(base)))}.{site}"
