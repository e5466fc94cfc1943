"""Digests of JSON values and arrays."""

import hashlib
import json

import numpy as np


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
    found = hashlib.sha256(json.dumps(value, sort_keys=True).encode("ascii"))
    for name, array in sorted((arrays or {}).items()):
        found.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode("ascii"))
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return found.hexdigest()
