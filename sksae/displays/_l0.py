"""Histogram of the number of active latents per row."""

import math

import numpy as np

from sksae.displays._axes import BLUE, INK, bare, check_matplotlib, note_line, place
from sksae.displays._plotted_data import codes_of
from sksae.metrics import l0_per_row

_BARS = 60  # at most; beyond, a bar holds several counts


class L0HistogramDisplay:
    """Histogram of the number of active latents per row, with its mean.

    It is recommended to use :meth:`from_estimator` or :meth:`from_codes`.

    Parameters
    ----------
    counts : array-like of shape (n_rows,)
        Number of codes of each row that are not zero.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the histogram.
    figure_ : matplotlib Figure
        Figure with the axes.
    bars_ : matplotlib BarContainer
        Share of the rows with as many active latents; the heights add up to 1.
    mean_line_ : matplotlib Line2D
        The mean over rows.

    See Also
    --------
    CodesDisplay : This beside three other views of the same codes.
    sksae.metrics.l0_per_row : The counts.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sksae.displays import L0HistogramDisplay
    >>> display = L0HistogramDisplay.from_codes([[0, 1.5, 0], [2, 1, 0], [3, 0, 0], [1, 0, 0]])
    >>> [float(bar.get_height()) for bar in display.bars_]
    [0.75, 0.25]
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, counts):
        self.counts = counts

    @classmethod
    def from_estimator(cls, estimator, X, *, ax=None, **kwargs):
        """Draw the counts of the codes that an estimator makes of rows.

        Parameters
        ----------
        estimator : estimator
            A fitted transformer to sparse codes.
        X : array-like of shape (n_samples, n_features)
            Rows.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : L0HistogramDisplay
            What was drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        return cls.from_codes(codes_of(estimator, X), ax=ax, **kwargs)

    @classmethod
    def from_codes(cls, codes, *, ax=None, **kwargs):
        """Draw the counts of codes.

        Parameters
        ----------
        codes : {array-like, sparse matrix} of shape (n_samples, n_components)
            Codes, dense or sparse.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : L0HistogramDisplay
            What was drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_codes")
        return cls(counts=l0_per_row(codes)).plot(ax=ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw the histogram.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.bar`.

        Returns
        -------
        display : L0HistogramDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no row.
        """
        counts = np.asarray(self.counts)
        if counts.ndim != 1 or not len(counts):
            raise ValueError(
                f"counts must be one number per row. Got shape {counts.shape} instead."
            )
        low, high = int(counts.min()), int(counts.max())
        step = max(1, math.ceil((high - low + 1) / _BARS))
        n_bars = (high - low) // step + 1
        heights = np.bincount((counts - low) // step, minlength=n_bars) / len(counts)
        middles = low + step * np.arange(n_bars) + (step - 1) / 2
        ax, mean = place(self, ax), counts.mean()
        self.bars_ = ax.bar(middles, heights, **{"width": 0.92 * step, "color": BLUE, **kwargs})
        self.mean_line_ = ax.axvline(mean, color=INK, linestyle="--", linewidth=1)
        margin = max(1.5 * step, (n_bars < 5) * 3)
        ax.set_xlim(max(low - margin, -0.75 * step), middles[-1] + margin)
        note_line(ax, mean, f"mean {mean:.4g}")
        ax.set_ylim(0, 1.18 * heights.max())
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel="active latents per row (L0)", ylabel="share of rows")
        bare(ax)
        return self
