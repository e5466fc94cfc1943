"""Score tests: sums of codes times scores of a target, against permutations within groups.

The moments of such a sum over all permutations of the target within its groups are known, so that
no permutation is drawn. All sums run over the entries of sparse codes.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import orth
from scipy.stats import norm, rankdata
from sklearn.preprocessing import SplineTransformer

from sksae._runs import run_starts
from sksae.interpret.contrast._statistics import skewed_pvalues

_ROUNDING = 1e-12  # share of a sum of squares below which a spread counts as 0
_ROWS_PER_KNOT, _FEWEST_KNOTS, _MOST_KNOTS = 100, 3, 30  # of the splines of a covariate


class Design(NamedTuple):
    """Scores of a target, and the groups and covariates that they are compared within.

    Rows are sorted by group. Scores and covariates have a mean of 0 within each group, so that a
    constant added to the codes of a group changes nothing.
    """

    scores: np.ndarray  # (n_rows, n_scores), orthogonal to the covariates
    group: np.ndarray  # (n_rows,) ascending
    sizes: np.ndarray  # (n_groups,)
    basis: np.ndarray  # (n_rows, n_basis) orthonormal; the covariates

    @property
    def freedom(self):
        """Rows less groups and covariates."""
        return max(len(self.group) - len(self.sizes) - self.basis.shape[1], 1)

    def sums(self, values):
        """Return the sums over the rows of each group, (n_groups, n_columns)."""
        starts = np.cumsum(self.sizes) - self.sizes  # first row of each group
        return np.add.reduceat(values, starts, axis=0)

    def permuted(self, random):
        """Return the scores, permuted within the groups."""
        # Sorted by group, at random within each.
        order = np.lexsort((random.random_sample(len(self.group)), self.group))
        scores = self.scores[order]
        # Permuted scores are no longer orthogonal to the covariates.
        return scores - self.basis @ (self.basis.T @ scores)


def make_design(scores, group=None, covariates=None):
    """Return the `Design` of scores whose rows are sorted by group."""
    n_rows = len(scores)
    group = np.zeros(n_rows, dtype=np.int64) if group is None else group
    sizes = np.bincount(group)

    def centred(values):
        starts = np.cumsum(sizes) - sizes
        # Less the means of the groups.
        return values - (np.add.reduceat(values, starts, axis=0) / sizes[:, None])[group]

    scores, basis = centred(scores), np.empty((n_rows, 0))
    if covariates is not None:
        basis = centred(covariates)
        # Columns that others explain up to rounding are left out of the basis.
        basis = orth(basis, rcond=1e-8) if basis.any() else np.empty((n_rows, 0))
        scores = scores - basis @ (basis.T @ scores)
    return Design(scores, group, sizes, basis)


def expanded(covariates):
    """Return covariates as columns: cubic splines of normal scores, and indicators of labels.

    Parameters
    ----------
    covariates : list of ndarray of shape (n_rows,)
        Numbers or labels.
    """
    columns = []
    for values in covariates:
        if values.dtype.kind in "iuf":
            # Normal scores, (n_rows, 1).
            score = norm.ppf((rankdata(values) - 0.5) / len(values))[:, None]
            n_knots = min(max(len(values) // _ROWS_PER_KNOT, _FEWEST_KNOTS), _MOST_KNOTS)
            # Few values have few quantiles; knots may then be equal, and columns of zeros.
            knots = np.unique(np.quantile(score, np.linspace(0, 1, n_knots)))[:, None]
            if len(knots) > 1:
                columns.extend(SplineTransformer(knots=knots).fit_transform(score).T)
        else:
            labels, number = np.unique(values, return_inverse=True)
            columns.extend((number == label).astype(np.float64) for label in range(len(labels)))
    return np.stack(columns, axis=1) if columns else np.zeros((len(covariates[0]), 1))


class Tested(NamedTuple):
    """Tests of the columns of a block, each of shape (n_columns, n_scores)."""

    correlation: np.ndarray  # within groups, after the covariates
    low: np.ndarray  # ends of its interval
    high: np.ndarray
    pvalues: np.ndarray
    unit: np.ndarray  # standard deviation of the sums


def score_tests(block, design, *, step=0.0, confidence=0.95):
    """Test each column of codes against each score.

    Parameters
    ----------
    block : csc_array of shape (n_rows, n_columns)
        Codes without stored zeros, up to a constant per column, with sorted rows.
    design : Design
    step : float, default=0
        Distance between the values that a sum can have, half of which is subtracted.
    confidence : float, default=0.95
        Of the intervals.

    Returns
    -------
    tested : Tested
    """
    total = block.T @ design.scores  # (n_columns, n_scores)
    moments = _Moments(block, design)
    power = (design.scores**2).sum(axis=0)  # (n_scores,)
    # Each of shape (n_columns, n_scores).
    variance, skewness, robust = (
        np.stack(part, axis=1)
        for part in zip(*map(moments.of_score, range(total.shape[1])), strict=True)
    )
    if design.basis.shape[1]:
        # As in a regression: what the covariates leave of the codes, times that of the scores.
        variance = moments.spread[:, None] * power / design.freedom
    scale = moments.spread[:, None] * power
    is_known = (moments.spread[:, None] > 0) & (variance > 0)
    # With 1 in place of unknown scales nothing is divided by 0; the results are set below.
    scale, usual = np.where(is_known, scale, 1), np.where(is_known, variance, 1)
    total = np.where(is_known, total, 0)
    correlation = np.clip(total / np.sqrt(scale), -1, 1)
    # Squared residuals allow for variances that differ between rows, as a sandwich estimator does.
    inflation = np.maximum(robust / usual, 1)
    # Permuted scores are as far from zero whatever the codes; those of a covariate's are not.
    unit = np.sqrt(usual * inflation) if design.basis.shape[1] else np.sqrt(usual)
    # Continuity correction: sums that move in steps are half a step nearer to 0.
    z = np.maximum(np.abs(total) - step / 2, 0) / unit
    width = norm.isf((1 - confidence) / 2) * np.sqrt(inflation / max(design.freedom - 2, 1))
    # Fisher's transformation, on whose scale the interval is symmetric.
    middle = np.arctanh(np.clip(correlation, -1 + 1e-12, 1 - 1e-12))
    return Tested(
        correlation,
        np.where(is_known, np.tanh(middle - width), -1),
        np.where(is_known, np.tanh(middle + width), 1),
        np.where(is_known, skewed_pvalues(z, skewness), 1),
        np.where(is_known, unit, np.inf),
    )


class _Moments:
    """Moments of the sums of a block over all permutations within the groups."""

    def __init__(self, block, design):
        self.design, self.block, self.n_columns = design, block, block.shape[1]
        column = np.repeat(np.arange(self.n_columns), np.diff(block.indptr))
        # A run holds the entries of one column and one group.
        self.starts = run_starts(column, design.group[block.indices])
        self.column = column[self.starts]  # (n_runs,), as what follows
        self.group = design.group[block.indices[self.starts]]
        size = design.sizes[self.group]  # rows of the group, with and without an entry
        first, second, third = (self._run_sums(block.data**power) for power in (1, 2, 3))
        self.mean = first / size  # over all rows of the group, those without an entry too
        # Sums of the powers of the deviations from the mean of the group.
        deviation = second - first * self.mean
        self.second = np.where(deviation > _ROUNDING * second, deviation, 0)
        self.third = third - 3 * self.mean * second + 2 * size * self.mean**3
        self.projected = block.T @ design.basis  # (n_columns, n_basis)
        spread, explained = self._by_column(self.second), (self.projected**2).sum(axis=1)
        # What covariates explain is taken off; a rest within the rounding is 0.
        self.spread = np.where(spread - explained > 1e-9 * spread, spread - explained, 0)

    def _run_sums(self, values):
        return np.add.reduceat(values, self.starts) if len(self.starts) else np.zeros(0)

    def _by_column(self, values):
        sums = np.bincount(self.column, values, self.n_columns)
        return sums.astype(np.float64, copy=False)  # of no values at all they are integers

    def of_score(self, index):
        """Variance and skewness over permutations, and the variance by squared residuals."""
        design, sizes = self.design, self.design.sizes
        score = design.scores[:, index]
        # Sums of each group, (n_groups,).
        square, cube = design.sums(np.stack([score**2, score**3], axis=1)).T
        variance = self._by_column(self.second * (square / np.maximum(sizes - 1, 1))[self.group])
        # n / ((n - 1) (n - 2)), from the third moment of a sum over permutations of n values; of
        # two values it is 0.
        factor = np.where(sizes > 2, sizes / np.maximum((sizes - 1.0) * (sizes - 2), 1), 0)
        third = self._by_column(self.third * (cube * factor)[self.group])
        skewness = np.where(variance > 0, third / np.where(variance > 0, variance, 1) ** 1.5, 0)
        return variance, skewness, self._robust(score**2, square)

    def _robust(self, weights, of_groups):
        """Sum of the squares of codes, less means and covariates, times those of the score."""
        entries = weights[self.block.indices]
        data, mean = self.block.data, self.mean
        linear, quadratic = (self._run_sums(data**power * entries) for power in (1, 2))
        # Sums of w (c - mean)^2 over all rows of a group: rows without an entry have c = 0, and
        # their weights are in `of_groups`.
        robust = self._by_column(quadratic - 2 * mean * linear + mean**2 * of_groups[self.group])
        if self.design.basis.shape[1]:
            basis, weighted = self.design.basis, self.design.basis * weights[:, None]
            crossed = self.block.T @ weighted  # (n_columns, n_basis)
            # Means of the groups stand in for the codes that are not stored.
            shape = self.n_columns, len(self.design.sizes)
            means = sparse.coo_array((mean, (self.column, self.group)), shape=shape).tocsr()
            crossed -= means @ self.design.sums(weighted)
            # Sums of w (c - b p)^2, with b the basis and p the projection: the mixed term, then the
            # square.
            robust -= 2 * (crossed * self.projected).sum(axis=1)
            robust += ((self.projected @ (weighted.T @ basis)) * self.projected).sum(axis=1)
        return np.maximum(robust, 0)
