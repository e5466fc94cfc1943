"""Targets of associations: two classes, several classes, or numbers, with their groups."""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_consistent_length, column_or_1d

TARGET_TYPES = ("auto", "binary", "multiclass", "continuous", "ordinal", "counts")
NUMBERS = ("continuous", "ordinal", "counts")
_MANY_CLASSES = 20  # whole numbers with more values than this are hardly classes


class Target(NamedTuple):
    """A target with one value per document."""

    type: str  # one of TARGET_TYPES, never "auto"
    values: np.ndarray  # (n_documents,) numbers; of classes, their indices; of two, 0 and 1
    classes: np.ndarray | None  # the labels; None for numbers
    pos_label: object = None  # of two classes

    def scores(self, statistic):
        """Return what codes are associated with, (n_documents, n_scores): a column per class."""
        if self.type == "multiclass":
            # (n_documents, n_classes), 1 for the class of each document
            return (self.values[:, None] == np.arange(len(self.classes))).astype(np.float64)
        if self.type == "binary" or statistic == "linear":
            return self.values[:, None].astype(np.float64)
        # Midranks: Spearman's correlation is Pearson's of the ranks; the unit does not matter.
        return rankdata(self.values)[:, None] / len(self.values)

    def of(self, documents):
        """Return the target of some documents, by index or mask."""
        return self._replace(values=self.values[documents])


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
    # None takes the class that sorts last
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


def read_target(y, target_type, pos_label):
    """Return the `Target` in y.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels or numbers.
    target_type : str
        One of `TARGET_TYPES`. "auto" is ordinal for an ordered categorical of pandas, and what
        scikit-learn's `type_of_target` says otherwise.
    pos_label : object
        The positive one of two classes; None takes the larger label.

    Raises
    ------
    ValueError
        If y is not of the type, or of none.
    """
    y, is_ordered = _numbers_of_ordered(y)
    y = column_or_1d(y, warn=True)
    if target_type == "auto":
        target_type = "ordinal" if is_ordered else _type_of(y)
    if target_type == "binary":
        classes, positive_label, positive = two_classes(y, pos_label)
        return Target("binary", positive, classes, positive_label)
    if pos_label is not None:
        raise ValueError(f"pos_label is for two classes; y is {target_type}.")
    if target_type == "multiclass":
        check_classification_targets(y)
        classes, number = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has 1 class ({classes.tolist()[0]!r}); two are needed at least.")
        for index in range(len(classes)):
            check_class_sizes(number == index)
        return Target("multiclass", number, classes)
    return Target(target_type, _numbers(y, target_type), None)


def _numbers_of_ordered(y):
    """Return y with the numbers of an ordered categorical in place of its labels."""
    if not getattr(getattr(y, "dtype", None), "ordered", False):
        return y, False
    numbers = np.asarray(y.cat.codes if hasattr(y, "cat") else y.codes)
    if (numbers < 0).any():
        raise ValueError("y has missing values.")
    return numbers, True


def _type_of(y):
    kind = type_of_target(y, input_name="y")
    if kind not in ("binary", "multiclass", "continuous"):
        check_classification_targets(y)  # raises, or y has one type that is none of these
        raise ValueError(f"y is {kind!r}; one label or one number per document is needed.")
    n_values = len(np.unique(y))
    if kind == "multiclass" and y.dtype.kind in "iuf" and n_values > _MANY_CLASSES:
        raise ValueError(
            f"y has {n_values} different whole numbers. Say what they are: target_type='counts', "
            f"'ordinal', 'continuous', or 'multiclass' for as many classes."
        )
    return kind


def _numbers(y, target_type):
    try:
        numbers = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"target_type={target_type!r} needs numbers, or an ordered categorical of pandas; y "
            f"has {y[0]!r}."
        ) from error
    if not np.isfinite(numbers).all():
        raise ValueError("y contains NaN or infinity.")
    if len(np.unique(numbers)) < 2 or len(numbers) < 4:
        raise ValueError(
            f"Four documents and two different numbers are needed. Got n_samples={len(numbers)} "
            f"with {len(np.unique(numbers))}."
        )
    if target_type == "counts" and ((numbers < 0).any() or (numbers % 1 != 0).any()):
        raise ValueError("target_type='counts' needs whole numbers of at least 0 in y.")
    return numbers


class Groups(NamedTuple):
    """Groups of documents that depend on each other."""

    number: np.ndarray  # (n_documents,) the group of each
    n_groups: int
    varies: np.ndarray  # (n_groups,) whether the target differs within the group
    are_pairs: bool  # whether each has one document of either class


def read_groups(groups, target):
    """Return the `Groups` of documents."""
    groups = column_or_1d(groups)
    check_consistent_length(groups, target.values)
    names, number = np.unique(groups, return_inverse=True)
    values, n_groups = target.values.astype(np.float64), len(names)
    # Lowest and highest value of each group.
    low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
    np.minimum.at(low, number, values)
    np.maximum.at(high, number, values)
    varies = high > low
    sizes = np.bincount(number)
    are_pairs = target.type == "binary" and bool(varies.all() and (sizes == 2).all())
    return Groups(number, n_groups, varies, are_pairs)
