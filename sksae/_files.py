"""Files: whole or not there when written, checked when read.

A writer works in a temporary folder beside the file, and moves the result into place. It holds a
lock on a file in its folder for as long as it lives. The system releases the lock when the process
ends, however it ends, so that a folder whose lock is free is nobody's. Names are random: threads,
processes, and containers with the same process ids never share a folder.

Files from anybody are read if they are regular, in memory in proportion to their size, and damage
is named.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
import time
import zipfile
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed: that is the lock
    fcntl = None

_TRIES = 3
_PREFIX, LOCK, BEFORE = ".sksae-", "lock", "before"
_SECONDS = 3600  # after which a folder that holds files, but no lock file, is nobody's
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_REASON = 500  # characters of what a library says
_RATIO, _SLACK = 16, 2**22  # what a compressed file may unpack to: so many times its size, and more


@contextmanager
def replacing(path):
    """Yield a temporary path for a file, and move it into place if no error is raised.

    Whoever reads the file meanwhile finds what was there before; after an error nothing has
    changed. Of several writers at once the last one wins, whole. A new file has the mode that the
    system gives to new files; one that was there keeps its mode, group and, where that is
    allowed, owner. Of a symbolic link, the file that it leads to is replaced.

    Parameters
    ----------
    path : str or Path
        The file; its folder is made if needed.

    Yields
    ------
    part : Path
        Where to write, a path with the same file name.

    Raises
    ------
    OSError
        If the folder or the file cannot be made, or something else than a file is there.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sksae._files import replacing
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "note.txt") as part:
    ...         _ = part.write_text("whole")
    ...     (Path(folder) / "note.txt").read_text()
    'whole'
    """
    path = as_path(path)
    name, path = path.name, _behind_links(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "A file is needed, but this is a folder", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "A file is needed, but this is a pipe or device", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with working_place(path.parent) as place:
        part = place / "new" / name
        part.parent.mkdir()
        with _named(path):
            yield part
        _finish(part, path, place / LOCK)
        part.replace(path)
        sync_folder(path.parent)


def _behind_links(path):
    """Return the path of the file that a symbolic link leads to, whether or not it is there."""
    if path.is_symlink():
        path = Path(os.path.realpath(path))
        if path.is_symlink():
            raise OSError(errno.ELOOP, "A file is needed, but this link leads to itself", str(path))
    return path


@contextmanager
def _named(path):
    """Add the name of a file to an OSError of the system, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def _finish(part, path, like):
    """Write a file through to the disk, with the mode of the one that it replaces or a new one."""
    part.chmod(stat.S_IRUSR | stat.S_IWUSR)
    with part.open("rb+") as written:  # Windows syncs what is open for writing only
        os.fsync(written.fileno())  # or the name could outlive a power cut, and not the content
    before = path.stat() if path.exists() else None
    if before is not None and hasattr(os, "chown"):
        for owner in (before.st_uid, -1):  # the owner where that is allowed, else the group alone
            with suppress(OSError):
                os.chown(part, owner, before.st_gid)
                break
    part.chmod(stat.S_IMODE((before or like.stat()).st_mode))


def write_text(path, text):
    """Write a text in UTF-8 to a file that is whole or not there."""
    with replacing(path) as part:
        part.write_bytes(text.encode("utf-8"))


def write_safetensors(path, arrays, metadata=None):
    """Write arrays by name to a file of safetensors that is whole or not there.

    Parameters
    ----------
    path : str or Path
        The file.
    arrays : dict of str to ndarray
    metadata : dict of str to str, default=None
        What stands in the header besides.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with replacing(path) as part:
        try:
            save_file(arrays, part, metadata=metadata)
        except SafetensorError as error:  # of the disk: everything else is in order here
            raise OSError(errno.EIO, f"Arrays cannot be written ({error})", str(path)) from error


def append_whole(path, data):
    """Append bytes to a file in one call to the system, all of them or with an error.

    Local file systems do not mix such a call with those of other processes. Where the system takes
    only a part (a disk that is nearly full), all of `data` is appended once more, so that a reader
    finds it in one piece behind the part.

    Parameters
    ----------
    path : str or Path
        The file; it is made where there is none.
    data : bytes
        What to append.

    Raises
    ------
    OSError
        If not all of it is in the file; a part of it may be.
    """
    with as_path(path).open("ab", buffering=0) as stream:
        for _ in range(_TRIES):  # after a part of it, all of it once more
            if stream.write(data) == len(data):
                return
    raise OSError(errno.ENOSPC, "Not all could be written", str(path))


def sync(file):
    """Write the contents of an open file through to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder):
    """Write the names of a folder's files through to the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def as_path(path):
    """Return a str or path-like object as a `Path`.

    Raises
    ------
    TypeError
        If it is neither.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"path must be a str or Path. Got {type(path).__name__} instead.")
    return Path(path)


