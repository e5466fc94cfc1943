"""Plain JSON values of scores and other nested data."""

import math


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
    >>> from sksae._json import plain_json
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
