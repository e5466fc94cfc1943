"""Report of how close the choice of a rule was."""

import re
from collections import Counter

import numpy as np
from sklearn.utils import Bunch

_SPLIT = re.compile(r"split(\d+)_test_(.+)")


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
    others = Counter(indices[indices != chosen].tolist()).most_common(1)
    return Bunch(
        index=chosen,
        params=params[chosen],
        split_indices=indices,
        agreement=float(np.mean(indices == chosen)),
        runner_up=params[others[0][0]] if others else None,
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
