"""Views of codes: active latents per row, firing frequencies, magnitudes; all in one figure."""

import math

import numpy as np
from scipy import sparse

from sksae._params import Int, check_option
from sksae._signs import INK
from sksae.displays._axes import (
    BLUE,
    RED,
    bare,
    check_matplotlib,
    noted_line,
    percent,
    place,
    plain_log_ticks,
    titled,
)
from sksae.displays._heat_map import ActivationHeatmapDisplay
from sksae.displays._plotted_data import as_array, codes_of, fitted_step, matrix, set_names
from sksae.metrics import l0_per_row, latent_density

_BARS = 60  # at most; beyond, a bar holds several counts
_DECADES = 5  # labelled at most, so that labels do not overlap


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
    CodesDisplay : Four views of the same codes.
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
            The display, drawn.
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
            The display, drawn.
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
        step = max(1, math.ceil((high - low + 1) / _BARS))  # counts per bar
        n_bars = (high - low) // step + 1
        heights = np.bincount((counts - low) // step, minlength=n_bars) / len(counts)
        middles = low + step * np.arange(n_bars) + (step - 1) / 2  # of the counts in a bar
        ax, mean = place(self, ax), counts.mean()
        self.bars_ = ax.bar(middles, heights, **{"width": 0.92 * step, "color": BLUE, **kwargs})
        # Wide margins where there are few bars, which would be broad else.
        margin = max(1.5 * step, (n_bars < 5) * 3)
        ax.set_xlim(max(low - margin, -0.75 * step), middles[-1] + margin)
        self.mean_line_ = noted_line(ax, mean, f"mean {mean:.4g}")
        ax.set_ylim(0, 1.18 * heights.max())
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel="active latents per row (L0)", ylabel="share of rows")
        titled(ax, "Active latents per row")
        bare(ax)
        return self


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
        Number of rows of the measurement. None draws no line at three rows.

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
    CodesDisplay : Four views of the same codes.
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
            Rows. None takes the densities that the autoencoder had in training, its
            `activation_frequency_`.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : DensityHistogramDisplay
            The display, drawn.
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
            The display, drawn.
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
        # Rule of three: what never fires in n rows has a frequency below 3 / n, with 95 %
        # confidence.
        alive, limit = density[density > 0], 3 / self.n_rows if self.n_rows else 1.0
        lowest = min([float(alive.min(initial=0.1)), 0.1, limit])
        # The horizontal axis is the logarithm of the density, from the decade `first` to 0.
        first = math.floor(math.log10(lowest) + 1e-9)
        edges = np.arange(first * bins_per_decade, 1) / bins_per_decade
        heights, _ = np.histogram(np.log10(alive), edges)
        ax, width = place(self, ax), 1 / bins_per_decade
        style = {"width": 0.92 * width, "color": BLUE, **kwargs}
        self.bars_ = ax.bar(edges[:-1] + width / 2, heights, **style)
        # The bar of the dead latents stands to the left of all decades.
        # Left of the axis of densities, whose width is -first decades.
        n_dead, middle = len(density) - len(alive), 1.14 * first - 0.5 * width
        (self.dead_bar_,) = ax.bar(
            middle, n_dead, -0.06 * first + 0.5 * width, color="white", edgecolor=RED, hatch="////"
        )
        note = {"xytext": (0, 3), "textcoords": "offset points", "fontsize": 9, "color": INK}
        ax.annotate(f"{n_dead} dead", (middle, n_dead), ha="center", **note)
        # Every second, third, ... decade where there are many.
        decades = range(0, first - 1, -math.ceil(-first / _DECADES))[::-1]
        ax.set_xticks([middle, *decades], ["never", *(percent(10.0**e) for e in decades)])
        ax.set_xlim(1.24 * first - width, 0.5 * width)
        ax.set_ylim(0, 1.18 * max(heights.max(initial=0), n_dead, 1))
        # Three rows of at most three would be a share of 1.
        self.limit_ = noted_line(ax, math.log10(limit), "3 rows") if limit < 1 else None
        ax.set(xlabel="share of rows on which a latent fires (log scale)", ylabel="latents")
        titled(ax, "Firing frequencies of the latents")
        bare(ax)
        return self


