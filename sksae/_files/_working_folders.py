"""Temporary folders beside what is written, each of one writer, and none of them left for good.

A writer holds a lock on a file in its folder for as long as it lives. The system releases the lock
when the process ends, however it ends, so that a folder whose lock is free is nobody's. Names are
random: threads, processes, and containers with the same process ids never share a folder.
"""

import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed: that is the lock
    fcntl = None

_PREFIX, LOCK, BEFORE = ".sksae-", "lock", "before"
_SECONDS = 3600  # after which a folder that holds files, but no lock file, is nobody's


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
    """Give an empty folder inside `parent`, of this call alone, and remove it in the end.

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
    """Remove the folders of `working_place` whose writers are no more."""
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
