"""A circuit in the forms that other programs read."""

import numpy as np

from sksae._signs import visible
from sksae.language_models.attribution._circuit_edges import METRIC

_KINDS = {False: "cross layer transcoder", True: "mlp reconstruction error"}


def graph_of(circuit):
    """Return the networkx graph of a `FeatureCircuit`."""
    import networkx

    nodes = circuit.nodes
    graph = networkx.DiGraph(
        metric=nodes.metric,
        clean=nodes.clean,
        faithfulness=float(circuit.faithfulness),
        completeness=float(circuit.completeness),
        prompt=circuit.prompt,
    )
    names = [_node_name(nodes, i) for i in range(len(nodes))]
    for i, name in enumerate(names):
        graph.add_node(
            name,
            kind="error" if nodes.feature[i] < 0 else "feature",
            site=nodes.site[i],
            layer=circuit.sites.index(nodes.site[i]),
            position=int(nodes.position[i]),
            token=nodes.token[i],
            feature=int(nodes.feature[i]),
            activation=float(nodes.activation[i]),
            baseline_activation=float(nodes.baseline_activation[i]),
            effect=float(nodes.effect[i]),
            name=nodes.name[i],
        )
    graph.add_node("metric", kind="metric", layer=len(circuit.sites), name=nodes.metric)
    for source, target, effect in circuit.edges.tolist():
        graph.add_edge(
            names[source], "metric" if target == METRIC else names[target], effect=effect
        )
    return graph


def write_graphml(circuit, path):
    """Write the graph as GraphML; characters that XML cannot hold become signs."""
    import networkx

    graph = graph_of(circuit)
    for _, data in graph.nodes(data=True):
        data.update(_printable(data))
    graph.graph.update(_printable(graph.graph))
    # The other writer of networkx needs lxml.
    networkx.write_graphml_xml(graph, str(path))


def viewer_graph(circuit, slug, scan):
    """Return what the viewer of circuit-tracer reads, a dict for JSON."""
    nodes, last = circuit.nodes, len(circuit.tokens) - 1
    shares = np.abs(nodes.effect)
    influence = np.cumsum(shares) / max(shares.sum(), np.finfo(float).tiny)
    found = [_viewer_node(circuit, i, last, float(influence[i])) for i in range(len(nodes))]
    ids = [node["node_id"] for node in found]
    target = _metric_node(circuit, last)
    links = [
        {
            "source": ids[source],
            "target": target["node_id"] if to == METRIC else ids[to],
            "weight": effect,
        }
        for source, to, effect in circuit.edges.tolist()
    ]
    return {
        "metadata": {
            "slug": slug,
            "scan": scan,
            "transcoder_list": list(circuit.sites),
            "prompt_tokens": list(circuit.tokens),
            "prompt": circuit.prompt,
            "node_threshold": None,
            "schema_version": 1,
        },
        "qParams": {
            "pinnedIds": [],
            "supernodes": [],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": [*found, target],
        "links": links,
    }


def _node_name(nodes, i):
    position = "all" if nodes.position[i] < 0 else nodes.position[i]
    feature = "error" if nodes.feature[i] < 0 else nodes.feature[i]
    return f"{nodes.site[i]}/{position}/{feature}"


def _printable(data):
    return {key: visible(x) if isinstance(x, str) else x for key, x in data.items()}


def _viewer_node(circuit, i, last, influence):
    nodes = circuit.nodes
    layer, feature = circuit.sites.index(nodes.site[i]), int(nodes.feature[i])
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


def _metric_node(circuit, last):
    """Return the node of the metric, which the viewer takes for the logit of its first token."""
    nodes, layer = circuit.nodes, len(circuit.sites) + 1
    token = circuit.metric_tokens[0] if circuit.metric_tokens else 0
    one = len(circuit.metric_tokens) == 1
    return {
        "node_id": f"{layer}_{token}_{last}",
        "feature": token,
        "layer": str(layer),
        "ctx_idx": last,
        "feature_type": "logit",
        "token_prob": float(np.exp(nodes.clean)) if one else 0.0,
        "is_target_logit": True,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": f"L_{token}-{last}",
        "clerp": f"{nodes.metric} = {nodes.clean:.3f}",
        "influence": None,
        "activation": None,
    }
