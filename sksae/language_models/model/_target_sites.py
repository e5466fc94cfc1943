"""Target sites: where an estimator's output belongs, which a transcoder does not read."""

import re
import threading
from typing import NamedTuple

from sksae.language_models.model._hooks import HookPoint, capture, without_interventions
from sksae.language_models.model._site_checks import (
    check_runs_once,
    checked_hook_point,
    short_inputs,
)
from sksae.language_models.model._sites import base_of, find_blocks, split_site
from sksae.language_models.model._torch_dictionary import is_transcoder


class Target(NamedTuple):
    """The site that an estimator writes to, and the hook point that it reads.

    Parameters
    ----------
    layer : int or None
        As for `find_place`.
    site : str
        As for `find_place`.
    point : HookPoint
        What is replaced or changed: the reconstructed site, or what a transcoder predicts.
    source : HookPoint
        What codes are made of. For autoencoders it is `point`.
    """

    layer: int | None
    site: str
    point: HookPoint
    source: HookPoint

    def visits(self, visit):
        """Return the visits of a pass in which a function gets target and source.

        Parameters
        ----------
        visit : callable
            ``visit(x, source)`` gets the tensor at `point` and that at `source`, one row per token
            each, and returns None or the tensor that replaces the first.

        Returns
        -------
        visits : list of (HookPoint, callable)
            As `visiting` takes them.
        """
        if self.point == self.source:
            return [(self.point, lambda x: visit(x, x))]
        memory = threading.local()

        def remember(source):
            # What comes in between may change it in place.
            memory.source = source.detach().clone()

        def change(x):
            source = memory.__dict__.pop("source", None)
            if source is None:
                raise RuntimeError(f"{self.source} must pass before {self.point}.")
            # Tokens as at the target, columns of the source.
            return visit(x, source.to(x.device).reshape(*x.shape[:-1], source.shape[-1]))

        return [(self.source, remember), (self.point, change)]


def find_target(model, site, sae, target_site=None):
    """Return the `Target` of a fitted estimator that reads a site.

    Parameters
    ----------
    model : torch.nn.Module
        A Hugging Face model, with or without a head.
    site : str or (int, str)
        Where the estimator reads, as for `split_site`.
    sae : estimator
        An autoencoder or a transcoder.
    target_site : str or (int, str), default=None
        Where a transcoder writes. None is the ``mlp_out`` of the block that `site` is in.

    Returns
    -------
    target : Target
        The site, checked as by `checked_hook_point`.

    Raises
    ------
    ValueError
        If there is no such site, it runs several times in a pass, an autoencoder is given a target,
        or a target is not computed after what is read.
    """
    layer, name = split_site(site)
    source = _point(model, layer, name)
    if not is_transcoder(sae):
        if target_site is not None:
            raise ValueError(
                f"target_site={target_site!r} is for transcoders: {type(sae).__name__} "
                f"reconstructs the site that it reads."
            )
        return Target(layer, name, source, source)
    if target_site is None:
        layer, name = _layer_of(base_of(model), source, site), "mlp_out"
    else:
        layer, name = split_site(target_site)
    target = Target(layer, name, _point(model, layer, name), source)
    _check_order(base_of(model), target)
    return target


def _point(model, layer, site):
    point = checked_hook_point(model, layer, site)
    check_runs_once(base_of(model), point)
    return point


def _layer_of(base, source, site):
    """Return the number of the block that a hook point is in."""
    inside = re.match(rf"{re.escape(find_blocks(base))}\.(\d+)(\.|$)", source.path)
    if inside is None:
        raise ValueError(
            f"The site {site!r} is in no block whose MLP a transcoder could stand for: say with "
            f"target_site where it writes."
        )
    return int(inside[1])


def _check_order(base, target):
    """Raise a ValueError if a pass gets to the target before it gets to the source."""
    if getattr(base.config, "is_encoder_decoder", False):  # needs the tokens of its decoder as well
        return
    with without_interventions():
        points = {"source": target.source, "target": target.point}
        # Tensors come in the order of the pass.
        first = next(iter(capture(base, points, short_inputs(base))))
    if first != "source":
        raise ValueError(
            f"A transcoder writes behind what it reads, but {target.point} is computed before "
            f"{target.source}: say with target_site where it writes."
        )
