"""Records about one feature: its counts, examples, tokens and related features."""

import reprlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sksae._params import Int, check_option

SILENT_KINDS = ("random", "neighbor", "lexical")


class Related(NamedTuple):
    """Another feature, with measures of how it is related to this one.

    A feature that fires wherever another one fires may be its more general form.

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
    Feature : Lists them as `nearest` and `coactive`.

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
    """A range of activations that holds about as many firings as each of the other ranges.

    Quantiles show what a feature does when it fires weakly, which is most of the time.

    Parameters
    ----------
    low, high : float
        Smallest and largest activation among the examples.
    share : float
        Estimated share of the feature's firings that lie in this range.
    examples : list of Example
        Random examples from the range, the strongest first.

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
    """The record of one feature in an atlas.

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
        Warnings: "dead", "rare", "dense", "duplicate-heavy",
        "position-driven".
    top_tokens : list of (str, float)
        The pieces of text it fires on most, and the share of the sum of its codes that falls on
        each.
    examples : list of Example
        Examples of its strongest activations, the strongest first, all different.
    sampled : list of Example, default=[]
        Random examples from all strengths, the strongest first.
    weights : ndarray of shape (n_sampled,), default=[]
        Number of rows that each of them represents.
    silent : dict of str to list of Example, default={}
        Windows in which it fires nowhere: "random" ones; "neighbor", where one of the nearest
        features fires; "lexical", with the token in the middle that it fires on most.
    histogram : tuple of ndarray (counts, edges), default=([], [])
        Number of rows with an activation between two edges, which grow by a constant factor.
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
        """Divide the random examples into ranges with about as many firings each.

        Parameters
        ----------
        n_quantiles : int, default=5
            Number of ranges; those without an example are left out.

        Returns
        -------
        quantiles : list of Quantile
            The ranges, the strongest first.

        Raises
        ------
        ValueError
            If `n_quantiles` is less than 1.
        """
        check_option("n_quantiles", n_quantiles, Int(1))
        if not len(self.weights):
            return []
        total = self.weights.sum()
        # Share of the firings that are stronger than the middle of what an example represents.
        # Examples are sorted from strong to weak, and each stands for `weights` firings.
        middle = (np.cumsum(self.weights) - self.weights / 2) / total
        number = np.minimum((middle * n_quantiles).astype(int), n_quantiles - 1)
        quantiles = []
        for quantile in np.unique(number).tolist():
            members = np.flatnonzero(number == quantile)
            examples = [self.sampled[i] for i in members.tolist()]
            share = float(self.weights[members].sum() / total)
            low, high = examples[-1].activation, examples[0].activation
            quantiles.append(Quantile(low, high, share, examples))
        return quantiles
