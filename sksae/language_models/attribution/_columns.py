"""What the tables of this package have in common: dataclasses whose arrays are columns."""

from dataclasses import fields, replace

import numpy as np

from sksae._optional import needed


def columns(table):
    """Return the columns of a table by name: the fields that are arrays."""
    values = {one.name: getattr(table, one.name) for one in fields(table)}
    return {name: x for name, x in values.items() if isinstance(x, np.ndarray)}


def lines_of(table, rows):
    """Return the table of some lines: a slice, a mask, numbers of lines or one number."""
    if np.ndim(rows) == 0 and not isinstance(rows, slice):
        rows = [rows]
    return replace(table, **{name: column[rows] for name, column in columns(table).items()})


def frame_of(table):
    """Return the columns of a table as a data frame."""
    pd = needed("pandas", f"{type(table).__name__}.to_frame")
    return pd.DataFrame(columns(table))
