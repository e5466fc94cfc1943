from dataclasses import replace

import numpy as np
import pytest

from sksae.language_models import TokenTable


@pytest.fixture
def table():
    # "특 a" by bytes, then "b": the syllable takes three tokens.
    return TokenTable(
        text=np.array([0, 0, 0, 0, 1]),
        position=np.array([0, 1, 2, 3, 0]),
        id=np.array([7, 8, 9, 4, 5]),
        string=np.array(["특", "특", "특", " a", "b"], dtype=object),
        start=np.array([0, 0, 0, 1, 0]),
        end=np.array([1, 1, 1, 3, 1]),
        group=np.array([0, 0, 0, 3, 0]),
        texts=["특 a", "b"],
    )


def test_rows(table):
    assert len(table) == 5
    for rows in ([3, 4], slice(3, None), table.position + table.text * 9 > 2):
        assert table[rows].string.tolist() == [" a", "b"]
        assert table[rows].texts is table.texts
    assert table[4].id.tolist() == [5]
    assert len(table[[]]) == 0


def test_merged_rows_are_what_a_reader_sees(table):
    merged, firsts = table.merged()
    assert merged.string.tolist() == ["특", " a", "b"]
    assert firsts.tolist() == [0, 3, 4]
    codes = np.array([0.0, 2, 1, 5, 3])
    assert np.maximum.reduceat(codes, firsts).tolist() == [2, 5, 3]
    # A group whose first row is missing is still a group.
    assert table[1:4].merged()[0].string.tolist() == ["특", " a"]
    assert len(table[:0].merged()[0]) == 0


def test_merged_characters_are_those_of_all_rows():
    table = TokenTable(
        text=np.array([0, 0]),
        position=np.array([0, 1]),
        id=np.array([1, 2]),
        string=np.array(["a특", "특b"], dtype=object),
        start=np.array([0, 1]),
        end=np.array([2, 3]),
        group=np.array([0, 0]),
        texts=["a특b"],
    )
    assert table.merged()[0].string.tolist() == ["a특b"]


def test_the_policy_goes_with_the_rows(table):
    assert table.policy == {}
    noted = replace(table, policy={"layer": 3})
    assert noted[1:3].policy == noted.merged()[0].policy == {"layer": 3}


def test_frame(table):
    frame = table.to_frame()
    assert list(frame) == ["text", "position", "id", "string", "start", "end", "group"]
    assert frame["string"].tolist() == table.string.tolist()
