"""Plain JSON values of nested data, and digests of them."""

import hashlib
import json
import math

import numpy as np


def plain_json(value, text=str):
    """Return nested data as values that JSON has.

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
        digest.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode("ascii"))
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()
