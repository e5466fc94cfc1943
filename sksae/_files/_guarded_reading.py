"""Files from anybody: regular ones only, in memory in proportion to their size, damage named."""

import json
import stat
import zipfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from sksae._files._writing import as_path

_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_REASON = 500  # characters of what a library says
_RATIO, _SLACK = 16, 2**22  # what a compressed file may unpack to: so many times its size, and more


def regular(path):
    """Return a path if it is a file that ends.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If it is a folder, a pipe or a device.
    """
    path = as_path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
        raise ValueError(f"{path} is not a file, but {kind}.")
    return path


@contextmanager
def damage_named(path, verdict="cannot be read"):
    """Turn whatever a damaged file makes a library raise into a ValueError with its name."""
    as_path(path)
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # the parsers of a damaged file fail in every way there is
        named = isinstance(error, OSError) and error.filename is not None
        if named or str(error).startswith((f"{path} ", f"There is no file {path}")):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0][:_REASON].rstrip(".")
        if isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        raise ValueError(f"{path} {verdict}: {reason}.") from error


def read_json(path, verdict="cannot be read"):
    """Return the value in a JSON file; what is wrong is a ValueError with its name."""
    with damage_named(path, verdict):
        return json.loads(regular(path).read_bytes().decode("utf-8"))


def most_unpacked(path):
    """Return how many bytes may come out of a compressed file: in proportion to its size."""
    return _SLACK + _RATIO * Path(path).stat().st_size


def whole_members(archive, most):
    """Return the members of a zip archive by name, none twice, and all of them within a size.

    Raises
    ------
    ValueError
        If a name is there twice, or they unpack to more than `most` bytes, or by another method
        than that of numpy, which bounds what is unpacked at a time.
    """
    members = {member.filename: member for member in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise ValueError("it has two entries with the same name")
    if not {member.compress_type for member in members.values()} <= _COMPRESSIONS:
        raise ValueError("it is compressed in an unusual way")
    unpacked = sum(member.file_size for member in members.values())
    if unpacked > most:
        raise ValueError(
            f"it claims {unpacked:,} bytes, more than the {most:,} that it may unpack to"
        )
    return members


@contextmanager
def opened_npz(path):
    """Yield ``{name: (shape, load)}`` of the arrays of an npz file; `load` checks their CRC.

    No array takes memory before it is loaded, and none holds objects.
    """
    most = most_unpacked(regular(path))
    with Path(path).open("rb") as raw, zipfile.ZipFile(raw) as archive:
        entries = {}
        for name, member in whole_members(archive, most).items():
            if not name.endswith(".npy"):
                raise ValueError(f"{name} is no array")
            shape = _claimed_shape(archive, member)
            entries[name.removesuffix(".npy")] = shape, partial(_load, archive, member)
        yield entries


def _claimed_shape(archive, member):
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        first = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds objects, not numbers")
        claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if claimed != member.file_size - stream.tell():
            raise ValueError(f"{member.filename} claims {claimed:,} bytes")
    return shape


def _load(archive, member):
    with archive.open(member) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.read(1):  # at the end zipfile compares the CRC
            raise ValueError(f"{member.filename} is longer than its array")
    return array
