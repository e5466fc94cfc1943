"""Rules for constructor parameters, checked at fit as scikit-learn does.

An estimator lists its rules in a class attribute, extended by subclasses::

    _param_rules = {**BaseSAE._param_rules, "k": Int(1, none=True)}

and calls ``check_params(self)`` first thing in ``fit``.
"""

import math
from numbers import Integral, Real

import numpy as np


class Int:
    """An integer in ``[low, high]``; ``none=True`` also allows None."""

    def __init__(self, low=None, high=None, *, none=False):
        self.low, self.high, self.none = low, high, none

    def accepts(self, value):
        """Whether `value` satisfies the rule."""
        if value is None:
            return self.none
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self):
        return f"an int{_interval(self.low, self.high, '[', ']')}{' or None' * self.none}"


class Float:
    """A finite real number between `low` and `high`; ``open_`` names the ends left out."""

    def __init__(self, low=None, high=None, *, open_="", none=False):
        self.low, self.high, self.open_, self.none = low, high, open_, none

    def accepts(self, value):
        """Whether `value` satisfies the rule."""
        if value is None:
            return self.none
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
            return False
        try:
            if not math.isfinite(value):
                return False
        except OverflowError:  # an int beyond the largest float
            return False
        above = (
            self.low is None or value > self.low or (value == self.low and "low" not in self.open_)
        )
        below = (
            self.high is None
            or value < self.high
            or (value == self.high and "high" not in self.open_)
        )
        return above and below

    def __str__(self):
        opening = "(" if "low" in self.open_ else "["
        closing = ")" if "high" in self.open_ else "]"
        return f"a float{_interval(self.low, self.high, opening, closing)}{' or None' * self.none}"


class Option:
    """One of the given strings (or None, if it is among them)."""

    def __init__(self, *options):
        self.options = options

    def accepts(self, value):
        """Whether `value` satisfies the rule."""
        return (value is None or isinstance(value, str)) and value in self.options

    def __str__(self):
        return "one of " + ", ".join(repr(option) for option in self.options)


class Bool:
    """True or False, numpy's included."""

    def accepts(self, value):
        """Whether `value` satisfies the rule."""
        return isinstance(value, (bool, np.bool_))

    def __str__(self):
        return "a bool"


class Verbosity:
    """A non-negative integer, or True or False."""

    def accepts(self, value):
        """Whether `value` satisfies the rule."""
        return Bool().accepts(value) or Int(0).accepts(value)

    def __str__(self):
        return "an int >= 0 or a bool"


class Seed:
    """A seed that `sklearn.utils.check_random_state` accepts."""

    def accepts(self, value):
        """Whether `value` satisfies the rule."""
        if value is None or value is np.random or isinstance(value, np.random.RandomState):
            return True
        return Int(0, 2**32 - 1).accepts(value)

    def __str__(self):
        return "None, an int in [0, 4294967295] or a numpy.random.RandomState"


class Instance:
    """An instance of one of the given types; `description` is the wording of the error."""

    def __init__(self, *types, description):
        self.types, self.description = types, description

    def accepts(self, value):
        """Whether `value` satisfies the rule."""
        return isinstance(value, self.types)

    def __str__(self):
        return self.description


class Pair:
    """A tuple or list of two values that satisfy `rule`; ``none=True`` also allows None."""

    def __init__(self, rule, *, none=False):
        self.rule, self.none = rule, none

    def accepts(self, value):
        """Whether `value` satisfies the rule."""
        if value is None:
            return self.none
        return (
            isinstance(value, (tuple, list))
            and len(value) == 2
            and all(self.rule.accepts(v) for v in value)
        )

    def __str__(self):
        return f"a pair, each {self.rule}{', or None' * self.none}"


def _interval(low, high, opening, closing):
    if low is None and high is None:
        return ""
    if high is None:
        return f" {'>' if opening == '(' else '>='} {low}"
    if low is None:
        return f" {'<' if closing == ')' else '<='} {high}"
    return f" in {opening}{low}, {high}{closing}"


def check_params(estimator):
    """Raise a ValueError naming the first parameter that breaks its rule."""
    for name, rule in estimator._param_rules.items():
        value = getattr(estimator, name)
        if not rule.accepts(value):
            raise ValueError(
                f"The {name!r} parameter of {type(estimator).__name__} must be {rule}. "
                f"Got {value!r} instead."
            )


def check_option(name, value, rule):
    """Raise a ValueError that names an argument of a function unless it satisfies a rule."""
    if not rule.accepts(value):
        raise ValueError(f"{name} must be {rule}. Got {value!r} instead.")
