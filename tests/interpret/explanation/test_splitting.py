import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae.interpret import Example, Feature, split_examples
from tests.cases import tries


def example(row, text, activation=1.0, word=None):
    tokens = np.array([f" word{row}" if word is None else word], dtype=object)
    return Example(row, text, activation, tokens, np.array([activation]), peak=0)


def feature(top, sampled, silent=None, number=0):
    facts = (number, len(sampled), 0.1, 1, 1.0, 1.0, 1, (), [])
    weights = np.ones(len(sampled))
    return Feature(*facts, top, sampled=sampled, weights=weights, silent=silent or {})


@st.composite
def features(draw):
    """Windows that share texts, and windows that read the same in different texts."""
    texts = draw(st.lists(st.integers(0, 9), min_size=0, max_size=25))
    words = draw(st.lists(st.sampled_from([None, None, None, "a", "b"]), min_size=35, max_size=35))
    sampled = [example(i, text, 50.0 - i, words[i]) for i, text in enumerate(texts)]
    top = sampled[:3] + [
        example(90 + i, text, 99)
        for i, text in enumerate(draw(st.lists(st.integers(5, 15), max_size=4)))
    ]
    silent = {"random": [example(200 + i, i) for i in range(20)]}
    return feature(top, sampled, silent, draw(st.integers(0, 3)))


def shown(side):
    return side.windows() + [e for some in side.silent.values() for e in some]


@settings(max_examples=tries(60), deadline=None)
@given(features(), st.integers(1, 5), st.integers(0, 9))
def test_no_text_is_on_both_sides_and_nothing_is_lost(one, n_quantiles, seed):
    sides = split_examples(one, n_quantiles=n_quantiles, random_state=seed)
    first, second = ({e.text for e in shown(side)} for side in sides)
    assert not first & second
    windows = [{tuple(e.tokens) for e in side.windows()} for side in sides]
    assert not windows[0] & windows[1]
    rows = [e.row for side in sides for e in shown(side)]
    given_ = {e.row for e in [*one.examples, *one.sampled, *one.silent["random"]]}
    assert sorted(rows) == sorted(given_)


@settings(max_examples=tries(40), deadline=None)
@given(st.integers(2, 60), st.integers(1, 5), st.integers(0, 9))
def test_every_part_is_on_both_sides_where_it_has_two_texts(n, n_quantiles, seed):
    one = feature([], [example(i, i, 99.0 - i) for i in range(n)])
    explaining, scoring = split_examples(one, n_quantiles=n_quantiles, random_state=seed)
    for mine, others in zip(explaining.quantiles, scoring.quantiles, strict=True):
        assert abs(len(mine) - len(others)) <= 1
        assert len(mine) + len(others) < 2 or (mine and others)


def test_the_split_depends_on_the_seed_alone():
    one = feature([], [example(i, i) for i in range(30)])

    def rows(seed):
        return [e.row for e in split_examples(one, random_state=seed)[0].windows()]

    assert rows(1) == rows(1)
    assert rows(1) != rows(2)


def test_texts_that_were_seen_are_never_scored():
    sampled = [example(i, i) for i in range(20)]
    silent = {"random": [example(100 + i, i + 18) for i in range(6)]}
    one = feature(sampled[:2], sampled, silent)
    for seed in range(5):
        _, scoring = split_examples(one, seen=range(15), random_state=seed)
        assert {e.text for e in shown(scoring)} <= {15, 16, 17, 18, 19, 20, 21, 22, 23}
    assert {e.text for e in scoring.silent["random"]} >= {20, 21, 22, 23}


def test_numbers_of_numpy_and_of_python_name_the_same_text():
    one = feature([], [example(i, np.int64(i // 2)) for i in range(8)])
    _, scoring = split_examples(one, seen=[0, 1, 2])
    assert {e.text for e in scoring.windows()} == {3}


def test_examples_are_cut_into_parts_where_nothing_was_sampled():
    one = feature([example(i, i, 10.0 - i) for i in range(10)], [])
    explaining, scoring = split_examples(one, n_quantiles=5)
    assert [len(part) for part in explaining.quantiles] == [1] * 5
    assert len(scoring.windows()) == 5


def test_a_feature_that_never_fires_has_nothing_on_either_side():
    for side in split_examples(feature([], [])):
        assert side.windows() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_quantiles": 0}, "n_quantiles must be an int >= 1"),
        ({"random_state": None}, "random_state"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        split_examples(feature([], []), **options)
