"""Which windows an explanation may be made from, and which it is tested on: never the same text."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sksae._params import Int, check_option

ATTEMPTS = 8  # random ways of dealing out the texts, of which the best counts


class ExampleSide(NamedTuple):
    """The windows of a feature that one side may look at.

    One side explains the feature and the other tests the explanation; they share no text.

    Parameters
    ----------
    top : list of Example
        Where the feature fires most, the strongest first.
    quantiles : list of list of Example
        Random places with about as many firings in each part, from strong to weak; a part may be
        empty.
    silent : dict of str to list of Example
        Windows in which it fires nowhere, as in `Feature.silent`.

    See Also
    --------
    split_examples : Makes two of them.

    Examples
    --------
    >>> from sksae.interpret import ExampleSide
    >>> ExampleSide(top=[], quantiles=[[], []], silent={}).windows()
    []
    """

    top: list
    quantiles: list
    silent: dict

    def windows(self):
        """Return all windows in which the feature fires, each place once, the strongest first.

        Returns
        -------
        windows : list of Example
            The windows.
        """
        found = {e.row: e for e in [*self.top, *(e for part in self.quantiles for e in part)]}
        return sorted(found.values(), key=lambda e: (-e.activation, e.row))


def split_examples(feature, *, n_quantiles=5, seen=(), random_state=0):
    """Split the windows of a feature into some to explain it from and others to test that.

    No text has windows on both sides, and windows that read the same count as one text. Of each
    part, from strong to weak, about half goes to either side.

    Parameters
    ----------
    feature : Feature
        The feature, with sampled places. Without any, its strongest examples are cut into parts
        of equal size.
    n_quantiles : int, default=5
        How many parts.
    seen : collection, default=()
        Texts that must be on the side to explain from.
    random_state : int, default=0
        Seed of the split. The same seed gives the same split, whatever other features there are.

    Returns
    -------
    explaining, scoring : ExampleSide
        The two sides. Silent windows are for scoring unless their text is among those to explain
        from.

    Raises
    ------
    ValueError
        If `n_quantiles` or `random_state` is out of range.

    See Also
    --------
    explain : Uses the first.
    score_explanations : Uses the second.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.interpret import FeatureAtlas, split_examples
    >>> table = {"text": np.arange(8), "string": list("abcdefgh")}
    >>> atlas = FeatureAtlas().fit(np.arange(8.0)[:, None], tokens=table)
    >>> explaining, scoring = split_examples(atlas.feature(0), n_quantiles=1)
    >>> len(explaining.windows()), len(scoring.windows())
    (4, 3)
    """
    if not hasattr(feature, "sampled"):
        raise TypeError(
            f"feature must be a Feature, such as atlas.feature(0). Got {type(feature).__name__} "
            "instead."
        )
    check_option("n_quantiles", n_quantiles, Int(1))
    check_option("random_state", random_state, Int(0, 2**32 - 1))
    parts = _parts(feature, n_quantiles)
    group = _groups([*feature.examples, *(e for part in parts for e in part)])
    members = [[group[key_of(e.text)] for e in part] for part in parts]
    fixed = {group[key] for key in map(key_of, seen) if key in group}
    rng = np.random.default_rng([random_state, feature.feature])
    order = sorted(set(group.values()))
    deals = [
        _dealt(members, [order[i] for i in rng.permutation(len(order))], fixed)
        for _ in range(ATTEMPTS)
    ]
    explained = max(deals, key=lambda deal: _balance(members, deal))
    texts = {text for text, mine in group.items() if mine in explained}
    texts |= set(map(key_of, seen))
    return _side(feature, parts, texts, True), _side(feature, parts, texts, False)


def key_of(text):
    """Return what stands for a text in a set: numpy's numbers and Python's are the same one."""
    return text.item() if isinstance(text, np.generic) else text


def _parts(feature, n_quantiles):
    if len(feature.sampled):
        return [part.examples for part in feature.quantiles(n_quantiles)]
    n_quantiles = max(1, min(n_quantiles, len(feature.examples)))
    cuts = [len(feature.examples) * i // n_quantiles for i in range(n_quantiles + 1)]
    return [feature.examples[a:b] for a, b in pairwise(cuts)]


def _groups(examples):
    """Return a group by text; texts with a window that reads the same are in one group."""
    leader = {}

    def find(key):
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    for example in examples:
        text = ("text", key_of(example.text))
        leader[find(("window", *example.tokens))] = find(text)
    texts = [key for key in leader if key[0] == "text"]
    numbers = {}
    return {key[1]: numbers.setdefault(find(key), len(numbers)) for key in texts}


def _dealt(members, order, fixed):
    """Return the groups to explain from, dealt part by part, the one with fewest groups first."""
    explained, scored = set(fixed), set()
    rank = {group: i for i, group in enumerate(order)}
    for part in sorted(members, key=lambda part: len(set(part))):
        free = sorted(set(part) - explained - scored, key=rank.get)
        for group in free:
            mine = sum(g in explained for g in part)
            other = sum(g in scored for g in part)
            if mine == other:  # then the side that has fewer texts
                mine, other = len(explained), len(scored)
            (explained if mine <= other else scored).add(group)
    left = [group for group in order if group not in explained | scored]
    return explained | set(left[::2])


def _balance(members, explained):
    """Return how good a split is: parts on both sides, then how even they are."""
    shares = [sum(g in explained for g in part) / len(part) for part in members if part]
    both = sum(0 < share < 1 for share in shares)
    return both, -sum(abs(share - 0.5) for share in shares)


def _side(feature, parts, texts, explaining):
    def mine(examples):
        return [e for e in examples if (key_of(e.text) in texts) == explaining]

    silent = {kind: mine(some) for kind, some in feature.silent.items()}
    return ExampleSide(mine(feature.examples), [mine(part) for part in parts], silent)
