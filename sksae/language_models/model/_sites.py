"""Sites: the activations of a Hugging Face model by name, its blocks found without a table.

The residual stream of block ``l`` enters as ``resid_pre``, is ``resid_mid`` between attention and
MLP, and leaves as ``resid_post``. Attention adds ``attn_out`` to it, and the MLP ``mlp_out``.
The blocks are found by a rule that needs no table; the modules inside a block are one row of the
table in `_families`.
"""

import difflib
import inspect
from numbers import Integral

import torch
from torch import nn

from sksae._hook_names import IN_BLOCKS, point_of_hook, site_of_hook
from sksae.language_models.model._families import family_of
from sksae.language_models.model._hooks import HookPoint

SITES = (*IN_BLOCKS, "embeddings")
"""The sites that have a name; any module path is a site as well."""

# Hooks of TransformerLens that are a side of a module: its path in a block, whichever is there.
_POINTS = {
    "ln2.hook_normalized": (
        "pre_feedforward_layernorm.normalized",
        "ln_2.normalized",
        "post_attention_layernorm.normalized",
        "final_layer_norm.normalized",
        "layer_norm2.normalized",
        "layernorm_after.normalized",
        "mlp_norm.normalized",
        "norm2.normalized",
    ),
    "mlp.hook_in": ("mlp.input",),
    "mlp.hook_out": ("mlp",),
    "mlp.hook_post": ("mlp.act", "mlp.down_proj.input"),
    "attn.hook_z": ("attn.c_proj.input", "attention.dense.input", "self_attn.o_proj.input"),
}


def base_of(model):
    """Return the part of `model` that computes hidden states, without the head on top.

    Raises
    ------
    TypeError
        If `model` is a wrapper that spreads a model over devices.
    """
    model = plain(model)
    base = plain(getattr(model, "base_model", model))
    if not hasattr(base, "config") and isinstance(getattr(base, "module", None), nn.Module):
        raise TypeError(
            f"{type(base).__name__} is a wrapper around a model, and may run copies of it: give "
            f"the model itself, its attribute 'module', and run that."
        )
    return base


def plain(model):
    """Return the model inside the result of `torch.compile`; other models as they are."""
    return getattr(model, "_orig_mod", model)


def find_hook_point(model, layer, site):
    """Return the `HookPoint` of a site, with a path relative to ``base_of(model)``.

    Parameters
    ----------
    model : torch.nn.Module
        A Hugging Face model, with or without a head.
    layer : int or None
        The block, counted from 0, or from the end if negative. None for ``"embeddings"`` and for
        module paths.
    site : str
        One of `SITES`, or the path of a module whose output is wanted, or its input if the path is
        followed by ``".input"``, or of a norm what its weights multiply, if it is followed by
        ``".normalized"``, or the name of a hook of TransformerLens, which has its layer.

    Returns
    -------
    point : HookPoint
        The module and the side of it that carries the site.

    Raises
    ------
    ValueError
        If the model has no such layer or no such site; the message lists those that it has.
    """
    base = base_of(model)
    layer, site = canonical(layer, site)
    if site not in SITES or site == "embeddings":
        # Block 0's input has what the embedding modules alone lack: positions, scale, LayerNorm.
        at_front = site == "embeddings"
        point = HookPoint(f"{find_blocks(base)}.0", "input") if at_front else _path(base, site)
        if layer is not None:
            raise ValueError(f"layer must be None for site={site!r}, got {layer!r}.")
        return point
    blocks = find_blocks(base)
    block = f"{blocks}.{_check_layer(base, blocks, layer)}"
    if site == "resid_pre":
        return HookPoint(block, "input")
    if site == "resid_post":
        return HookPoint(block)
    return _inside(base, block, site)


def canonical(layer, site):
    """Return ``(layer, site)``, translated where the site is a hook name of TransformerLens.

    Raises
    ------
    ValueError
        If the name of a hook, which has its layer, comes with another one.
    """
    translated = site_of_hook(site)
    if translated and layer not in (None, translated[0]):
        raise ValueError(f"layer must be None for site={site!r}, got {layer!r}.")
    return translated or (layer, site)


