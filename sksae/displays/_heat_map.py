"""Heat map of some rows and latents of a code matrix."""

import math
from collections.abc import Mapping

import numpy as np

from sksae._params import Int, check_option
from sksae._signs import drawn, edges_visible, fit_columns
from sksae.displays._axes import check_matplotlib, place, titled
from sksae.displays._plotted_data import (
    codes_of,
    latent_labels,
    matrix,
    names_by_latent,
    set_names,
    stored,
)

_LABEL_INCHES = 0.12  # per label; with less space, every second or third latent has one
_LABEL_COLUMNS = 16
_POSITIVE_CMAP, _SIGNED_CMAP = "YlGnBu", "RdBu_r"


class ActivationHeatmapDisplay:
    """Heat map of codes: a line per row, a column per latent, white where nothing fires.

    It is recommended to use :meth:`from_estimator` or :meth:`from_codes`, which show the busiest
    latents on the first rows and never make more of sparse codes dense than that.

    Parameters
    ----------
    activations : array-like of shape (n_rows, n_features)
        The codes that are shown.
    features : array-like of int of shape (n_features,)
        Columns of the code matrix that they are.
    rows : array-like of int of shape (n_rows,)
        Rows of the code matrix that they are.
    labels : list of str of length n_rows, default=None
        Label of each row, such as its token. None writes the numbers of the rows.
    names : mapping of int to str or sequence of str, default=None
        Names of latents: of some by their column in the code matrix, or one for each of `features`.
        None writes numbers only.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the heat map.
    figure_ : matplotlib Figure
        Figure with the axes.
    image_ : matplotlib AxesImage
        The cells.
    colorbar_ : matplotlib Colorbar
        Colour bar. The darkest stands for the largest 1 % of the codes shown.
        Negative codes, if there are any, have colours of their own.

    See Also
    --------
    CodesDisplay : Four views of the same codes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sksae.displays import ActivationHeatmapDisplay
    >>> codes = [[0, 1.5, 0], [2, 1, 0], [3, 0, 0], [1, 0, 0]]
    >>> display = ActivationHeatmapDisplay.from_codes(codes, n_features=2, n_rows=3)
    >>> display.features.tolist(), display.activations.tolist()
    ([0, 1], [[0.0, 1.5], [2.0, 1.0], [3.0, 0.0]])
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, activations, features, rows, labels=None, names=None):
        self.activations = activations
        self.features = features
        self.rows = rows
        self.labels = labels
        self.names = names

    @classmethod
    def from_estimator(cls, estimator, X, *, tokens=None, names=None, ax=None, **kwargs):
        """Draw codes that an estimator makes of rows.

        Parameters
        ----------
        estimator : estimator
            A fitted transformer to sparse codes.
        X : array-like of shape (n_samples, n_features)
            Rows.
        tokens : sequence of str or TokenTable of length n_samples, default=None
            Token of each row.
        names : mapping of int to str or sequence of str, default=None
            Names of latents. None takes those that the estimator was given.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`from_codes`.

        Returns
        -------
        display : ActivationHeatmapDisplay
            The display, drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        codes = codes_of(estimator, X)
        names = set_names(estimator) if names is None else names
        return cls.from_codes(codes, tokens=tokens, names=names, ax=ax, **kwargs)

    @classmethod
    def from_codes(
        cls,
        codes,
        *,
        tokens=None,
        features=None,
        rows=None,
        n_features=40,
        n_rows=40,
        names=None,
        ax=None,
        **kwargs,
    ):
        """Draw codes.

        Parameters
        ----------
        codes : {array-like, sparse matrix} of shape (n_samples, n_components)
            Codes, dense or sparse.
        tokens : sequence of str or TokenTable of length n_samples, default=None
            Token of each row. Of a table or mapping, its ``string`` counts.
        features : array-like of int, default=None
            The latents to show. None shows those that fire on most of the rows shown, in their
            order in the codes.
        rows : array-like of int, default=None
            The rows to show. None shows the first ones.
        n_features : int, default=40
            Number of latents, where `features` is None.
        n_rows : int, default=40
            Number of rows, where `rows` is None.
        names : mapping of int to str or sequence of str, default=None
            Names of latents: of some by number, or of all. None takes the names of the columns of
            a data frame.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : ActivationHeatmapDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If a row or a latent is chosen that does not exist, or the tokens do not fit the rows.
        """
        check_matplotlib(f"{cls.__name__}.from_codes")
        names = list(codes.columns) if names is None and hasattr(codes, "columns") else names
        codes = matrix(codes)
        names = names_by_latent(names, codes.shape[1])
        rows = _chosen("rows", rows, n_rows, codes.shape[0])
        fires = np.asarray((codes[rows] != 0).sum(axis=0)).ravel()
        if features is None:
            check_option("n_features", n_features, Int(1))
            features = np.sort(np.argsort(-fires, kind="stable")[:n_features])
        features = _chosen("features", features, n_features, codes.shape[1])
        labels = None
        if tokens is not None:
            strings = _strings(tokens)
            if len(strings) != codes.shape[0]:
                raise ValueError(
                    f"There are {len(strings)} tokens for {codes.shape[0]} rows of codes; "
                    "one for each row is needed."
                )
            labels = [str(strings[row]) for row in rows.tolist()]
        display = cls(
            activations=stored(codes, features, rows),
            features=features,
            rows=rows,
            labels=labels,
            names=names,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, cmap=None, colorbar=True, **kwargs):
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        cmap : str or Colormap, default=None
            Colours of the codes. None takes "YlGnBu", from light to dark so that it prints, and
            "RdBu_r" where a code is negative.
        colorbar : bool, default=True
            Whether to draw a colour bar.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : ActivationHeatmapDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the shapes do not fit together.
        """
        values = np.asarray(self.activations, dtype=np.float64)
        if values.shape != (len(self.rows), len(self.features)):
            raise ValueError(
                f"activations has shape {values.shape}, but there are {len(self.rows)} rows and "
                f"{len(self.features)} features."
            )
        check_matplotlib("ActivationHeatmapDisplay.plot")
        from matplotlib import colormaps

        n_rows, n_features = values.shape
        # Inches: margins, and 0.16 per line or column, up to 80.
        size = (2.5 + 0.16 * min(n_features, 80), 1.2 + 0.16 * min(n_rows, 80))
        ax = place(self, ax, size)
        sizes = np.abs(values[(values != 0) & np.isfinite(values)])
        # A few very strong codes would leave all others pale.
        top = float(np.quantile(sizes, 0.99)) if len(sizes) else 1.0
        low = -top if (values < 0).any() else 0
        cmap = cmap or (_SIGNED_CMAP if low else _POSITIVE_CMAP)
        if isinstance(cmap, str):
            cmap = colormaps[cmap].copy()
        # Zeros are left white, apart from the lightest colour.
        shown = np.ma.masked_where(values == 0, values)
        style = {"aspect": "auto", "interpolation": "nearest", "vmin": low, "vmax": top, **kwargs}
        self.image_ = ax.imshow(shown, cmap=cmap, **style)
        self.colorbar_ = None
        if colorbar:
            # Codes that are stronger than the colours show.
            beyond = values.min(initial=0) < style["vmin"], values.max(initial=0) > style["vmax"]
            extend = ("neither", "max", "min", "both")[2 * beyond[0] + beyond[1]]
            self.colorbar_ = ax.figure.colorbar(
                self.image_, ax=ax, label="activation", extend=extend, aspect=30
            )
        self._label_axes(ax, n_rows, n_features)
        titled(ax, "Activations")
        return self

    def _label_axes(self, ax, n_rows, n_features):
        # A colour bar takes from the width of the figure.
        inches = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
        every = _every(n_features, 0.85 * inches.width)
        names = self.names
        if not isinstance(names, Mapping):
            by_column = names_by_latent(names, n_features)
            names = {int(self.features[column]): name for column, name in by_column.items()}
        shown = [int(feature) for feature in self.features[::every]]
        labels, properties = drawn(latent_labels(shown, names))
        columns = range(0, n_features, every)
        ax.set_xticks(columns, labels, rotation=90, fontsize=7, **properties)
        every = _every(n_rows, inches.height)
        labels, properties = [str(int(row)) for row in self.rows], {}
        if self.labels is not None:
            labels = [fit_columns(edges_visible(label), _LABEL_COLUMNS) for label in self.labels]
            labels, properties = drawn(labels)
        ax.set_yticks(range(0, n_rows, every), labels[::every], fontsize=7, **properties)
        ax.tick_params(length=0)
        ax.set(xlabel="latent", ylabel="row" if self.labels is None else "token")


def _strings(tokens):
    """Return one string per row, from a list of them or from a table with a column of them."""
    if isinstance(tokens, Mapping) or hasattr(tokens, "columns"):
        return list(tokens["string"])
    return list(getattr(tokens, "string", tokens))


def _every(n_labels, inches):
    """Return n such that every n-th label fits into `inches`."""
    return math.ceil(n_labels / max(1, inches / _LABEL_INCHES))


def _chosen(name, chosen, size, length):
    """Return which rows or columns are shown: the first `size` if `chosen` is None."""
    if chosen is None:
        check_option(f"n_{name}", size, Int(1))
        return np.arange(min(size, length))
    chosen = np.asarray(chosen)
    if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a list of int. Got {chosen!r} instead.")
    if chosen.min() < 0 or chosen.max() >= length:
        raise ValueError(
            f"{name} must be between 0 and {length - 1}. Got {chosen.min()} to {chosen.max()}."
        )
    return chosen
