"""Rules for the `refit` parameter of searches, and a report of how close their choice was."""

import re
import warnings
from collections import Counter
from dataclasses import KW_ONLY, dataclass

import numpy as np
from sklearn.utils import Bunch

_SPLIT = re.compile(r"split(\d+)_test_(.+)")


@dataclass(frozen=True)
class OneStandardError:
    """Choose the sparsest candidate within one standard error of the best.

    The best candidate is the one with the highest mean score over the splits. Candidates whose mean
    is below it by at most one standard error of its own mean are as good as it is, as far as the
    splits can tell; the one among them with the fewest active latents is chosen [1]_.

    Parameters
    ----------
    score : str, default="explained_variance"
        Name of the score, as in the column `mean_test_explained_variance`.
    sparsity : str, default="neg_l0"
        Name of the score that is larger for a sparser candidate.

    See Also
    --------
    BestExplainedVariance : The best candidate with a bound on the active latents.
    Knee : The point of diminishing returns.
    sksae.metrics.sae_scorer : Gives the columns that the rule reads.

    Notes
    -----
    The standard error is the sample standard deviation over the splits divided by the square root
    of their number. With one split it is 0 and the best candidate wins.

    Candidates with a score that is not finite do not compete; of equal ones the first wins.

    :class:`sklearn.model_selection.HalvingGridSearchCV` takes a single score and ignores a callable
    `refit`. Give it :func:`sksae.metrics.make_penalized_scorer`. A rule that is called with the
    `cv_results_` of a halving search looks at its last iteration only.

    References
    ----------
    .. [1] Breiman, L., Friedman, J. H., Olshen, R. A. and Stone, C. J. (1984). Classification and
       regression trees, section 3.4.3. Wadsworth.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sksae.metrics import sae_scorer
    >>> from sksae.model_selection import OneStandardError
    >>> search = GridSearchCV(
    ...     PCA(), {"n_components": [1, 2, 3]}, scoring=sae_scorer, refit=OneStandardError(), cv=3
    ... )
    >>> search.fit(load_iris().data).best_params_
    {'n_components': 3}
    """

    _: KW_ONLY
    score: str = "explained_variance"
    sparsity: str = "neg_l0"

    def __call__(self, cv_results):
        """Choose a candidate.

        Parameters
        ----------
        cv_results : dict of str to array
            `cv_results_` of a search whose scorer returns a dict.

        Returns
        -------
        best_index : int
            Index of the chosen candidate.
        """
        index, score, sparsity = _candidates(cv_results, self.score, self.sparsity)
        best = score.argmax()
        # Of the candidates within one standard error, the sparsest; of equally sparse ones, the
        # best.
        standard_error = _standard_error(cv_results, self.score, index[best])
        return _first_best(index, score >= score[best] - standard_error, sparsity, score)


@dataclass(frozen=True)
class BestExplainedVariance:
    """Choose the best candidate with at most `max_l0` active latents per row.

    For a number of active latents that is fixed beforehand, for instance by a model to compare
    with.

    Parameters
    ----------
    max_l0 : float
        Largest mean number of active latents that is allowed.
    score : str, default="explained_variance"
        Name of the score, as in the column `mean_test_explained_variance`.
    sparsity : str, default="neg_l0"
        Name of the score that holds minus the number of active latents.

    See Also
    --------
    OneStandardError : Needs no bound.
    Knee : The point of diminishing returns.
    sksae.metrics.sae_scorer : Gives the columns that the rule reads.

    Notes
    -----
    If no candidate is sparse enough the sparsest one is chosen, with a warning: an error would
    throw the finished search away. Candidates with a score that is not finite do not compete; of
    equal ones the sparser wins, then the first.

    :class:`sklearn.model_selection.HalvingGridSearchCV` takes a single score and ignores a callable
    `refit`. Give it :func:`sksae.metrics.make_penalized_scorer`. A rule that is called with the
    `cv_results_` of a halving search looks at its last iteration only.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sksae.metrics import sae_scorer
    >>> from sksae.model_selection import BestExplainedVariance
    >>> rule = BestExplainedVariance(max_l0=2)
    >>> search = GridSearchCV(
    ...     PCA(), {"n_components": [1, 2, 3]}, scoring=sae_scorer, refit=rule, cv=3
    ... )
    >>> search.fit(load_iris().data).best_params_
    {'n_components': 2}
    """

    max_l0: float
    _: KW_ONLY
    score: str = "explained_variance"
    sparsity: str = "neg_l0"

    def __call__(self, cv_results):
        """Choose a candidate.

        Parameters
        ----------
        cv_results : dict of str to array
            `cv_results_` of a search whose scorer returns a dict.

        Returns
        -------
        best_index : int
            Index of the chosen candidate.
        """
        index, score, sparsity = _candidates(cv_results, self.score, self.sparsity)
        allowed = -sparsity <= self.max_l0  # `sparsity` is minus the mean number of active latents
        if not allowed.any():
            warnings.warn(
                f"No candidate has at most {self.max_l0} active latents; the sparsest one, with "
                f"{-sparsity.max():.4g}, is chosen. Search over sparser settings or raise max_l0.",
                UserWarning,
                stacklevel=2,
            )
            return _first_best(index, np.ones(len(index), dtype=bool), sparsity, score)
        return _first_best(index, allowed, score, sparsity)


