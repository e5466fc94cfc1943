"""Components as pictures of images and as bars of columns, with one panel per component."""

from textwrap import fill

import numpy as np

from sksae._coding import estimator_layers
from sksae._params import Int, check_option
from sksae._signs import INK, drawn, fit_columns, visible
from sksae.displays._axes import BLUE, RED, bare, check_matplotlib
from sksae.displays._plotted_data import (
    as_array,
    fitted_step,
    latent_labels,
    names_by_latent,
    set_names,
)

_IMAGE_TITLE, _LOADINGS_TITLE, _COLUMN_NAME = 20, 40, 26  # characters of a line of text


class ComponentImagesDisplay:
    """Components of an estimator of images, each as a picture.

    In a picture without colours, red is brighter where the component is active, blue is darker, and
    white does not change. In a picture with colours, grey does not change. Each picture has a
    scale of its own. It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    images : array-like of shape (n_components, height, width) or (n_components, height, width, 3)
        The pictures.
    components : array-like of int of shape (n_components,), default=None
        Their numbers. None counts them.
    names : mapping of int to str or sequence of str, default=None
        Names of components: of some by number, or one for each picture.

    Attributes
    ----------
    axes_ : ndarray of shape (n_components,) of matplotlib Axes
        One panel per picture.
    figure_ : matplotlib Figure
        Figure with the axes.
    images_ : list of matplotlib AxesImage
        The pictures.

    See Also
    --------
    ComponentLoadingsDisplay : Components of tables.
    DecoderMapDisplay : Map of all components.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from sksae import TopKSAE
    >>> from sksae.displays import ComponentImagesDisplay
    >>> X = load_digits().data[:300]
    >>> sae = TopKSAE(32, k=4, max_iter=5, batch_size=64, random_state=0).fit(X)
    >>> display = ComponentImagesDisplay.from_estimator(sae, (8, 8), n_components=6)
    >>> display.axes_.shape, display.images_[0].get_array().shape
    ((6,), (8, 8))
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, images, components=None, names=None):
        self.images = images
        self.components = components
        self.names = names

    @classmethod
    def from_estimator(
        cls,
        estimator,
        image_shape,
        *,
        components=None,
        n_components=16,
        names=None,
        axes=None,
        **kwargs,
    ):
        """Draw components of a fitted estimator of images.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `components_`; a pipeline that ends in one, or a search over one.
        image_shape : tuple of int
            ``(height, width)`` or ``(height, width, 3)``: a row of X in this shape is an image.
        components : array-like of int, default=None
            The components. None takes those that fire most, or the first ones where that is not
            known.
        n_components : int, default=16
            Number of components, where `components` is None.
        names : mapping of int to str or sequence of str, default=None
            Names of components: of some by number, or of all. None takes those that the estimator
            was given.
        axes : array-like of matplotlib Axes, default=None
            One per component; None makes a figure.
        **kwargs : dict
            Passed on to :meth:`plot`.

        Returns
        -------
        display : ComponentImagesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `image_shape` does not fit the components, or there is no such component.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        step = fitted_step(estimator, "components_")
        directions = np.asarray(as_array(step.components_))
        shape = tuple(image_shape) if np.iterable(image_shape) else (image_shape,)
        is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
        if not is_image or not all(Int(1).accepts(size) for size in shape):
            raise ValueError(
                "image_shape must be (height, width) or (height, width, 3). "
                f"Got {image_shape!r} instead."
            )
        if np.prod(shape) != directions.shape[1]:
            raise ValueError(
                f"image_shape {shape} has {np.prod(shape)} numbers, but a component has "
                f"{directions.shape[1]}."
            )
        chosen = chosen_components(step, components, n_components)
        names = set_names(step) if names is None else names_by_latent(names, len(directions))
        # (n_components, height, width) or (n_components, height, width, 3)
        images = directions[chosen].reshape(len(chosen), *shape)
        display = cls(images=images, components=chosen, names=names)
        return display.plot(axes=axes, **kwargs)

    def plot(self, axes=None, *, n_columns=8, cmap="RdBu_r", **kwargs):
        """Draw the pictures.

        Parameters
        ----------
        axes : array-like of matplotlib Axes, default=None
            One per picture; None makes a figure.
        n_columns : int, default=8
            Pictures in a line of a new figure.
        cmap : str or Colormap, default="RdBu_r"
            Colours from darker to brighter, for pictures without colours.
        **kwargs : dict
            Passed on to :meth:`matplotlib.axes.Axes.imshow`.

        Returns
        -------
        display : ComponentImagesDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the shapes do not fit together, or a picture is not finite.
        """
        check_option("n_columns", n_columns, Int(1))
        images = np.asarray(self.images, dtype=np.float64)
        if images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)) or 0 in images.shape:
            raise ValueError(
                "images must have shape (n_components, height, width) or (n_components, height, "
                f"width, 3). Got {images.shape} instead."
            )
        if not np.isfinite(images).all():
            raise ValueError("images contains NaN or infinity.")
        components = np.arange(len(images)) if self.components is None else self.components
        if len(components) != len(images):
            raise ValueError(f"There are {len(images)} images, but {len(components)} components.")
        axes = panels(self, axes, len(images), n_columns, (1.3, 1.65))
        self.images_ = []
        for ax, image in zip(axes, images, strict=True):
            top = float(np.abs(image).max()) or 1.0  # 1 for a picture of zeros
            style = {"interpolation": "nearest", **kwargs}
            if image.ndim == 3:
                image = 0.5 + image / (2 * top)  # colours from 0 to 1, with 0 as grey
            else:
                style = {"cmap": cmap, "vmin": -top, "vmax": top, **style}
            self.images_.append(ax.imshow(image, **style))
            ax.set(xticks=[], yticks=[])
        title_panels(axes, components, _by_number(self.names, components), _IMAGE_TITLE)
        return self


