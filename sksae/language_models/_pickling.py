"""Models in pickles: by name, with a digest of their weights, where a name brings them back."""

import hashlib
import weakref
from pathlib import Path

import torch

from sksae.language_models._loading import is_name
from sksae.language_models._sites import base_of, find_blocks

_SAMPLES = 64  # of each parameter; training changes them all
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}

_digests = weakref.WeakKeyDictionary()


def by_name(state):
    """Return the state of an extractor for a pickle: a model that has a name is left out.

    The name is where `from_pretrained` found the model. Without one, the model itself is in the
    pickle: there is no other way to have it back.
    """
    model = state["model"]
    name = None if is_name(model) else _name_of(model)
    if name is None:
        return state
    # A model from a GPU may come back where there is none.
    device = "cpu" if model.device.type == "cpu" else "auto"
    changed = {"model": name, "device": device, "dtype": _DTYPES[model.dtype]}
    return {**state, **changed, "_weights": (name, digest_of(model))}


def check_weights(extractor, model):
    """Raise a ValueError if an extractor loaded another model than it was pickled with."""
    name, digest = vars(extractor).get("_weights", (None, None))
    if digest is None or extractor.model != name:
        return
    if model not in _digests:
        _digests[model] = digest_of(model)
    if _digests[model] != digest:
        raise ValueError(
            f"The weights of {name!r} are not those of the model that the extractor had when it "
            f"was pickled: it was changed after loading. Save it with save_pretrained and give the "
            f"extractor that path."
        )


def digest_of(model):
    """Return a digest of some numbers of each parameter of the blocks and of the embedding."""
    base, digest = base_of(model), hashlib.sha256()
    parts = {"embedding": base.get_input_embeddings()}
    try:
        parts["blocks"] = base.get_submodule(find_blocks(base))
    except ValueError:  # several stacks: all of it
        parts["base"] = base
    for part, module in parts.items():
        for name, parameter in module.named_parameters():
            values = parameter.detach().flatten()
            some = values[:: max(1, len(values) // _SAMPLES)].float().cpu().contiguous()
            digest.update(f"{part}.{name}{tuple(parameter.shape)}".encode())
            digest.update(some.numpy().tobytes())
    return digest.hexdigest()


def _name_of(model):
    """Return the name or path that brings a model back, or None."""
    name = getattr(model, "name_or_path", "")
    elsewhere = any(parameter.is_meta for parameter in model.parameters())
    if not name or elsewhere or model.dtype not in _DTYPES:
        return None
    if Path(name).is_dir():
        return str(Path(name).resolve())
    # What is left is a name on the hub, or a folder that is gone.
    return name if len(Path(name).parts) <= 2 and not Path(name).is_absolute() else None
