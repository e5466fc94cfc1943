"""Axes, colours, markers and ticks that the displays share."""

import numpy as np

from sksae._optional import needed
from sksae._signs import INK

BLUE, RED = "#0072b2", "#d55e00"  # distinct for colour-blind readers
CYCLE = (BLUE, RED, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#7f7f33")
MARKERS = "osD^vPX*"
_LOG_FROM = 5  # times the smallest value at which an axis becomes logarithmic, as scikit-learn's do


def check_matplotlib(caller):
    """Raise an ImportError that names `caller` and the remedy if matplotlib is not installed."""
    return needed("matplotlib", caller)


def place(display, ax, size=(6.4, 4.0)):
    """Return the axes that `display` draws on, new ones if `ax` is None.

    They are stored as `ax_`, and their figure as `figure_`.
    """
    check_matplotlib(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    display.ax_, display.figure_ = ax, ax.figure
    return ax


def bare(ax):
    """Hide the upper and the right spine."""
    ax.spines[["top", "right"]].set_visible(False)


def titled(ax, title, **style):
    """Write a title above axes that have none."""
    if not ax.get_title():
        ax.set_title(title, fontsize=10, **style)


def scale_for(values):
    """Return "log" for positive values that span a factor of at least 5, else "linear"."""
    low, high = min(values), max(values)
    return "log" if low > 0 and high >= _LOG_FROM * low else "linear"


def plain_log_ticks(axis):
    """Label a logarithmic axis with plain numbers, such as 5 rather than a power of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    # Labels at 1, 2 and 5 times each power of ten.
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def percent(share):
    """Return a share as a short percentage."""
    return f"{np.format_float_positional(float(f'{100 * share:.2g}'), trim='-')} %"


def noted_line(ax, value, note):
    """Draw a vertical line with a note at its top, on the side that has more space.

    The limits of the horizontal axis must be final.

    Parameters
    ----------
    ax : matplotlib Axes
    value : float
        Horizontal position, in data coordinates.
    note : str

    Returns
    -------
    line : matplotlib Line2D
    """
    line = ax.axvline(value, color=INK, linestyle="--", linewidth=1)
    # Position of the line from the left, as a share of the width of the axes.
    share = ax.transAxes.inverted().transform(ax.transData.transform((value, 0)))[0]
    on_right = share < 0.5
    ax.annotate(
        note,
        (value, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(4 if on_right else -4, 0),
        textcoords="offset points",
        ha="left" if on_right else "right",
        va="top",
        fontsize=9,
        color=INK,
    )
    return line
