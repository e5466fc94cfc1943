"""Picture of an attribution graph: layers from bottom to top, tokens from left to right."""

import numpy as np

from sksae._signs import edges_visible, fit_columns

_FOR, _AGAINST = "#2166ac", "#b2182b"  # colours of positive and negative effects
_FEATURE, _ERROR = "#4d4d4d", "#bdbdbd"
_LABEL_COLUMNS = 12  # of a token or a name
_SLOT, _LAYER = 0.72, 1.0  # inches between nodes and between layers
_GAP = 0.6  # between tokens, in slots
_PLAIN = {"parse_math": False}  # a token may be a dollar sign


def draw(graph, ax, n_nodes, n_edges):
    """Draw the nodes of a graph with the most influence; the arguments are those of its `plot`."""
    import matplotlib.pyplot as plt

    inner = (graph.kind == "feature") | (graph.kind == "error")
    order = np.flatnonzero(inner)[np.argsort(-graph.influence[inner], kind="stable")]
    shown = np.sort(np.r_[order[:n_nodes], np.flatnonzero(~inner)])
    shown = shown[~((graph.kind[shown] == "token") & _alone(graph, shown))]
    positions = np.unique(np.r_[graph.position[shown], len(graph.tokens) - 1])
    x, centres = _columns(graph, shown, positions)
    y = graph.layer[shown].astype(float)
    right, top = x.max() + 1, graph.n_layers
    if ax is None:
        size = max(6, _SLOT * (right + 1.5)), max(4, _LAYER * (top + 2.4))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    _draw_edges(ax, graph.adjacency[np.ix_(shown, shown)], n_edges, x, y)
    _draw_nodes(ax, graph, shown, x, y)
    names = [fit_columns(edges_visible(graph.tokens[t]), _LABEL_COLUMNS) for t in positions]
    ax.set_xticks(centres, names, **_PLAIN)
    layers = [f"layer {i}" for i in range(graph.n_layers)]
    ax.set_yticks(range(-1, top + 1), ["tokens", *layers, "logits"])
    ax.set_xlim(-1, right)
    ax.set_ylim(-1.4, top + 0.9)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def _alone(graph, shown):
    """Mask of the shown nodes that have no edge to another shown one."""
    return ~graph.adjacency[np.ix_(shown, shown)].any(0)


def _columns(graph, shown, positions):
    """Return x of the shown nodes, and of the middle of each position.

    The nodes of one layer and position stand side by side, in the middle of a column that is as
    wide as the layer with most of them.
    """
    x, centres, start = np.zeros(len(shown)), [], 0.0
    for position in positions:
        at_position = np.flatnonzero(graph.position[shown] == position)
        layers, counts = np.unique(graph.layer[shown[at_position]], return_counts=True)
        width = counts.max(initial=1)
        centres.append(start + (width - 1) / 2)
        for layer, count in zip(layers, counts, strict=True):
            at_layer = at_position[graph.layer[shown[at_position]] == layer]
            x[at_layer] = centres[-1] + np.arange(count) - (count - 1) / 2
        start += width + _GAP
    return x, centres


def _draw_edges(ax, adjacency, n_edges, x, y):
    from matplotlib.patches import FancyArrowPatch

    targets, sources = np.nonzero(adjacency)
    # As shares of what comes into the same node, which have no unit.
    effects = adjacency / np.maximum(np.abs(adjacency).sum(1, keepdims=True), 1e-30)
    effects = effects[targets, sources]
    for i in np.argsort(-np.abs(effects), kind="stable")[:n_edges][::-1]:
        edge = FancyArrowPatch(
            (x[sources[i]], y[sources[i]]),
            (x[targets[i]], y[targets[i]]),
            arrowstyle="-",
            connectionstyle="arc3,rad=0.06",
            color=_FOR if effects[i] > 0 else _AGAINST,
            linewidth=0.3 + 3 * abs(effects[i]),
            alpha=0.2 + 0.6 * abs(effects[i]),
            zorder=1,
        )
        ax.add_patch(edge)


def _draw_nodes(ax, graph, shown, x, y):
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2, foreground="white")]
    kind = graph.kind[shown]
    sizes = 40 + 200 * np.sqrt(graph.influence[shown] / max(graph.influence[shown].max(), 1e-30))
    for marker, drawn, color in (("o", "feature", _FEATURE), ("^", "error", _ERROR)):
        at = kind == drawn
        ax.scatter(x[at], y[at], sizes[at], color, marker=marker, edgecolors="white", zorder=2)
    ends = (kind == "token") | (kind == "logit")
    ax.scatter(x[ends], y[ends], 60, "black", marker="s", zorder=2)
    logits = dict(zip(np.flatnonzero(graph.kind == "logit"), range(10**6), strict=False))
    for n, i in enumerate(shown.tolist()):
        if kind[n] == "feature":
            label = str(graph.name[i]) or str(graph.feature[i])
        elif kind[n] == "logit":
            k = logits[i]
            label = f"{graph.logit_tokens[k]} {graph.logit_probabilities[k]:.2f}"
        else:
            continue
        ax.annotate(
            fit_columns(edges_visible(label), _LABEL_COLUMNS),
            (x[n], y[n]),
            xytext=(0, -12 if kind[n] == "feature" else 10),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7,
            path_effects=halo,
            zorder=3,
            **_PLAIN,
        )
    signs = [
        Line2D([], [], marker="o", ls="", color=_FEATURE, label="feature"),
        Line2D([], [], marker="^", ls="", color=_ERROR, label="error"),
        Line2D([], [], color=_FOR, linewidth=3, label="raises"),
        Line2D([], [], color=_AGAINST, linewidth=3, label="lowers"),
    ]
    ax.legend(handles=signs, loc="upper left", fontsize=8, frameon=False)
