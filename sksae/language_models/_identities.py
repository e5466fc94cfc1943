"""Checks on the model itself that a site is what its name says."""

import contextlib
import weakref

import torch

from sksae.language_models._families import family_of
from sksae.language_models._hooks import (
    Place,
    capture,
    own_pass,
    untouched,
    visiting,
    without_cache,
)
from sksae.language_models._sites import (
    SITES,
    base_of,
    canonical,
    find_blocks,
    find_place,
    input_device,
    parts_of,
    reads_images,
    takes,
    text_config,
)

_passed = weakref.WeakKeyDictionary()
_run_once = weakref.WeakKeyDictionary()
_N_TOKENS = 6


def attach(model, layer, site):
    """Return the `Place` of a site, after a test that the model's blocks add up as they should.

    The output of a block must be the input of the next one; inside a block, what attention and MLP
    add must sum up to the stream. Each site of a model is tested once, with one short pass.

    Parameters
    ----------
    model : torch.nn.Module
        A Hugging Face model, with or without a head.
    layer : int or None
        As for `find_place`.
    site : str
        As for `find_place`.

    Returns
    -------
    place : Place
        As from `find_place`.

    Raises
    ------
    ValueError
        As `find_place`, and if the test fails: it says which sum does not come out.
    """
    base = base_of(model)
    layer, site = canonical(layer, site)
    place = find_place(base, layer, site)
    passed = _passed.setdefault(base, set())
    if site in SITES and site != "embeddings" and place not in passed:
        with untouched():
            check_identities(base, layer, inside=site not in ("resid_pre", "resid_post"))
        passed.add(place)
    return place


def check_runs_once(base, place):
    """Raise a ValueError if what passes a place in one forward pass passes it several times.

    Each place of a model is tested once. The pass runs to its end, or as far as the model gets
    with token ids alone.
    """
    known, n_runs = _run_once.setdefault(base, set()), 0
    if place in known:
        return

    def count(_):
        nonlocal n_runs
        n_runs += 1

    with (
        untouched(),
        own_pass(base),
        torch.no_grad(),
        visiting(base, [(place, count)]),
        contextlib.suppress(Exception),
    ):
        base(**short_inputs(base), **without_cache(base))
    refuse_repeated(base, place, n_runs)
    known.add(place)


def refuse_repeated(base, place, n_runs):
    """Raise a ValueError if a module ran several times in one forward pass."""
    if n_runs > 1:
        raise ValueError(
            f"The module {place.path!r} runs {n_runs} times in one forward pass of "
            f"{type(base).__name__}, whose layers share it: a token has not one row there, but "
            f"{n_runs}. Name a module that runs once."
        )


def check_identities(base, layer, *, inside):
    """Raise a ValueError if the stream around a block, or inside of it, does not add up."""
    blocks = find_blocks(base)
    n_layers = len(base.get_submodule(blocks))
    layer = layer % n_layers
    block = f"{blocks}.{layer}"
    places = {"resid_pre": Place(block, "input"), "resid_post": Place(block)}
    if layer > 0:
        places["before"] = Place(f"{blocks}.{layer - 1}")
    if layer + 1 < n_layers:
        places["after"] = Place(f"{blocks}.{layer + 1}", "input")
    family = family_of(text_config(base)) if inside else None
    if inside:
        places |= parts_of(text_config(base), family, block)
        if family.parallel:
            del places["resid_mid"]
        elif family.middle:
            places["middle"] = Place(f"{block}.{family.middle}", "input")
        for name, norm in zip(("attn_sum", "mlp_sum"), family.norms, strict=False):
            places[name] = Place(f"{block}.{norm}", "input")
    found = capture(base, places, short_inputs(base))
    for what, one, other in [*_boundaries(found), *(_parts(found, family) if inside else ())]:
        _compare(base, f"in block {layer} {what}", one, other)


def _boundaries(found):
    """Yield ``(sentence, tensor, tensor)`` for every pair that has to be equal around a block."""
    if "before" in found:
        yield "the input is not the output of the block before", found["resid_pre"], found["before"]
    if "after" in found:
        yield "the output is not the input of the next block", found["resid_post"], found["after"]


def _parts(found, family):
    """Yield ``(sentence, tensor, tensor)`` for every pair that has to be equal inside a block."""
    attention = found["resid_pre"] + found["attn_out"].to(found["resid_pre"].device)
    if family.parallel:
        what = "the input and what attention and MLP add do not sum to the output"
        yield what, attention + found["mlp_out"].to(attention.device), found["resid_post"]
        return
    total = found["resid_mid"] + found["mlp_out"].to(found["resid_mid"].device)
    if "middle" in found:
        yield "the MLP does not read resid_mid", found["resid_mid"], found["middle"]
    if family.norms:
        what = "does not sum up with the stream to what the norm after it reads"
        yield f"attn_out {what}", attention, found["attn_sum"]
        yield f"mlp_out {what}", total, found["mlp_sum"]
    else:
        yield "resid_pre + attn_out is not resid_mid", attention, found["resid_mid"]
        yield "resid_mid + mlp_out is not resid_post", total, found["resid_post"]


def _compare(base, what, one, other):
    one, other = one.float(), other.float().to(one.device).reshape(one.shape)
    if not torch.isfinite(one).all() or not torch.isfinite(other).all():
        raise ValueError(f"{type(base).__name__}: activations of six tokens are not finite.")
    difference = float((one - other).abs().max())
    size = float(other.square().mean().sqrt())
    eps = torch.finfo(next(base.parameters()).dtype).eps
    if difference > 1000 * eps * (size + float(other.abs().max())):
        raise ValueError(
            f"{type(base).__name__} is not built as expected: {what} (largest difference "
            f"{difference:.3g}, root mean square {size:.3g}). Name the module you want by its path."
        )


def short_inputs(base):
    """Return a few tokens, or one image of noise, as keyword arguments of `base`."""
    device = input_device(base)
    if reads_images(base):
        config, dtype = base.config, next(base.parameters()).dtype
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(1, config.num_channels, height, width, generator=generator)
        return {"pixel_values": image.to(device, dtype)}
    ids = torch.arange(1, 1 + _N_TOKENS) % base.get_input_embeddings().num_embeddings
    inputs = {"input_ids": ids[None].to(device)}
    if takes(base, "attention_mask"):
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return inputs
