"""Origin of weights: the facts of a configuration, and checks of its entries."""

import re
from itertools import pairwise
from reprlib import Repr

from sksae._hook_names import IN_BLOCKS, site_of_hook
from sksae._params import Bool, Float, Instance, Int, Option

SITES = "|".join(IN_BLOCKS)
TEXT = Instance(str, description="a str")
SIZE, FLAG, POSITIVE = Int(1), Bool(), Float(0, open_="low")
DTYPE = Option("float32", "float64", None)
_BRIEF = Repr()
_BRIEF.maxlevel, _BRIEF.maxstring = 3, 60


def source_facts(kind, *, hook_name=None, **facts):
    """Return the ``source_`` of an estimator; what is not known is left out.

    Layer and site follow from the name of a TransformerLens hook, in the words of
    `ActivationExtractor`.
    """
    facts = {name: value for name, value in facts.items() if value is not None}
    layer_and_site = site_of_hook(hook_name or "")
    if layer_and_site:
        facts = {"layer": layer_and_site[0], "site": layer_and_site[1], **facts}
    elif hook_name and (layer := re.match(r"blocks\.(\d+)\.", hook_name)):
        facts = {"layer": int(layer[1]), **facts}
    named = {} if hook_name is None else {"hook_name": hook_name}
    return {"format": kind, **named, **facts}


def are_widths(value):
    """Whether a value is the increasing widths of nested dictionaries."""
    if not isinstance(value, list) or not value or not all(SIZE.accepts(width) for width in value):
        return False
    return all(narrow < wide for narrow, wide in pairwise(value))


def take(config, name, rule, path, *, default=...):
    """Return an entry of a configuration that must follow a rule.

    Raises
    ------
    ValueError
        If it is missing (and has no default) or breaks the rule, with the name of the file.
    """
    value = config.get(name, default)
    if value is ...:
        raise ValueError(f"{path} has no {name!r}.")
    if value is not default and not rule.accepts(value):
        raise ValueError(f"{name!r} in {path} must be {rule}. Got {brief(value)} instead.")
    return value


def text_or_none(config, *names):
    """Return the first of these entries that is a str and not empty."""
    values = (config.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value), None)


def brief(value):
    """Return the beginning of the `repr` of a value, quickly however large the value is."""
    text = _BRIEF.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