@contextmanager
def working_place(parent):
    """Yield an empty folder inside `parent` for this call alone, and remove it at the end.

    Folders that killed processes left in `parent` are removed first.

    Parameters
    ----------
    parent : Path
        A folder that exists.

    Yields
    ------
    place : Path
        The folder. A file ``lock`` in it has the mode that new files get; what is moved from
        `parent` into a folder ``before`` in it is moved back if the process is killed.
    """
    remove_abandoned(parent)
    place, lock = _locked(parent)
    try:
        yield place
    finally:
        os.close(lock)
        shutil.rmtree(place, ignore_errors=True)


def remove_abandoned(parent):
    """Remove the folders of `working_place` whose writers have ended."""
    folders = []
    with suppress(OSError), os.scandir(parent) as entries:  # a folder may be writable only
        folders = [Path(entry) for entry in entries if entry.name.startswith(_PREFIX)]
    for place in folders:
        with suppress(OSError):  # of another user, or gone meanwhile
            if place.is_dir() and not place.is_symlink() and _is_abandoned(place):
                _discard(place)


def _locked(parent):
    while True:
        place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        try:
            lock = os.open(place / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileNotFoundError:
            if not parent.is_dir():
                raise
            continue  # another writer took the empty folder for abandoned
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks: nothing is ever abandoned there
                fcntl.flock(lock, fcntl.LOCK_EX)
        if (place / LOCK).exists():
            return place, lock
        os.close(lock)  # another writer was faster to lock it than this one, and removed it


def _discard(place):
    """Remove a folder; what was moved into it, and has no successor, goes back first."""
    for original in (place / BEFORE).glob("*"):
        if not (place.parent / original.name).exists():
            original.rename(place.parent / original.name)
    shutil.rmtree(place, ignore_errors=True)


def _is_abandoned(place):
    if hasattr(os, "geteuid") and place.stat().st_uid != os.geteuid():
        return False
    if not (place / LOCK).exists():
        # Killed before it had a lock, or about to have one: then its writer makes another folder.
        with suppress(OSError):
            place.rmdir()  # only if it is empty
            return False
        return time.time() - place.stat().st_mtime > _SECONDS
    if fcntl is None:
        (place / LOCK).unlink()
        return True
    lock = os.open(place / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _discard(place)  # while it is locked
    finally:
        os.close(lock)
    return False


def plain_json(value, text=str):
    """Return nested data as JSON values.

    Parameters
    ----------
    value : object
        Dicts, lists, tuples, arrays, numbers, strings and anything else.
    text : callable, default=str
        Makes strings of the keys of dicts, of strings, and of all that JSON does not have.

    Returns
    -------
    value : dict, list, str, int, float, bool or None
        The same data; numbers that are not finite are None.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae._files import plain_json
    >>> plain_json({"low": np.float32(0.5), "high": float("nan"), 1: (True, np.arange(2))})
    {'low': 0.5, 'high': None, '1': [True, [0, 1]]}
    """
    if hasattr(value, "tolist"):  # scalars and arrays of numpy, tensors
        value = value.tolist()
    if isinstance(value, dict):
        return {text(key): plain_json(inner, text) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(inner, text) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    return text(value)


def digest_of(value, arrays=None):
    """Return a digest of a JSON value and of arrays by name.

    Parameters
    ----------
    value : object
        Anything that JSON has.
    arrays : dict of str to ndarray, default=None
        Names, types, shapes and numbers all count.

    Returns
    -------
    digest : str
        SHA-256 in hexadecimal.

    Examples
    --------
    >>> from sksae._files import digest_of
    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode("ascii"))
    for name, array in sorted((arrays or {}).items()):
        # Type and shape as well as the numbers.
        digest.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode("ascii"))
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def regular(path):
    """Return a path if it is a regular file, rather than a folder, a pipe or a device.

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
    """Turn the errors that libraries raise for a damaged file into a ValueError with its name."""
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
        # Exact: a product of int64 could overflow.
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
