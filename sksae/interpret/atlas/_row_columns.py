"""Named columns of whole rows: loadings of the features on them, and values of the rows kept."""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from sksae._arrays import objects
from sksae.interpret.atlas._tallies import HIGHEST, LOWEST

_ENTRIES = 2**24  # values of rows kept in all
_ROWS = 2**15  # read at a time


class RowSample(NamedTuple):
    """Whole rows on which a feature fires, and random ones on which it is silent.

    Names of features of tables and of whole texts are made from them, and tested on them.

    Parameters
    ----------
    row : ndarray of shape (n_rows,)
        Numbers of the rows.
    activation : ndarray of shape (n_rows,)
        Code of the feature, 0 on the rows on which it is silent.
    label : ndarray of shape (n_rows,), dtype=object
        Labels of the rows.
    columns : list of str
        Names of the columns of the rows; empty where they have none.
    values : ndarray of shape (n_rows, n_columns)
        Values of the rows in standard units: less the mean of the column, over its standard
        deviation. NaN for rows that were too many to keep.
    loadings : ndarray of shape (n_columns,) or None
        Standard deviations that the feature adds to each column where it fires, on average. None
        where its direction is not known.

    See Also
    --------
    FeatureAtlas : Its `row_sample` makes them.

    Examples
    --------
    >>> from sksae.interpret import FeatureAtlas
    >>> atlas = FeatureAtlas().fit([[0], [2]], tokens=["a cold day", "a hot day"])
    >>> sample = atlas.row_sample(0)
    >>> sample.label.tolist(), sample.activation.tolist()
    (['a hot day', 'a cold day'], [2.0, 0.0])
    """

    row: np.ndarray
    activation: np.ndarray
    label: np.ndarray
    columns: list
    values: np.ndarray
    loadings: np.ndarray | None


def column_arrays(X, coder, arrays, strings):
    """Return the arrays of an atlas about named columns; none where columns have no names.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_columns)
    coder : estimator or None
        Its `components_`, if these are directions of the rows, give the loadings.
    arrays : dict of str to ndarray
        The arrays of the pass, of which the places are read.
    strings : Strings
        The names are added.
    """
    names = _column_names(X, coder)
    values = None if names is None or sparse.issparse(X) else _numbers(X)
    if values is None:
        return {}
    mean, deviation = _moments(values)
    places = ("shared_row", "strongest_row", "sampled_row")
    rows, first = np.unique(np.concatenate([arrays[p] for p in places]), return_index=True)
    # Random rows go first: all features are tested on them.
    rows = np.sort(rows[np.argsort(first)][: _ENTRIES // len(names)])
    scale = np.where(deviation > 0, deviation, np.inf)
    standardised = (np.asarray(values[rows], dtype=np.float64) - mean) / scale
    content = {
        "column_string": strings.number(names),
        "kept_row": rows.astype(np.int64),
        "kept_value": np.nan_to_num(standardised).astype(np.float32),
    }
    components = getattr(coder, "components_", None)
    is_direction = not hasattr(coder, "predict")  # a transcoder writes elsewhere
    shape = (len(arrays["n_active"]), len(names))
    if is_direction and components is not None and tuple(components.shape) == shape:
        height = arrays["total"] / np.maximum(arrays["n_active"], 1)  # mean activation
        loadings = np.asarray(components, dtype=np.float64) * height[:, None] / scale
        content["column_loading"] = loadings.astype(np.float32)
    return content


def row_sample(arrays, strings, feature):
    """Return the `RowSample` of a feature from the arrays of an atlas of whole rows."""
    cells, rows, activations = [], [], []
    for name in ("strongest", "sampled"):
        bucket = arrays[f"{name}_bucket"]
        n_parts = 1 if name == "strongest" else HIGHEST - LOWEST  # buckets of a feature
        low, high = np.searchsorted(bucket, [feature * n_parts, (feature + 1) * n_parts]).tolist()
        cells.append(arrays[f"{name}_cell"][low:high])
        rows.append(arrays[f"{name}_row"][low:high])
        activations.append(arrays[f"{name}_value"][low:high])
    indptr, window = arrays["activity_indptr"], arrays["activity_window"]
    is_silent = np.ones(len(arrays["shared_row"]), dtype=bool)
    is_silent[window[indptr[feature] : indptr[feature + 1]]] = False
    cells.append(arrays["shared_cell"][is_silent])
    rows.append(arrays["shared_row"][is_silent])
    activations.append(np.zeros(is_silent.sum()))
    row, first = np.unique(np.concatenate(rows), return_index=True)
    order = np.argsort(first)  # the strongest rows first
    row, first = row[order], first[order]
    columns = strings[arrays["column_string"]].tolist() if "column_string" in arrays else []
    loadings = arrays["column_loading"][feature] if "column_loading" in arrays else None
    return RowSample(
        row=row,
        activation=np.concatenate(activations)[first],
        label=strings[arrays["cell_string"][np.concatenate(cells)[first]]],
        columns=columns,
        values=_kept_values(arrays, row, len(columns)),
        loadings=loadings,
    )


def _kept_values(arrays, row, n_columns):
    """Return the standardised values of some rows, NaN for those that were not kept."""
    values = np.full((len(row), n_columns), np.nan, dtype=np.float32)
    if n_columns:
        line = np.searchsorted(arrays["kept_row"], row)
        line = np.minimum(line, len(arrays["kept_row"]) - 1)
        is_kept = arrays["kept_row"][line] == row
        values[is_kept] = arrays["kept_value"][line[is_kept]]
    return values


def _column_names(X, coder):
    """Return the names of the columns of X as strings; None where there are none."""
    names = getattr(X, "columns", None)
    names = getattr(coder, "feature_names_in_", None) if names is None else names
    names = [] if names is None else list(names)
    is_named = len(names) == X.shape[1] and all(isinstance(name, str) for name in names)
    return names if names and is_named else None


def _numbers(X):
    """Return rows as an array of real numbers; None where a column holds something else."""
    values = np.asarray(X)
    if values.dtype.kind in "biuf":
        return values
    try:
        return objects(values.ravel().tolist()).astype(np.float64).reshape(values.shape)
    except (TypeError, ValueError):
        return None


def _moments(values):
    """Return the means and standard deviations of the columns, (n_columns,) each, in float64."""
    n_present, total = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    blocks = range(0, len(values), _ROWS)
    for start in blocks:
        block = np.asarray(values[start : start + _ROWS], dtype=np.float64)
        n_present += (~np.isnan(block)).sum(0)
        total += np.nansum(block, axis=0)
    n_present = np.maximum(n_present, 1)
    mean, squares = total / n_present, np.zeros(values.shape[1])
    for start in blocks:
        block = np.asarray(values[start : start + _ROWS], dtype=np.float64) - mean
        squares += np.nansum(block**2, axis=0)
    return mean, np.sqrt(squares / n_present)
