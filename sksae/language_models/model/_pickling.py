"""Models in pickles: a name instead of the model, and a fingerprint to compare it with."""

import json
import types
import weakref
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sksae.language_models.model._hooks import one_pass_at_a_time
from sksae.language_models.model._model_loading import is_name
from sksae.language_models.model._sites import base_of

_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
_LARGEST_DERIVED = 4096  # numbers of a derived buffer that are kept as they are
_NOT_FOREIGN = ("transformers", "accelerate", "torch")

# Settings and attributes that do not change hidden states, or that every loading sets anew.
_SETTINGS_WITHOUT_EFFECT = {
    "architectures",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "id2label",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
_ATTRIBUTES_WITHOUT_EFFECT = {"training", "gradient_checkpointing", "max_seq_len_cached"}

_fingerprints = weakref.WeakKeyDictionary()


class Fingerprint(NamedTuple):
    """Facts that two models with the same activations have in common.

    Parameters
    ----------
    settings : dict of str to str
        The entries of the configuration as JSON, by their dotted names.
    base : dict of str to int
        A checksum per parameter, buffer and module of the model without its head, by name.
    derived : dict of str to ndarray
        Small buffers that the model computes when it is built, such as the frequencies of rotary
        positions: devices round them differently, so that they are compared as numbers.
    head : dict of str to int
        Checksums of tensors outside of the base; empty for a model without a head.
    """

    settings: dict
    base: dict
    derived: dict
    head: dict

    def difference(self, other):
        """Return the first difference from another fingerprint as text, empty if there is none."""
        for part, facts, of_other in (
            ("the configuration", self.settings, other.settings),
            ("the model", self.base, other.base),
            ("the head", self.head, other.head if self.head else {}),
        ):
            # A head counts only where both models have one.
            if part == "the head" and not of_other:
                continue
            if names := _differing(facts, of_other, lambda a, b: a == b):
                return f"{part} ({_listed(names)})"
        names = _differing(self.derived, other.derived, _close)
        return f"the model ({_listed(names)})" if names else ""


def state_by_name(state):
    """Return the state of an extractor for a pickle, in which a model is replaced by its name.

    The name is where `from_pretrained` found the model. Without one, the model itself is in the
    pickle: there is no other way to have it back.

    Raises
    ------
    ValueError
        If the weights are not in memory, or modules have hooks that a name does not bring back.
    """
    model = state["model"]
    if is_name(model):
        return state
    _check_in_memory(model)
    name = _name_of(model)
    if name is None:
        return state
    # The hooks of a pass that another thread runs at this moment would be taken for foreign ones.
    with one_pass_at_a_time:
        _check_hooks(model)
        fingerprint = fingerprint_of(model)
    # A model from a GPU may come back where there is none.
    device = "cpu" if model.device.type == "cpu" else "auto"
    changed = {"model": name, "device": device, "dtype": _DTYPES[model.dtype]}
    return {**state, **changed, "_weights": (name, fingerprint)}


def check_weights(extractor, model):
    """Raise a ValueError if an extractor loaded another model than it was pickled with.

    The fingerprint of a loaded model is taken once.
    """
    # Only for the model it was pickled with.
    name, pickled = vars(extractor).get("_weights", (None, None))
    if pickled is None or extractor.model != name:
        return
    if model not in _fingerprints:
        _fingerprints[model] = fingerprint_of(model)
    if difference := pickled.difference(_fingerprints[model]):
        raise ValueError(
            f"The weights of {name!r} are not those of the model that the extractor had when it "
            f"was pickled: {difference} was changed after loading. Save it with save_pretrained "
            f"and give the extractor that path."
        )


def fingerprint_of(model):
    """Return the `Fingerprint` of a model, which reads every number of it once.

    Checksums are CRC-32, which finds every change within four bytes for certain and any other one
    with a probability of 1 - 2**-32; one core reads some gigabytes per second.
    """
    base = base_of(model)
    checksums, derived = {}, {}
    for name, module in base.named_modules():
        if name.split(".")[0] == "pooler":
            # It gives no row, and files of models without one leave it to chance.
            continue
        checksums[f"{name}()"] = zlib.crc32(_code_of(module).encode())
        for attribute, tensor in _tensors(module):
            path = f"{name}.{attribute}" if name else attribute
            if _set_in_each_pass(module, attribute):
                continue
            computed = (
                attribute in module._non_persistent_buffers_set and tensor.is_floating_point()
            )
            if computed and tensor.numel() <= _LARGEST_DERIVED:
                derived[path] = tensor.detach().cpu().double().numpy()
            else:
                checksums[path] = _checksum(tensor)
    inside = {id(tensor) for module in base.modules() for _, tensor in _tensors(module)}
    head = {
        f"{name}.{attribute}": _checksum(tensor)
        for name, module in model.named_modules()
        for attribute, tensor in _tensors(module)
        if id(tensor) not in inside
    }
    return Fingerprint(_settings(base.config.to_dict()), checksums, derived, head)


def _set_in_each_pass(module, name):
    """Whether a buffer holds rotary frequencies for the length last read, made from others."""
    kinds = getattr(module, "rope_type", None)
    kinds = kinds.values() if isinstance(kinds, dict) else [kinds]
    chosen = any(kind in ("dynamic", "longrope") for kind in kinds)
    return chosen and name.endswith("inv_freq") and "original" not in name


def _tensors(module):
    """Yield the parameters and buffers that a module itself owns."""
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)


