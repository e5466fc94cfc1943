"""Components of images as pictures."""

import numpy as np

from sksae._params import Int, check_option
from sksae.displays._axes import check_matplotlib
from sksae.displays._labels import names_by_latent, set_names
from sksae.displays._panels import chosen_components, panels, title_panels
from sksae.displays._plotted_data import as_array, fitted_step

_TITLE_COLUMNS = 20


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
            top = float(np.abs(image).max()) or 1.0
            style = {"interpolation": "nearest", **kwargs}
            if image.ndim == 3:
                image = 0.5 + image / (2 * top)
            else:
                style = {"cmap": cmap, "vmin": -top, "vmax": top, **style}
            self.images_.append(ax.imshow(image, **style))
            ax.set(xticks=[], yticks=[])
        title_panels(axes, components, _by_number(self.names, components), _TITLE_COLUMNS)
        return self


def _by_number(names, components):
    """Return names by the number of the component, also where there is one for each picture."""
    if names is None or hasattr(names, "items"):
        return names or {}
    given = names_by_latent(names, len(components))
    return {int(component): given[i] for i, component in enumerate(components)}