def split_site(site):
    """Return ``(layer, name)`` of a site written in one piece.

    Parameters
    ----------
    site : str or (int, str)
        ``"3.resid_post"`` or ``(3, "resid_post")``; ``"embeddings"`` and module paths have no
        layer. ``"blocks.3.hook_resid_post"``, as TransformerLens writes it, is the same.

    Raises
    ------
    ValueError
        If `site` is neither, or a named site lacks its layer.
    """
    if isinstance(site, str):
        layer, _, name = site.partition(".")
        if name in SITES and layer.lstrip("-").isdigit():
            return int(layer), name
        if site in SITES and site != "embeddings":
            raise ValueError(f"site={site!r} needs a layer: write '3.{site}' or (3, {site!r}).")
        return canonical(None, site)
    if isinstance(site, (tuple, list)) and len(site) == 2:
        layer, name = site
        numbered = isinstance(layer, Integral) and not isinstance(layer, bool)
        if isinstance(name, str) and (layer is None or numbered):
            return canonical(layer, name)
    raise ValueError(
        f"A site is written '3.resid_post', (3, 'resid_post'), 'embeddings' or as the path of a "
        f"module. Got {site!r}."
    )


def site_label(base, layer, site):
    """Return a site in one piece, as ``"3.resid_post"``, its layer counted from the front."""
    layer, site = canonical(layer, site)
    if layer is None or site not in SITES:
        return site
    return f"{layer % len(base.get_submodule(find_blocks(base)))}.{site}"


def find_blocks(base):
    """Return the path of the `ModuleList` that holds the blocks of `base`.

    It is the outermost list of modules of one class; when there are several, the one whose
    modules the model itself declares as not to be split over devices. Modules that it declares so
    may be of several classes (Jamba's blocks of attention and of Mamba).
    """
    unsplit = set(getattr(base, "_no_split_modules", None) or ())
    lists = {}  # path: (modules, names of their classes)
    for path, module in base.named_modules():
        if isinstance(module, nn.ModuleList):
            classes = {type(plain(block)).__name__ for block in module}
            # Blocks of one kind, or of kinds that the model says are blocks.
            if len(classes) == 1 or (classes and classes <= unsplit):
                lists[path] = module, classes
    outermost = [path for path in lists if not any(path.startswith(f"{p}.") for p in lists)]
    declared = [path for path in outermost if lists[path][1] <= unsplit]
    # A list of one module is a stack only where the model says so.
    candidates = declared or [path for path in outermost if len(lists[path][0]) > 1]
    # Models of images and text answer in text.
    candidates = [path for path in candidates if "language_model" in path.split(".")] or candidates
    if len(candidates) != 1:
        _refuse_shared(base, [len(modules) for modules, _ in lists.values()])
        have = f"several: {', '.join(candidates)}" if candidates else "none"
        raise ValueError(
            f"{type(base).__name__} should have one stack of blocks, but has {have}. Name the "
            f"module you want by its path, as in site='encoder.layers.3'."
        )
    return candidates[0]


def _refuse_shared(base, lengths):
    """Raise a ValueError if a model has more layers than modules in any list, as ALBERT has."""
    config = text_config(base) if hasattr(base, "config") else None
    n_layers = getattr(config, "num_hidden_layers", None)
    if isinstance(n_layers, int) and n_layers > max(lengths, default=n_layers):
        raise ValueError(
            f"The {n_layers} layers of {type(base).__name__} share their modules, which run "
            f"several times in a forward pass, so that none of them is one layer. Only a module "
            f"that runs once can be named by its path, such as one before the layers."
        )


def reads_images(model):
    """Whether a model's main input is pixels."""
    return getattr(model, "main_input_name", None) == "pixel_values"


def takes(base, name):
    """Whether the forward pass of `base` has a parameter `name`, or any keyword."""
    parameters = inspect.signature(base.forward).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def input_device(base):
    """Return the device that inputs go to; offloaded modules fetch theirs themselves."""
    device = next(base.get_input_embeddings().parameters()).device
    return torch.device("cpu") if device.type == "meta" else device


def _check_layer(base, blocks, layer):
    """Return `layer` counted from the front."""
    n_layers = len(base.get_submodule(blocks))
    if layer is None or not -n_layers <= layer < n_layers:
        raise ValueError(
            f"{type(base).__name__} has {n_layers} layers: layer must be an int from 0 to "
            f"{n_layers - 1}, or from -{n_layers} to -1 counted from the end. Got {layer!r}."
        )
    return layer % n_layers


