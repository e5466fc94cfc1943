"""Attribution nodes of a site: active features and reconstruction errors, with a baseline."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from sksae.language_models.extraction import ActivationExtractor
from sksae.language_models.model import (
    HookPoint,
    TorchDictionary,
    base_of,
    find_target,
    site_label,
    split_site,
)

STREAMS = ("resid_pre", "resid_mid", "resid_post", "embeddings")
_POSITIONS_AT_A_TIME = 64  # dense codes of as many positions exist at once
_ROWS_AT_A_TIME = 1024


class Site(NamedTuple):
    """One site of the model and the dictionary for it; of a transcoder the site it writes to."""

    layer: int | None
    site: str
    label: str
    point: HookPoint
    dictionary: TorchDictionary
    names: Mapping
    source: HookPoint  # what codes are made of: `point`, except for transcoders
    source_site: tuple  # its layer and site


class Nodes(NamedTuple):
    """The nodes of one site: features where they fire in the prompt or its baseline, and errors."""

    site: Site
    x: torch.Tensor  # (n_tokens, width): activations
    baseline: torch.Tensor  # (n_tokens, width)
    error: torch.Tensor  # (n_tokens, width): `x` minus the part that features and intercept explain
    baseline_error: torch.Tensor  # (n_tokens, width)
    position: torch.Tensor  # (n,)
    feature: torch.Tensor  # (n,)
    code: torch.Tensor  # (n,)
    baseline_code: torch.Tensor  # (n,)

    def change(self, position, feature):
        """Return the change of `x` at a position when one node is put at its baseline, (width,)."""
        if feature < 0:
            return self.baseline_error[position] - self.error[position]
        (entry,) = ((self.position == position) & (self.feature == feature)).nonzero()
        step = self.baseline_code[entry] - self.code[entry]
        return step * self.site.dictionary.components(self.x)[feature]

    def effects(self, gradient):
        """Return the effects of the features, (n,), and of the errors, (n_tokens,).

        They are the distance from the baseline times the derivative; `gradient` is the one with
        respect to the activations, (n_tokens, width).
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
        Derivatives with respect to the activations.
    position, feature : Tensor of shape (n,)
        The codes.

    Returns
    -------
    derivatives : Tensor of shape (..., n)
        One for each code.
    """
    derivatives = gradient.new_zeros(*gradient.shape[:-2], len(position))
    components = dictionary.components(gradient)
    for first in range(0, gradient.shape[-2], _POSITIONS_AT_A_TIME):
        block = gradient[..., first : first + _POSITIONS_AT_A_TIME, :]
        inside = ((position >= first) & (position < first + _POSITIONS_AT_A_TIME)).nonzero()[:, 0]
        # Products with the directions in question only, each once.
        columns, slot = feature[inside].unique(return_inverse=True)
        products = block @ components[columns].T
        derivatives[..., inside] = products[..., position[inside] - first, slot]
    return derivatives


def read_sites(model, sites, saes, names, target_sites):
    """Return a `Site` for each of the given sites; the arguments are those of `attribute`.

    Raises
    ------
    TypeError
        If the names are no mapping, or an autoencoder lacks an attribute.
    ValueError
        If the numbers of sites, autoencoders, names or target sites differ, or a site is there
        twice.
    """
    sites = [sites] if _is_site(sites) else list(sites)
    saes = list(saes) if isinstance(saes, (list, tuple)) else [saes]
    if not sites or len(sites) != len(saes):
        raise ValueError(
            f"Each site needs its autoencoder: got {len(sites)} sites and {len(saes)} autoencoders."
        )
    names = _one_per_site(names, sites, "names", several=isinstance(names, (list, tuple)))
    several = target_sites is not None and not _is_site(target_sites)
    target_sites = _one_per_site(target_sites, sites, "target sites", several=several)
    read = []
    for name, sae, of_site, target_site in zip(sites, saes, names, target_sites, strict=True):
        if of_site is not None and not isinstance(of_site, Mapping):
            raise TypeError(
                f"names must map features to names, one mapping or one per site. Got {of_site!r}."
            )
        target = find_target(model, name, sae, target_site)
        if target.point in [earlier.point for earlier in read]:
            raise ValueError(f"The site {name!r} is there twice.")
        label = site_label(base_of(model), target.layer, target.site)
        where = target.layer, target.site, label, target.point
        dictionary, source = TorchDictionary(sae), (target.source, split_site(name))
        read.append(Site(*where, dictionary, of_site or {}, *source))
    return read


def _one_per_site(values, sites, what, *, several):
    """Return one value per site, as a list."""
    values = list(values) if several else [values] * len(sites)
    if len(values) != len(sites):
        raise ValueError(f"Got {what} for {len(values)} sites, but {len(sites)} sites.")
    return values


def read_nodes(site, x, source, baseline):
    """Return the `Nodes` of a site.

    Parameters
    ----------
    site : Site
        The site.
    x : Tensor of shape (n_tokens, width)
        Its activations.
    source : Tensor of shape (n_tokens, source_width)
        What codes are made of.
    baseline : Baseline
        The baseline of the same tokens.
    """
    dictionary = site.dictionary
    dictionary.check_width(source.shape[-1])
    dictionary.check_target_width(x.shape[-1])
    error, baseline_error = torch.empty_like(x), torch.empty_like(x)
    parts = []
    for first in range(0, len(x), _POSITIONS_AT_A_TIME):
        block = slice(first, min(first + _POSITIONS_AT_A_TIME, len(x)))
        codes, baseline_codes = dictionary.encode(source[block]), baseline.codes(block)
        error[block] = x[block] - dictionary.decode(codes)
        baseline_error[block] = baseline.x[block] - dictionary.decode(baseline_codes)
        row, column = ((codes != 0) | (baseline_codes != 0)).nonzero(as_tuple=True)
        parts.append((row + first, column, codes[row, column], baseline_codes[row, column]))
    columns = (torch.cat(column) for column in zip(*parts, strict=True))
    return Nodes(site, x, baseline.x, error, baseline_error, *columns)


class Baseline:
    """Activations that a site has in the baseline, (n_tokens, width), and their codes.

    Parameters
    ----------
    site : Site
        The site.
    x : Tensor of shape (n_tokens, width)
        The activations.
    source : Tensor of shape (n_tokens, source_width)
        What codes are made of.
    """

    def __init__(self, site, x, source):
        self.dictionary = site.dictionary
        self.x = x
        self._source = source

    def codes(self, block):
        """Return the codes of a slice of positions, (n, n_features)."""
        return self.dictionary.encode(self._source[block])


class ZeroBaseline(Baseline):
    """No features and no errors: the intercept of the dictionary."""

    def __init__(self, site, x, source):
        super().__init__(site, site.dictionary.intercept(x).expand_as(x), source)
        self._zero = x.new_zeros(1, self.dictionary.n_features)

    def codes(self, block):
        """Return zeros."""
        return self._zero.expand(block.stop - block.start, -1)


class MeanBaseline(Baseline):
    """Mean activations and mean codes of a background.

    Parameters
    ----------
    site : Site
        The site.
    x : Tensor of shape (n_tokens, width)
        The activations of the prompt.
    source : Tensor of shape (n_tokens, source_width)
        What codes are made of.
    rows, source_rows : ndarray of shape (n_rows, width) and (n_rows, source_width)
        The same of the background.
    stays : Tensor of shape (n_tokens,)
        Mask of the tokens that keep their own values.
    """

    def __init__(self, site, x, source, rows, source_rows, stays):
        mean = torch.from_numpy(rows.mean(0, dtype=np.float64)).to(x.device, x.dtype)
        super().__init__(site, torch.where(stays[:, None], x, mean), source)
        self._mean_codes = _mean_codes(site.dictionary, source_rows).to(x.device, x.dtype)
        self._stays = stays

    def codes(self, block):
        """Return the mean codes, or the codes in the prompt of tokens that stay."""
        return torch.where(self._stays[block, None], super().codes(block), self._mean_codes)


def _mean_codes(dictionary, rows):
    """Return the mean of the codes of rows, float64."""
    total = torch.zeros(dictionary.n_features, dtype=torch.float64)
    for first in range(0, len(rows), _ROWS_AT_A_TIME):
        block = torch.from_numpy(rows[first : first + _ROWS_AT_A_TIME])
        total += dictionary.encode(block).sum(0, dtype=torch.float64)
    return total / len(rows)


def rows_of_background(model, tokenizer, site, background):
    """Return the rows of texts at a site and at its source, special tokens left out."""
    places = [(site.layer, site.site)] + [site.source_site] * (site.source != site.point)
    extractor = ActivationExtractor(
        model, site=places, tokenizer=tokenizer, include_special_tokens=False
    )
    blocks = list(extractor.split(extractor.transform(background)).values())
    if not len(blocks[0]):
        raise ValueError("The background has no tokens.")
    return blocks[0], blocks[-1]


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
