"""A circuit as a value: nodes, edges, what they carry, and the forms it leaves in."""

import json
from dataclasses import dataclass, field

import numpy as np

from sksae._files import replacing, write_text
from sksae._params import Int, check_option
from sksae._signs import TableRepr
from sksae.language_models.attribution._attribution_table import Attribution
from sksae.language_models.attribution._circuit_files import graph_of, viewer_graph, write_graphml


@dataclass(frozen=True, eq=False, repr=False)
class FeatureCircuit(TableRepr):
    """The features behind a prediction, and what passes from one to the other.

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
        ``"metric"`` is what they all lead to. Edges have an `effect`.

        Returns
        -------
        graph : networkx.DiGraph
            The graph.
        """
        return graph_of(self)

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
        with replacing(path) as part:
            write_graphml(self, part)

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
            What is in the file: metadata, qParams, nodes and links.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        graph = viewer_graph(self, slug, scan)
        if path is not None:
            write_text(path, json.dumps(graph, ensure_ascii=False))
        return graph

    def plot(self, ax=None, *, n_edges=100):
        """Draw the circuit: sites from bottom to top, tokens from left to right.

        Tokens without a node are left out, except the last. Features are circles, errors are
        triangles, larger with their effect. Blue supports the metric and red works against it;
        the width of an edge is its effect.

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
        from sksae.language_models.attribution._circuit_drawing import draw

        return draw(self, ax, n_edges)
