import numpy as np
import pandas as pd
import pytest
import torch

from sksae.language_models.extraction import check_items, read_items
from tests.cases import each_case


def test_any_iterable_of_str():
    for texts in (["a", "b"], ("a", "b"), np.array(["a", "b"]), iter("ab"), pd.Series(["a", "b"])):
        assert check_items(texts) == ("text", ["a", "b"])
    assert check_items([]) == (None, [])


def test_token_ids():
    for ids in ([3, 1], (3, 1), np.array([3, 1]), torch.tensor([3, 1]), range(3, 0, -2)):
        kind, values = check_items([ids, []])
        assert kind == "input_ids"
        assert [value.tolist() for value in values] == [[3, 1], []]
        assert values[0].dtype == np.int64
    assert [ids.tolist() for ids in check_items(torch.tensor([[1, 2], [3, 4]]))[1]] == [
        [1, 2],
        [3, 4],
    ]


def test_conversations():
    talk = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]
    assert check_items([talk]) == ("messages", [talk])


def test_rows_of_a_data_set():
    talk = [{"role": "user", "content": "hello"}]
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    assert check_items(rows) == ("text", ["a", "b"])
    # The first key of messages, input_ids, text, image counts.
    assert check_items([{"text": "a", "messages": talk}]) == ("messages", [talk])
    assert check_items([{"text": "a", "input_ids": [1]}])[0] == "input_ids"
    assert check_items([{"image": np.zeros((3, 2, 2), np.float32)}])[0] == "image"


def test_images():
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 4))
    assert check_items([image]) == ("image", [image])
    assert check_items(torch.zeros(2, 3, 4, 4))[1][1].shape == (3, 4, 4)


def test_items_are_read_as_they_are_asked_for():
    asked = []

    def texts():
        for text in ("a", "b"):
            asked.append(text)
            yield text

    items = read_items(texts())
    assert asked == []
    assert next(items) == ("text", "a")
    assert asked == ["a"]


@each_case(
    "texts, message",
    [
        ("one text", r"Got one text: wrap it"),
        (b"bytes", r"Got one text: wrap it"),
        (["a", None], r"X\[1\] is None"),
        ([["a"]], r"X\[0\] is of type list"),
        (["a", float("nan")], r"X\[1\] is of type float"),
        (["a", "b\ud800"], r"X\[1\] is not valid Unicode.*text.encode\('utf-8', 'replace'\)"),
        ([1, 2], r"X\[0\] is of type int"),
        ([[True]], r"X\[0\] is of type list"),
        ([[3], [1, -2]], r"X\[1\] has the negative token id -2"),
        (["a", "b", [1]], r"X\[0\] is a text and X\[2\] token ids"),
        ({"train": ["a"]}, r"Got a mapping: its keys are 'train'"),
        (pd.DataFrame({"text": ["a"]}), "take the column"),
        ([{"label": 1}], r"X\[0\] is a mapping with none of.*its keys are 'label'"),
        ([{"role": "user", "content": "a"}], "A conversation is a list of messages: wrap it"),
        ([{"text": [1]}], r"X\[0\]\['text'\] is token ids, not a text"),
        ([{"text": None}], r"X\[0\]\['text'\] is None"),
        ([[{"role": "user"}]], r"X\[0\]\[0\] must have the keys 'role' and 'content'"),
        ([torch.zeros(3)], r"X\[0\] is of type Tensor, dtype torch.float32 and shape \(3,\)"),
        (np.zeros((2, 3)), r"X\[0\] is of type ndarray, dtype float64 and shape \(3,\)"),
        (None, "X must be an iterable of texts.* but is None"),
        (3, "X must be an iterable of texts.* but is of type int"),
    ],
)
def test_bad_texts(texts, message):
    with pytest.raises(ValueError, match=message):
        check_items(texts)