def _inside(base, block, site):
    """Return the hook point of a site within a block."""
    config = text_config(base)
    family = family_of(config)
    if family is None:
        raise ValueError(
            f"The inside of {getattr(config, 'model_type', None)!r} blocks is not known, only "
            f"'resid_pre', 'resid_post' and 'embeddings' are. For site={site!r} name the module "
            f"itself by its path; a block has "
            f"{', '.join(name for name, _ in base.get_submodule(block).named_children())}."
        )
    if site == "resid_mid" and family.parallel:
        why = "" if family.parallel is True else f" ({family.parallel[0]}=True)"
        raise ValueError(
            f"{type(base).__name__} has no 'resid_mid': its attention and MLP both read the "
            f"block's input and are added together{why}. Use 'resid_pre', 'resid_post', "
            f"'attn_out' or 'mlp_out'."
        )
    return parts_of(config, family, block)[site]


def parts_of(config, family, block):
    """Return the hook points of ``"attn_out"``, ``"resid_mid"`` and ``"mlp_out"`` in a block."""
    stream = HookPoint(block, "input")
    scale = getattr(config, family.multiplier) if family.multiplier else 1.0
    attention, mlp = f"{block}.{family.attn_out}", f"{block}.{family.mlp_out}"
    if family.adds_stream:
        middle = HookPoint(attention)
        return {
            "attn_out": HookPoint(attention, earlier=stream, sign=-1),
            "resid_mid": middle,
            "mlp_out": HookPoint(mlp, earlier=middle, sign=-1),
        }
    if family.norms:
        middle = HookPoint(f"{block}.{family.norms[0]}")
    else:
        # The stream goes around the norm that reads it: only the sum can be changed.
        middle = HookPoint(attention, scale=scale, earlier=stream, sign=1)
    return {
        "attn_out": HookPoint(attention, scale=scale),
        "resid_mid": middle,
        "mlp_out": HookPoint(mlp, scale=scale, earlier=stream if family.flat_mlp else None),
    }


def text_config(base):
    """Return the configuration of the blocks."""
    config = base.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _module_of_hook(base, hook, paths):
    """Return the path of the module that a hook of TransformerLens is a side of."""
    layer, point = point_of_hook(hook)
    if point in _POINTS:
        blocks = find_blocks(base)
        block = f"{blocks}.{_check_layer(base, blocks, layer)}"
        for path in _POINTS[point]:
            if f"{block}.{_split_side(path)[0]}" in paths and _is_read(base, path):
                return f"{block}.{path}"
    hooks = ", ".join([*(f"hook_{site}" for site in IN_BLOCKS), *_POINTS])
    raise ValueError(
        f"The hook {hook!r} of TransformerLens has no counterpart in {type(base).__name__} that is "
        f"known here; in a block {hooks} can have one. If it is what some module puts out, give "
        f"the path of that module."
    )


def _split_side(site):
    """Return the path of a module, and the side of it that is meant."""
    for side in ("input", "normalized"):
        if site.endswith(f".{side}"):
            return site.removesuffix(f".{side}"), side
    return site, "output"


def _is_read(base, path):
    """Whether a norm that a hook's name leads to is the one in front of the MLP."""
    module, side = _split_side(path)
    family = family_of(text_config(base))
    return side != "normalized" or (family is not None and family.middle == module)


def _path(base, site):
    """Return a side of the module at a path, written with or without the head's prefix."""
    paths = {path for path, _ in base.named_modules() if path}
    if point_of_hook(site) and site not in paths:
        site = _module_of_hook(base, site, paths)
    module, side = _split_side(site)
    relative = module.removeprefix(f"{getattr(base, 'base_model_prefix', '')}.")
    for path in (module, relative):
        if path in paths:
            return HookPoint(path, side)
    near = difflib.get_close_matches(site, [*SITES, *sorted(paths)], n=3)
    raise ValueError(
        f"site={site!r} is neither one of {', '.join(SITES)} nor a module of "
        f"{type(base).__name__}." + f" Did you mean {' or '.join(map(repr, near))}?" * bool(near)
    )
