"""Sums of codes by feature and something else: the token they fall on, the text they are in."""

from typing import NamedTuple

import numpy as np

from sksae.interpret._strongest import positive_codes


class Sums(NamedTuple):
    """One line for each feature and number that occur together, in that order."""

    feature: np.ndarray
    number: np.ndarray
    total: np.ndarray  # sum of the codes
    count: np.ndarray  # rows with a positive code

    def of(self, feature):
        """The lines of one feature."""
        lines = slice(*np.searchsorted(self.feature, [feature, feature + 1]))
        return Sums(*(column[lines] for column in self))


def sums_by(codes, features, number):
    """Return the `Sums` of the chosen features of codes by a number of each row, (n_rows,)."""
    base = int(number.max(initial=0)) + 1
    key, total, count = np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64)
    for feature, row, value in positive_codes(codes, features):
        keys = np.concatenate([key, feature * base + number[row]])
        totals = np.concatenate([total, value])
        counts = np.concatenate([count, np.ones(len(row), dtype=np.int64)])
        key, place = np.unique(keys, return_inverse=True)
        total = np.bincount(place, totals, len(key))
        count = np.bincount(place, counts, len(key)).astype(np.int64)
    return Sums(key // base, key % base, total, count)


def numbered(strings):
    """Return the different strings and the number of each string among them."""
    numbers = {}
    number = [numbers.setdefault(string, len(numbers)) for string in strings]
    return list(numbers), np.array(number, dtype=np.int64)
