import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sksae.interpret import Example, Feature
from sksae.report._listing import Listing, density_bins, map_places
from sksae.report._parts import (
    activation_levels,
    example_groups,
    pack,
    rounded,
    scores_of,
    seven_bits,
    trimmed,
)
from tests.cases import each_case, tries
from tests.report.decoding import seven_bit_numbers, unpacked


def test_seven_bits_a_byte():
    assert seven_bits([0, 127, 128, 300]) == bytes([0, 127, 128, 1, 0xAC, 2])
    assert seven_bits([2**32 - 1]) == bytes([255, 255, 255, 255, 15])
    assert seven_bits([]) == b""


@settings(max_examples=tries(50), deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1)))
def test_numbers_come_back(numbers):
    assert seven_bit_numbers(seven_bits(numbers) + b"rest", len(numbers)) == (numbers, b"rest")


@settings(max_examples=tries(25), deadline=None)
@given(st.text(), st.binary())
def test_a_part_comes_back(text, rest):
    assert unpacked(pack({"text": text}, rest)) == ({"text": text}, rest)


def test_json_that_browsers_cannot_read_is_not_written():
    with pytest.raises(ValueError):
        pack({"value": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        pack({"text": "\ud800"})


def test_levels_of_activations():
    activations = [0, 1e-9, 1, 2, 4, 5]
    assert activation_levels(activations, 4).tolist() == [0, 1, 64, 128, 255, 255]
    assert activation_levels([0.0, 0.0], 0).tolist() == [0, 0]


@each_case(
    "value, expected",
    [
        (1234.56, 1235.0),
        (np.float32(0.1), 0.1),
        (3, 3.0),
        (np.nan, None),
        (np.inf, None),
        (None, None),
        ("x", None),
    ],
)
def test_four_digits(value, expected):
    assert rounded(value) == expected


def test_a_histogram_begins_and_ends_where_there_is_something():
    assert trimmed(np.array([0, 2, 0, 1, 0]), np.arange(6.0)) == ([2, 0, 1], [1.0, 2.0, 3.0, 4.0])
    assert trimmed(np.zeros(3, dtype=int), np.arange(4.0)) == ([], [])


def test_scores_of_what_has_none():
    assert scores_of("text") == scores_of(None) == []


class Scored:
    def __init__(self, **scores):
        self.scores = scores


def test_scores_with_what_they_have_to_beat():
    baseline = {"random": 0.52, "random_n_failed": 3, "shuffled": np.nan}
    explanation = Scored(
        detection={
            "value": 0.9,
            "low": 0.81,
            "high": 0.97,
            "n": 40,
            "n_failed": 2,
            "baseline": baseline,
            "quantiles": [{"quantile": 0, "n": 4, "value": 1.0}, np.nan],
        },
        fuzzing={"value": np.nan, "baseline": 0.5, "note": "too \x1brare"},
        other=0.25,
    )
    empty = {"low": None, "high": None, "n": 0, "n_failed": 0, "quantiles": []}
    assert scores_of(explanation) == [
        {
            "name": "detection",
            "value": 0.9,
            "low": 0.81,
            "high": 0.97,
            "n": 40,
            "n_failed": 2,
            "note": "",
            "baselines": [["random", 0.52]],
            "quantiles": [1.0, None],
        },
        {
            **empty,
            "name": "fuzzing",
            "value": None,
            "note": "too \ufffdrare",
            "baselines": [["baseline", 0.5]],
        },
        {**empty, "name": "other", "value": 0.25, "note": "", "baselines": []},
    ]


def example(row, activation):
    tokens = np.array(["a"], dtype=object)
    return Example(row, row, activation, tokens, np.array([activation]), peak=0)


def feature(number=0, **known):
    known = {
        "n_active": 100,
        "density": 0.01,
        "n_texts": 50,
        "max_activation": 1.0,
        "mean_activation": 0.5,
        "n_unique": 90,
        "flags": (),
        "top_tokens": [(" cold", 0.6), ("cold", 0.2)],
        "examples": [example(0, 1.0)],
        **known,
    }
    return Feature(number, **known)


def test_groups_of_examples():
    sampled = [example(row, 1 - row / 100) for row in range(100)]
    known = feature(
        examples=sampled[:30],
        sampled=sampled,
        weights=np.ones(100),
        silent={"lexical": [example(200, 0.0)] * 9, "random": [example(300, 0.0)]},
    )
    groups = example_groups(known)
    kinds = [group["kind"] for group in groups]
    assert kinds == ["strongest", *["quantile"] * 5, "silent"]
    assert [len(group["examples"]) for group in groups] == [20, 5, 5, 5, 5, 5, 4]
    assert [group["share"] for group in groups[1:6]] == [0.2] * 5
    rows = [[one.row for one in group["examples"]] for group in groups[1:6]]
    # The first part has nothing but what is shown above it; from the second on, evenly spaced.
    assert rows[0] == [0, 4, 8, 12, 16]
    assert rows[1:] == [[begin + 4 * i for i in range(5)] for begin in (20, 40, 60, 80)]


def test_starters_are_about_words_of_their_own():
    listing = Listing({})
    lines = [
        feature(0, top_tokens=[(".", 1.0)]),
        feature(1),
        feature(2, top_tokens=[("Cold", 0.7)]),  # the word of feature 1
        feature(3, top_tokens=[(" river", 0.9)]),
        feature(4, top_tokens=[(" lake", 0.9)], flags=("rare",)),
        feature(5, top_tokens=[(" pond", 0.9)], n_texts=2),
        feature(6, top_tokens=[(" mill", 0.9)], density=0.5),
        feature(7, top_tokens=[], examples=[], n_active=0),
    ]
    for line in lines:
        listing.add(line)
    density = np.array([line.density for line in lines])
    assert listing.starters(density) == [3, 1, 0]


def test_the_histogram_counts_every_feature():
    density = np.concatenate([np.zeros(7), [1e-4, 1.0], np.full(11, 0.01), np.full(5, 0.3)])
    bins = density_bins(density, 10_000)
    assert (bins["decades"], bins["per_decade"], bins["dead"]) == (4, 4, 7)
    expected = np.zeros(16, dtype=int)
    expected[[0, 8, 13, 15]] = 1, 11, 5, 1
    assert bins["counts"] == expected.tolist()
    assert bins["median"] == 0.01


@each_case("density, n_rows", [([0.0], 1), ([1.0], 1), ([0.5] * 3, 2), ([], 5), ([0.1] * 4, 10)])
def test_histograms_of_little(density, n_rows):
    bins = density_bins(np.array(density), n_rows)
    assert sum(bins["counts"]) + bins["dead"] == len(density)
    assert len(bins["counts"]) == bins["decades"] * bins["per_decade"]


def test_the_map_keeps_proportions():
    places = np.array([[0, 0], [4, 2], [2, 1]], dtype=np.float32)
    assert map_places(places) == [[0, 1000, 500], [250, 750, 500]]
    assert map_places(np.zeros((2, 2))) == [[500, 500], [500, 500]]
    assert map_places(None) is None
