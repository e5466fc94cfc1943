"""Components of tables as bars of their strongest columns."""

import numpy as np

from sksae._coding import estimator_layers
from sksae._params import Int, check_option
from sksae._signs import INK, drawn, fit_columns, visible
from sksae.displays._axes import BLUE, RED, bare, check_matplotlib
from sksae.displays._labels import names_by_latent, set_names
from sksae.displays._panels import chosen_components, panels, title_panels
from sksae.displays._plotted_data import as_array, fitted_step

_COLUMN_COLUMNS, _TITLE_COLUMNS = 26, 40


class ComponentLoadingsDisplay:
    """Strongest loadings of some components on the columns of a table, as horizontal bars.

    Blue bars are columns that are higher where the component is active, red ones those that are
    lower. It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    loadings : array-like of shape (n_components, n_columns)
        The loadings.
    columns : sequence of str of length n_columns
        Names of the columns.
    components : array-like of int of shape (n_components,), default=None
        Numbers of the components. None counts them.
    names : mapping of int to str, default=None
        Names of components by number.
    loading_name : str, default="loading"
        Name of the values, for the horizontal axes.

    Attributes
    ----------
    axes_ : ndarray of shape (n_components,) of matplotlib Axes
        One panel per component.
    figure_ : matplotlib Figure
        Figure with the axes.
    bars_ : list of matplotlib BarContainer
        The bars of each component, the strongest at the top and first.

    See Also
    --------
    ComponentImagesDisplay : Components of images.
    sksae.interpret.explain : The strongest columns in words.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sksae.displays import ComponentLoadingsDisplay
    >>> display = ComponentLoadingsDisplay(
    ...     loadings=[[0.1, -0.9, 0.4]], columns=["age", "weight", "height"]
    ... ).plot(n_loadings=2)
    >>> [label.get_text() for label in display.axes_[0].get_yticklabels()]
    ['weight', 'height']
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, loadings, columns, components=None, names=None, loading_name="loading"):
        self.loadings = loadings
        self.columns = columns
        self.components = components
        self.names = names
        self.loading_name = loading_name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X=None,
        *,
        components=None,
        n_components=6,
        columns=None,
        names=None,
        axes=None,
        **kwargs,
    ):
        """Draw components of a fitted estimator of tables.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `components_`; a pipeline that ends in one, or a search over one. Loadings
            are on the columns that its last step sees.
        X : array-like of shape (n_samples, n_features), default=None
            Rows that the last step sees: loadings are divided by the standard deviations of their
            columns. None leaves the unit of the components.
        components : array-like of int, default=None
            The components. None takes those that fire most, or the first ones where that is not
            known.
        n_components : int, default=6
            Number of components, where `components` is None.
        columns : sequence of str of length n_features, default=None
            Names of the columns. None takes those of X or of the estimator's fit, and numbers where
            there are none.
        names : mapping of int to str or sequence of str, default=None
            Names of components: of some by number, or of all. None takes those that the estimator
            was given.
        axes : array-like of matplotlib Axes, default=None
            One per component; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : ComponentLoadingsDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If X or `columns` do not fit the components, or there is no such component.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        step = fitted_step(estimator, "components_")
        loadings = np.asarray(as_array(step.components_), dtype=np.float64)
        n_features = loadings.shape[1]
        columns = _column_names(estimator, X, n_features) if columns is None else list(columns)
        loading_name = "loading"
        if X is not None:
            values = np.asarray(X, dtype=np.float64)
            if values.ndim != 2 or values.shape[1] != n_features:
                raise ValueError(
                    f"X has shape {values.shape}, but a component has {n_features} columns."
                )
            deviation = values.std(axis=0)
            loadings = loadings / np.where(deviation > 0, deviation, np.inf)
            loading_name = "loading (standard deviations)"
        chosen = chosen_components(step, components, n_components)
        display = cls(
            loadings=loadings[chosen],
            columns=columns,
            components=chosen,
            names=set_names(step) if names is None else names_by_latent(names, len(loadings)),
            loading_name=loading_name,
        )
        return display.plot(axes=axes, **kwargs)

    def plot(self, axes=None, *, n_loadings=8, n_columns=3, **kwargs):
        """Draw the bars.

        Parameters
        ----------
        axes : array-like of matplotlib Axes, default=None
            One per component; None makes a figure.
        n_loadings : int, default=8
            Number of columns of the table per component, those with the largest loadings.
        n_columns : int, default=3
            Panels in a line of a new figure.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.barh`.

        Returns
        -------
        display : ComponentLoadingsDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the shapes do not fit together, or a loading is not finite.
        """
        check_option("n_loadings", n_loadings, Int(1))
        check_option("n_columns", n_columns, Int(1))
        loadings = np.asarray(self.loadings, dtype=np.float64)
        if loadings.ndim != 2 or 0 in loadings.shape or loadings.shape[1] != len(self.columns):
            raise ValueError(
                f"loadings has shape {loadings.shape}, but there are {len(self.columns)} columns."
            )
        if not np.isfinite(loadings).all():
            raise ValueError("loadings contains NaN or infinity.")
        components = np.arange(len(loadings)) if self.components is None else self.components
        if len(components) != len(loadings):
            raise ValueError(
                f"There are loadings of {len(loadings)} components, but {len(components)} numbers."
            )
        n_loadings = min(n_loadings, loadings.shape[1])
        axes = panels(self, axes, len(loadings), n_columns, (3.6, 1.1 + 0.2 * n_loadings))
        self.bars_ = []
        for ax, values in zip(axes, loadings, strict=True):
            strongest = np.argsort(-np.abs(values), kind="stable")[:n_loadings]
            colors = [BLUE if value > 0 else RED for value in values[strongest].tolist()]
            lines = np.arange(n_loadings)
            self.bars_.append(ax.barh(lines, values[strongest], **{"color": colors, **kwargs}))
            words = [visible(str(self.columns[j])) for j in strongest.tolist()]
            labels, properties = drawn([fit_columns(word, _COLUMN_COLUMNS) for word in words])
            ax.set_yticks(lines, labels, fontsize=8, **properties)
            ax.invert_yaxis()
            ax.axvline(0, color=INK, linewidth=0.8)
            ax.tick_params(axis="x", labelsize=8)
            ax.set_xlabel(self.loading_name, fontsize=8)
            bare(ax)
        title_panels(axes, components, self.names or {}, _TITLE_COLUMNS)
        return self


def _column_names(estimator, X, n_features):
    """Return the names of the columns that components have loadings on, numbers without names."""
    candidates = [getattr(X, "columns", None)]
    candidates += [getattr(e, "feature_names_in_", None) for e in estimator_layers(estimator)][::-1]
    for names in candidates:
        if names is not None and len(names) == n_features:
            return [str(name) for name in names]
    return [f"column {j}" for j in range(n_features)]
