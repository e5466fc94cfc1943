"""Histogram of the codes that are not zero."""

import numpy as np
from scipy import sparse

from sksae._params import Int, check_option
from sksae.displays._axes import (
    BLUE,
    INK,
    bare,
    check_matplotlib,
    note_line,
    place,
    plain_log_ticks,
)
from sksae.displays._plotted_data import codes_of, matrix


class CodeMagnitudeDisplay:
    """Histogram of the codes that are not zero, on a logarithmic axis, with their median.

    Many codes at the left end mean a threshold; a narrow peak far to the right is often one latent
    that marks the first token of a text. It is recommended to use :meth:`from_estimator` or
    :meth:`from_codes`.

    Parameters
    ----------
    counts : array-like of shape (n_bins,)
        How many codes have a magnitude between two edges.
    edges : array-like of shape (n_bins + 1,)
        The edges, positive, in the unit of the codes.
    median : float, default=None
        The median magnitude; None draws no line.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the histogram.
    figure_ : matplotlib Figure
        Figure with the axes.
    bars_ : matplotlib BarContainer
        One bar between two edges.
    median_line_ : matplotlib Line2D or None
        The median.

    See Also
    --------
    CodesDisplay : This beside three other views of the same codes.
    L0HistogramDisplay : How many there are per row.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sksae.displays import CodeMagnitudeDisplay
    >>> codes = [[0, 1.0, 0], [2, 4, 0], [0, 0, 4]]
    >>> display = CodeMagnitudeDisplay.from_codes(codes, n_bins=2)
    >>> display.counts.tolist(), display.median
    ([1, 3], 3.0)
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, counts, edges, median=None):
        self.counts = counts
        self.edges = edges
        self.median = median

    @classmethod
    def from_estimator(cls, estimator, X, *, n_bins=40, ax=None, **kwargs):
        """Draw the magnitudes of the codes that an estimator makes of rows.

        Parameters
        ----------
        estimator : estimator
            A fitted transformer to sparse codes.
        X : array-like of shape (n_samples, n_features)
            Rows.
        n_bins : int, default=40
            Number of bars.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : CodeMagnitudeDisplay
            What was drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        return cls.from_codes(codes_of(estimator, X), n_bins=n_bins, ax=ax, **kwargs)

    @classmethod
    def from_codes(cls, codes, *, n_bins=40, ax=None, **kwargs):
        """Draw the magnitudes of codes.

        Parameters
        ----------
        codes : {array-like, sparse matrix} of shape (n_samples, n_components)
            Codes, dense or sparse; of negative ones the absolute value counts.
        n_bins : int, default=40
            Number of bars.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : CodeMagnitudeDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If a code is not finite, or `codes` are not a matrix.
        """
        check_matplotlib(f"{cls.__name__}.from_codes")
        check_option("n_bins", n_bins, Int(1))
        codes = matrix(codes)
        values = codes.data if sparse.issparse(codes) else codes.ravel()
        values = np.abs(values[values != 0])
        if not np.isfinite(values).all():
            raise ValueError("codes contains NaN or infinity.")
        if not len(values):
            return cls(counts=np.zeros(0, np.int64), edges=np.ones(1)).plot(ax=ax, **kwargs)
        low, high = float(values.min()), float(values.max())
        if low == high:
            low, high = low / 1.1, high * 1.1
        edges = np.geomspace(low, high, n_bins + 1)
        # in the precision of the codes the outer edges could round past the outer codes
        counts = np.histogram(np.clip(values.astype(np.float64), low, high), edges)[0]
        return cls(counts=counts, edges=edges, median=float(np.median(values))).plot(
            ax=ax, **kwargs
        )

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
        display : CodeMagnitudeDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is not one more edge than there are counts.
        """
        counts, edges = np.asarray(self.counts), np.asarray(self.edges, dtype=np.float64)
        if edges.shape != (len(counts) + 1,):
            raise ValueError(
                f"edges must be one more than the counts, {len(counts) + 1}. "
                f"Got shape {edges.shape} instead."
            )
        ax, self.median_line_ = place(self, ax), None
        style = {"color": BLUE, "edgecolor": "white", "linewidth": 0.3, **kwargs}
        self.bars_ = ax.bar(edges[:-1], counts, np.diff(edges), align="edge", **style)
        if len(counts):
            ax.set_xscale("log")
            ax.set_ylim(0, 1.18 * max(counts.max(), 1))
            if edges[-1] < 200 * edges[0]:
                plain_log_ticks(ax.xaxis)
        else:
            ax.text(0.5, 0.5, "every code is zero", ha="center", transform=ax.transAxes)
        if self.median is not None:
            self.median_line_ = ax.axvline(self.median, color=INK, linestyle="--", linewidth=1)
            note_line(ax, self.median, f"median {self.median:.3g}")
        ax.set(xlabel="activation (log scale)", ylabel="non-zero codes")
        bare(ax)
        return self
