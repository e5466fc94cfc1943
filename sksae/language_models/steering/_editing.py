"""Rows of a site changed while a context is open: the ground of `steer` and `patch`."""

import contextlib

import torch

from sksae._modes import own_modes
from sksae.language_models._dictionary import wide
from sksae.language_models._hooks import capture, is_untouched, untouched, visiting
from sksae.language_models._identities import attach, short_inputs
from sksae.language_models._sites import SITES, base_of, split_site, text_config


def editable(model, site):
    """Return the `Place` of a site and its width, None where only a pass would tell.

    Raises
    ------
    TypeError
        If `model` is the name of a model.
    ValueError
        If there is no such site.
    RuntimeError
        If the site is a module that never runs.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            f"The model itself is needed, a PreTrainedModel, not {type(model).__name__}: what is "
            f"done to it holds for the passes of this object."
        )
    layer, name = split_site(site)
    base = base_of(model)
    place = attach(model, layer, name)
    if name in SITES:
        return place, getattr(text_config(base), "hidden_size", None)
    if getattr(base.config, "is_encoder_decoder", False):
        return place, None
    with untouched():
        return place, capture(base, {"x": place}, short_inputs(base))["x"].shape[-1]


@contextlib.contextmanager
def editing(model, place, positions, edit):
    """Let a function change rows of a place while the context is open.

    Parameters
    ----------
    model : torch.nn.Module
        The model, with or without a head.
    place : Place
        Where.
    positions : Positions
        Which rows.
    edit : callable
        ``edit(rows)`` gets those rows, (n, width), at least float32, and returns rows like them.
        Where they are equal, the model's own stay as they are, bit for bit.
    """
    base = base_of(model)

    def visit(x):
        if is_untouched():
            return None
        with own_modes():
            return _edited(x, positions.mask(x), edit)

    with positions.following(base, place.path), visiting(base, [(place, visit)]):
        yield


def _edited(x, mask, edit):
    """Return `x` with the rows of `mask` edited, or None if that changes nothing."""
    rows = x[mask].to(wide(x))
    if not len(rows):
        return None
    new = edit(rows)
    changed = (new != rows).any(-1)
    if not changed.any():
        return None
    where = mask.clone()
    where[mask] = changed
    edited = x.clone()
    edited[where] = new[changed].to(x.dtype)
    return edited
