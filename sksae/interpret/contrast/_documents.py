"""Documents as they are compared: pooled or sorted by group, with covariates, and held-out ones."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_consistent_length, column_or_1d

from sksae._arrays import check_rows
from sksae._coding import as_csr, sparse_coder, sparse_codes
from sksae._runs import run_lengths, run_starts
from sksae.interpret.contrast._score_tests import expanded, make_design
from sksae.interpret.contrast._targets import Target, check_class_sizes, read_groups

POOLINGS = ("max", "mean", "fired", None)
_ENTRIES_AT_A_TIME = 2**22  # sparse entries that are sorted at once


def split_documents(positive, held_out, random):
    """Return the documents to test on and those held out, the same share of both classes.

    Raises
    ------
    ValueError
        If there are not two of each class on both sides.
    """
    try:
        tested, held = train_test_split(
            np.arange(len(positive)),
            test_size=float(held_out),
            stratify=positive,
            random_state=random,
        )
        check_class_sizes(positive[held])
        check_class_sizes(positive[tested])
    except ValueError as error:
        raise ValueError(
            f"held_out={held_out} of n_samples={len(positive)} documents does not leave two of "
            f"each class on both sides."
        ) from error
    return np.sort(tested), np.sort(held)


def check_groups(groups, positive):
    """Return the document of each row as numbers, and the label or number of each document.

    Raises
    ------
    ValueError
        If there is not one group per row, or rows of one group have different labels.
    """
    groups = column_or_1d(groups)
    check_consistent_length(groups, positive)
    names, firsts, number = np.unique(groups, return_index=True, return_inverse=True)
    labels = positive[firsts]  # (n_documents,)
    # Rows whose label is not that of the first row of their group.
    wrong = np.flatnonzero(labels[number] != positive)
    if len(wrong):
        name = names[number[wrong[:1]]].tolist()[0]
        conflict = "both labels" if labels.dtype == bool else "different targets"
        raise ValueError(
            f"The rows of group {name!r} have {conflict}; a group is one document and has one "
            f"label (row {firsts[number[wrong[0]]]} differs from row {wrong[0]}). With "
            f"pooling=None, rows are documents, and groups depend on each other."
        )
    return number, labels


def pool_rows(X, number, n_documents, pooling):
    """Pool the rows of each document; nothing sparse becomes dense.

    Parameters
    ----------
    X : {ndarray, CSR or CSC container} of shape (n_rows, n_features)
    number : ndarray of shape (n_rows,)
        The document of each row; each has at least one.
    pooling : {"max", "mean", "fired"}

    Returns
    -------
    pooled : csr_array of shape (n_documents, n_features)
    """
    counts = np.bincount(number, minlength=n_documents)
    order = np.argsort(number, kind="stable")
    if pooling == "mean":
        pointer = np.concatenate([[0], np.cumsum(counts)])
        ones = np.ones(len(number))
        # (n_documents, n_rows), 1 for the rows of each
        members = sparse.csr_array((ones, order, pointer), shape=(n_documents, len(number)))
        pooled = sparse.csr_array(members @ X)
        # Divided afterwards, so that means of equal values stay ties.
        pooled.data /= np.repeat(counts, np.diff(pooled.indptr))
        return pooled
    rows = as_csr(sparse.csr_array(X))
    blocks = [
        _largest(rows[order[block]], number[order[block]], counts)
        for block in _whole_documents(np.diff(rows.indptr)[order], counts)
    ]
    pooled = sparse.csr_array(sparse.vstack(blocks))  # (n_documents, n_features)
    if pooling == "fired":
        pooled.data = (pooled.data > 0).astype(pooled.dtype)
    pooled.eliminate_zeros()
    return pooled


def _whole_documents(entries, counts):
    """Yield slices of sorted rows, each of whole documents and about as many entries."""
    ends = np.cumsum(counts)
    # Documents that end within the same span of entries are one part.
    part = np.cumsum(entries)[ends - 1] // _ENTRIES_AT_A_TIME
    starts = np.append(0, ends)[run_starts(part)]  # the row at which a run of documents begins
    for start, stop in pairwise([*starts.tolist(), int(ends[-1])]):
        yield slice(start, stop)


def _largest(rows, number, counts):
    """Return the largest value of each document, and at least 0 where some row has none.

    Parameters
    ----------
    rows : CSR container of shape (n_rows, n_features)
        Rows of whole documents, document after document.
    number : ndarray of shape (n_rows,)
        The document of each row, ascending.
    counts : ndarray of shape (n_documents,)
        Rows of each document, of all of them.

    Returns
    -------
    largest : csr_array of shape (number[-1] - number[0] + 1, n_features)
    """
    first = number[0]
    entries = sparse.coo_array(rows)
    # The key below goes up to rows times columns, which 32 bits may not hold.
    line, column = number[entries.row] - first, entries.col.astype(np.int64)
    order = np.argsort(line * np.int64(rows.shape[1]) + column, kind="stable")
    line, column, data = line[order], column[order], entries.data[order]
    starts = run_starts(line, column)  # one run per document and feature
    shape = (number[-1] - first + 1, rows.shape[1])
    if not len(starts):
        return sparse.csr_array(shape, dtype=rows.dtype)
    values = np.maximum.reduceat(data, starts)
    # A run shorter than the document lacks a row, whose value is 0.
    is_partial = run_lengths(starts, len(data)) < counts[line[starts] + first]
    values = np.where(is_partial, np.maximum(values, 0), values)
    return sparse.csr_array((values, (line[starts], column[starts])), shape=shape)


class Compared(NamedTuple):
    """Documents, one row each, sorted by group where they have groups."""

    X: object  # (n_documents, n_features), dense or sparse
    target: Target
    group: np.ndarray | None  # (n_documents,) ascending; None where documents are independent
    covariates: list  # of arrays of shape (n_documents,)
    are_pairs: bool = False  # one document of either class after the other

    @property
    def is_plain(self):
        """Whether documents are compared without groups and covariates."""
        return self.group is None and not self.covariates

    def design(self, statistic):
        """Return the `Design` of the target for a statistic."""
        covariates = expanded(self.covariates) if self.covariates else None
        return make_design(self.target.scores(statistic), self.group, covariates)

    def rows(self, index):
        """Return some of the documents, whole groups of them."""
        X = sparse.csr_array(self.X) if sparse.issparse(self.X) else self.X
        group = self.group
        # Groups are numbered anew from 0 on without gaps, as `bincount` and `reduceat` need them.
        if group is not None:
            group = np.unique(group[index], return_inverse=True)[1]
        covariates = [values[index] for values in self.covariates]
        return Compared(X[index], self.target.of(index), group, covariates, self.are_pairs)

    def split(self, held_out, random):
        """Return the documents to test on and those held out."""
        if self.group is None and self.target.type == "binary":
            tested, held = split_documents(self.target.values, held_out, random)
        else:
            tested, held = self._split(held_out, random)
        return self.rows(tested), self.rows(held)

    def _split(self, held_out, random):
        # Groups are split as a whole, since their documents depend on each other.
        unit = np.arange(self.X.shape[0]) if self.group is None else self.group
        labels = self.target.values if self.target.type == "multiclass" else None
        units, shown = np.unique(unit), f"held_out={held_out} of {unit[-1] + 1}"
        try:
            _, held = train_test_split(
                units,
                test_size=float(held_out),
                # A group may have documents of several classes.
                stratify=labels if self.group is None else None,
                random_state=random,
            )
        except ValueError as error:
            units_shown = "documents" if self.group is None else "groups"
            raise ValueError(f"{shown} {units_shown} cannot be split: {error}") from error
        is_held = np.isin(unit, held)
        parts = np.flatnonzero(~is_held), np.flatnonzero(is_held)
        # Four documents and two values are what `read_target` asks of numbers.
        if min(map(len, parts)) < 4 or any(
            len(np.unique(self.target.values[p])) < 2 for p in parts
        ):
            raise ValueError(f"{shown} does not leave four documents that differ on both sides.")
        return parts


def compared_documents(X, target, groups, covariates, pooling):
    """Return the `Compared` documents of rows.

    Parameters
    ----------
    X : {ndarray, sparse container} of shape (n_rows, n_features)
    target : Target
        Of the rows.
    groups : array-like of shape (n_rows,) or None
        Documents with a pooling, and documents that depend on each other without.
    covariates : array-like, DataFrame or None
        Of shape (n_rows,) or (n_rows, n_covariates).
    pooling : str or None
    """
    covariates = _columns_of(covariates, X.shape[0])
    if groups is None:
        return Compared(X, target, None, covariates)
    if pooling is not None:
        return _pooled(X, target, groups, covariates, pooling)
    grouping = read_groups(groups, target)
    if not grouping.varies.any():
        # Groups with one value of the target each are the observations.
        return _pooled(X, target, groups, covariates, "mean")
    # A group within which the target does not vary compares nothing.
    comparable = np.flatnonzero(grouping.varies[grouping.number])
    # By group, and by target within each: of a pair the negative document comes first.
    by_group = np.lexsort((target.values[comparable], grouping.number[comparable]))
    compared = Compared(X, target, grouping.number, covariates, grouping.are_pairs)
    return compared.rows(comparable[by_group])


def _pooled(X, target, groups, covariates, pooling):
    number, values = check_groups(groups, target.values)
    covariates = [_pooled_covariate(column, number) for column in covariates]
    X = pool_rows(X, number, len(values), pooling)
    return Compared(X, target._replace(values=values), None, covariates)


def _pooled_covariate(values, number):
    """Return a covariate per document: the mean of numbers, the one label of others."""
    if values.dtype.kind in "iuf":
        return np.bincount(number, values) / np.bincount(number)  # means, (n_documents,)
    _, firsts = np.unique(number, return_index=True)
    if (values[firsts][number] != values).any():
        raise ValueError("A covariate of labels has different labels within one document.")
    return values[firsts]


def _columns_of(covariates, n_rows):
    """Return covariates as a list of arrays of shape (n_rows,), of floats or of labels."""
    if covariates is None:
        return []
    check_consistent_length(covariates, np.empty(n_rows))
    if hasattr(covariates, "columns"):
        columns = [np.asarray(covariates[name]) for name in covariates.columns]
    else:
        table = np.asarray(covariates)
        if table.ndim > 2:
            raise ValueError(f"covariates must be 1-D or 2-D. Got shape {table.shape} instead.")
        columns = list(table.reshape(n_rows, -1).T)  # (n_rows,) each
    return [_checked(column) for column in columns]


def _checked(values):
    if values.dtype.kind == "O":
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError):
            return values.astype(str)
    if values.dtype.kind in "biuf":
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("covariates contain NaN or infinity.")
    return values


def baseline_codes(baseline, n_rows):
    """Return the codes of a baseline, from its transformer where it has one."""
    if isinstance(baseline, tuple) and len(baseline) == 2 and hasattr(baseline[0], "transform"):
        coder, rows = sparse_coder(baseline[0]), baseline[1]
        baseline = sparse_codes(coder, rows, 1)
    elif hasattr(baseline, "transform") and hasattr(baseline, "get_params"):
        raise ValueError(
            "baseline is a transformer; pass it with the rows that it codes, baseline=(transformer,"
            " rows), or its codes."
        )
    check_rows(baseline, "baseline")
    check_consistent_length(baseline, np.empty(n_rows))
    return baseline
