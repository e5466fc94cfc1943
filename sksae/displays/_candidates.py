"""Candidates of a search, read from its `cv_results_`."""

import re
from numbers import Real

import numpy as np

_SPARSITY_PARAMS = ("k", "alpha", "target_l0")
_L0 = "neg_l0"


def read_candidates(cv_results, score, param_name):
    """Return what a `SparsityFrontierDisplay` shows of a search.

    Parameters
    ----------
    cv_results : dict of str to array
        The table of the search.
    score : str
        Name of the score.
    param_name : str or None
        The parameter of the horizontal axis; None takes the measured active latents per row.

    Returns
    -------
    candidates : dict
        Arguments of the display.

    Raises
    ------
    ValueError
        If a column or a parameter is missing.
    """
    column, measured = f"mean_test_{score}", f"mean_test_{_L0}"
    if column not in cv_results:
        found = sorted(key for key in cv_results if key.startswith("mean_test_"))
        raise ValueError(
            f"cv_results has no {column!r}, only {found}. "
            "Give score, or search with scoring=sksae.metrics.sae_scorer."
        )
    params = list(cv_results["params"])
    name = param_name or _sparsity_param(params)
    values = [one.get(name) for one in params]
    if param_name is None and measured in cv_results:
        sparsity, axis = -np.asarray(cv_results[measured]), "active latents per row (L0)"
    elif all(isinstance(value, Real) for value in values):
        sparsity, axis = values, _short(name)
    else:
        raise ValueError(
            f"The candidates have no parameter {name!r} that is a number. Give param_name, one of "
            f"{sorted(params[0])}, or search with scoring=sksae.metrics.sae_scorer and show the "
            "active latents that it measures."
        )
    return {
        "sparsity": np.asarray(sparsity, dtype=np.float64),
        "score": _comparable(cv_results, column),
        "score_error": _standard_errors(cv_results, score),
        "groups": [_words(one, without=name) for one in params],
        "labels": [_words({name: value}) for value in values] if name else None,
        "sparsity_name": axis,
        "score_name": score.replace("_", " "),
    }


def _sparsity_param(params):
    """Return the name of the parameter that sets the sparsity, None if there is none."""
    names = (name for one in params for name in one)
    return next((name for name in names if _short(name) in _SPARSITY_PARAMS), None)


def _short(name):
    return name.rpartition("__")[2]


def _words(params, without=None):
    """Return parameters as they are written beside a point or a line."""
    shown = {name: value for name, value in params.items() if name != without}
    return ", ".join(
        f"{_short(name)} = {f'{value:.4g}' if isinstance(value, Real) else value}"
        for name, value in shown.items()
    )


def _comparable(cv_results, column):
    """Return mean scores, NaN for the earlier iterations of a halving search."""
    score = np.array(cv_results[column], dtype=np.float64)
    iteration = np.asarray(cv_results.get("iter", np.zeros(len(score))))
    score[iteration != iteration.max()] = np.nan  # they saw fewer rows
    return score


def _standard_errors(cv_results, name):
    """Return the standard error of each candidate's mean over the splits; 0 for one split."""
    column = re.compile(rf"split\d+_test_{re.escape(name)}$")
    splits = np.array([cv_results[key] for key in cv_results if column.match(key)])
    if len(splits) < 2:
        return np.zeros(len(cv_results["params"]))
    return splits.std(axis=0, ddof=1) / np.sqrt(len(splits))
