"""Archives of `torch.save`: plain data and lazily read tensors, without torch's unpickler.

The pickle in an archive is read with the few operations that `torch.save` needs for numbers, text,
lists, dicts and tensors. A tensor is a claim about a member of the archive, which is checked before
memory is taken; its checksum is, when it is read.
"""

import io
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path

import torch

from sksae._files import regular, whole_members

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
        return flat.as_strided(self.shape, self.stride, self.offset)


class _Storage(tuple):
    """Type, name and length of a storage."""

    __slots__ = ()


class _Unpickler(pickle.Unpickler):
    """Makes nothing but plain data and `StoredTensor`."""

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
    buffer = bytearray(members[name].file_size)
    with archive.open(name) as stream:
        for begin in range(0, len(buffer), _BLOCK):
            block = stream.read(_BLOCK)
            buffer[begin : begin + len(block)] = block
        stream.read(1)  # at the end zipfile compares the CRC
    return tensor.view(buffer)
