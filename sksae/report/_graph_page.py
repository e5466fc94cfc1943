"""Page about an attribution graph: its picture, its pruning, its nodes, and groups of them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral

import numpy as np

from sksae._files import write_text
from sksae._params import Int, check_option
from sksae._signs import edges_visible, visible
from sksae.report._page import checked_path, page_text
from sksae.report._parts import encode_part, pack, rounded

KINDS = ("feature", "error", "token", "logit")  # their numbers, in graph-data.js as well
SCRIPTS = (
    "reading",
    "drawing",
    "texts",
    "graph-data",
    "graph-picture",
    "graph-panel",
    "graph-page",
)
STYLES = ("page", "views", "graph")
_EXAMPLES = 8  # of a feature


def write_graph_page(
    path, graph, *, atlas=None, groups=None, max_nodes=1000, title="Attribution graph"
):
    """Write an HTML page about an attribution graph: picture, sliders, nodes, groups.

    The picture has the layers from the bottom to the top and the tokens from left to right. Two
    sliders prune nodes and edges as `AttributionGraph.prune` does. A node shows its strongest
    inputs and outputs, and with an atlas where its feature fires. Nodes can be put into groups that
    are drawn as one; the page saves itself with them, or the groups alone as JSON.

    The page is one file that works without a server and fetches nothing. Texts are data: they are
    never markup, and cannot run.

    Parameters
    ----------
    path : str or Path
        The file, which ends in ``.html``; its folder is made if needed, an existing page replaced.
    graph : AttributionGraph
        The graph, pruned or not.
    atlas : FeatureAtlas, dict of int to FeatureAtlas or list of FeatureAtlas, default=None
        Where features fire, for the examples: an atlas per layer, or one if all features are of one
        layer. Layers may be left out of a dict.
    groups : dict of str to list, default=None
        Groups by name, of ``graph.node_ids`` or line numbers, such as the page saves as JSON.
    max_nodes : int, default=1000
        Features and errors on the page at most, those with the most influence. The slider of nodes
        ends at the share of influence that they carry.
    title : str, default="Attribution graph"
        The heading of the page.

    Returns
    -------
    path : Path
        The file to open in a browser.

    Raises
    ------
    OSError
        If the file cannot be written; a page that was there before is as it was.
    TypeError
        If `graph` is no attribution graph, or an atlas is none that is fitted.
    ValueError
        If `path` is no file that ends in ``.html``, an atlas has too few features or is for all
        layers at once, or a group has a node that is not in the graph or in another group.

    See Also
    --------
    sksae.language_models.attribution_graph : Makes the graph.
    sksae.interpret.FeatureAtlas : Makes an atlas.
    write_page : A page about the features themselves.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sksae.language_models import AttributionGraph
    >>> from sksae.report import write_graph_page
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
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_graph_page(f"{folder}/graph.html", graph, groups={"words": ["0_7_0"]})
    ...     page.name
    'graph.html'
    """
    path = checked_path(path)
    _check_graph(graph)
    check_option("max_nodes", max_nodes, Int(1))
    members = _members(groups or {}, graph)
    nodes, share, reach = _strongest(
        graph, max_nodes, [n for group in members.values() for n in group]
    )
    atlases = _atlases(atlas, graph)
    blocks, largest = _examples(graph, nodes, atlases)
    ids = graph.node_ids
    adjacency = np.asarray(graph.adjacency, dtype=np.float32)[np.ix_(nodes, nodes)]
    header = {
        "prompt": visible(str(graph.prompt)),
        "tokens": [edges_visible(str(token)) for token in graph.tokens],
        "n_layers": int(graph.n_layers),
        "n_edges": int(np.count_nonzero(adjacency)),
        "reach": reach,
        "facts": _facts(graph),
        "logit_tokens": [edges_visible(str(token)) for token in graph.logit_tokens],
        "probabilities": [float(p) for p in graph.logit_probabilities],
        "share": share[nodes].tolist(),
        "largest": [rounded(largest.get(node)) for node in nodes.tolist()],
        "id": [ids[node] for node in nodes.tolist()],
        **_columns(graph, nodes),
    }
    named = {visible(str(name)): [ids[node] for node in group] for name, group in members.items()}
    data = {"graph": pack(header, _edges(adjacency)), **blocks}
    shown_title, texts = visible(str(title)), {"groups": _safe_json(named)}
    text = page_text("graph.html", shown_title, SCRIPTS, STYLES, data=data, texts=texts)
    write_text(path, text)
    return path


def _check_graph(graph):
    if not all(hasattr(graph, name) for name in ("adjacency", "kind", "influence", "node_ids")):
        raise TypeError(
            f"graph must be an AttributionGraph, as sksae.language_models.attribution_graph makes "
            f"it. Got {type(graph).__name__} instead."
        )


def _members(groups, graph):
    """Return the line numbers of the nodes of each group."""
    if not isinstance(groups, Mapping):
        raise TypeError(f"groups must be a dict. Got {type(groups).__name__} instead.")
    lines = {name: line for line, name in enumerate(graph.node_ids)}
    members, group_of = {}, {}
    for name, nodes in groups.items():
        members[name] = [_line(node, lines, name) for node in nodes]
        for node in members[name]:
            if group_of.setdefault(node, name) != name:
                raise ValueError(
                    f"groups has node {node} in {str(group_of[node])!r} and in {str(name)!r}."
                )
    return members


def _line(node, lines, name):
    """Return the line number of a node that is named by it or by its id."""
    is_line = isinstance(node, Integral) and not isinstance(node, bool) and 0 <= node < len(lines)
    line = int(node) if is_line else lines.get(node) if isinstance(node, str) else None
    if line is None:
        raise ValueError(f"groups[{str(name)!r}] has {node!r}, which is no node of the graph.")
    return line


def _strongest(graph, max_nodes, grouped):
    """Return the nodes on the page, the share of each node and all stronger ones, and their share.

    Parameters
    ----------
    graph : AttributionGraph
    max_nodes : int
        Features and errors at most, besides those with the same influence as the last one.
    grouped : list of int
        Nodes that are on the page in any case.

    Returns
    -------
    nodes : ndarray of int
        Line numbers, in the order of the graph.
    share : ndarray of shape (n_nodes,)
        Of all influence, of the node and of those with more.
    reach : float
        The share up to which all nodes are on the page.
    """
    influence = np.asarray(graph.influence, dtype=np.float64)
    order = np.argsort(-influence, kind="stable")
    share = np.empty(len(influence))
    share[order] = np.cumsum(influence[order]) / max(influence.sum(), np.finfo(float).tiny)
    inner = np.isin(graph.kind, ("feature", "error"))
    candidates = order[inner[order]]
    if len(candidates) <= max_nodes:
        return np.arange(len(influence)), share, 1.0
    weakest = candidates[max_nodes - 1]
    on_page = ~inner | (influence >= influence[weakest])
    on_page[grouped] = True
    return np.flatnonzero(on_page), share, float(share[weakest])


def _columns(graph, nodes):
    """Return the columns of the graph as JSON values, for the nodes on the page."""
    columns = {
        name: np.asarray(getattr(graph, name))[nodes].tolist()
        for name in ("layer", "position", "feature", "influence")
    }
    for name in ("activation", "bias"):
        columns[name] = [rounded(value) for value in np.asarray(getattr(graph, name))[nodes]]
    columns["name"] = [visible(str(name)) for name in np.asarray(graph.name, dtype=object)[nodes]]
    return {"kind": [KINDS.index(kind) for kind in graph.kind[nodes]], **columns}


def _edges(adjacency):
    """Return edges as bytes: how many lead to each node, where each is from, and its effect."""
    target, source = np.nonzero(adjacency)
    counts = np.bincount(target, minlength=len(adjacency))
    columns = (counts.astype("<u4"), source.astype("<u4"), adjacency[target, source].astype("<f4"))
    return b"".join(column.tobytes() for column in columns)


def _facts(graph):
    """Return pairs of a name and a value about the whole graph."""
    features = int((graph.kind == "feature").sum())
    scores = graph.scores()  # not numbers where nothing leads to a logit
    shown = {name: f"{x:.2f}" if np.isfinite(x) else "–" for name, x in scores.items()}
    return [
        [f"of {graph.n_active:,} active features are nodes", f"{features:,}"],
        ["replacement score: the tokens' share of influence beside errors", shown["replacement"]],
        ["completeness score: the share of edges that come from no error", shown["completeness"]],
    ]


def _atlases(atlas, graph):
    """Return an atlas by layer, each of them with all features of its layer."""
    layers = sorted(set(graph.layer[graph.kind == "feature"].tolist()))
    if atlas is None:
        return {}
    if isinstance(atlas, Mapping):
        atlases = dict(atlas)
    elif isinstance(atlas, (list, tuple)):
        atlases = dict(enumerate(atlas))
    elif len(layers) > 1:
        raise ValueError(
            f"The graph has features of layers {', '.join(map(str, layers))}: give a dict of an "
            f"atlas per layer."
        )
    else:
        atlases = dict.fromkeys(layers, atlas)
    for layer in layers:
        if layer in atlases:
            own = (graph.kind == "feature") & (graph.layer == layer)
            _check_atlas(layer, atlases[layer], int(graph.feature[own].max()))
    return atlases


def _check_atlas(layer, atlas, last):
    """Raise an error unless an atlas is fitted and has a feature."""
    n_components = getattr(atlas, "n_components_", None)
    if n_components is None or not hasattr(atlas, "feature"):
        raise TypeError(
            f"The atlas of layer {layer} must be a fitted FeatureAtlas, from sksae.interpret. Got "
            f"{type(atlas).__name__} instead."
        )
    if last >= n_components:
        raise ValueError(
            f"The graph has feature {last} in layer {layer}, but the atlas of that layer has only "
            f"{n_components} features."
        )


def _examples(graph, nodes, atlases):
    """Return the parts with the features of each layer, and the largest activation by node."""
    blocks, largest = {}, {}
    for layer, atlas in atlases.items():
        own = [n for n in nodes.tolist() if graph.kind[n] == "feature" and graph.layer[n] == layer]
        numbers = sorted({int(graph.feature[node]) for node in own})
        if not numbers:
            continue
        records = {number: _shortened(atlas.feature(number)) for number in numbers}
        blocks[f"part-{layer}"] = encode_part(list(records.values()), {})
        largest |= {node: records[int(graph.feature[node])].max_activation for node in own}
    return blocks, largest


def _shortened(feature):
    """Return a feature with its strongest examples only."""
    no_weights = np.zeros(0)
    strongest = list(feature.examples)[:_EXAMPLES]
    return replace(feature, examples=strongest, sampled=[], weights=no_weights, silent={})


def _safe_json(value):
    """Return JSON that cannot end the element it stands in."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
