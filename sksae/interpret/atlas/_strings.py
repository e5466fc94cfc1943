"""The pieces of text that an atlas has seen, numbered, with a hash that depends on nothing else."""

import hashlib

import numpy as np

GRAM = 8
"""Pieces, ending with the one that a feature fires on, by which two places count as the same."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Strings:
    """Different strings in the order in which they came.

    Parameters
    ----------
    strings : list of str, default=()
        Those known from the start.
    """

    def __init__(self, strings=()):
        self._numbers = {}
        self._hashes = []
        self.number(strings)

    def __len__(self):
        return len(self._numbers)

    def number(self, strings):
        """Return the number of each of some strings, new ones added: int32 of shape (n,)."""
        numbers, found = self._numbers, []
        for string in strings:
            number = numbers.get(string)
            if number is None:
                number = numbers[string] = len(numbers)
                self._hashes.append(hash_of(string))
            found.append(number)
        return np.array(found, dtype=np.int32)

    def hashes(self):
        """Return the hash of each string, uint64 of shape (n,)."""
        return np.array(self._hashes, dtype=np.uint64)

    def to_list(self):
        """Return the strings by number."""
        return list(self._numbers)


def hash_of(string):
    """Return 64 bits of a string that are the same in every process."""
    digest = hashlib.blake2b(string.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def grams(hashes, begin):
    """Return a hash of the last `GRAM` pieces up to each, none of them from before its text.

    Parameters
    ----------
    hashes : ndarray of shape (n_cells,), dtype=uint64
    begin : ndarray of shape (n_cells,)
        The first cell of the text of each cell.

    Returns
    -------
    grams : ndarray of shape (n_cells,), dtype=uint64
    """
    found, place = np.zeros_like(hashes), np.arange(len(hashes))
    for back in range(GRAM):
        there = place - back >= begin
        part = np.where(there, hashes[np.maximum(place - back, 0)], np.uint64(0))
        found = found * _MULTIPLIER + part
    return mixed(found)


def mixed(values):
    """Return uint64 values with every bit spread over all (the finaliser of splitmix64)."""
    values = values + _MULTIPLIER
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
