"""Tensors of a file, checked against what they should be before any of them takes memory.

Archives of `torch.save` are read without torch's unpickler, with the few operations that numbers,
text, lists, dicts and tensors need. A tensor is a claim about a member of the archive, which is
checked before memory is taken; its checksum is, when it is read.
"""

import io
import json
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from sksae._files import damage_named, opened_npz, read_json, regular, whole_members, write_text

_OPERATIONS = re.findall(
    r"\w+",
    """
PROTO STOP MARK GLOBAL BINPERSID REDUCE BUILD BINPUT LONG_BINPUT BINGET LONG_BINGET
BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE NONE NEWTRUE NEWFALSE
EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
SETITEM SETITEMS APPEND APPENDS
""",
)
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_FOREIGN = (
    "it holds something other than numbers, which might run code. Load it with torch, and save "
    "its state_dict"
)
_MOST_NUMBERS = 17  # that say where a tensor is in its storage: of 8 axes
_BLOCK = 2**22  # bytes that are read at a time
_MEMO_BYTES = 2  # an entry of the memo takes at least so many bytes of the file


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
    # float32 holds all numbers of float16 and bfloat16.
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


class StoredTensor:
    """A tensor of an archive that has not been read.

    Parameters
    ----------
    storage : tuple
        Type, name and length of what it is a view of.
    offset : int
    shape, stride : tuple of int
    """

    def __init__(self, storage, offset, shape, stride):
        dtype, key, length = storage if isinstance(storage, _Storage) else (None, None, 0)
        numbers = (offset, *shape, *stride)
        if dtype is None or any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError(_FOREIGN)
        if len(numbers) > _MOST_NUMBERS:
            raise ValueError("a tensor has too many axes")
        # Index in the storage of the last number.
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if prod(shape) > length or (prod(shape) and last >= length):
            raise ValueError("a tensor claims more numbers than the file has")
        self.dtype, self.key, self.length = dtype, key, length
        self.offset, self.shape, self.stride = offset, tuple(shape), tuple(stride)

    def __setstate__(self, state):
        raise ValueError(_FOREIGN)

    def __repr__(self):
        return f"<tensor of shape {self.shape}>"

    def view(self, buffer):
        """Return the tensor in the memory of its storage."""
        flat = torch.frombuffer(buffer, dtype=self.dtype)
        # Shape, stride and offset were checked against the storage.
        return flat.as_strided(self.shape, self.stride, self.offset)


class _Storage(tuple):
    """Type, name and length of a storage."""

    __slots__ = ()


class _Unpickler(pickle.Unpickler):
    """Unpickler that makes only plain data and `StoredTensor`."""

    def find_class(self, module, name):
        if f"{module}.{name}" in _CALLS:
            return _Call(_CALLS[f"{module}.{name}"])
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise ValueError(_FOREIGN)

    def persistent_load(self, pid):
        if not isinstance(pid, tuple) or len(pid) != 5 or not isinstance(pid[1], torch.dtype):
            raise ValueError(_FOREIGN)
        _, dtype, key, _, length = pid
        if type(key) is not str or type(length) is not int or length < 0:
            raise ValueError(_FOREIGN)
        return _Storage((dtype, key, length))


class _Call:
    """A function that a pickle may call, and can do nothing else with."""

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def __call__(self, *args):
        return self._function(*args)

    def __setstate__(self, state):
        raise ValueError(_FOREIGN)


def _tensor(storage, offset, shape, stride, *_):
    if type(shape) is not tuple or type(stride) is not tuple:
        raise ValueError(_FOREIGN)
    return StoredTensor(storage, offset, shape, stride)


def _first(value, *_):
    return value


# None of them copies what it is given: a few bytes that call them take a few bytes of memory.
_CALLS = {
    "collections.OrderedDict": lambda: OrderedDict(),
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch.Size": _first,
}


@contextmanager
def opened_archive(path):
    """Yield what an archive holds, and a function that reads a `StoredTensor` of it."""
    size = regular(path).stat().st_size
    with Path(path).open("rb") as raw:
        if raw.read(2) == b"\x80\x02" or not zipfile.is_zipfile(raw):
            raise ValueError(
                "it is no archive of torch.save, but a plain pickle or damaged; a pickle can hold "
                "something other than numbers. Load it with torch, and save its state_dict"
            )
        with zipfile.ZipFile(raw) as archive:
            members = whole_members(archive, size)
            if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
                raise ValueError("it is compressed, which torch.save does not do")
            pickles = [name for name in members if re.fullmatch("[^/]+/data.pkl", name)]
            if len(pickles) != 1:
                raise ValueError("it is no archive of torch.save")
            top = pickles[0].removesuffix("data.pkl")
            if f"{top}byteorder" in members and archive.read(f"{top}byteorder") != b"little":
                raise ValueError("its numbers are not little-endian")
            yield _unpickled(archive.read(pickles[0])), partial(_read, archive, top, members)


def _unpickled(raw):
    # All operations are looked at before any of them runs.
    for operation, argument, _ in pickletools.genops(raw):
        if operation.name not in _OPERATIONS:
            raise ValueError(_FOREIGN)
        if operation.name == "LONG_BINPUT" and argument > len(raw) // _MEMO_BYTES:
            raise ValueError("it claims more objects than the file has")
    return _Unpickler(io.BytesIO(raw)).load()


def _read(archive, top, members, tensor):
    name = f"{top}data/{tensor.key}"
    if name not in members:
        raise ValueError(f"it has no {name}")
    if members[name].file_size != tensor.length * tensor.dtype.itemsize:
        raise ValueError(f"{name} does not have the {tensor.length:,} numbers that it should")
    if not tensor.length:
        return torch.empty(tensor.shape, dtype=tensor.dtype)
    # Of the size that the file has, which the storage says too.
    buffer = bytearray(members[name].file_size)
    with archive.open(name) as stream:
        for begin in range(0, len(buffer), _BLOCK):
            block = stream.read(_BLOCK)
            buffer[begin : begin + len(block)] = block
        stream.read(1)  # at the end zipfile compares the CRC
    return tensor.view(buffer)
