"""Documents: one row of codes and one label or number per document."""

from itertools import pairwise

import numpy as np
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d

from sksae._coding import as_csr
from sksae._runs import run_lengths, run_starts

POOLINGS = ("max", "mean", "fired", None)
_ENTRIES_AT_A_TIME = 2**22


def two_classes(y, pos_label=None):
    """Return the two classes, the positive one, and which rows are of it.

    Raises
    ------
    ValueError
        If `y` has not two classes, or `pos_label` is none of them.
    """
    check_classification_targets(y)
    classes, number = np.unique(y, return_inverse=True)
    shown = ", ".join(repr(label) for label in classes[:5].tolist())
    if len(classes) != 2:
        raise ValueError(
            f"y has {len(classes)} class{'es' * (len(classes) != 1)} ({shown}"
            f"{', ...' * (len(classes) > 5)}); two are needed. To tell one class from the rest, "
            f"pass y == label."
        )
    positions = [1] if pos_label is None else np.flatnonzero(classes == pos_label)
    if len(positions) != 1:
        raise ValueError(f"pos_label={pos_label!r} is not one of the classes of y: {shown}.")
    return classes, classes[positions[0]], number == positions[0]


def check_class_sizes(positive):
    """Raise a ValueError unless there are two documents of each class."""
    n_pos, n_samples = int(positive.sum()), len(positive)
    if min(n_pos, n_samples - n_pos) < 2:
        raise ValueError(
            f"Two documents of each class are needed. Got n_samples={n_samples}, of which {n_pos} "
            f"of the positive class."
        )


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
    labels = positive[firsts]
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
    pooled = sparse.csr_array(sparse.vstack(blocks))
    if pooling == "fired":
        pooled.data = (pooled.data > 0).astype(pooled.dtype)
    pooled.eliminate_zeros()
    return pooled


def _whole_documents(entries, counts):
    """Yield slices of sorted rows, each of whole documents and about as many entries."""
    ends = np.cumsum(counts)
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
