"""Histogram of how often latents fire."""

import math

import numpy as np

from sksae._params import Int, check_option
from sksae.displays._axes import BLUE, INK, RED, bare, check_matplotlib, note_line, percent, place
from sksae.displays._plotted_data import as_array, codes_of, fitted_step
from sksae.metrics import latent_density

_DECADES = 5  # labelled at most, so that labels do not overlap


class DensityHistogramDisplay:
    """Histogram of how often latents fire, on a logarithmic axis.

    Latents that never fire have a bar of their own at the left, hatched. Left of the dashed line,
    at three rows, a rare latent and a dead one look the same on this many rows. It is recommended
    to use :meth:`from_estimator` or :meth:`from_codes`.

    Parameters
    ----------
    density : array-like of shape (n_components,)
        Share of the rows on which each latent fires.
    n_rows : int, default=None
        How many rows it was measured on. None draws no line at three rows.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the histogram.
    figure_ : matplotlib Figure
        Figure with the axes.
    bars_ : matplotlib BarContainer
        Latents that fire, `bins_per_decade` bars for a factor of ten.
    dead_bar_ : matplotlib Rectangle
        Latents that never fire.
    limit_ : matplotlib Line2D or None
        The line at three rows.

    See Also
    --------
    CodesDisplay : This beside three other views of the same codes.
    sksae.metrics.latent_density : The densities.

    Notes
    -----
    Of a latent that is silent on `n_rows` independent rows, the density is below ``3 / n_rows``
    with 95 % confidence.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sksae.displays import DensityHistogramDisplay
    >>> display = DensityHistogramDisplay(density=[0, 0, 0.01, 0.5], n_rows=1000).plot()
    >>> int(display.dead_bar_.get_height())
    2
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, density, n_rows=None):
        self.density = density
        self.n_rows = n_rows

    @classmethod
    def from_estimator(cls, estimator, X=None, *, ax=None, **kwargs):
        """Draw the densities of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted transformer to sparse codes.
        X : array-like of shape (n_samples, n_features), default=None
            Rows. None takes the densities that the autoencoder met in training, its
            `activation_frequency_`.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : DensityHistogramDisplay
            What was drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        if X is not None:
            return cls.from_codes(codes_of(estimator, X), ax=ax, **kwargs)
        step = fitted_step(estimator, "activation_frequency_")
        return cls(density=as_array(step.activation_frequency_)).plot(ax=ax, **kwargs)

    @classmethod
    def from_codes(cls, codes, *, ax=None, **kwargs):
        """Draw the densities of codes.

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
        display : DensityHistogramDisplay
            What was drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_codes")
        display = cls(density=latent_density(codes), n_rows=np.shape(codes)[0])
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, bins_per_decade=4, **kwargs):
        """Draw the histogram.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        bins_per_decade : int, default=4
            Bars per factor of ten.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.bar` for the latents that fire.

        Returns
        -------
        display : DensityHistogramDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If a density is not a share.
        """
        check_option("bins_per_decade", bins_per_decade, Int(1))
        check_option("n_rows", self.n_rows, Int(1, none=True))
        density = _shares(self.density)
        alive, limit = density[density > 0], 3 / self.n_rows if self.n_rows else 1.0
        lowest = min([float(alive.min(initial=0.1)), 0.1, limit])
        first = math.floor(math.log10(lowest) + 1e-9)
        edges = np.arange(first * bins_per_decade, 1) / bins_per_decade
        heights, _ = np.histogram(np.log10(alive), edges)
        ax, width = place(self, ax), 1 / bins_per_decade
        style = {"width": 0.92 * width, "color": BLUE, **kwargs}
        self.bars_ = ax.bar(edges[:-1] + width / 2, heights, **style)
        n_dead, middle = len(density) - len(alive), 1.14 * first - 0.5 * width
        (self.dead_bar_,) = ax.bar(
            middle, n_dead, -0.06 * first + 0.5 * width, color="white", edgecolor=RED, hatch="////"
        )
        note = {"xytext": (0, 3), "textcoords": "offset points", "fontsize": 9, "color": INK}
        ax.annotate(f"{n_dead} dead", (middle, n_dead), ha="center", **note)
        decades = range(0, first - 1, -math.ceil(-first / _DECADES))[::-1]
        ax.set_xticks([middle, *decades], ["never", *(percent(10.0**e) for e in decades)])
        ax.set_xlim(1.24 * first - width, 0.5 * width)
        ax.set_ylim(0, 1.18 * max(heights.max(initial=0), n_dead, 1))
        self.limit_ = _limit(ax, limit)
        ax.set(xlabel="share of rows on which a latent fires (log scale)", ylabel="latents")
        bare(ax)
        return self


def _shares(density):
    density = np.asarray(density, dtype=np.float64)
    if density.ndim != 1 or not ((density >= 0) & (density <= 1)).all():
        raise ValueError(
            "density must be one share between 0 and 1 for each latent. "
            f"Got an array of shape {density.shape} with values outside or not finite."
            if density.ndim == 1
            else f"density must have one dimension. Got shape {density.shape} instead."
        )
    return density


def _limit(ax, share):
    """Draw the line at three rows, and return it; None if it says nothing."""
    if share >= 1:
        return None
    line = ax.axvline(math.log10(share), color=INK, linestyle="--", linewidth=1)
    note_line(ax, math.log10(share), "3 rows")
    return line
