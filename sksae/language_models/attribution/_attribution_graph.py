"""Attribution graphs as values: nodes, edges, influence, pruning."""

import json
from dataclasses import dataclass, fields, replace

import numpy as np

from sksae._files import damage_named, read_json, write_text
from sksae._optional import needed
from sksae._params import Float, Int, check_option
from sksae._signs import SHOWN, TableRepr, edges_visible, visible
from sksae.language_models.attribution._graph_file import graph_content, graph_fields
from sksae.language_models.attribution._graph_influence import pruned, scores_of
from sksae.language_models.attribution._graph_picture import draw

NODE_KINDS = ("feature", "error", "token", "logit")


@dataclass(frozen=True, eq=False, repr=False)
class AttributionGraph(TableRepr):
    """The features of transcoders behind a prediction, and the direct effects between them.

    `attribution_graph` makes it. Nodes are features and errors, ordered by layer and position,
    then the tokens of the prompt, then the logits.

    Parameters
    ----------
    kind : ndarray of shape (n_nodes,), dtype=object
        ``"feature"``, ``"error"`` (what a transcoder leaves out at a position), ``"token"`` (its
        embedding) or ``"logit"``.
    layer : ndarray of shape (n_nodes,)
        The layer, counted from 0; -1 for tokens, and for logits the number of layers.
    position : ndarray of shape (n_nodes,)
        Index of the token in the prompt.
    feature : ndarray of shape (n_nodes,)
        Column of the codes; for tokens and logits the id of the token, -1 for errors.
    activation : ndarray of shape (n_nodes,)
        The code of a feature; NaN for other nodes.
    bias : ndarray of shape (n_nodes,)
        What constants (biases, position embeddings, whatever else is no node) contribute to a
        feature's pre-activation or to a logit; NaN for errors and tokens.
    influence : ndarray of shape (n_nodes,)
        Influence on the logits over all paths, as circuit-tracer defines it.
    cumulative_influence : ndarray of shape (n_nodes,)
        The share of all influence that the node and all with more influence have: the nodes with at
        most 0.8 are those that carry 80 %.
    name : ndarray of shape (n_nodes,), dtype=object
        Names of features, ``""`` where there is none.
    adjacency : ndarray of shape (n_nodes, n_nodes)
        ``adjacency[target, source]`` is the direct effect of one node on the pre-activation of a
        feature, or on a logit, relative to the mean of all logits.
    tokens : list of str
        The characters of each token of the prompt.
    prompt : str
        The prompt.
    logit_tokens : list of str
        The token of each logit node.
    logit_probabilities : ndarray of shape (n_logits,)
        Its probability after the prompt.
    n_active : int
        Features that fire in the prompt, whether they are nodes or not.

    See Also
    --------
    attribution_graph : Makes it.
    FeatureCircuit : The same for autoencoders, relative to a baseline.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae.language_models import AttributionGraph
    >>> adjacency = np.zeros((4, 4))
    >>> adjacency[0, 2], adjacency[3] = 0.5, (1.5, -0.5, 0.25, 0)
    >>> graph = AttributionGraph(
    ...     kind=np.array(["feature", "error", "token", "logit"], dtype=object),
    ...     layer=np.array([0, 0, -1, 1]), position=np.zeros(4, dtype=int),
    ...     feature=np.array([7, -1, 40, 41]), activation=np.array([2.0] + [np.nan] * 3),
    ...     bias=np.array([1.5, np.nan, np.nan, 0.0]), influence=np.array([0.6, 0.2, 0.7, 0.0]),
    ...     cumulative_influence=np.array([0.87, 1.0, 0.47, 1.0]),
    ...     name=np.array(["articles", "", "", ""], dtype=object), adjacency=adjacency,
    ...     tokens=["a"], prompt="a", logit_tokens=[" b"], logit_probabilities=np.array([0.9]),
    ...     n_active=1,
    ... )
    >>> graph
    AttributionGraph: 4 nodes (1 of 1 active features), 4 edges
    logits: ' b' 0.90
     kind  layer  position  token  feature  activation  influence  name
    token                0      a                             0.7
    feature    0         0      a        7           2        0.6  articles
    error      0         0      a                             0.2
    >>> graph.predicted_change([0])[3]
    np.float64(-1.5)
    """

    kind: np.ndarray
    layer: np.ndarray
    position: np.ndarray
    feature: np.ndarray
    activation: np.ndarray
    bias: np.ndarray
    influence: np.ndarray
    cumulative_influence: np.ndarray
    name: np.ndarray
    adjacency: np.ndarray
    tokens: list
    prompt: str
    logit_tokens: list
    logit_probabilities: np.ndarray
    n_active: int

    def __len__(self):
        return len(self.kind)

    @property
    def n_layers(self):
        """Number of layers of the model."""
        return int(self.layer[self.kind == "logit"][0])

    @property
    def node_ids(self):
        """The name of each node, ``"layer_feature_position"``, a list of str.

        In the place of the layer tokens have ``E`` and logits the number of layers plus one, as in
        circuit-tracer; errors have -1 in the place of the feature.
        """
        layers = self.layer + (self.kind == "logit")
        columns = zip(layers.tolist(), self.feature.tolist(), self.position.tolist(), strict=True)
        return [f"{'E' if at < 0 else at}_{feature}_{t}" for at, feature, t in columns]

    def to_frame(self):
        """Return the nodes as a data frame.

        Returns
        -------
        frame : pandas.DataFrame of shape (n_nodes, 9)
            One row per node, with its `node_ids` as the index.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        pd = needed("pandas", f"{type(self).__name__}.to_frame")
        columns = {name: getattr(self, name) for name in NODE_COLUMNS}
        return pd.DataFrame(columns, index=self.node_ids)

    def prune(self, node_threshold=0.8, edge_threshold=0.98):
        """Return the graph of the nodes and edges that carry most of the influence.

        The fewest nodes are kept that have a share of all influence; of the edges between them the
        fewest that have a share of what is left; then nodes go that lead nowhere, and features
        without an edge into them. Tokens and logits stay. It is `prune_graph` of circuit-tracer.

        Parameters
        ----------
        node_threshold : float, default=0.8
            The share of the influence for nodes, from 0 to 1.
        edge_threshold : float, default=0.98
            The share for edges.

        Returns
        -------
        graph : AttributionGraph
            The kept nodes, with their `influence` in the whole graph; edges that are not kept are
            zero.

        Raises
        ------
        ValueError
            If a threshold is not between 0 and 1.
        """
        check_option("node_threshold", node_threshold, Float(0, 1))
        check_option("edge_threshold", edge_threshold, Float(0, 1))
        thresholds = {"node_threshold": node_threshold, "edge_threshold": edge_threshold}
        given = self.adjacency, self._weights(), self.kind, self.influence
        nodes, adjacency = pruned(*given, **thresholds)
        columns = {name: getattr(self, name)[nodes] for name in NODE_COLUMNS}
        return replace(self, **columns, adjacency=adjacency)

    def scores(self):
        """Return how much of the prediction runs through features rather than errors.

        Returns
        -------
        scores : dict of str to float
            ``"replacement"`` is the influence of the tokens over that of tokens and errors;
            ``"completeness"`` the share of edges that come from no error, nodes weighted by their
            influence. Both are 1 where there are no errors, and are those of circuit-tracer.
        """
        replacement, completeness = scores_of(self.adjacency, self._weights(), self.kind)
        return {"replacement": replacement, "completeness": completeness}

    def to_json(self, path=None, *, slug="graph", scan="sksae"):
        """Write the graph for the viewers of circuit-tracer and Neuronpedia.

        All nodes and edges are written: `prune` first.

        Parameters
        ----------
        path : str or Path, default=None
            The file, which is whole or not there. None writes none.
        slug : str, default="graph"
            The name of the graph in a viewer's list.
        scan : str, default="sksae"
            The name of the model and its transcoders there; for the viewer of circuit-tracer
            ``"./"`` and the folder of `write_feature_json`.

        Returns
        -------
        content : dict
            The content of the file: metadata, qParams, nodes and links.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        content = graph_content(self, slug, scan)
        if path is not None:
            write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False))
        return content

    @classmethod
    def from_json(cls, path):
        """Read a graph that `to_json` or circuit-tracer wrote.

        The first comes back exactly. Files of circuit-tracer do not have biases, which are NaN, and
        influence before it is cumulated, which is computed from the edges that are there.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        graph : AttributionGraph
            The graph.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is no such graph.
        """
        with damage_named(path, "is no attribution graph"):
            return cls(**graph_fields(read_json(path)))

    def predicted_change(self, nodes, *, direct=False):
        """Return what the graph says happens when nodes are removed.

        Features that fire go on doing so, as linear functions; attention patterns and the
        denominators of norms stay as they are. Under these conditions it is exact, if all active
        features are nodes.

        Parameters
        ----------
        nodes : array-like of int or bool
            The nodes to remove, features, errors or tokens: line numbers or a mask.
        direct : bool, default=False
            Whether all other features keep their codes. By default they change with what they
            read.

        Returns
        -------
        change : ndarray of shape (n_nodes,)
            The change of each feature's pre-activation and of each logit; 0 for errors and tokens.
        """
        # Relative to what each node is in the prompt.
        relative = np.zeros(len(self), dtype=np.float64)
        relative[np.asarray(nodes)] = -1
        removed = relative < 0
        change = self.adjacency @ relative
        if direct:
            return change
        feature = (self.kind == "feature") & ~removed
        for _ in range(self.n_layers):  # no path has more features
            relative[feature] = change[feature] / self.activation[feature]
            change = self.adjacency @ relative
        return change

    def plot(self, ax=None, *, n_nodes=40, n_edges=150):
        """Draw the graph: layers from bottom to top, tokens from left to right.

        Features are circles, errors triangles, larger with their influence; below a feature is its
        name or number. The width of an edge is its share of all that comes into its target.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw. None makes a new figure.
        n_nodes : int, default=40
            The most features and errors that are drawn, those with the most influence.
        n_edges : int, default=150
            The most edges that are drawn, the largest shares.

        Returns
        -------
        ax : matplotlib.axes.Axes
            Where it was drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `n_nodes` or `n_edges` is no such number.
        """
        check_option("n_nodes", n_nodes, Int(0))
        check_option("n_edges", n_edges, Int(0))
        needed("matplotlib", f"{type(self).__name__}.plot")
        return draw(self, ax, n_nodes, n_edges)

    def _weights(self):
        weights = np.zeros(len(self), dtype=self.adjacency.dtype)
        weights[self.kind == "logit"] = self.logit_probabilities
        return weights

    def _shown(self):
        features = int((self.kind == "feature").sum())
        logits = zip(self.logit_tokens, self.logit_probabilities, strict=True)
        sentences = [
            f"AttributionGraph: {len(self)} nodes ({features} of {self.n_active} active features), "
            f"{np.count_nonzero(self.adjacency)} edges",
            "logits: " + ", ".join(f"{token!r} {p:.2f}" for token, p in logits),
        ]
        inner = np.flatnonzero(self.kind != "logit")
        order = inner[np.argsort(-self.influence[inner], kind="stable")][:SHOWN]
        return sentences, _HEADING, [self._line(i) for i in order.tolist()]

    def _line(self, i):
        """Return the cells of one line of the `repr`."""
        is_feature = self.kind[i] == "feature"
        return (
            self.kind[i],
            "" if self.layer[i] < 0 else str(self.layer[i]),
            str(self.position[i]),
            edges_visible(self.tokens[self.position[i]]),
            str(self.feature[i]) if is_feature else "",
            f"{self.activation[i]:.4g}" if is_feature else "",
            f"{self.influence[i]:.4g}",
            visible(str(self.name[i])),
        )


_HEADING = ("kind", "layer", "position", "token", "feature", "activation", "influence", "name")
NODE_COLUMNS = tuple(field.name for field in fields(AttributionGraph)[:9])
