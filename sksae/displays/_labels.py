"""Names of latents, and labels that stay inside the axes and off each other."""

import re
from collections.abc import Mapping

import numpy as np

from sksae._coding import estimator_layers
from sksae._signs import fit_columns, visible
from sksae.displays._axes import GREY, INK
from sksae.displays._fonts import drawn

_NAME_COLUMNS = 32
_STEP = 11  # points between the lines of two labels
_STEPS = 12  # lines that a label may be moved up or down
_GAP = 8  # points between a point and its label
_MARGIN, _MARK = 4, 3  # points that labels keep from the edge of the axes, and from other points


def names_by_latent(names, n_latents):
    """Return names as a mapping from latents, however they were given.

    Parameters
    ----------
    names : mapping of int to str, sequence of str, or None
        Names of some latents by number, or of all.
    n_latents : int
        Number of latents.

    Returns
    -------
    names : mapping of int to str
        Names by latent; empty for None.

    Raises
    ------
    ValueError
        If a sequence has not one name per latent, or a key is no latent.
    """
    if names is None:
        return {}
    if isinstance(names, Mapping):
        unknown = [latent for latent in names if latent not in range(n_latents)]
        if unknown:
            raise ValueError(
                f"names must have latents between 0 and {n_latents - 1} as keys. "
                f"Got {unknown[0]!r} instead."
            )
        return names
    if isinstance(names, str) or len(names) != n_latents:
        raise ValueError(f"names must be a mapping, or have one name for each of {n_latents}.")
    return dict(enumerate(names))


def set_names(estimator):
    """Return the names that were given to the latents of an estimator, by latent.

    Names that scikit-learn generates, such as "pca3" for latent 3, are left out.
    """
    *_, estimator = estimator_layers(estimator)  # earlier steps of a pipeline need not have names
    try:
        names = list(map(str, estimator.get_feature_names_out()))
    except (AttributeError, ValueError):  # a transformer without names, or made of such
        names = []
    return {i: name for i, name in enumerate(names) if not re.fullmatch(rf"[^\W\d]+{i}", name)}


def latent_labels(latents, names, columns=_NAME_COLUMNS):
    """Return the label of each latent, its number and its name, in at most `columns`.

    A name that consists of a word and a number, such as the "topksae7" of a data frame, stands
    alone.
    """
    labels = []
    for latent in latents:
        name = visible(str(names.get(latent, ""))).strip()
        alone = re.fullmatch(r"[^\W\d]+\d+", name)
        labels.append(fit_columns(name if alone else f"{latent} {name}".strip(), columns))
    return labels


def place_labels(ax, points, labels):
    """Write labels beside points, inside the axes and without overlap where there is space.

    Each label takes the first free place of: right of its point, left of it, and the same one line
    higher, one line lower, two lines higher and so on. A line leads from a label that had to move
    to its point. Without a free place it takes the one with the least overlap.

    Parameters
    ----------
    ax : matplotlib Axes
        Axes whose limits are final.
    points : array-like of shape (n_labels, 2)
        The points, in data coordinates. Labels of the first ones are placed first.
    labels : list of str
        One label per point.

    Returns
    -------
    texts : list of matplotlib Annotation
        The labels, in the order of the points.
    """
    from matplotlib.patheffects import withStroke
    from matplotlib.text import Text

    labels, properties = drawn(labels)
    if not labels:
        return []
    texts = [
        ax.annotate(
            label,
            point,
            xytext=(0, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkB": 3},
            **properties,
        )
        for label, point in zip(labels, np.asarray(points, dtype=np.float64), strict=True)
    ]
    for text in texts:
        text.set_in_layout(False)
    ax.figure.draw_without_rendering()  # a layout has its sizes after this only
    pixels = ax.figure.dpi / 72
    inside = ax.get_window_extent().padded(-_MARGIN * pixels)
    anchors = ax.transData.transform([text.xy for text in texts])
    taken = np.hstack([anchors - _MARK * pixels, anchors + _MARK * pixels]).tolist()
    for text, anchor in zip(texts, anchors, strict=True):
        box = Text.get_window_extent(text)
        (dx, dy), box = _free_place(anchor, (box.width, box.height), inside, taken, pixels)
        taken.append(box)
        text.set_ha("left" if dx >= 0 else "right")
        text.set_position((dx / pixels, dy / pixels))
        text.arrow_patch.set_visible(abs(dy) > _STEP * pixels)
    return texts


def _free_place(anchor, size, inside, taken, pixels):
    """Return the offset of a label from its point, and the box that it takes, all in pixels."""
    gap, step = _GAP * pixels, _STEP * pixels
    best = None
    for number in range(2 * _STEPS + 1):
        lines = (number + 1) // 2 * (1 if number % 2 else -1)  # 0, 1, -1, 2, -2 and so on
        for dx in (gap, -gap):
            dy = lines * step
            x = anchor[0] + (dx if dx > 0 else dx - size[0])
            y = anchor[1] + dy - size[1] / 2
            box = (x, y, x + size[0], y + size[1])
            cost = _outside(box, inside) + sum(_overlap(box, obstacle) for obstacle in taken)
            if best is None or cost < best[0]:
                best = cost, (dx, dy), box
            if cost < 1e-6:  # areas are rounded
                return best[1:]
    return best[1:]


def _outside(box, inside):
    """Return the area of a box beyond another, weighed more than any overlap."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return 100 * max(0, area - _overlap(box, inside.extents))


def _overlap(box, obstacle):
    """Return the area that two boxes (left, bottom, right, top) share."""
    width = min(box[2], obstacle[2]) - max(box[0], obstacle[0])
    height = min(box[3], obstacle[3]) - max(box[1], obstacle[1])
    return max(0, width) * max(0, height)
