"""Blocks of whole documents, cut where enough entries are together."""

import numpy as np

from sksae.interpret.contrast import _documents


def test_blocks_are_whole_documents_of_about_as_many_entries(monkeypatch):
    monkeypatch.setattr(_documents, "_ENTRIES_AT_A_TIME", 4)
    entries, counts = np.array([1, 1, 3, 3, 0, 2, 9]), np.array([2, 1, 3, 1])  # by row, by document
    blocks = list(_documents._whole_documents(entries, counts))
    # Entries up to the end of each document: 2, 5, 10, 19, that is parts 0, 1, 2, 4.
    assert blocks == [slice(0, 2), slice(2, 3), slice(3, 6), slice(6, 7)]
    monkeypatch.setattr(_documents, "_ENTRIES_AT_A_TIME", 100)
    assert list(_documents._whole_documents(entries, counts)) == [slice(0, 7)]
