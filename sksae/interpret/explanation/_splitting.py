"""Disjoint windows of a feature to explain it from and to test the explanation on."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sksae._params import Int, check_option

N_ATTEMPTS = 8  # random ways to distribute the texts, of which the best is taken


def check_texts(atlas):
    """Raise a ValueError if the windows of an atlas are patches of images, not texts to read."""
    grid = getattr(atlas, "image_grid_", None)
    if grid is not None and grid != (1, 1):
        raise ValueError(
            "The rows of this atlas are patches of images; no client for texts can read them. "
            "ImageExamplesDisplay and the page show them."
        )


class ExampleSide(NamedTuple):
    """The windows of a feature on one of two sides, which share no text.

    One side is for explaining the feature and the other for testing the explanation.

    Parameters
    ----------
    top : list of Example
        The windows in which the feature fires most, the strongest first.
    quantiles : list of list of Example
        Windows of random firings, about as many in each part, from strong to weak; a part may be
        empty.
    silent : dict of str to list of Example
        Windows in which it does not fire, by kind, as in `Feature.silent`.

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
        """Return all windows in which the feature fires, without repetition, the strongest first.

        Returns
        -------
        windows : list of Example
            The windows.
        """
        # A window may be both among the strongest and in a part.
        by_row = {e.row: e for e in [*self.top, *(e for part in self.quantiles for e in part)]}
        return sorted(by_row.values(), key=lambda e: (-e.activation, e.row))


def split_examples(feature, *, n_quantiles=5, seen=(), random_state=0):
    """Split the windows of a feature into those to explain it from and those to test it on.

    No text has windows on both sides, and texts with identical windows count as one. Of each part,
    from strong to weak, about half goes to either side.

    Parameters
    ----------
    feature : Feature
        The feature, with sampled firings. Without any, its strongest examples are divided into
        parts of equal size.
    n_quantiles : int, default=5
        The number of parts.
    seen : collection, default=()
        Texts that must be on the side to explain from.
    random_state : int, default=0
        Seed of the split, which does not depend on other features.

    Returns
    -------
    explaining, scoring : ExampleSide
        The two sides. Silent windows are on the scoring side unless their text is on the other.

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
    # Windows of one group stay on one side: they share a text, or have the same tokens.
    group_of = _groups([*feature.examples, *(e for part in parts for e in part)])
    # The group of each window, part by part.
    members = [[group_of[key_of(e.text)] for e in part] for part in parts]
    fixed = {group_of[key] for key in map(key_of, seen) if key in group_of}
    # By feature, so that a split does not depend on the features before it.
    rng = np.random.default_rng([random_state, feature.feature])
    groups = sorted(set(group_of.values()))
    candidates = [
        _distributed(members, [groups[i] for i in rng.permutation(len(groups))], fixed)
        for _ in range(N_ATTEMPTS)
    ]
    explained = max(candidates, key=lambda candidate: _balance(members, candidate))
    texts = {text for text, group in group_of.items() if group in explained}
    texts |= set(map(key_of, seen))
    return _side(feature, parts, texts, True), _side(feature, parts, texts, False)


def joined(first, second):
    """`ExampleSide` with the windows of two."""
    return ExampleSide(
        sorted(first.top + second.top, key=lambda e: (-e.activation, e.row)),
        [a + b for a, b in zip(first.quantiles, second.quantiles, strict=True)],
        {kind: windows + second.silent[kind] for kind, windows in first.silent.items()},
    )


def key_of(text):
    """Key of a text in a set: a number of numpy's and the same one of Python's are equal."""
    return text.item() if isinstance(text, np.generic) else text


def _parts(feature, n_quantiles):
    if len(feature.sampled):
        # The sample has windows from strong to weak firing.
        return [part.examples for part in feature.quantiles(n_quantiles)]
    # Without a sample, the strongest examples are cut into parts of equal size.
    n_quantiles = max(1, min(n_quantiles, len(feature.examples)))
    edges = [len(feature.examples) * i // n_quantiles for i in range(n_quantiles + 1)]
    return [feature.examples[start:stop] for start, stop in pairwise(edges)]


def _groups(examples):
    """Group number by text; texts with an identical window are in one group (union-find)."""
    leader = {}  # of texts and windows, which are the nodes

    def find(node):
        # Follow the leaders to the one that leads itself.
        while leader.setdefault(node, node) != node:
            node = leader[node]
        return node

    for example in examples:
        text = ("text", key_of(example.text))
        # A text joins the group of each of its windows.
        leader[find(("window", *example.tokens))] = find(text)
    texts = [node for node in leader if node[0] == "text"]
    numbers = {}
    return {node[1]: numbers.setdefault(find(node), len(numbers)) for node in texts}


def _distributed(members, order, fixed):
    """Groups to explain from, chosen part by part, the part with the fewest groups first."""
    explained, scored = set(fixed), set()
    rank = {group: i for i, group in enumerate(order)}  # random order of the groups
    # A part with few groups has the least choice, and goes first.
    for part in sorted(members, key=lambda part: len(set(part))):
        free = sorted(set(part) - explained - scored, key=rank.get)
        for group in free:
            n_explained = sum(g in explained for g in part)
            n_scored = sum(g in scored for g in part)
            if n_explained == n_scored:  # then the side that has fewer groups in all
                n_explained, n_scored = len(explained), len(scored)
            (explained if n_explained <= n_scored else scored).add(group)
    # Groups of windows outside the parts.
    remaining = [group for group in order if group not in explained | scored]
    return explained | set(remaining[::2])


def _balance(members, explained):
    """Quality of a split: the number of parts on both sides, then how even they are."""
    # Share of the windows of each part to explain from.
    shares = [sum(g in explained for g in part) / len(part) for part in members if part]
    n_on_both_sides = sum(0 < share < 1 for share in shares)
    return n_on_both_sides, -sum(abs(share - 0.5) for share in shares)


def _side(feature, parts, texts, explaining):
    def selected(examples):
        return [e for e in examples if (key_of(e.text) in texts) == explaining]

    silent = {kind: selected(windows) for kind, windows in feature.silent.items()}
    return ExampleSide(selected(feature.examples), [selected(part) for part in parts], silent)