def _checksum(tensor):
    """Return a checksum of the shape, the dtype and the bytes of a tensor."""
    facts = f"{tuple(tensor.shape)} {tensor.dtype}".encode()
    values = tensor.detach().contiguous().flatten().view(torch.uint8)  # bytes of the numbers
    return zlib.crc32(values.cpu().numpy(), zlib.crc32(facts))


def _code_of(module):
    """Return the class of a module, and the numbers and functions that are its attributes."""
    lines = [type(module).__qualname__]
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or name in _ATTRIBUTES_WITHOUT_EFFECT:
            continue
        if isinstance(value, (bool, int, float)):
            lines.append(f"{name}={value!r}")
        elif isinstance(value, (types.FunctionType, types.BuiltinFunctionType)):
            lines.append(f"{name}={value.__module__}.{value.__qualname__}")
    return "\n".join(lines)


def _settings(config, prefix=""):
    """Return the entries of a nested configuration as JSON, by their dotted names."""
    settings = {}
    for name, value in config.items():
        name = str(name)
        if name.startswith("_") or name in _SETTINGS_WITHOUT_EFFECT:
            continue
        if isinstance(value, dict):
            settings |= _settings(value, f"{prefix}{name}.")
        else:
            settings[prefix + name] = json.dumps(value, default=str)
    return settings


def _check_in_memory(model):
    """Raise a ValueError if weights are on the meta device, as offloaded ones are."""
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise ValueError(
                f"The weights of the {type(model).__name__} are not in memory ({name}), so that a "
                f"pickle can neither hold nor compare them. Give the extractor the model's name or "
                f"path instead."
            )


def _check_hooks(model):
    """Raise a ValueError if a module has a hook, or a forward pass, that is not of its library."""
    for name, module in model.named_modules():
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        foreign = [hook for hook in hooks if _origin(hook).split(".")[0] not in _NOT_FOREIGN]
        # accelerate, which leaves an _hf_hook, replaces the forward pass to move inputs.
        replaced = "forward" in vars(module) and not hasattr(module, "_hf_hook")
        if foreign or replaced:
            addition = "a hook" if foreign else "a forward pass of its own"
            raise ValueError(
                f"The module {name!r} of the {type(model).__name__} has {addition}, which is not "
                f"there when the model is loaded by name in another process. Take it away before "
                f"the extractor is pickled (an open `steer` or `patch` is one as well)."
            )


def _origin(hook):
    """Return the name of the module that a hook was defined in."""
    return getattr(hook, "__module__", None) or type(hook).__module__


def _differing(one, other, same):
    """Return the names whose values differ or that only one of two dicts has."""
    names = sorted(one.keys() | other.keys())
    return [n for n in names if n not in one or n not in other or not same(one[n], other[n])]


def _close(one, other):
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-5, atol=0, equal_nan=True)


def _listed(names):
    return ", ".join(names[:3]) + f" and {len(names) - 3} more" * (len(names) > 3)


def _name_of(model):
    """Return the name or path that brings a model back, or None."""
    name = getattr(model, "name_or_path", "")
    if not name or model.dtype not in _DTYPES:
        return None
    if Path(name).is_dir():
        return str(Path(name).resolve())
    # What is left is a name on the hub, or a folder that is gone.
    return name if len(Path(name).parts) <= 2 and not Path(name).is_absolute() else None
