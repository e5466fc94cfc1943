"""Heat map of the contributions of features to a prediction, by token."""

import numpy as np

from sksae._params import Int, Option, check_option
from sksae._signs import INK, drawn, edges_visible, fit_columns, visible
from sksae.displays._axes import check_matplotlib, place

_TOKEN_COLUMNS, _NAME_COLUMNS = 12, 32
_NUMBERED = 400  # cells; in a larger grid numbers could not be read
_WEAK = 0.05  # of the strongest: cells below have no number
_OF_THE_METRIC = ("effect", "exact", "gradient")


class AttributionDisplay:
    """Heat map of the contributions of features at each token, with numbers in the cells.

    Blue cells are positive and red ones negative; each strong cell holds its number, so that a
    print without colours can be read too. It is recommended to use :meth:`from_attribution`.

    Parameters
    ----------
    values : array-like of shape (n_features, n_tokens)
        The contributions; 0 where a feature has none.
    tokens : list of str of length n_tokens
        The columns.
    positions : array-like of int of shape (n_tokens,)
        Index of each token in the prompt; -1 for a sum over positions.
    features : list of str of length n_features
        The lines.
    value_name : str, default="effect"
        Name of the values, for the colour bar.
    title : str, default=""
        Title of the picture, such as the metric that is explained.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the heat map.
    figure_ : matplotlib Figure
        Figure with the axes.
    image_ : matplotlib AxesImage
        The cells.
    texts_ : list of matplotlib Text
        The numbers in them.

    See Also
    --------
    HighlightedText : The effect of one feature, or of all, in the text itself.
    sksae.language_models.attribute : Computes the contributions.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import TINY_LM_PATH, load_corpus
    >>> from sksae.displays import AttributionDisplay
    >>> from sksae.language_models import ActivationExtractor, describe_behaviour
    >>> rows = ActivationExtractor(TINY_LM_PATH, layer=4).transform(load_corpus().data[:5])
    >>> sae = TopKSAE(64, k=8, max_iter=3, random_state=0).fit(rows)
    >>> table = describe_behaviour(
    ...     TINY_LM_PATH, "4.resid_post", sae, "Return the mean of", max_density=None
    ... )
    >>> display = AttributionDisplay.from_attribution(table, n_features=4)
    >>> display.tokens
    ['Return', ' the', ' mean', ' of']
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, values, tokens, positions, features, value_name="effect", title=""):
        self.values = values
        self.tokens = tokens
        self.positions = positions
        self.features = features
        self.value_name = value_name
        self.title = title

    @classmethod
    def from_attribution(cls, table, *, value=None, n_features=15, n_tokens=24, ax=None, **kwargs):
        """Draw a table of contributions.

        Parameters
        ----------
        table : Attribution or Behaviour
            Result of :func:`sksae.language_models.attribute` or of
            :func:`sksae.language_models.describe_behaviour`.
        value : {None, "effect", "exact", "gradient", "direct_logit", "activation"}, default=None
            The column that is drawn. None takes "effect" or "gradient", whichever the table has.
        n_features : int, default=15
            Number of features, those with the largest sums of absolute values. Features of
            several sites are distinct, and the error of an autoencoder counts as one feature.
        n_tokens : int, default=24
            Number of tokens, those with the largest sums, in their order.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : AttributionDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the table has no such column or no line.
        """
        check_matplotlib(f"{cls.__name__}.from_attribution")
        check_option("value", value, Option(None, *_OF_THE_METRIC, "direct_logit", "activation"))
        check_option("n_features", n_features, Int(1))
        check_option("n_tokens", n_tokens, Int(1))
        value = value or ("effect" if hasattr(table, "effect") else "gradient")
        if not hasattr(table, value) or not len(table):
            raise ValueError(f"The {type(table).__name__} has no {value!r} or no lines to draw.")
        display = cls(**_grid(table, value, n_features, n_tokens), value_name=_words(value))
        if value in _OF_THE_METRIC:
            metric = table.clean if hasattr(table, "clean") else table.value
            display.title = f"{table.metric} = {metric:.3g}"
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, cmap="RdBu", colorbar=True, **kwargs):
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        cmap : str or Colormap, default="RdBu"
            Colours from the most negative to the most positive.
        colorbar : bool, default=True
            Whether to draw a colour bar.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : AttributionDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the shapes do not fit together.
        """
        values = np.asarray(self.values, dtype=np.float64)
        if values.shape != (len(self.features), len(self.tokens)):
            raise ValueError(
                f"values has shape {values.shape}, but there are {len(self.features)} features and "
                f"{len(self.tokens)} tokens."
            )
        n_features, n_tokens = values.shape
        ax = place(self, ax, (3.2 + 0.55 * n_tokens, 1.8 + 0.3 * n_features))
        top = float(np.nanmax(np.abs(values), initial=0)) or 1.0
        style = {"cmap": cmap, "vmin": -top, "vmax": top, "aspect": "auto", **kwargs}
        self.image_ = ax.imshow(values, interpolation="nearest", **style)
        if colorbar:
            ax.figure.colorbar(self.image_, ax=ax, label=self.value_name, aspect=30)
        self.texts_ = _numbers(ax, values, top) if values.size <= _NUMBERED else []
        names = [fit_columns(edges_visible(token), _TOKEN_COLUMNS) for token in self.tokens]
        names, properties = drawn(names)
        positions = ["all" if p < 0 else str(p) for p in np.asarray(self.positions).tolist()]
        labels = [f"{name}\n{position}" for name, position in zip(names, positions, strict=True)]
        horizontal = max(map(len, names), default=0) <= 6 and n_tokens <= 16
        rotation = 0 if horizontal else 90
        ax.set_xticks(range(n_tokens), labels, fontsize=8, rotation=rotation, **properties)
        names, properties = drawn(
            [fit_columns(visible(name), _NAME_COLUMNS) for name in self.features]
        )
        ax.set_yticks(range(n_features), names, fontsize=8, **properties)
        ax.tick_params(length=0)
        (title,), properties = drawn([self.title])
        ax.set_title(title, fontsize=10, **properties)
        ax.set(xlabel="token and its position", ylabel="feature")
        return self


