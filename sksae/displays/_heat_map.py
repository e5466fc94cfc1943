"""Some rows and some latents of a code matrix, as a picture."""

import math

import numpy as np

from sksae._params import Int, check_option
from sksae._signs import edges_visible, fit_columns
from sksae.displays._axes import check_matplotlib, place
from sksae.displays._fonts import drawn
from sksae.displays._reading import codes_of, matrix, stored

_LABEL_INCHES = 0.12  # where there is less, every second or third has one
_LABEL_COLUMNS = 16


class ActivationHeatmapDisplay:
    """Heat map of codes: a line a row, a column a latent, white where nothing fires.

    It is recommended to use :meth:`from_estimator` or :meth:`from_codes`, which show the busiest
    latents on the first rows and never make more of sparse codes dense than that.

    Parameters
    ----------
    activations : array-like of shape (n_rows, n_features)
        The codes that are shown.
    features : array-like of int of shape (n_features,)
        Which columns of the code matrix they are.
    rows : array-like of int of shape (n_rows,)
        Which rows of it.
    labels : list of str of length n_rows, default=None
        What to write beside each row, such as its token. None writes the numbers of the rows.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the heat map.
    figure_ : matplotlib Figure
        Figure with the axes.
    image_ : matplotlib AxesImage
        The cells.
    colorbar_ : matplotlib Colorbar
        What the colours mean. The darkest stands for the largest 1 % of the codes shown.

    See Also
    --------
    CodesDisplay : This beside three other views of the same codes.

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

    def __init__(self, *, activations, features, rows, labels=None):
        self.activations = activations
        self.features = features
        self.rows = rows
        self.labels = labels

    @classmethod
    def from_estimator(cls, estimator, X, *, tokens=None, ax=None, **kwargs):
        """Draw codes that an estimator makes of rows.

        Parameters
        ----------
        estimator : estimator
            A fitted transformer to sparse codes.
        X : array-like of shape (n_samples, n_features)
            Rows.
        tokens : sequence of str or TokenTable of length n_samples, default=None
            What each row is.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`from_codes`.

        Returns
        -------
        display : ActivationHeatmapDisplay
            What was drawn.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        return cls.from_codes(codes_of(estimator, X), tokens=tokens, ax=ax, **kwargs)

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
        ax=None,
        **kwargs,
    ):
        """Draw codes.

        Parameters
        ----------
        codes : {array-like, sparse matrix} of shape (n_samples, n_components)
            Codes, dense or sparse.
        tokens : sequence of str or TokenTable of length n_samples, default=None
            What each row is. Of a table or mapping, its ``string`` counts.
        features : array-like of int, default=None
            The latents to show. None shows those that fire on most of the rows shown, in their
            order in the codes.
        rows : array-like of int, default=None
            The rows to show. None shows the first ones.
        n_features : int, default=40
            How many latents, where `features` is None.
        n_rows : int, default=40
            How many rows, where `rows` is None.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : ActivationHeatmapDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If a row or a latent is chosen that does not exist, or the tokens do not fit the rows.
        """
        check_matplotlib(f"{cls.__name__}.from_codes")
        codes = matrix(codes)
        rows = _chosen("rows", rows, n_rows, codes.shape[0])
        fires = np.asarray((codes[rows] != 0).sum(axis=0)).ravel()
        if features is None:
            check_option("n_features", n_features, Int(1))
            features = np.sort(np.argsort(-fires, kind="stable")[:n_features])
        features = _chosen("features", features, n_features, codes.shape[1])
        labels = None
        if tokens is not None:
            strings = list(getattr(tokens, "string", tokens))
            strings = list(tokens["string"]) if isinstance(tokens, dict) else strings
            if len(strings) != codes.shape[0]:
                raise ValueError(
                    f"There are {len(strings)} tokens for {codes.shape[0]} rows of codes; "
                    "one for each row is needed."
                )
            labels = [str(strings[row]) for row in rows.tolist()]
        display = cls(
            activations=stored(codes, features, rows), features=features, rows=rows, labels=labels
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, cmap="YlGnBu", colorbar=True, **kwargs):
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        cmap : str or Colormap, default="YlGnBu"
            Colours from zero to the largest code, from light to dark so that they print.
        colorbar : bool, default=True
            Whether to draw what the colours mean.
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
        size = (2.5 + 0.16 * min(n_features, 80), 1.2 + 0.16 * min(n_rows, 80))
        ax = place(self, ax, size)
        positive = values[values > 0]
        top = float(np.quantile(positive, 0.99)) if len(positive) else 1.0
        if isinstance(cmap, str):
            cmap = colormaps[cmap].copy()
        # zeros are paper, not the lightest ink
        shown = np.ma.masked_where(values == 0, values)
        style = {"aspect": "auto", "interpolation": "nearest", "vmin": 0, "vmax": top, **kwargs}
        self.image_ = ax.imshow(shown, cmap=cmap, **style)
        self.colorbar_ = None
        if colorbar:
            extend = "max" if values.max(initial=0) > style["vmax"] else "neither"
            self.colorbar_ = ax.figure.colorbar(
                self.image_, ax=ax, label="activation", extend=extend, aspect=30
            )
        self._label_axes(ax, n_rows, n_features)
        return self

    def _label_axes(self, ax, n_rows, n_features):
        inches = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
        every = _every(n_features, 0.85 * inches.width)
        ax.set_xticks(
            range(0, n_features, every),
            [str(int(f)) for f in self.features[::every]],
            rotation=90,
            fontsize=7,
        )
        every = _every(n_rows, inches.height)
        labels, properties = [str(int(row)) for row in self.rows], {}
        if self.labels is not None:
            labels = [fit_columns(edges_visible(label), _LABEL_COLUMNS) for label in self.labels]
            labels, properties = drawn(labels)
        ax.set_yticks(range(0, n_rows, every), labels[::every], fontsize=7, **properties)
        ax.tick_params(length=0)
        ax.set(xlabel="latent", ylabel="row" if self.labels is None else "token")


def _every(n_labels, inches):
    """Return that every first, second or n-th of the labels has room."""
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