def _by_number(names, components):
    """Return names by the number of the component, also where there is one for each picture."""
    if names is None or hasattr(names, "items"):
        return names or {}
    by_position = names_by_latent(names, len(components))
    return {int(component): by_position[i] for i, component in enumerate(components)}


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
            labels, properties = drawn([fit_columns(word, _COLUMN_NAME) for word in words])
            ax.set_yticks(lines, labels, fontsize=8, **properties)
            ax.invert_yaxis()
            ax.axvline(0, color=INK, linewidth=0.8)
            ax.tick_params(axis="x", labelsize=8)
            ax.set_xlabel(self.loading_name, fontsize=8)
            bare(ax)
        title_panels(axes, components, self.names or {}, _LOADINGS_TITLE)
        return self


def _column_names(estimator, X, n_features):
    """Return the names of the columns that components have loadings on, numbers without names."""
    candidates = [getattr(X, "columns", None)]
    # The innermost estimator first: its columns are those of the components.
    candidates += [getattr(e, "feature_names_in_", None) for e in estimator_layers(estimator)][::-1]
    for names in candidates:
        if names is not None and len(names) == n_features:
            return [str(name) for name in names]
    return [f"column {j}" for j in range(n_features)]


def chosen_components(step, components, n_components):
    """Return which components of a fitted estimator are shown, as an array of int.

    Parameters
    ----------
    step : estimator
        Fitted, with `components_`.
    components : array-like of int or None
        None takes the ones that fire most, or the first ones if that is not known.
    n_components : int
        Number of components, where `components` is None.
    """
    n_all = len(step.components_)
    if components is None:
        check_option("n_components", n_components, Int(1))
        frequency = getattr(step, "activation_frequency_", None)
        frequency = np.zeros(n_all) if frequency is None else np.asarray(as_array(frequency))
        # Those that fire most; without frequencies, the first ones.
        return np.argsort(-frequency, kind="stable")[:n_components]
    components = np.asarray(components)
    if components.ndim != 1 or not len(components) or components.dtype.kind not in "iu":
        raise ValueError(f"components must be a list of int. Got {components!r} instead.")
    if components.min() < 0 or components.max() >= n_all:
        raise ValueError(
            f"components must be between 0 and {n_all - 1}. "
            f"Got {components.min()} to {components.max()}."
        )
    return components


def panels(display, axes, n_panels, n_columns, size):
    """Return the axes of a display, (n_panels,), new ones if `axes` is None.

    They are stored as `axes_`, and their figure as `figure_`.

    Parameters
    ----------
    display : object
    axes : array-like of matplotlib Axes or None
    n_panels, n_columns : int
        Panels in all, and in a line of new ones.
    size : tuple of float
        Width and height of a new panel in inches.
    """
    check_matplotlib(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt

    if axes is None:
        n_columns = min(n_columns, n_panels)
        n_lines = -(-n_panels // n_columns)  # rounded up
        inches = (size[0] * n_columns, size[1] * n_lines)
        grid = plt.subplots(n_lines, n_columns, figsize=inches, layout="constrained", squeeze=False)
        axes = grid[1].ravel()
        for ax in axes[n_panels:]:
            ax.remove()
        axes = axes[:n_panels]
    axes = np.array(axes, dtype=object).reshape(-1)
    if len(axes) != n_panels:
        raise ValueError(f"axes must be {n_panels}, one per component. Got {len(axes)} instead.")
    display.axes_, display.figure_ = axes, axes[0].figure
    return axes


def title_panels(axes, components, names, columns):
    """Write the number and the name of each component over its panel, in two lines of `columns`."""
    numbers = np.asarray(components).tolist()
    labels, properties = drawn(latent_labels(numbers, names, 2 * columns))
    for ax, label in zip(axes, labels, strict=True):
        ax.set_title(fill(label, columns, max_lines=2, placeholder="…"), fontsize=7.5, **properties)
