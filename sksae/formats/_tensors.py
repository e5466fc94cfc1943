"""Tensors of a file, checked against what they should be before any of them takes memory."""

import json
import pickle
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from sksae._files import replacing

_INFLATION = 1100  # deflate makes nothing more than about a thousand times smaller


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
    with _damage_named(path), _opened(path) as entries:
        return select(entries, layout, sizes=sizes, optional=optional, ignored=ignored, dtype=dtype)


def select(entries, layout, *, sizes=None, optional=(), ignored=(), dtype=None):
    """Return arrays by name from ``{name: (shape, load)}``; see `read_tensors`."""
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
            wanted = ", ".join(str(sizes.get(axis, axis)) for axis in axes)
            raise ValueError(f"{name} has shape {tuple(shape)}, not ({wanted})")
        sizes.update(zip(axes, shape, strict=True))
    if 0 in sizes.values():
        raise ValueError("it is empty")
    arrays = {n: entries[n][1]() for n in layout if n in names}
    if dtype is None:
        matrices = {a.dtype for a in arrays.values() if a.ndim > 1}
        dtype = np.float64 if matrices == {np.dtype(np.float64)} else np.float32
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has entries that are not finite")
        arrays[name] = array.astype(dtype, copy=False)
    return arrays


def load_torch(path):
    """Return what a file of `torch.save` holds, a dict; nothing but plain data is unpickled."""
    with _damage_named(path):
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
            raise ValueError("it holds no weights by name")
        return content


def tensor_entries(content):
    """Return ``{name: (shape, load)}`` of the tensors of a dict."""
    tensors = {n: t for n, t in content.items() if isinstance(t, torch.Tensor)}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise ValueError(f"{name} is no plain tensor")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name} claims more numbers than the file has")
    return {n: (tuple(t.shape), partial(_as_array, t)) for n, t in tensors.items()}


@contextmanager
def _damage_named(path):
    """Turn whatever a damaged file makes a library raise into a ValueError with its name."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries wonder about files that are none of theirs
            yield
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # the parsers of a damaged file fail in every way there is
        if str(error).startswith(f"{path} "):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0].rstrip(".")
        if isinstance(error, pickle.UnpicklingError):
            reason = "it holds something other than numbers, which might run code"
        raise ValueError(f"{path} cannot be read: {reason}.") from error


@contextmanager
def _opened(path):
    suffix = Path(path).suffix
    if suffix == ".safetensors":
        with safe_open(path, framework="pt", device="cpu") as file:
            yield {
                name: (
                    tuple(file.get_slice(name).get_shape()),
                    lambda name=name: _as_array(file.get_tensor(name)),
                )
                for name in file.keys()  # noqa: SIM118 - a file, not a dict
            }
    elif suffix == ".npz":
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            shapes = {m.filename.removesuffix(".npy"): _npy_shape(file, m) for m in _members(file)}
            yield {
                n: (shape, lambda n=n: _numbers(np.asarray(file[n]))) for n, shape in shapes.items()
            }
    else:
        content = load_torch(path)
        inner = content.get("sae")  # OpenMOSS puts the weights beside a version
        yield tensor_entries(inner if isinstance(inner, dict) else content)


def _members(file):
    members = file.zip.infolist()
    for member in members:
        if member.file_size > _INFLATION * max(member.compress_size, 1):
            raise ValueError(f"{member.filename} claims more numbers than the file has")
    return members


def _npy_shape(file, member):
    with file.zip.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        first = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if claimed != member.file_size - stream.tell():
            raise ValueError(f"{member.filename} claims {claimed:,} bytes")
    return shape


def _as_array(tensor):
    if tensor.is_complex():
        raise ValueError("it has complex numbers")
    wide = tensor if tensor.dtype == torch.float64 else tensor.float()
    return _numbers(wide.detach().contiguous().numpy())


def _numbers(array):
    if array.dtype.kind not in "fiu":
        raise ValueError(f"it has entries of type {array.dtype} where numbers are needed")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def read_json(path):
    """Return the object in a JSON file."""
    with _damage_named(path):
        content = json.loads(Path(path).read_bytes().decode("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
        return content


def write_safetensors(path, arrays):
    """Write arrays to a file, whole or not at all."""
    with replacing(path) as part:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, part)


def write_json(path, content):
    """Write an object to a file, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def tensor_names(path):
    """Return the names of the tensors of a file."""
    with _damage_named(path), _opened(path) as entries:
        return sorted(entries)
