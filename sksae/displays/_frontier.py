"""What sparsity costs: the candidates of a search, score against active latents."""

import numpy as np

from sksae._signs import fit_columns, visible
from sksae.displays._axes import (
    CYCLE,
    INK,
    MARKERS,
    bare,
    check_matplotlib,
    place,
    plain_log_ticks,
    scale_for,
)
from sksae.displays._candidates import read_candidates
from sksae.displays._fonts import drawn

_NAME_COLUMNS = 40


class SparsityFrontierDisplay:
    """Score of the candidates of a search against how sparse they are, the chosen one marked.

    It is recommended to use :meth:`from_estimator` or :meth:`from_cv_results`.

    Parameters
    ----------
    sparsity : array-like of shape (n_candidates,)
        Active latents a row, or a parameter.
    score : array-like of shape (n_candidates,)
        Mean score over the splits.
    score_error : array-like of shape (n_candidates,), default=None
        Standard error of the mean.
    groups : list of str of length n_candidates, default=None
        Candidates of the same group are one line, and the group its name.
    labels : list of str of length n_candidates, default=None
        What to write beside each candidate.
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
        One line a group.
    best_ : matplotlib Line2D or None
        The mark of the chosen candidate.

    See Also
    --------
    sksae.model_selection.Knee : Chooses a candidate.
    sksae.model_selection.SparsityPathCV : A search along one parameter.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.displays import SparsityFrontierDisplay
    >>> from sksae.model_selection import SparsityPathCV
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, max_iter=10, random_state=0)
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
            A parameter for the horizontal axis. None takes the measured active latents a row.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : SparsityFrontierDisplay
            What was drawn.

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
            A parameter for the horizontal axis. None takes the measured active latents a row, the
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
            What was drawn.

        Raises
        ------
        ValueError
            If `cv_results` lacks a column.
        """
        check_matplotlib(f"{cls.__name__}.from_cv_results")
        display = cls(**read_candidates(cv_results, score, param_name), best_index=best_index)
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, annotate=True, **kwargs):
        """Draw the frontier.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        annotate : bool, default=True
            Whether to write the value of the parameter beside each candidate.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.errorbar`.

        Returns
        -------
        display : SparsityFrontierDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If no candidate has a finite score.
        """
        x, y = (np.asarray(v, dtype=np.float64) for v in (self.sparsity, self.score))
        fine = np.isfinite(x) & np.isfinite(y)
        if not fine.any():
            raise ValueError("No candidate has a finite score and a finite sparsity.")
        ax = place(self, ax)
        groups = np.asarray(self.groups if self.groups is not None else [""] * len(x), dtype=object)
        error = np.zeros(len(x)) if self.score_error is None else np.asarray(self.score_error)
        names = list(dict.fromkeys(groups[fine].tolist()))
        shown, properties = drawn([fit_columns(visible(name), _NAME_COLUMNS) for name in names])
        self.lines_, self.best_ = [], None
        for number, group in enumerate(names):
            mine = np.flatnonzero(fine & (groups == group))
            mine = mine[np.argsort(x[mine], kind="stable")]
            style = {"color": CYCLE[number % 6], "marker": MARKERS[number % 6], "capsize": 3}
            style |= {"markersize": 5, "label": shown[number] or "_candidates", **kwargs}
            self.lines_.append(ax.errorbar(x[mine], y[mine], error[mine], **style))
        ax.set_xscale(scale_for(x[fine]))
        if ax.get_xscale() == "log" and x[fine].max() < 1000 * x[fine].min():
            plain_log_ticks(ax.xaxis)
        if self.best_index is not None:
            self._mark_best(ax, x, y)
        if annotate and self.labels is not None and len(names) == 1:
            _annotate(ax, x, y, self.labels, fine)
        self._legend(ax, properties)
        several = " (mean ± standard error)" if error.any() else ""
        ax.set_xlabel(self.sparsity_name, parse_math=False)
        ax.set_ylabel(self.score_name + several, parse_math=False)
        bare(ax)
        return self

    def _legend(self, ax, properties):
        handles = [*self.lines_, *([] if self.best_ is None else [self.best_])]
        handles = [one for one in handles if not one.get_label().startswith("_")]
        if handles:
            font = {"family": properties["family"]}
            for text in ax.legend(handles=handles, frameon=False, prop=font).get_texts():
                text.set_parse_math(False)

    def _mark_best(self, ax, x, y):
        best = int(self.best_index)
        name = self.labels[best] if self.labels is not None else f"L0 {x[best]:.4g}"
        style = {"markersize": 15, "markerfacecolor": "none", "markeredgecolor": INK}
        (self.best_,) = ax.plot(
            x[best], y[best], "o", markeredgewidth=1.6, label=f"chosen: {name}", zorder=4, **style
        )


def _annotate(ax, x, y, labels, fine):
    labels, properties = drawn(labels)
    for i in np.flatnonzero(fine).tolist():
        ax.annotate(
            labels[i],
            (x[i], y[i]),
            xytext=(8, -12),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            **properties,
        )
