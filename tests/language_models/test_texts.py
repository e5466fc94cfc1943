import numpy as np
import pytest

from sksae.language_models._texts import check_texts


def test_any_iterable_of_str():
    for texts in (["a", "b"], ("a", "b"), np.array(["a", "b"]), iter("ab")):
        assert check_texts(texts) == ["a", "b"]
    assert check_texts([]) == []


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", r"Got one text: wrap it"),
        (b"bytes", r"Got one text: wrap it"),
        (["a", None], r"X\[1\] is None"),
        ([["a"]], r"X\[0\] is of type list"),
        (["a", float("nan")], r"X\[1\] is of type float"),
        (["a", "b\ud800"], r"X\[1\] is not valid Unicode"),
    ],
)
def test_bad_texts(texts, message):
    with pytest.raises(ValueError, match=message):
        check_texts(texts)
