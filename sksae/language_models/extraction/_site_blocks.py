"""Sites of an extractor, whose activations are blocks of columns side by side."""

from numbers import Integral

from sksae.language_models.model import base_of, checked_hook_point, site_label, split_site


class Layers:
    """Rule of the `layer` parameter."""

    def accepts(self, value):
        """Whether `value` is a layer, None or some layers."""
        if isinstance(value, (list, tuple, range)):
            return len(value) > 0 and all(_is_layer(layer) for layer in value)
        return value is None or _is_layer(value)

    def __str__(self):
        return "an int, None or a list of int"


class Sites:
    """Rule of the `site` parameter."""

    def accepts(self, value):
        """Whether `value` is the name of a site, or some sites."""
        if isinstance(value, (list, tuple)):
            return len(value) > 0 and all(map(_is_site, value))
        return isinstance(value, str)

    def __str__(self):
        return "a str or a list of str and of pairs (layer, str)"


def is_several(extractor):
    """Whether an extractor has a list of sites, which may have one entry."""
    return not (isinstance(extractor.site, str) and _is_layer_or_none(extractor.layer))


def hook_points_of(extractor, model):
    """Return the hook points of an extractor by the names of their sites.

    Parameters
    ----------
    extractor : ActivationExtractor
        Every one of its layers is combined with every one of its sites; without layers each site
        has its own.
    model : torch.nn.Module
        Its model.

    Returns
    -------
    points : dict of str to HookPoint
        In the order of the blocks, layer by layer.

    Raises
    ------
    ValueError
        If the model has no such layer or site, a site is there twice, or pairs of layers and sites
        come with layers.
    """
    points = {}
    for layer, site in _places(extractor.layer, extractor.site):
        point = checked_hook_point(model, layer, site)
        label = site_label(base_of(model), layer, site)
        if point in points.values():
            raise ValueError(f"The site {label!r} is there twice.")
        points[label] = point
    return points


def _places(layers, sites):
    """Return pairs of a layer and a site."""
    if isinstance(sites, str) and _is_layer_or_none(layers):
        return [(layers, sites)]
    sites = [sites] if isinstance(sites, str) else sites
    if layers is None:
        return [split_site(site) for site in sites]
    for site in sites:
        if not isinstance(site, str):
            raise ValueError(f"With a pair of layer and site, {site!r}, layer must be None.")
    layers = [layers] if isinstance(layers, Integral) else layers
    return [(layer, site) for layer in layers for site in sites]


def _is_layer(value):
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_layer_or_none(value):
    return value is None or _is_layer(value)


def _is_site(value):
    pair = isinstance(value, (list, tuple)) and len(value) == 2
    return isinstance(value, str) or (
        pair and _is_layer_or_none(value[0]) and isinstance(value[1], str)
    )
