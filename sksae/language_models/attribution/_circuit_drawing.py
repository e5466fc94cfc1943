"""A circuit as a picture."""

import numpy as np

from sksae._signs import edges_visible, fit_columns, visible
from sksae.language_models.attribution._circuit_edges import METRIC

_FOR, _AGAINST = "#2166ac", "#b2182b"
_LABEL_COLUMNS = 12  # of a token or a name
_INCHES = 1.1  # between tokens, and between sites at least
_SPREAD = 0.18  # of the nodes of one token and site to either side
_ROW = 0.45  # between their rows
_PLAIN = {"parse_math": False}  # a token may be a dollar sign


def draw(circuit, ax, n_edges):
    """Draw the circuit on `ax`, or on a new figure, and return the axes."""
    import matplotlib.pyplot as plt

    shown = _positions(circuit)
    x, y, floors, height = _points(circuit, shown)
    width = len(shown) or _width_of_sums(circuit)
    if ax is None:
        size = (max(6, _INCHES * (width + 1)), max(4, _INCHES * (height + 1)))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    top = (width - 1 if len(shown) else (width - 1) / 2, height)
    _draw_edges(ax, circuit.edges[:n_edges], x, y, top)
    _draw_nodes(ax, circuit.nodes, x, y)
    ax.scatter(*top, s=300, c="black", marker="s", zorder=2)
    ax.annotate(
        visible(f"{circuit.nodes.metric} = {circuit.nodes.clean:.3g}"),
        top,
        xytext=(10 if len(shown) else 0, 16),
        textcoords="offset points",
        ha="right" if len(shown) else "center",
        fontsize=9,
        **_PLAIN,
    )
    ax.set_yticks(floors, circuit.sites, **_PLAIN)
    names = [fit_columns(edges_visible(circuit.tokens[t]), _LABEL_COLUMNS) for t in shown]
    labels = [f"{name}\n{t}" for name, t in zip(names, shown, strict=True)]
    ax.set_xticks(range(len(shown)), labels, **_PLAIN)
    ax.set_xlim(-0.7, width - 0.3)
    ax.set_ylim(-0.6, height + 0.6)
    ax.tick_params(length=0)
    ax.set_title(
        f"faithfulness {circuit.faithfulness:.2f}, completeness {circuit.completeness:.2f}",
        fontsize=10,
    )
    ax.spines[:].set_visible(False)
    return ax


def _positions(circuit):
    """Return the positions that have a column: none if the nodes are sums over positions."""
    found = set(circuit.nodes.position.tolist())
    return [] if -1 in found else sorted({*found, len(circuit.tokens) - 1})


def _width_of_sums(circuit):
    """Return how many columns the largest site needs."""
    counts = [(circuit.nodes.site == site).sum() for site in circuit.sites]
    return max(4, *counts, 1)


def _points(circuit, shown):
    """Return x and y of each node, y of each site, and the height above all of them.

    The nodes of one site and one token stand side by side in pairs, as many rows as are needed.
    """
    nodes, x, y = circuit.nodes, np.zeros(len(circuit.nodes)), np.zeros(len(circuit.nodes))
    floors, floor = [], 0.0
    for site in circuit.sites:
        floors.append(floor)
        if not shown:
            mine = np.flatnonzero(nodes.site == site)
            x[mine] = (
                _width_of_sums(circuit) * (np.arange(len(mine)) + 0.5) / max(len(mine), 1) - 0.5
            )
            y[mine] = floor
            floor += 1
            continue
        rows = 1
        for column, position in enumerate(shown):
            mine = np.flatnonzero((nodes.site == site) & (nodes.position == position))
            slots = np.arange(len(mine))
            alone = (slots == len(mine) - 1) & (slots % 2 == 0)
            x[mine] = column + np.where(alone, 0, _SPREAD * (2 * (slots % 2) - 1))
            y[mine] = floor + _ROW * (slots // 2)
            rows = max(rows, -(-len(mine) // 2))
        floor += _ROW * (rows - 1) + 1
    return x, y, floors, floor


def _draw_edges(ax, edges, x, y, top):
    from matplotlib.patches import FancyArrowPatch

    largest = np.abs(edges["effect"]).max(initial=0)
    for source, target, effect in edges[::-1].tolist():
        share = abs(effect) / largest if largest else 0
        edge = FancyArrowPatch(
            (x[source], y[source]),
            top if target == METRIC else (x[target], y[target]),
            arrowstyle="-",
            connectionstyle="arc3,rad=0.08",
            color=_FOR if effect > 0 else _AGAINST,
            linewidth=0.4 + 3.6 * share,
            alpha=0.25 + 0.6 * share,
            zorder=1,
        )
        ax.add_patch(edge)


def _draw_nodes(ax, nodes, x, y):
    from matplotlib.patheffects import withStroke

    sizes = 60 + 240 * np.abs(nodes.effect) / max(np.abs(nodes.effect).max(initial=0), 1e-300)
    colors = np.where(nodes.effect > 0, _FOR, _AGAINST)
    for marker, mine in (("o", nodes.feature >= 0), ("^", nodes.feature < 0)):
        ax.scatter(
            x[mine],
            y[mine],
            sizes[mine],
            list(colors[mine]),
            marker=marker,
            edgecolors="white",
            zorder=2,
        )
    for i in np.flatnonzero(nodes.feature >= 0).tolist():
        name = edges_visible(str(nodes.name[i]) or str(nodes.feature[i]))
        ax.annotate(
            fit_columns(name, _LABEL_COLUMNS),
            (x[i], y[i]),
            xytext=(0, -13),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7,
            path_effects=[withStroke(linewidth=2, foreground="white")],
            zorder=3,
            **_PLAIN,
        )