class CodeMagnitudeDisplay:
    """Histogram of the codes that are not zero, on a logarithmic axis, with their median.

    Many codes at the left end mean a threshold; a narrow peak far to the right is often one latent
    that marks the first token of a text. It is recommended to use :meth:`from_estimator` or
    :meth:`from_codes`.

    Parameters
    ----------
    counts : array-like of shape (n_bins,)
        Number of codes with a magnitude between two edges.
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
    CodesDisplay : Four views of the same codes.
    L0HistogramDisplay : The number of codes per row that are not zero.

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
            The display, drawn.
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
            The display, drawn.

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
            low, high = low / 1.1, high * 1.1  # a single value gets bars on both sides
        edges = np.geomspace(low, high, n_bins + 1)
        # In the precision of the codes the outer edges could round past the outer codes.
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
            self.median_line_ = noted_line(ax, self.median, f"median {self.median:.3g}")
        ax.set(xlabel="activation (log scale)", ylabel="non-zero codes")
        titled(ax, "Magnitudes of the codes")
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


class CodesDisplay:
    """Four views of codes: heat map, densities, active latents per row, magnitudes.

    A first overview after a fit. It is recommended to use :meth:`from_estimator` or
    :meth:`from_codes`.

    Parameters
    ----------
    heat_map : ActivationHeatmapDisplay
        Some rows and latents.
    density : DensityHistogramDisplay
        Firing frequencies of the latents.
    l0 : L0HistogramDisplay
        Active latents per row.
    magnitudes : CodeMagnitudeDisplay
        Magnitudes of the codes that are not zero.

    Attributes
    ----------
    axes_ : ndarray of shape (2, 2) of matplotlib Axes
        Heat map and densities above, active latents and magnitudes below.
    figure_ : matplotlib Figure
        Figure with the axes.

    See Also
    --------
    sksae.interpret.FeatureAtlas : Examples and numbers of each feature.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.displays import CodesDisplay
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X)
    >>> display = CodesDisplay.from_estimator(sae, X)
    >>> display.axes_.shape
    (2, 2)
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, heat_map, density, l0, magnitudes):
        self.heat_map = heat_map
        self.density = density
        self.l0 = l0
        self.magnitudes = magnitudes

    @classmethod
    def from_estimator(cls, estimator, X, *, tokens=None, axes=None):
        """Draw the codes that an estimator makes of rows.

        Parameters
        ----------
        estimator : estimator
            A fitted transformer to sparse codes.
        X : array-like of shape (n_samples, n_features)
            Rows.
        tokens : sequence of str or TokenTable of length n_samples, default=None
            Token of each row.
        axes : array-like of four matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        display : CodesDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        codes, names = codes_of(estimator, X), set_names(estimator)
        return cls.from_codes(codes, tokens=tokens, names=names, axes=axes)

    @classmethod
    def from_codes(cls, codes, *, tokens=None, names=None, axes=None):
        """Draw codes.

        Parameters
        ----------
        codes : {array-like, sparse matrix} of shape (n_samples, n_components)
            Codes, dense or sparse.
        tokens : sequence of str or TokenTable of length n_samples, default=None
            Token of each row.
        names : mapping of int to str or sequence of str, default=None
            Names of latents: of some by number, or of all. None takes the names of the columns of
            a data frame.
        axes : array-like of four matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        display : CodesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `axes` are not four.
        """
        axes = _four_axes(f"{cls.__name__}.from_codes", axes)
        first, second, third, fourth = axes.ravel()
        display = cls(
            heat_map=ActivationHeatmapDisplay.from_codes(
                codes, tokens=tokens, names=names, ax=first
            ),
            density=DensityHistogramDisplay.from_codes(codes, ax=second),
            l0=L0HistogramDisplay.from_codes(codes, ax=third),
            magnitudes=CodeMagnitudeDisplay.from_codes(codes, ax=fourth),
        )
        display.axes_, display.figure_ = axes, first.figure
        return display

    def plot(self, axes=None):
        """Draw the four views again.

        Parameters
        ----------
        axes : array-like of four matplotlib Axes, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        display : CodesDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `axes` are not four.
        """
        self.axes_ = _four_axes(f"{type(self).__name__}.plot", axes)
        views = (self.heat_map, self.density, self.l0, self.magnitudes)
        for view, ax in zip(views, self.axes_.ravel(), strict=True):
            view.plot(ax=ax)
        self.figure_ = ax.figure
        return self


def _four_axes(caller, axes):
    check_matplotlib(caller)
    import matplotlib.pyplot as plt

    if axes is None:
        return plt.subplots(2, 2, figsize=(12, 9.2), layout="constrained")[1]
    axes = np.asarray(axes, dtype=object)
    if axes.size != 4:
        raise ValueError(f"axes must be four. Got {axes.size} instead.")
    return axes.reshape(2, 2)
