"""The rules of sksae/_params.py."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sksae._params import Bool, Float, Instance, Int, Option, Pair, Seed, Verbosity, check_params
from tests.cases import each_case

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.fractions(),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
    st.builds(np.array, st.lists(st.floats(), max_size=3)),
    st.sampled_from([np.int8(3), np.float16(0.5), np.float32(2), np.bool_(True), object, np.nan]),
)
RULES = [
    Int(),
    Int(0),
    Int(1, 5, none=True),
    Int(high=3),
    Float(),
    Float(0, 1),
    Float(0, 1, open_="low high"),
    Float(0, open_="low", none=True),
    Float(high=2, open_="high"),
    Option("a", "b", None),
    Bool(),
    Verbosity(),
    Instance(str, description="a str"),
    Pair(Float(0, 1, open_="high")),
    Seed(),
]


@given(value=ANYTHING)
def test_a_rule_answers_yes_or_no_to_anything(value):
    for rule in RULES:
        assert rule.accepts(value) in (True, False), rule


@given(value=ANYTHING, rule=st.sampled_from(RULES))
def test_the_error_names_parameter_class_rule_and_value(value, rule):
    class Thing:
        _param_rules = {"width": rule}

    thing = Thing()
    thing.width = value
    if rule.accepts(value):
        check_params(thing)
        return
    message = f"The 'width' parameter of Thing must be {rule}. Got {value!r} instead."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_params(thing)


@given(low=st.integers(-5, 5), span=st.integers(0, 5), value=st.integers(-12, 12))
def test_int_is_a_closed_interval(low, span, value):
    inside = low <= value <= low + span
    assert Int(low, low + span).accepts(value) == inside
    assert Int(low, low + span).accepts(np.int64(value)) == inside
    assert not Int(low, low + span).accepts(float(value))
    assert Int(low).accepts(value) == (value >= low)
    assert Int(high=low).accepts(value) == (value <= low)


@given(
    low=st.floats(-5, 5),
    span=st.floats(0.5, 5),
    value=st.floats(allow_nan=False, allow_infinity=False),
    open_=st.sampled_from(["", "low", "high", "low high"]),
)
def test_float_is_an_interval_with_ends_in_or_out(low, span, value, open_):
    rule = Float(low, low + span, open_=open_)
    assert rule.accepts(value) == (
        (low < value < low + span)
        or (value == low and "low" not in open_)
        or (value == low + span and "high" not in open_)
    )
    assert rule.accepts(low) == ("low" not in open_)
    assert rule.accepts(low + span) == ("high" not in open_)


def test_float_takes_any_finite_real_and_nothing_else():
    for good in (1, 0.5, np.float32(0.5), np.int16(1), Fraction(1, 2), 10**300):
        assert Float().accepts(good)
    for bad in (math.nan, math.inf, -math.inf, np.float32("nan"), True, np.bool_(False), 1j, "1"):
        assert not Float().accepts(bad)
    assert not Float().accepts(10**400)  # no float at all


def test_a_bool_is_no_number_and_a_number_no_bool():
    assert not Int().accepts(True)
    assert not Int().accepts(np.bool_(True))
    assert not Float().accepts(False)
    for bad in (0, 1, None, "True", 1.0):
        assert not Bool().accepts(bad)
    assert Bool().accepts(np.bool_(False))


def test_none_is_accepted_only_where_the_rule_says_so():
    for rule, without in [(Int(none=True), Int()), (Float(none=True), Float())]:
        assert rule.accepts(None)
        assert not without.accepts(None)
    assert Option("a", None).accepts(None)
    assert not Option("a").accepts(None)


def test_option_compares_strings_only():
    rule = Option("rms", None)
    assert rule.accepts("rms")
    assert rule.accepts(np.str_("rms"))
    for bad in ("RMS", b"rms", ["rms"], np.array("rms"), np.array(["rms", "x"]), 0, False):
        assert not rule.accepts(bad)


def test_pair_is_a_pair():
    rule = Pair(Float(0, 1, open_="high"))
    assert rule.accepts((0.9, 0.999))
    assert rule.accepts([0, 0])
    for bad in ((0.9,), (0.9, 0.99, 0.9), (0.9, 1), "ab", np.array([0.1, 0.2]), {0.1, 0.2}, None):
        assert not rule.accepts(bad)


def test_seed_takes_what_scikit_learn_takes():
    for good in (None, 0, np.int64(3), 2**32 - 1, np.random.RandomState(0), np.random):
        assert Seed().accepts(good)
    for bad in (-1, 2**32, 1.0, True, "0", np.random.default_rng(0)):
        assert not Seed().accepts(bad)


@each_case(
    "rule, text",
    [
        (Int(), "an int"),
        (Int(0), "an int >= 0"),
        (Int(0, 3), "an int in [0, 3]"),
        (Int(high=3, none=True), "an int <= 3 or None"),
        (Float(0, open_="low"), "a float > 0"),
        (Float(0, 1, open_="low"), "a float in (0, 1]"),
        (Float(0, 1, open_="high", none=True), "a float in [0, 1) or None"),
        (Float(high=1, open_="high"), "a float < 1"),
        (Option("a", None), "one of 'a', None"),
        (Bool(), "a bool"),
        (Pair(Float(0, 1)), "a pair, each a float in [0, 1]"),
    ],
)
def test_rules_read_as_english(rule, text):
    assert str(rule) == text


def test_the_first_broken_rule_is_reported():
    class Thing:
        _param_rules = {"a": Int(0), "b": Int(0), "c": Int(0)}
        a, b, c = 1, -1, -2

    with pytest.raises(ValueError, match="'b' parameter"):
        check_params(Thing())
