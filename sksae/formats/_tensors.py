"""Tensors of a file, checked against what they should be before any of them takes memory."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from sksae._files import damage_named, opened_npz, read_json, regular, write_text
from sksae.formats._torch_archive import StoredTensor, opened_archive


def read_tensors(path, layout, *, sizes=None, optional=(), ignored=(), dtype=None):
    """Return the arrays of a safetensors, npz or torch file by name.

    Parameters
    ----------
    path : Path
    layout : dict of str to str
        Axes of every tensor, such as ``{"W_enc": "d n", "b_enc": "n"}``.
    sizes : dict of str to int, optional
        Lengths of axes that are known already.
    optional, ignored : sequence of str
        Names in the layout that may be missing, and names to pass over; one that ends in a dot
        stands for all that begin with it.
    dtype : dtype, optional
        Of the arrays; None takes float64 if the matrices are, else float32.
    """
    with damage_named(path), _opened(path) as entries:
        return select(entries, layout, sizes=sizes, optional=optional, ignored=ignored, dtype=dtype)


def select(entries, layout, *, sizes=None, optional=(), ignored=(), dtype=None):
    """Return arrays by name from ``{name: (shape, load)}``; see `read_tensors`."""
    # A name that ends with a point stands for all names that begin with it.
    passed = tuple(name for name in ignored if name.endswith("."))
    names = {n for n in entries if n not in ignored and not n.startswith(passed or "\0")}
    missing = sorted(set(layout) - set(optional) - names)
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    unknown = sorted(names - set(layout))
    if unknown:
        raise ValueError(f"it has tensors that are not of this format: {', '.join(unknown[:5])}")
    sizes = dict(sizes or {})
    for name in (n for n in layout if n in names):  # all of them, before the first is read
        axes, shape = layout[name].split(), entries[name][0]
        expected = [sizes.get(axis) for axis in axes]
        if len(shape) != len(axes) or any(
            e not in (None, s) for e, s in zip(expected, shape, strict=True)
        ):
            expected_shape = ", ".join(str(sizes.get(axis, axis)) for axis in axes)
            raise ValueError(f"{name} has shape {tuple(shape)}, not ({expected_shape})")
        sizes.update(zip(axes, shape, strict=True))
    if 0 in sizes.values():
        raise ValueError("it is empty")
    arrays = {n: entries[n][1]() for n in layout if n in names}
    if dtype is None:
        # Scalars and vectors can be float64 in files whose matrices are float32.
        matrices = {a.dtype for a in arrays.values() if a.ndim > 1}
        dtype = np.float64 if matrices == {np.dtype(np.float64)} else np.float32
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has entries that are not finite")
        arrays[name] = array.astype(dtype, copy=False)
    return arrays


@contextmanager
def opened_torch(path):
    """Yield the dict in a file of `torch.save`, and a function that reads a tensor of it."""
    with damage_named(path), opened_archive(path) as (content, read):
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
            raise ValueError("it holds no weights by name")
        yield content, read


def tensor_entries(content, read):
    """Return ``{name: (shape, load)}`` of the tensors of a dict."""
    tensors = {n: t for n, t in content.items() if isinstance(t, StoredTensor)}
    return {n: (t.shape, lambda t=t: _as_array(read(t))) for n, t in tensors.items()}


@contextmanager
def _opened(path):
    suffix = Path(path).suffix
    if suffix == ".safetensors":
        with safe_open(regular(path), framework="pt", device="cpu") as file:
            yield {
                name: (
                    tuple(file.get_slice(name).get_shape()),
                    lambda name=name: _as_array(file.get_tensor(name)),
                )
                for name in file.keys()  # noqa: SIM118 - a file, not a dict
            }
    elif suffix == ".npz":
        with opened_npz(path) as entries:
            yield {n: (shape, lambda f=load: _numbers(f())) for n, (shape, load) in entries.items()}
    else:
        with opened_torch(path) as (content, read):
            inner = content.get("sae")  # OpenMOSS puts the weights beside a version
            yield tensor_entries(inner if isinstance(inner, dict) else content, read)


def _as_array(tensor):
    if tensor.is_complex():
        raise ValueError("it has complex numbers")
    wide = tensor if tensor.dtype == torch.float64 else tensor.float()
    return _numbers(wide.detach().contiguous().numpy())


def _numbers(array):
    if array.dtype.kind not in "fiu":
        raise ValueError(f"it has entries of type {array.dtype} where numbers are needed")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def read_object(path):
    """Return the object in a JSON file."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} cannot be read: it holds no JSON object.")
    return content


def write_json(path, content):
    """Write an object to a file, whole or not at all."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def tensor_names(path):
    """Return the names of the tensors of a file."""
    with damage_named(path), _opened(path) as entries:
        return sorted(entries)
