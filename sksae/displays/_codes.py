"""Four views of the same codes in one figure."""

import numpy as np

from sksae.displays._axes import check_matplotlib
from sksae.displays._heat_map import ActivationHeatmapDisplay
from sksae.displays._histograms import (
    CodeMagnitudeDisplay,
    DensityHistogramDisplay,
    L0HistogramDisplay,
)
from sksae.displays._labels import set_names
from sksae.displays._plotted_data import codes_of


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
