"""Checks of sites on the model itself, by sums that have to hold within a block."""

import contextlib
import weakref

import torch

from sksae.language_models.model._families import family_of
from sksae.language_models.model._hooks import (
    HookPoint,
    capture,
    own_pass,
    visiting,
    without_cache,
    without_interventions,
)
from sksae.language_models.model._sites import (
    SITES,
    base_of,
    canonical,
    find_blocks,
    find_hook_point,
    input_device,
    parts_of,
    reads_images,
    takes,
    text_config,
)

_passed = weakref.WeakKeyDictionary()
_run_once = weakref.WeakKeyDictionary()
_N_TOKENS = 6


def checked_hook_point(model, layer, site):
    """Return the `HookPoint` of a site, after a test that the model's blocks add up as they should.

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
    point : HookPoint
        As from `find_place`.

    Raises
    ------
    ValueError
        As `find_place`, and if the test fails: it says which sum does not come out.
    """
    base = base_of(model)
    layer, site = canonical(layer, site)
    point = find_hook_point(base, layer, site)
    passed = _passed.setdefault(base, set())
    if site in SITES and site != "embeddings" and point not in passed:
        with without_interventions():
            check_identities(base, layer, inside=site not in ("resid_pre", "resid_post"))
        passed.add(point)
    return point


def check_runs_once(base, point):
    """Raise a ValueError if what passes a hook point in one forward pass passes it several times.

    Each hook point of a model is tested once. The pass runs to its end, or as far as the model gets
    with token ids alone.
    """
    tested, n_runs = _run_once.setdefault(base, set()), 0
    if point in tested:
        return

    def count(_):
        nonlocal n_runs
        n_runs += 1

    with (
        without_interventions(),
        own_pass(base),
        torch.no_grad(),
        visiting(base, [(point, count)]),
        contextlib.suppress(Exception),
    ):
        base(**short_inputs(base), **without_cache(base))
    refuse_repeated(base, point, n_runs)
    tested.add(point)


def refuse_repeated(base, point, n_runs):
    """Raise a ValueError if a module ran several times in one forward pass."""
    if n_runs > 1:
        raise ValueError(
            f"The module {point.path!r} runs {n_runs} times in one forward pass of "
            f"{type(base).__name__}, whose layers share it: a token has not one row there, but "
            f"{n_runs}. Name a module that runs once."
        )


def check_identities(base, layer, *, inside):
    """Raise a ValueError if the stream around a block, or inside of it, does not add up."""
    blocks = find_blocks(base)
    n_layers = len(base.get_submodule(blocks))
    layer = layer % n_layers
    block = f"{blocks}.{layer}"
    points = {"resid_pre": HookPoint(block, "input"), "resid_post": HookPoint(block)}
    if layer > 0:
        points["before"] = HookPoint(f"{blocks}.{layer - 1}")
    if layer + 1 < n_layers:
        points["after"] = HookPoint(f"{blocks}.{layer + 1}", "input")
    family = family_of(text_config(base)) if inside else None
    if inside:
        points |= parts_of(text_config(base), family, block)
        if family.parallel:
            del points["resid_mid"]  # a parallel block has no stream between its two parts
        elif family.middle:
            points["middle"] = HookPoint(f"{block}.{family.middle}", "input")
        for name, norm in zip(("attn_sum", "mlp_sum"), family.norms, strict=False):
            points[name] = HookPoint(f"{block}.{norm}", "input")
    tensors = capture(base, points, short_inputs(base))
    pairs = [*_boundaries(tensors), *(_parts(tensors, family) if inside else ())]
    for violation, left, right in pairs:
        _compare(base, f"in block {layer} {violation}", left, right)


def _boundaries(tensors):
    """Yield ``(violation, tensor, tensor)`` per pair that has to be equal around a block."""
    pre, post = tensors["resid_pre"], tensors["resid_post"]
    if "before" in tensors:
        yield "the input is not the output of the block before", pre, tensors["before"]
    if "after" in tensors:
        yield "the output is not the input of the next block", post, tensors["after"]


def _parts(tensors, family):
    """Yield ``(violation, tensor, tensor)`` per pair that has to be equal inside a block."""
    pre, post = tensors["resid_pre"], tensors["resid_post"]
    # On one device, where a model is spread over several.
    attention = pre + tensors["attn_out"].to(pre.device)
    if family.parallel:
        violation = "the input and what attention and MLP add do not sum to the output"
        yield violation, attention + tensors["mlp_out"].to(attention.device), post
        return
    middle = tensors["resid_mid"]
    total = middle + tensors["mlp_out"].to(middle.device)
    if "middle" in tensors:
        yield "the MLP does not read resid_mid", middle, tensors["middle"]
    if family.norms:
        violation = "does not sum up with the stream to what the norm after it reads"
        yield f"attn_out {violation}", attention, tensors["attn_sum"]
        yield f"mlp_out {violation}", total, tensors["mlp_sum"]
    else:
        yield "resid_pre + attn_out is not resid_mid", attention, middle
        yield "resid_mid + mlp_out is not resid_post", total, post


def _compare(base, violation, left, right):
    """Raise a ValueError unless two tensors are equal up to rounding."""
    left, right = left.float(), right.float().to(left.device).reshape(left.shape)
    if not torch.isfinite(left).all() or not torch.isfinite(right).all():
        raise ValueError(f"{type(base).__name__}: activations of six tokens are not finite.")
    difference = float((left - right).abs().max())
    size = float(right.square().mean().sqrt())  # root mean square
    eps = torch.finfo(next(base.parameters()).dtype).eps
    # A sum of three terms may round a few hundred times.
    if difference > 1000 * eps * (size + float(right.abs().max())):
        raise ValueError(
            f"{type(base).__name__} is not built as expected: {violation} (largest difference "
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
    # Different ids, as far as the vocabulary goes.
    ids = torch.arange(1, 1 + _N_TOKENS) % base.get_input_embeddings().num_embeddings
    inputs = {"input_ids": ids[None].to(device)}
    if takes(base, "attention_mask"):
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return inputs
