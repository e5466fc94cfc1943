"""Curves of the training loss and of the validation score."""

import numpy as np

from sksae.displays._axes import (
    CYCLE,
    bare,
    check_matplotlib,
    place,
    plain_log_ticks,
    scale_for,
    titled,
)
from sksae.displays._plotted_data import fitted_step


class TrainingCurveDisplay:
    """Training loss of every pass, and the validation score where rows were held out.

    Displays that are drawn on the same axes have different colours and share a legend. It is
    recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    loss_curve : array-like of shape (n_iter,)
        Mean training loss of every pass.
    validation_scores : array-like of shape (n_iter,), default=None
        Score of the held-out rows after every pass.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the loss.
    figure_ : matplotlib Figure
        Figure with the axes.
    line_ : matplotlib Line2D
        The loss.
    score_ax_ : matplotlib Axes or None
        Axes over the first with the scores, numbered on the right.
    score_line_ : matplotlib Line2D or None
        The scores.
    best_ : matplotlib Line2D or None
        The best score, whose weights early stopping keeps.

    See Also
    --------
    SparsityFrontierDisplay : Scores at several sparsities.
    sklearn.model_selection.LearningCurveDisplay : Scores against the number of samples.

    Notes
    -----
    The loss axis is logarithmic where the losses span a factor of five. Losses are in the internal
    unit of training; those of two variants are not comparable.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.displays import TrainingCurveDisplay
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X)
    >>> display = TrainingCurveDisplay.from_estimator(sae)
    >>> len(display.line_.get_xdata())
    5
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, loss_curve, validation_scores=None):
        self.loss_curve = loss_curve
        self.validation_scores = validation_scores

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, **kwargs):
        """Draw the training curve of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted, with a `loss_curve_`; a pipeline that ends in one, or a search over one.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : TrainingCurveDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        step = fitted_step(estimator, "loss_curve_")
        scores = getattr(step, "validation_scores_", None)
        return cls(loss_curve=step.loss_curve_, validation_scores=scores).plot(ax=ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.plot` for the loss.

        Returns
        -------
        display : TrainingCurveDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no pass.
        """
        losses = np.asarray(self.loss_curve, dtype=np.float64)
        if losses.ndim != 1 or not len(losses):
            raise ValueError(f"loss_curve must be one loss per pass. Got shape {losses.shape}.")
        ax = place(self, ax)
        few = "o" if len(losses) <= 30 else None  # marks only where passes can be told apart
        color, score_color = _colors(len(ax.lines))
        style = {"color": color, "marker": few, "markersize": 3.5, "label": "training loss"}
        (self.line_,) = ax.plot(np.arange(1, len(losses) + 1), losses, **{**style, **kwargs})
        drawn_losses = np.concatenate([line.get_ydata() for line in ax.lines])
        ax.set_yscale(scale_for(drawn_losses))
        if ax.get_yscale() == "log" and drawn_losses.max() < 200 * drawn_losses.min():
            plain_log_ticks(ax.yaxis)
        if max(len(line.get_xdata()) for line in ax.lines) <= 10:
            ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel="pass over the data", ylabel="training loss (internal unit)")
        bare(ax)
        self.score_ax_ = self.score_line_ = self.best_ = None
        if self.validation_scores is not None and len(self.validation_scores):
            before = f"{kwargs['label']}, " if "label" in kwargs else ""
            self._plot_scores(ax, {"color": score_color, "marker": few}, before)
        _legend(ax)
        titled(ax, "Training")
        return self

    def _plot_scores(self, ax, style, before):
        """Draw the scores on axes of their own; `before` begins their names in the legend."""
        scores = np.asarray(self.validation_scores, dtype=np.float64)
        passes = np.arange(1, len(scores) + 1)
        self.score_ax_ = over = _twin(ax) or ax.twinx()
        style = {"linestyle": "--", "markersize": 3.5, **style}
        (self.score_line_,) = over.plot(passes, scores, label=f"{before}validation score", **style)
        best = int(np.nanargmax(scores)) if np.isfinite(scores).any() else 0
        (self.best_,) = over.plot(
            passes[best],
            scores[best],
            "*",
            color=style["color"],
            markersize=13,
            markeredgecolor="white",
            label=f"{before}best: {scores[best]:.3g} after pass {passes[best]}",
        )
        over.set_ylabel("validation score (explained variance)")
        over.spines["top"].set_visible(False)


def _colors(n_before):
    """Return the colours of a loss and of its scores, by the number of losses drawn before."""
    return CYCLE[2 * n_before % len(CYCLE)], CYCLE[(2 * n_before + 1) % len(CYCLE)]


def _twin(ax):
    """Return the axes with scores that an earlier display put over these, None without one."""
    cell = _cell(ax)
    for axes in ax.figure.axes:
        if axes is not ax and ax.get_shared_x_axes().joined(ax, axes) and _cell(axes) == cell:
            return axes
    return None


def _cell(ax):
    """Return the cell of the grid of subplots, or the position of axes outside of a grid."""
    cell = ax.get_subplotspec()
    return ax.get_position().bounds if cell is None else cell


def _legend(ax):
    """Draw one legend for all curves on these axes, unless there is a single loss."""
    over = _twin(ax)
    lines = [*ax.lines, *(over.lines if over else ())]
    if len(lines) > 1:
        names = [line.get_label() for line in lines]
        (over or ax).legend(lines, names, frameon=False, loc="center right" if over else "best")
