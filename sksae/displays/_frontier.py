"""Sparsity against score for the candidates of a search."""

import re
from numbers import Real

import numpy as np

from sksae._params import Int, check_option
from sksae._signs import INK, drawn, fit_columns, place_labels, visible
from sksae.displays._axes import (
    CYCLE,
    MARKERS,
    bare,
    check_matplotlib,
    place,
    plain_log_ticks,
    scale_for,
    titled,
)

_NAME_COLUMNS = 40
_MOST_WITHIN = 4  # entries of a legend that is within the axes
_SPARSITY_PARAMS = ("k", "alpha", "target_l0")
_L0 = "neg_l0"


class SparsityFrontierDisplay:
    """Score of the candidates of a search against their sparsity, the chosen one marked.

    Displays that are drawn on the same axes have different colours and share a legend. It is
    recommended to use :meth:`from_estimator` or :meth:`from_cv_results`.

    Parameters
    ----------
    sparsity : array-like of shape (n_candidates,)
        Active latents per row, or a parameter.
    score : array-like of shape (n_candidates,)
        Mean score over the splits.
    score_error : array-like of shape (n_candidates,), default=None
        Standard error of the mean.
    groups : list of str of length n_candidates, default=None
        Candidates of the same group are one line, and the group its name.
    labels : list of str of length n_candidates, default=None
        Label of each candidate.
    best_index : int, default=None
        The chosen candidate.
    sparsity_name : str, default="active latents per row (L0)"
        Label of the horizontal axis.
    score_name : str, default="explained variance"
        Label of the vertical axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the frontier.
    figure_ : matplotlib Figure
        Figure with the axes.
    lines_ : list of matplotlib ErrorbarContainer
        One line per group.
    best_ : matplotlib Line2D or None
        The mark of the chosen candidate.

    See Also
    --------
    sksae.model_selection.DiminishingReturns : Chooses a candidate.
    sksae.model_selection.SparsityPathCV : A search along one parameter.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.displays import SparsityFrontierDisplay
    >>> from sksae.model_selection import SparsityPathCV
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, max_iter=3, random_state=0)
    >>> search = SparsityPathCV(sae, [1, 2, 3], cv=2).fit(X)
    >>> display = SparsityFrontierDisplay.from_estimator(search)
    >>> display.sparsity.tolist()
    [1.0, 2.0, 3.0]
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        sparsity,
        score,
        score_error=None,
        groups=None,
        labels=None,
        best_index=None,
        sparsity_name="active latents per row (L0)",
        score_name="explained variance",
    ):
        self.sparsity = sparsity
        self.score = score
        self.score_error = score_error
        self.groups = groups
        self.labels = labels
        self.best_index = best_index
        self.sparsity_name = sparsity_name
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls, search, *, score="explained_variance", param_name=None, ax=None, **kwargs
    ):
        """Draw the candidates of a fitted search.

        Parameters
        ----------
        search : GridSearchCV, SparsityPathCV or another search
            Fitted, with `cv_results_`.
        score : str, default="explained_variance"
            Name of the score, as in the column `mean_test_explained_variance`.
        param_name : str, default=None
            A parameter for the horizontal axis. None takes the measured active latents per row.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : SparsityFrontierDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the search has no `cv_results_`.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        if not hasattr(search, "cv_results_"):
            raise TypeError(
                f"{type(search).__name__} has no cv_results_: a fitted search is needed, such as "
                "SparsityPathCV or GridSearchCV."
            )
        return cls.from_cv_results(
            search.cv_results_,
            score=score,
            param_name=param_name,
            best_index=getattr(search, "best_index_", None),
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_cv_results(
        cls,
        cv_results,
        *,
        score="explained_variance",
        param_name=None,
        best_index=None,
        ax=None,
        **kwargs,
    ):
        """Draw the candidates of `cv_results_`.

        Parameters
        ----------
        cv_results : dict of str to array
            `cv_results_` of a search, best one whose scorer is :func:`sksae.metrics.sae_scorer`.
        score : str, default="explained_variance"
            Name of the score, as in the column `mean_test_explained_variance`.
        param_name : str, default=None
            A parameter for the horizontal axis. None takes the measured active latents per row, the
            column `mean_test_neg_l0`, and without one the parameter that sets the sparsity.
        best_index : int, default=None
            The chosen candidate.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : SparsityFrontierDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `cv_results` lacks a column.
        """
        check_matplotlib(f"{cls.__name__}.from_cv_results")
        display = cls(**_read_candidates(cv_results, score, param_name), best_index=best_index)
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_comparison(cls, comparison, *, score="explained_variance", ax=None, **kwargs):
        """Draw the frontiers of several estimators, a colour and a line in the legend for each.

        Parameters
        ----------
        comparison : ScoreTable
            Result of :func:`sksae.model_selection.compare`. Rows of the same name are one frontier.
        score : str, default="explained_variance"
            A column, such as `ce_recovered`. Where it has a standard deviation over several fits,
            the standard error of the mean is drawn as well; the fits share rows, so that it is too
            small.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : SparsityFrontierDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `comparison` lacks a column.
        """
        check_matplotlib(f"{cls.__name__}.from_comparison")
        missing = [name for name in ("estimator", "l0", score) if name not in comparison]
        if missing:
            raise ValueError(f"comparison has no {missing[0]!r}, only {sorted(comparison)}.")
        std, n_fits = comparison.get(f"{score}_std", np.nan), comparison.get("n_fits", 1)
        display = cls(
            sparsity=np.asarray(comparison["l0"]),
            score=np.asarray(comparison[score]),
            # Standard error of the mean, 0 where it is not known.
            score_error=np.nan_to_num(std / np.sqrt(n_fits)) + np.zeros(len(comparison["l0"])),
            groups=[str(name) for name in comparison["estimator"]],
            score_name=score.replace("_", " "),
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, annotate=None, **kwargs):
        """Draw the frontier.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        annotate : bool, default=None
            Whether to write the value of the parameter beside each candidate. None does so where
            there is one group only.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.errorbar`. A `label` names the display in the
            legend, before the names of its groups where it has several.

        Returns
        -------
        display : SparsityFrontierDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If no candidate has a finite score, the lengths differ, `best_index` is no candidate,
            or there are no labels to write.
        """
        x, y, error, groups = self._checked(annotate)
        is_finite = np.isfinite(x) & np.isfinite(y)
        ax = place(self, ax)
        names = list(dict.fromkeys(groups[is_finite].tolist()))  # in the order of the candidates
        self.lines_, self.best_ = [], None
        n_before = len(_error_bars(ax))  # lines of displays that share the axes
        for group, shown in zip(names, _legend_names(names, kwargs.pop("label", "")), strict=True):
            members = np.flatnonzero(is_finite & (groups == group))
            members = members[np.argsort(x[members], kind="stable")]
            number = n_before + len(self.lines_)
            # Where colours come again, they have other markers.
            marker = MARKERS[(number + number // len(CYCLE)) % len(MARKERS)]
            style = {"color": CYCLE[number % len(CYCLE)], "marker": marker, "capsize": 3}
            style |= {"markersize": 5, "label": shown or "_candidates", **kwargs}
            self.lines_.append(ax.errorbar(x[members], y[members], error[members], **style))
        _scale(ax, x[is_finite])
        if ax.get_xscale() == "linear" and "L0" in self.sparsity_name:
            ax.xaxis.get_major_locator().set_params(integer=True)
        if self.best_index is not None:
            self._mark_best(ax, x, y)
        _legend(ax)
        several = " (mean ± standard error)" if error.any() else ""
        ax.set_xlabel(self.sparsity_name, parse_math=False)
        ax.set_ylabel(self.score_name + several, parse_math=False)
        bare(ax)
        titled(ax, "Score by sparsity")
        # Labels would collide where there are several lines.
        one_group = self.labels is not None and len(names) == 1
        if one_group if annotate is None else annotate:
            labels = [str(self.labels[i]) for i in np.flatnonzero(is_finite)]
            lines = [line[0].get_xydata() for line in self.lines_]
            place_labels(ax, np.c_[x, y][is_finite], labels, lines=lines)
        return self

    def _checked(self, annotate):
        """Return sparsity, score, standard error and group of each candidate."""
        x, y = (np.asarray(v, dtype=np.float64) for v in (self.sparsity, self.score))
        error = np.zeros(len(x)) if self.score_error is None else np.asarray(self.score_error)
        groups = np.asarray([""] * len(x) if self.groups is None else self.groups, dtype=object)
        columns = {"score": y, "score_error": error, "groups": groups, "labels": self.labels}
        for name, values in columns.items():
            if values is not None and len(values) != len(x):
                raise ValueError(
                    f"{name} must have one value for each of the {len(x)} candidates. "
                    f"Got {len(values)} instead."
                )
        if not (np.isfinite(x) & np.isfinite(y)).any():
            raise ValueError("No candidate has a finite score and a finite sparsity.")
        check_option("best_index", self.best_index, Int(0, len(x) - 1, none=True))
        if annotate and self.labels is None:
            raise ValueError("annotate=True needs labels, and this display has none.")
        return x, y, error, groups

    def _mark_best(self, ax, x, y):
        best = int(self.best_index)
        name = f"L0 {x[best]:.4g}" if self.labels is None else self.labels[best]
        if self.groups is not None:  # with the other parameters, which name the line
            name = ", ".join(filter(None, [str(name), str(self.groups[best])]))
        style = {"markersize": 15, "markerfacecolor": "none", "markeredgecolor": INK}
        (self.best_,) = ax.plot(
            x[best], y[best], "o", markeredgewidth=1.6, label=f"chosen: {name}", zorder=4, **style
        )


def _error_bars(ax):
    """Return the lines of all displays on these axes."""
    from matplotlib.container import ErrorbarContainer

    return [bars for bars in ax.containers if isinstance(bars, ErrorbarContainer)]


def _legend_names(groups, label):
    """Return the name of each group in the legend, after the label of the display."""
    if not label or len(groups) == 1:
        groups = [label or group for group in groups]
    else:
        groups = [f"{label}: {group}" if group else label for group in groups]
    return [fit_columns(visible(str(group)), _NAME_COLUMNS) for group in groups]


def _scale(ax, x):
    """Set the scale of the horizontal axis by `x` and the candidates drawn before."""
    lines = (bars.lines[0] for bars in _error_bars(ax))
    x = np.concatenate([x, *(line.get_xdata() for line in lines if line is not None)])
    ax.set_xscale(scale_for(x))
    if ax.get_xscale() == "log" and x.max() < 1000 * x.min():
        plain_log_ticks(ax.xaxis)


def _legend(ax):
    """Draw one legend for all displays on these axes: their lines, then the chosen candidates."""
    handles = [*_error_bars(ax), *ax.lines]
    handles = [line for line in handles if not str(line.get_label()).startswith("_")]
    if not handles:
        return
    names, properties = drawn([line.get_label() for line in handles])
    style = {"frameon": False, "prop": {"family": properties["family"]}}
    if len(handles) > _MOST_WITHIN:
        style |= {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    for text in ax.legend(handles, names, **style).get_texts():
        text.set_parse_math(False)


def _read_candidates(cv_results, score, param_name):
    """Return the candidates of a search as arguments of a `SparsityFrontierDisplay`.

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
        columns = sorted(key for key in cv_results if key.startswith("mean_test_"))
        raise ValueError(
            f"cv_results has no {column!r}, only {columns}. "
            "Give score, or search with scoring=sksae.metrics.sae_scorer."
        )
    params = list(cv_results["params"])
    name = param_name or _sparsity_param(params)
    values = [candidate.get(name) for candidate in params]
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
        "groups": [_words(candidate, without=name) for candidate in params],
        "labels": [_words({name: value}) for value in values] if name else None,
        "sparsity_name": axis,
        "score_name": score.replace("_", " "),
    }


def _sparsity_param(params):
    """Return the name of the parameter that sets the sparsity, None if there is none."""
    names = (name for candidate in params for name in candidate)
    return next((name for name in names if _short(name) in _SPARSITY_PARAMS), None)


def _short(name):
    return name.rpartition("__")[2]


def _words(params, without=None):
    """Return parameters as text, for a point or a line."""
    shown = {name: value for name, value in params.items() if name != without}
    return ", ".join(
        f"{_short(name)} = {f'{value:.4g}' if isinstance(value, Real) else value}"
        for name, value in shown.items()
    )


def _comparable(cv_results, column):
    """Return mean scores, NaN for the earlier iterations of a halving search."""
    score = np.array(cv_results[column], dtype=np.float64)
    iteration = np.asarray(cv_results.get("iter", np.zeros(len(score))))
    score[iteration != iteration.max()] = np.nan  # fitted on fewer rows
    return score


def _standard_errors(cv_results, name):
    """Return the standard error of each candidate's mean over the splits; 0 for one split."""
    column = re.compile(rf"split\d+_test_{re.escape(name)}$")
    splits = np.array([cv_results[key] for key in cv_results if column.match(key)])
    if len(splits) < 2:
        return np.zeros(len(cv_results["params"]))
    return splits.std(axis=0, ddof=1) / np.sqrt(len(splits))