@dataclass(frozen=True)
class Knee:
    """Choose the candidate at the knee of the curve of score against active latents.

    Only candidates count that no other one beats in both score and sparsity. Both axes are scaled
    to [0, 1], and the candidate highest above the straight line from the sparsest to the densest
    is chosen [1]_: up to it an additional active latent gains much, beyond it little.

    Parameters
    ----------
    score : str, default="explained_variance"
        Name of the score, as in the column `mean_test_explained_variance`.
    sparsity : str, default="neg_l0"
        Name of the score that holds minus the number of active latents.

    See Also
    --------
    OneStandardError : Gives up only differences within the error of the splits.
    BestExplainedVariance : The best candidate with a bound on the active latents.
    sksae.metrics.sae_scorer : Gives the columns that the rule reads.

    Notes
    -----
    The knee depends on the range of the search: a denser end moves it to denser candidates. If no
    candidate lies above the line, as with fewer than three, the one with the best score is chosen.
    Candidates with a score that is not finite do not compete; of equal ones the first wins.

    :class:`sklearn.model_selection.HalvingGridSearchCV` takes a single score and ignores a callable
    `refit`. Give it :func:`sksae.metrics.make_penalized_scorer`. A rule that is called with the
    `cv_results_` of a halving search looks at its last iteration only.

    References
    ----------
    .. [1] Satopää, V., Albrecht, J., Irwin, D. and Raghavan, B. (2011). Finding a "kneedle" in a
       haystack: detecting knee points in system behavior. ICDCS Workshops.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sksae.metrics import sae_scorer
    >>> from sksae.model_selection import Knee
    >>> grid = {"n_components": [1, 2, 4, 8, 16, 32, 64]}
    >>> search = GridSearchCV(PCA(), grid, scoring=sae_scorer, refit=Knee(), cv=3)
    >>> search.fit(load_digits().data[:300]).best_params_
    {'n_components': 16}
    """

    _: KW_ONLY
    score: str = "explained_variance"
    sparsity: str = "neg_l0"

    def __call__(self, cv_results):
        """Choose a candidate.

        Parameters
        ----------
        cv_results : dict of str to array
            `cv_results_` of a search whose scorer returns a dict.

        Returns
        -------
        best_index : int
            Index of the chosen candidate.
        """
        index, score, sparsity = _candidates(cv_results, self.score, self.sparsity)
        front = _pareto_front(score, sparsity)
        index, score, count = index[front], score[front], -sparsity[front]
        # From the sparsest to the densest both grow, so the last candidate has the best score.
        spans = count[-1] - count[0], score[-1] - score[0]
        if len(front) < 3:
            return int(index[-1])
        # Height above the line from the first to the last candidate, both axes scaled to 1.
        height = (score - score[0]) / spans[1] - (count - count[0]) / spans[0]
        knee = height.argmax()
        # A curve that is nowhere above its chord has no knee.
        return int(index[knee] if height[knee] > 0 else index[-1])


