"""A grid of panels, one for each of some components."""

from textwrap import fill

import numpy as np

from sksae._params import Int, check_option
from sksae._signs import drawn
from sksae.displays._axes import check_matplotlib
from sksae.displays._labels import latent_labels
from sksae.displays._plotted_data import as_array


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
        n_lines = -(-n_panels // n_columns)
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