def _grid(table, value, n_features, n_tokens):
    """Return arguments of the display: values of the strongest features and positions."""
    column = np.nan_to_num(np.asarray(getattr(table, value), dtype=np.float64))
    sites = getattr(table, "site", np.full(len(table), "", dtype=object))
    several = len(set(sites.tolist())) > 1
    # Line of the heat map for each (site, feature), and for each entry of the table.
    lines, line = {}, np.empty(len(table), dtype=np.int64)
    for i, key in enumerate(zip(sites.tolist(), table.feature.tolist(), strict=True)):
        line[i] = lines.setdefault(key, len(lines))
    positions, first, index = np.unique(table.position, return_index=True, return_inverse=True)
    values = np.zeros((len(lines), len(positions)))
    np.add.at(values, (line, index), column)
    # By the sum over positions, (n_features,).
    strongest = np.argsort(-np.abs(values).sum(axis=1), kind="stable")[:n_features]
    # Of the positions the strongest ones, in the order of the text.
    shown = np.sort(np.argsort(-np.abs(values[strongest]).sum(axis=0), kind="stable")[:n_tokens])
    names = dict(zip(line.tolist(), table.name.tolist(), strict=True))
    keys = list(lines)
    return {
        "values": values[np.ix_(strongest, shown)],
        "tokens": [str(token) for token in table.token[first[shown]]],
        "positions": positions[shown],
        "features": [_name(*keys[i], names[i], several) for i in strongest.tolist()],
    }


def _name(site, feature, name, several):
    words = ["error" if feature < 0 else f"{feature} {name}".strip()]
    return " ".join([site, *words] if several else words)


def _words(value):
    if value == "direct_logit":
        return "added to the logit of the token predicted there"
    return f"{value} (units of the metric)" if value in _OF_THE_METRIC else value


def _numbers(ax, values, top):
    """Write the strong values into their cells, dark on light and light on dark."""
    texts = []
    for i, j in zip(*np.nonzero(np.abs(values) >= _WEAK * top), strict=True):
        number = values[i, j]
        color = "white" if abs(number) > 0.65 * top else INK
        style = {"ha": "center", "va": "center", "fontsize": 7, "color": color}
        texts.append(ax.text(j, i, f"{number:+.2g}", **style))
    return texts