@dataclass(frozen=True)
class DiminishingReturns:
    """Choose the densest candidate up to which more codes explain enough more.

    From one candidate to the next denser one, the number of active latents grows by a factor, and
    the score by another. Where rows are sums of few directions, the score grows about in
    proportion up to their number and hardly beyond it. The rule goes from the sparsest candidate to
    denser ones as long as the elasticity ``log(score ratio) / log(ratio of active latents)`` is at
    least `elasticity`.

    Parameters
    ----------
    elasticity : float, default=0.35
        Growth of the score over growth of the active latents, below which more do not pay.
    score : str, default="explained_variance"
        Name of the score, as in the column `mean_test_explained_variance`; a share, at most 1.
    sparsity : str, default="neg_l0"
        Name of the score that holds minus the number of active latents.

    See Also
    --------
    Knee : Depends on the range of the search.
    OneStandardError : Gives up only differences within the error of the splits.
    choice_report : How often single splits choose the same.

    Notes
    -----
    Only candidates count that no other one beats in both score and sparsity, so that a grid over
    several parameters has one curve. The choice does not depend on how far the search goes beyond
    it. On synthetic data of known sparsity it finds the number of active directions where the
    directions can be learnt at all; see ``docs/choosing_sparsity.md``. The threshold, between 1
    (all codes pay alike) and 0 (none pays), was chosen there.

    Candidates with a score that is not finite do not compete; those with a score of 0 or less
    explain nothing and are passed over, unless all do: then the best one is chosen.

    :class:`sklearn.model_selection.HalvingGridSearchCV` takes a single score and ignores a callable
    `refit`. Give it :func:`sksae.metrics.make_penalized_scorer`. A rule that is called with the
    `cv_results_` of a halving search looks at its last iteration only.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.metrics import sae_scorer
    >>> from sksae.model_selection import DiminishingReturns
    >>> X, _, _ = make_superposition(1500, 24, 48, density=3 / 48, random_state=0)
    >>> sae = TopKSAE(48, max_iter=10, random_state=0)
    >>> search = GridSearchCV(
    ...     sae, {"k": [1, 2, 3, 5, 8]}, scoring=sae_scorer, refit=DiminishingReturns(), cv=2
    ... )
    >>> search.fit(X).best_params_  # three directions are active per row
    {'k': 3}
    """

    _: KW_ONLY
    elasticity: float = 0.35
    score: str = "explained_variance"
    sparsity: str = "neg_l0"

    def __call__(self, cv_results):
        """Choose a candidate.

        Parameters
        ----------
        cv_results : dict of str to array
            `cv_results_` of a search whose scorer returns a dict.

        Returns
        -------
        best_index : int
            Index of the chosen candidate.
        """
        index, score, sparsity = _candidates(cv_results, self.score, self.sparsity)
        front = _pareto_front(score, sparsity)
        front = front[(score[front] > 0) & (sparsity[front] < 0)]
        if len(front) == 0:
            return int(index[score.argmax()])  # no candidate explains anything: the best there is
        # Both grow from the sparsest to the densest.
        # Elasticity: relative growth of the score over that of the active latents, between
        # neighbours on the front.
        growth = np.diff(np.log(score[front])) / np.diff(np.log(-sparsity[front]))
        # The last candidate has none after it.
        diminished = np.append(growth < self.elasticity, True)
        return int(index[front[diminished.argmax()]])


def _candidates(cv_results, score_name, sparsity_name):
    """Return indices, mean scores and sparsities of the candidates that compete."""
    score = _mean_scores(cv_results, score_name)
    sparsity = _mean_scores(cv_results, sparsity_name)
    competes = np.isfinite(score) & np.isfinite(sparsity)
    if "iter" in cv_results:
        # Earlier iterations of a halving search used fewer resources and are not comparable.
        iteration = np.asarray(cv_results["iter"])
        competes &= iteration == iteration.max()
    if not competes.any():
        raise ValueError(
            f"No candidate has a finite mean {score_name!r} and {sparsity_name!r}; "
            "error_score='raise' shows why the fits or scores failed."
        )
    index = np.flatnonzero(competes)
    return index, score[index], sparsity[index]


def _mean_scores(cv_results, name):
    column = f"mean_test_{name}"
    if column not in cv_results:
        columns = sorted(key for key in cv_results if key.startswith("mean_test_"))
        raise ValueError(
            f"cv_results_ has no {column!r}, only {columns}. Search with a scorer that returns a "
            f"dict with {name!r}, such as scoring=sksae.metrics.sae_scorer."
        )
    return np.asarray(cv_results[column], dtype=np.float64)


def _standard_error(cv_results, name, candidate):
    """Return the standard error of one candidate's mean over the splits; 0 for one split."""
    split_column = re.compile(rf"split\d+_test_{re.escape(name)}$")
    n_splits = sum(split_column.match(key) is not None for key in cv_results)
    # std_test_* divides by n; the standard error is the std with n - 1, divided by sqrt(n).
    return cv_results[f"std_test_{name}"][candidate] / np.sqrt(max(n_splits - 1, 1))


