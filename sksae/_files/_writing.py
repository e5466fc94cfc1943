"""Atomic writing: files that are whole or not there."""

import errno
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from sksae._files._working_folders import LOCK, as_path, working_place

_TRIES = 3


@contextmanager
def replacing(path):
    """Give a temporary path for a file, and put it in place when all went well.

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
    """Give an OSError of the system, as of a disk that is full, the name of a file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def _finish(part, path, like):
    """Have a file on the disk, with the mode of the file that it replaces or of any new one."""
    part.chmod(stat.S_IRUSR | stat.S_IWUSR)
    with part.open("rb+") as written:  # Windows syncs what is open for writing only
        os.fsync(written.fileno())  # or the name could outlive a power cut, and not the content
    before = path.stat() if path.exists() else None
    if before is not None and hasattr(os, "chown"):
        for owner in (before.st_uid, -1):
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
        for _ in range(_TRIES):
            if stream.write(data) == len(data):
                return
    raise OSError(errno.ENOSPC, "Not all could be written", str(path))


def sync(file):
    """Have the contents of an open file on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder):
    """Have the names of a folder's files on the disk, where the system knows how."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
