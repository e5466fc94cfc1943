"""Feature circuits as values: nodes, edges, pictures, and files for other programs."""

import json
from dataclasses import dataclass, field

import numpy as np

from sksae._files import replacing, write_text
from sksae._params import Int, check_option
from sksae._signs import TableRepr, edges_visible, fit_columns, place_labels, visible
from sksae.language_models.attribution._attribution_table import Attribution
from sksae.language_models.attribution._graph_file import viewer_content

METRIC = -1
"""The number of the metric among the targets of edges."""

EDGE = np.dtype([("source", np.int64), ("target", np.int64), ("effect", np.float64)])

_KINDS = {False: "cross layer transcoder", True: "mlp reconstruction error"}  # by "is an error"

_FOR, _AGAINST = "#2166ac", "#b2182b"  # colours of positive and negative effects
_LABEL_COLUMNS = 18  # of a token or a name
_INCHES = 1.1  # between sites at least, the unit of heights
_WIDTH, _LEFT = 1.75, 0.36  # inches between tokens, and the share of them left of the nodes
_ROW = 0.3  # between the nodes of one token and site
_RADIUS = 7  # points, of a node
_PLAIN = {"parse_math": False}  # a token may be a dollar sign


@dataclass(frozen=True, eq=False, repr=False)
class FeatureCircuit(TableRepr):
    """The features behind a prediction, and the effects of one on the other.

    `feature_circuit` makes it.

    Parameters
    ----------
    nodes : Attribution of length n_nodes
        The nodes, the strongest first. Its `total` and `completeness` are those of all nodes of a
        site.
    edges : ndarray of shape (n_edges,), dtype=[("source", int), ("target", int), \
("effect", float)]
        The edges, the strongest first: line numbers in `nodes`, -1 for the metric as a target, and
        the effect in units of the metric.
    faithfulness : float
        Share of the metric that the circuit keeps, with all else at its baseline; 1 is ideal.
    completeness : float
        Share that all else keeps without the circuit; 0 is ideal.
    sites : list of str
        The sites, in the order in which the model gets there.
    tokens : list of str
        The characters of each token of the prompt.
    prompt : str, default=""
        The prompt.
    metric_tokens : tuple of int, default=()
        The ids of the tokens that the metric is about.

    See Also
    --------
    feature_circuit : Makes it.
    Attribution : The table of the nodes.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.language_models import Attribution, FeatureCircuit
    >>> nodes = Attribution(
    ...     site=np.array(["0.mlp_out", "1.mlp_out"], dtype=object), position=np.array([1, 1]),
    ...     token=np.array([" a"] * 2, dtype=object), feature=np.array([7, 4]),
    ...     activation=np.array([2.0, 1.0]), baseline_activation=np.zeros(2),
    ...     effect=np.array([0.5, 0.25]), exact=np.full(2, np.nan),
    ...     name=np.array(["articles", ""], dtype=object), total={}, completeness={},
    ...     clean=-1.0, metric="log-probability of 'b'",
    ... )
    >>> edges = np.array(
    ...     [(0, -1, 0.4), (1, -1, 0.25), (0, 1, 0.1)],
    ...     dtype=[("source", int), ("target", int), ("effect", float)],
    ... )
    >>> circuit = FeatureCircuit(nodes, edges, 0.9, 0.1, ["0.mlp_out", "1.mlp_out"], ["x", " a"])
    >>> circuit
    FeatureCircuit: 2 nodes, 3 edges, log-probability of 'b' = -1
    faithfulness 0.900, completeness 0.100
    >>> sorted(circuit.to_networkx().successors("0.mlp_out/1/7"))
    ['1.mlp_out/1/4', 'metric']
    """

    nodes: Attribution
    edges: np.ndarray
    faithfulness: float
    completeness: float
    sites: list
    tokens: list
    prompt: str = ""
    metric_tokens: tuple = field(default=())

    def _shown(self):
        sentences = [
            f"FeatureCircuit: {len(self.nodes)} nodes, {len(self.edges)} edges, "
            f"{self.nodes.metric} = {self.nodes.clean:.4g}",
            f"faithfulness {self.faithfulness:.3f}, completeness {self.completeness:.3f}",
        ]
        return sentences, (), []

    def to_networkx(self):
        """Return the circuit as a directed graph.

        A node is called ``"site/position/feature"``, with ``all`` for a sum over positions and
        ``error`` for an error node, and has the columns of `nodes` as attributes; the node
        ``"metric"`` is the target of them all. Edges have an `effect`.

        Returns
        -------
        graph : networkx.DiGraph
            The graph.
        """
        import networkx

        nodes = self.nodes
        graph = networkx.DiGraph(
            metric=nodes.metric,
            clean=nodes.clean,
            faithfulness=float(self.faithfulness),
            completeness=float(self.completeness),
            prompt=self.prompt,
        )
        names = [_node_name(nodes, i) for i in range(len(nodes))]
        for i, name in enumerate(names):
            graph.add_node(
                name,
                kind="error" if nodes.feature[i] < 0 else "feature",
                site=nodes.site[i],
                layer=self.sites.index(nodes.site[i]),
                position=int(nodes.position[i]),
                token=nodes.token[i],
                feature=int(nodes.feature[i]),
                activation=float(nodes.activation[i]),
                baseline_activation=float(nodes.baseline_activation[i]),
                effect=float(nodes.effect[i]),
                name=nodes.name[i],
            )
        graph.add_node("metric", kind="metric", layer=len(self.sites), name=nodes.metric)
        for source, target, effect in self.edges.tolist():
            graph.add_edge(
                names[source], "metric" if target == METRIC else names[target], effect=effect
            )
        return graph

    def to_graphml(self, path):
        """Write the graph of `to_networkx` as GraphML, for Gephi, yEd or Cytoscape.

        Parameters
        ----------
        path : str or Path
            The file, which is whole or not there.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        import networkx

        graph = self.to_networkx()
        # XML cannot hold control characters; they become signs.
        for _, data in graph.nodes(data=True):
            data.update(_printable(data))
        graph.graph.update(_printable(graph.graph))
        with replacing(path) as part:
            # The other writer of networkx needs lxml.
            networkx.write_graphml_xml(graph, str(part))

    def to_json(self, path=None, *, slug="circuit", scan="sksae"):
        """Write the circuit for the viewer of attribution graphs of circuit-tracer.

        The viewer's layers are the numbers of the sites in `sites`, since several may be in one
        block. A node's influence is the share of the absolute effects of all nodes that it and
        those before it in `nodes` have, which is what the viewer's slider cuts. A sum over
        positions is drawn at the last.

        Parameters
        ----------
        path : str or Path, default=None
            The file, which is whole or not there. None writes none.
        slug : str, default="circuit"
            The name of the graph in the viewer's list.
        scan : str, default="sksae"
            The name of the model and its dictionaries there.

        Returns
        -------
        graph : dict
            The content of the file: metadata, qParams, nodes and links.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        graph = self._viewer_graph(slug, scan)
        if path is not None:
            write_text(path, json.dumps(graph, ensure_ascii=False))
        return graph

    def plot(self, ax=None, *, n_edges=100):
        """Draw the circuit: sites from bottom to top, tokens from left to right.

        Tokens without a node are left out, except the last. Features are circles with their names,
        or numbers where they have none; errors are triangles; both are larger with their effect.
        Blue supports the metric and red works against it; the width of an edge is its effect.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw. None makes a new figure.
        n_edges : int, default=100
            The most edges that are drawn, the strongest ones.

        Returns
        -------
        ax : matplotlib.axes.Axes
            Where it was drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `n_edges` is no number of edges.
        """
        check_option("n_edges", n_edges, Int(0))
        import matplotlib.pyplot as plt

        shown = self._positions()
        x, y, heights, height = self._layout(shown)
        width = len(shown) or self._width_of_sums()
        if ax is None:
            size = (max(6, _WIDTH * width + _INCHES), max(4, _INCHES * (height + 1.4)))
            _, ax = plt.subplots(figsize=size, layout="constrained")
        top = (width - 1 if len(shown) else (width - 1) / 2, height)
        _draw_edges(ax, self.edges[:n_edges], x, y, top)
        _draw_nodes(ax, self.nodes, x, y)
        ax.scatter(*top, s=300, c="black", marker="s", zorder=2)
        ax.annotate(
            visible(f"{self.nodes.metric} = {self.nodes.clean:.3g}"),
            top,
            xytext=(10 if len(shown) else 0, 16),
            textcoords="offset points",
            ha="right" if len(shown) else "center",
            fontsize=9,
            **_PLAIN,
        )
        ax.set_yticks(heights, self.sites, **_PLAIN)
        names = [fit_columns(edges_visible(self.tokens[t]), _LABEL_COLUMNS) for t in shown]
        labels = [f"{name}\n{t}" for name, t in zip(names, shown, strict=True)]
        ax.set_xticks(range(len(shown)), labels, **_PLAIN)
        ax.set_xlim(-0.7, width - 0.3)
        ax.set_ylim(-0.6, height + 0.6)
        ax.tick_params(length=0)
        scores = f"faithfulness {self.faithfulness:.2f}, completeness {self.completeness:.2f}"
        ax.set_title(scores, fontsize=10, pad=24)
        ax.spines[:].set_visible(False)
        _draw_legend(ax, self.nodes)
        _draw_names(ax, self.nodes, x, y)
        return ax

    def _positions(self):
        """Return the positions that have a column: none if the nodes are sums over positions."""
        positions = set(self.nodes.position.tolist())
        return [] if -1 in positions else sorted({*positions, len(self.tokens) - 1})

    def _width_of_sums(self):
        """Return the number of columns that the largest site needs."""
        counts = [(self.nodes.site == site).sum() for site in self.sites]
        return max(4, *counts, 1)

    def _layout(self, shown):
        """Return x and y of each node, y of each site, and the height above all of them.

        The nodes of one site and one token stand above each other, left of their names.
        """
        nodes, x, y = self.nodes, np.zeros(len(self.nodes)), np.zeros(len(self.nodes))
        heights, height = [], 0.0
        for site in self.sites:
            heights.append(height)
            if not shown:
                at_site = np.flatnonzero(nodes.site == site)
                steps = np.arange(len(at_site)) + 0.5
                x[at_site] = self._width_of_sums() * steps / max(len(at_site), 1) - 0.5
                y[at_site] = height
                height += 1
                continue
            n_rows = 1
            for column, position in enumerate(shown):
                cell = np.flatnonzero((nodes.site == site) & (nodes.position == position))
                x[cell] = column - _LEFT
                # From the strongest, which is first, downwards.
                y[cell] = height + _ROW * np.arange(len(cell))[::-1]
                n_rows = max(n_rows, len(cell))
            heights[-1] += _ROW * (n_rows - 1) / 2
            height += _ROW * (n_rows - 1) + 1
        return x, y, heights, height

    def _viewer_graph(self, slug, scan):
        """Return the graph in the format of the viewer of circuit-tracer, a dict for JSON."""
        nodes, last = self.nodes, len(self.tokens) - 1
        shares = np.abs(nodes.effect)
        influence = np.cumsum(shares) / max(shares.sum(), np.finfo(float).tiny)
        viewer_nodes = [self._viewer_node(i, last, float(influence[i])) for i in range(len(nodes))]
        ids = [node["node_id"] for node in viewer_nodes]
        target = self._metric_node(last)
        links = [
            {
                "source": ids[source],
                "target": target["node_id"] if to == METRIC else ids[to],
                "weight": effect,
            }
            for source, to, effect in self.edges.tolist()
        ]
        nodes = [*viewer_nodes, target]
        return viewer_content(self, slug, scan, nodes, links, transcoders=self.sites)

    def _viewer_node(self, i, last, influence):
        nodes = self.nodes
        layer, feature = self.sites.index(nodes.site[i]), int(nodes.feature[i])
        position = last if nodes.position[i] < 0 else int(nodes.position[i])
        error = feature < 0
        return {
            "node_id": f"{layer}_{feature}_{position}",
            # The viewer has one number for a layer and a feature: Cantor's.
            "feature": -1 if error else (layer + feature) * (layer + feature + 1) // 2 + feature,
            "layer": str(layer),
            "ctx_idx": position,
            "feature_type": _KINDS[error],
            "token_prob": 0.0,
            "is_target_logit": False,
            "run_idx": 0,
            "reverse_ctx_idx": 0,
            "jsNodeId": f"{layer}_{feature}-{position if error else 0}",
            "clerp": nodes.name[i] or f"{nodes.site[i]} feature {feature}",
            "influence": influence,
            "activation": float(nodes.activation[i]),
        }

    def _metric_node(self, last):
        """Return the node of the metric, drawn as the logit of its first token."""
        nodes, layer = self.nodes, len(self.sites) + 1
        token = self.metric_tokens[0] if self.metric_tokens else 0
        is_one_token = len(self.metric_tokens) == 1
        return {
            "node_id": f"{layer}_{token}_{last}",
            "feature": token,
            "layer": str(layer),
            "ctx_idx": last,
            "feature_type": "logit",
            "token_prob": float(np.exp(nodes.clean)) if is_one_token else 0.0,
            "is_target_logit": True,
            "run_idx": 0,
            "reverse_ctx_idx": 0,
            "jsNodeId": f"L_{token}-{last}",
            "clerp": f"{nodes.metric} = {nodes.clean:.3f}",
            "influence": None,
            "activation": None,
        }


