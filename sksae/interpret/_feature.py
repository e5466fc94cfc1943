"""What is known about one feature: how often, on what, where, beside which others."""

import reprlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sksae._params import Int, check_option

SILENT_KINDS = ("random", "neighbor", "lexical")


class Related(NamedTuple):
    """Another feature, and how it goes together with this one.

    A feature that is on wherever another one is may be its more general form.

    Parameters
    ----------
    feature : int
        The other feature.
    cosine : float
        Cosine of the two directions; NaN where directions are not known.
    jaccard : float
        Rows on which both fire over rows on which one of them fires.
    conditional : float
        Share of the rows of this feature on which the other fires too.

    See Also
    --------
    Feature : Has lists of them, `nearest` and `coactive`.

    Examples
    --------
    >>> from sksae.interpret import Related
    >>> Related(12, cosine=0.61, jaccard=0.2, conditional=0.9).feature
    12
    """

    feature: int
    cosine: float
    jaccard: float
    conditional: float


class Quantile(NamedTuple):
    """One of several parts, from strong to weak, with about as many firings each.

    Quantiles show what a feature does when it fires weakly, which is most of the time.

    Parameters
    ----------
    low, high : float
        Its weakest and its strongest activation among the examples.
    share : float
        Share of all rows on which the feature fires that lie in this part, about.
    examples : list of Example
        Random places in it, the strongest first.

    See Also
    --------
    Feature : Its `quantiles` makes them.

    Examples
    --------
    >>> from sksae.interpret import Quantile
    >>> Quantile(0.5, 1.0, share=0.2, examples=[]).share
    0.2
    """

    low: float
    high: float
    share: float
    examples: list


@dataclass(frozen=True, eq=False, repr=False)
class Feature:
    """All that an atlas knows about a feature.

    Pages, explanations, files and terminals read it.

    Parameters
    ----------
    feature : int
        The column of the codes.
    n_active : int
        Rows on which it fires.
    density : float
        Share of the rows on which it fires.
    n_texts : int
        Texts in which it fires.
    max_activation, mean_activation : float
        Its largest code, and the mean of its positive ones; 0 if it never fires.
    n_unique : int
        Different contexts, of eight pieces of text each, in which it fires: an estimate, exact for
        small numbers.
    flags : tuple of str
        What a reader should be warned of: "dead", "rare", "dense", "duplicate-heavy",
        "position-driven".
    top_tokens : list of (str, float)
        The pieces of text it fires on most, and the share of the sum of its codes that falls on
        each.
    examples : list of Example
        Where it fires most, the strongest first, all different.
    sampled : list of Example, default=[]
        Random places where it fires, from weak to strong ones alike, the strongest first.
    weights : ndarray of shape (n_sampled,), default=[]
        How many rows each of them stands for.
    silent : dict of str to list of Example, default={}
        Windows in which it fires nowhere: "random" ones; "neighbor", where one of the nearest
        features fires; "lexical", with the token in the middle that it fires on most.
    histogram : tuple of ndarray (counts, edges), default=([], [])
        How many rows have an activation between two edges, which grow by a constant factor.
    promoted, suppressed : list of (str, float), default=[]
        The tokens whose logits it raises and lowers most, and by how much.
    nearest : list of Related, default=[]
        The features with the most similar directions, the most similar first.
    coactive : list of Related, default=[]
        The features that fire on the same rows, by their Jaccard index.

    See Also
    --------
    FeatureAtlas : Its `feature` makes them.

    Examples
    --------
    >>> from sksae.interpret import FeatureAtlas
    >>> atlas = FeatureAtlas().fit([[0], [2]], tokens=["Ada", "Bo"])
    >>> bo = atlas.feature(0)
    >>> bo.feature, bo.density, bo.top_tokens
    (0, 0.5, [('Bo', 1.0)])
    """

    feature: int
    n_active: int
    density: float
    n_texts: int
    max_activation: float
    mean_activation: float
    n_unique: int
    flags: tuple
    top_tokens: list
    examples: list
    sampled: list = field(default_factory=list)
    weights: np.ndarray = field(default_factory=lambda: np.zeros(0))
    silent: dict = field(default_factory=dict)
    histogram: tuple = field(default_factory=lambda: (np.zeros(0, dtype=np.int64), np.zeros(1)))
    promoted: list = field(default_factory=list)
    suppressed: list = field(default_factory=list)
    nearest: list = field(default_factory=list)
    coactive: list = field(default_factory=list)

    def __repr__(self):
        tokens = reprlib.repr([token for token, _ in self.top_tokens])
        return (
            f"Feature(feature={self.feature}, density={self.density:.4g}, n_texts={self.n_texts}, "
            f"max_activation={self.max_activation:.4g}, flags={self.flags}, top_tokens={tokens}, "
            f"n_examples={len(self.examples)})"
        )

    def quantiles(self, n_quantiles=5):
        """Cut the random places into parts with about as many firings each, strong to weak.

        Parameters
        ----------
        n_quantiles : int, default=5
            How many parts; those that no example falls into are left out.

        Returns
        -------
        quantiles : list of Quantile
            The parts.

        Raises
        ------
        ValueError
            If there is less than one part.
        """
        check_option("n_quantiles", n_quantiles, Int(1))
        if not len(self.weights):
            return []
        total = self.weights.sum()
        middle = (np.cumsum(self.weights) - self.weights / 2) / total
        part = np.minimum((middle * n_quantiles).astype(int), n_quantiles - 1)
        found = []
        for number in np.unique(part).tolist():
            mine = np.flatnonzero(part == number)
            some = [self.sampled[i] for i in mine.tolist()]
            share = float(self.weights[mine].sum() / total)
            found.append(Quantile(some[-1].activation, some[0].activation, share, some))
        return found
