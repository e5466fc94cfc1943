"""Where the activations are in a Hugging Face model: sites by name, blocks without a table.

The residual stream of block ``l`` enters as ``resid_pre``, is ``resid_mid`` between attention and
MLP, and leaves as ``resid_post``. ``attn_out`` and ``mlp_out`` are what the two parts add to it.
The blocks are found by a rule that needs no table; what is inside a block is one row of `FAMILIES`.
"""

import difflib
from typing import NamedTuple

from torch import nn

from sksae.language_models._hooks import Place

SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "embeddings")
"""The sites that have a name; any module path is a site as well."""


class Family(NamedTuple):
    """Module paths inside one block.

    `attn_out` and `mlp_out` are modules whose output is added to the residual stream, `resid_mid`
    a module whose input is the stream between the two. `parallel` names the flag of the
    configuration that, when true, makes attention and MLP read the same stream.
    """

    attn_out: str
    mlp_out: str
    resid_mid: str
    parallel: str | None = None


_LLAMA = Family("self_attn", "mlp", "post_attention_layernorm")
_GPT2 = Family("attn", "mlp", "ln_2")
# LayerNorm after the sum: attn_out and mlp_out are what goes into the sum.
_BERT = Family("attention.output.dense", "output.dense", "intermediate")

FAMILIES = {
    "bert": _BERT,
    "gpt2": _GPT2,
    "gpt_neo": _GPT2,
    "gpt_neox": Family("attention", "mlp", "post_attention_layernorm", "use_parallel_residual"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "roberta": _BERT,
}
"""The families whose blocks are known, by ``config.model_type``."""


def base_of(model):
    """Return the part of `model` that computes hidden states, without the head on top."""
    return getattr(model, "base_model", model)


def find_place(model, layer, site):
    """Return the `Place` of a site, with a path relative to ``base_of(model)``.

    Parameters
    ----------
    model : torch.nn.Module
        A Hugging Face model, with or without a head.
    layer : int or None
        The block, counted from 0, or from the end if negative. None for ``"embeddings"`` and for
        module paths.
    site : str
        One of `SITES`, or the path of a module whose output is wanted.

    Returns
    -------
    place : Place
        The module and the side of it that carries the site.

    Raises
    ------
    ValueError
        If the model has no such layer or no such site, with what it has instead.
    """
    base = base_of(model)
    if site not in SITES or site == "embeddings":
        if layer is not None:
            raise ValueError(f"layer must be None for site={site!r}, got {layer!r}.")
        # Block 0's input has what the embedding modules alone lack: positions, scale, LayerNorm.
        return (
            Place(f"{find_blocks(base)}.0", "input") if site == "embeddings" else _path(base, site)
        )
    blocks = find_blocks(base)
    block = f"{blocks}.{_check_layer(base, blocks, layer)}"
    if site == "resid_pre":
        return Place(block, "input")
    if site == "resid_post":
        return Place(block)
    return _inside(base, block, site)


def find_blocks(base):
    """Return the path of the `ModuleList` that holds the blocks of `base`.

    It is the outermost list of modules of one class; when there are several, the one whose
    modules the model itself declares as not to be split over devices.
    """
    lists = {
        path: module
        for path, module in base.named_modules()
        if isinstance(module, nn.ModuleList) and len({type(block) for block in module}) == 1
    }
    outermost = [path for path in lists if not any(path.startswith(f"{p}.") for p in lists)]
    unsplit = getattr(base, "_no_split_modules", None) or ()
    declared = [path for path in outermost if type(lists[path][0]).__name__ in unsplit]
    candidates = declared or [path for path in outermost if len(lists[path]) > 1]
    if len(candidates) != 1:
        have = f"several: {', '.join(candidates)}" if candidates else "none"
        raise ValueError(
            f"{type(base).__name__} should have one stack of blocks, but has {have}. Name the "
            f"module you want by its path, as in site='encoder.layers.3'."
        )
    return candidates[0]


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
    """Return the place of a site within a block."""
    kind = getattr(base.config, "model_type", None)
    if kind not in FAMILIES:
        raise ValueError(
            f"The inside of {kind!r} blocks is not known, only 'resid_pre', 'resid_post' and "
            f"'embeddings' are. For site={site!r} name the module itself by its path; a block "
            f"has {', '.join(name for name, _ in base.get_submodule(block).named_children())}."
        )
    family = FAMILIES[kind]
    if site == "resid_mid" and family.parallel and getattr(base.config, family.parallel):
        raise ValueError(
            f"{type(base).__name__} has no 'resid_mid': its attention and MLP both read the "
            f"block's input and are added together ({family.parallel}=True). Use 'resid_pre', "
            f"'resid_post', 'attn_out' or 'mlp_out'."
        )
    return Place(f"{block}.{getattr(family, site)}", "input" if site == "resid_mid" else "output")


def _path(base, site):
    """Return the output of the module at path `site`, written with or without the head's prefix."""
    paths = {path for path, _ in base.named_modules() if path}
    relative = site.removeprefix(f"{getattr(base, 'base_model_prefix', '')}.")
    for path in (site, relative):
        if path in paths:
            return Place(path)
    near = difflib.get_close_matches(site, [*SITES, *sorted(paths)], n=3)
    raise ValueError(
        f"site={site!r} is neither one of {', '.join(SITES)} nor a module of "
        f"{type(base).__name__}." + f" Did you mean {' or '.join(map(repr, near))}?" * bool(near)
    )