def _node_name(nodes, i):
    position = "all" if nodes.position[i] < 0 else nodes.position[i]
    feature = "error" if nodes.feature[i] < 0 else nodes.feature[i]
    return f"{nodes.site[i]}/{position}/{feature}"


def _printable(data):
    return {key: visible(x) if isinstance(x, str) else x for key, x in data.items()}


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
    sizes = 40 + 160 * np.abs(nodes.effect) / max(np.abs(nodes.effect).max(initial=0), 1e-300)
    colors = np.where(nodes.effect > 0, _FOR, _AGAINST)
    for marker, drawn in (("o", nodes.feature >= 0), ("^", nodes.feature < 0)):
        ax.scatter(
            x[drawn],
            y[drawn],
            sizes[drawn],
            list(colors[drawn]),
            marker=marker,
            edgecolors="white",
            zorder=2,
        )


def _draw_names(ax, nodes, x, y):
    """Write the names of features beside them; errors have none."""
    features = np.flatnonzero(nodes.feature >= 0)
    names = [edges_visible(str(nodes.name[i]) or str(nodes.feature[i])) for i in features.tolist()]
    labels = [fit_columns(name, _LABEL_COLUMNS) for name in names]
    place_labels(ax, np.c_[x, y][features], labels, radius=_RADIUS)


def _draw_legend(ax, nodes):
    """Say what marks and colours mean, above the axes."""
    from matplotlib.lines import Line2D

    def mark(marker, label):
        return Line2D([], [], marker=marker, color="grey", linestyle="none", label=label)

    kinds = [("o", "feature", nodes.feature >= 0), ("^", "error", nodes.feature < 0)]
    handles = [mark(marker, label) for marker, label, drawn in kinds if drawn.any()]
    handles += [
        Line2D([], [], color=color, linewidth=3, label=label)
        for color, label in ((_FOR, "raises the metric"), (_AGAINST, "lowers it"))
    ]
    ax.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 1),
        ncols=len(handles),
        frameon=False,
        fontsize=8,
    )