def _first_best(index, allowed, first, second):
    """Return the candidate with the largest `first`, then the largest `second`, then the first."""
    order = np.lexsort((index, -second, -first, ~allowed))
    return int(index[order[0]])


def _pareto_front(score, sparsity):
    """Return positions of the candidates that no other dominates, from sparse to dense."""
    # Sparsest first, of equally sparse ones the best first.
    order = np.lexsort((np.arange(len(score)), -score, -sparsity))
    best_before = np.maximum.accumulate(np.r_[-np.inf, score[order][:-1]])
    return order[score[order] > best_before]  # better than all that are sparser


def choice_report(rule, cv_results):
    """Report how close the choice of a rule was: what it would choose by every split alone.

    Parameters
    ----------
    rule : callable
        Rule that chooses the index of a candidate from `cv_results_`, such as
        :class:`DiminishingReturns`.
    cv_results : dict of str to array
        `cv_results_` of a search whose scorer returns a dict.

    Returns
    -------
    report : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the following attributes.

        index : int
            Index of the chosen candidate, by the means over all splits.
        params : dict
            Its parameters.
        split_indices : ndarray of shape (n_splits,)
            Index of the candidate that every split chooses.
        agreement : float
            Share of the splits that choose the chosen candidate.
        runner_up : dict or None
            Parameters of the other candidate that most splits choose, the first of equals; None
            if all agree.
        interval : list of dict
            Parameters of all candidates that some split chooses, in the order of the search.
        at_edge : bool
            Whether the choice is the sparsest or the densest candidate, so that the search may have
            ended too early. Always False without the score "neg_l0".

    Raises
    ------
    ValueError
        If `cv_results` has no scores of single splits.

    See Also
    --------
    DiminishingReturns : The rule to begin with.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.model_selection import Knee, choice_report
    >>> cv_results = {
    ...     "params": [{"k": 1}, {"k": 2}, {"k": 4}, {"k": 8}],
    ...     "split0_test_explained_variance": np.array([0.2, 0.6, 0.7, 0.75]),
    ...     "split1_test_explained_variance": np.array([0.2, 0.4, 0.7, 0.75]),
    ...     "mean_test_explained_variance": np.array([0.2, 0.5, 0.7, 0.75]),
    ...     "split0_test_neg_l0": -np.array([1.0, 2, 4, 8]),
    ...     "split1_test_neg_l0": -np.array([1.0, 2, 4, 8]),
    ...     "mean_test_neg_l0": -np.array([1.0, 2, 4, 8]),
    ... }
    >>> report = choice_report(Knee(), cv_results)
    >>> report.params, report.agreement, report.runner_up
    ({'k': 4}, 0.5, {'k': 2})
    """
    splits = {}
    for column, values in cv_results.items():
        if match := _SPLIT.fullmatch(column):
            splits.setdefault(int(match[1]), {})[match[2]] = values
    if not splits:
        raise ValueError(
            "cv_results has no scores of single splits, such as 'split0_test_explained_variance'."
        )
    chosen = int(rule(cv_results))
    indices = np.array([int(rule(_alone(scores, cv_results))) for scores in splits.values()])
    params = cv_results["params"]
    second_choice = Counter(indices[indices != chosen].tolist()).most_common(1)
    return Bunch(
        index=chosen,
        params=params[chosen],
        split_indices=indices,
        agreement=float(np.mean(indices == chosen)),
        runner_up=params[second_choice[0][0]] if second_choice else None,
        interval=[params[index] for index in np.unique(indices)],
        at_edge=_is_extreme(cv_results.get("mean_test_neg_l0"), chosen),
    )


def _alone(scores, cv_results):
    """Return `cv_results` as if there were one split alone."""
    results = {"params": cv_results["params"]}
    if "iter" in cv_results:
        results["iter"] = cv_results["iter"]
    for name, values in scores.items():
        results[f"split0_test_{name}"] = results[f"mean_test_{name}"] = values
        results[f"std_test_{name}"] = np.zeros_like(values)
    return results


def _is_extreme(sparsity, chosen):
    if sparsity is None:
        return False
    return bool(sparsity[chosen] in (np.nanmin(sparsity), np.nanmax(sparsity)))
