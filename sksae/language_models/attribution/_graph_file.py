"""Attribution graphs as JSON for the viewers of circuit-tracer and Neuronpedia.

The fields are those of circuit-tracer's `frontend/graph_models.py`, schema version 1. What its
files do not have (biases, influence that is not cumulated) stands in the metadata under
``"sksae"``, which other readers ignore. An error is called ``"layer_-1_position"``; circuit-tracer
calls that of layer 3 ``"0_3_position"``, like feature 3 of layer 0.
"""

import math
import re

import numpy as np

from sksae._arrays import objects
from sksae._hook_names import cantor, uncantor
from sksae.language_models.attribution._graph_influence import cumulative, influence_of, shares

_TYPES = {
    "feature": "cross layer transcoder",
    "error": "mlp reconstruction error",
    "token": "embedding",
    "logit": "logit",
}
_KINDS = {name: kind for kind, name in _TYPES.items()}
_OUTPUT = re.compile(r'Output "(.*)" \(p=[^)]*\)', re.DOTALL)
_ORDER = tuple(_TYPES)


def graph_content(graph, slug, scan):
    """Return an `AttributionGraph` as a dict for JSON."""
    ids = graph.node_ids
    targets, sources = np.nonzero(graph.adjacency)
    weights = graph.adjacency[targets, sources].tolist()
    edges = zip(sources.tolist(), targets.tolist(), weights, strict=True)
    columns = {
        name: [None if math.isnan(x) else x for x in getattr(graph, name).tolist()]
        for name in ("bias", "influence", "cumulative_influence")
    }
    dtype = str(graph.adjacency.dtype)
    ours = {"dtype": dtype, "n_active": graph.n_active, "logit_tokens": list(graph.logit_tokens)}
    nodes = [_node(graph, i, name) for i, name in enumerate(ids)]
    links = [{"source": ids[s], "target": ids[t], "weight": x} for s, t, x in edges]
    return viewer_content(graph, slug, scan, nodes, links, sksae={**ours, **columns})


def viewer_content(graph, slug, scan, nodes, links, *, transcoders=(), **more):
    """Return nodes and links in the frame that the viewers read, a dict for JSON.

    Parameters
    ----------
    graph : AttributionGraph or FeatureCircuit
        Its tokens and prompt are those of the file.
    slug, scan : str
        Names of the graph and of the model.
    nodes, links : list of dict
        As the viewers have them.
    transcoders : sequence of str, default=()
        Names of the dictionaries.
    **more
        Further metadata.
    """
    return {
        "metadata": {
            "slug": slug,
            "scan": scan,
            "transcoder_list": list(transcoders),
            "prompt_tokens": list(graph.tokens),
            "prompt": graph.prompt,
            "node_threshold": None,
            "schema_version": 1,
            **more,
        },
        "qParams": {
            "pinnedIds": [],
            "supernodes": [],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": nodes,
        "links": links,
    }


def _node(graph, i, node_id):
    kind, feature = graph.kind[i], int(graph.feature[i])
    layer, _, position = node_id.split("_")
    number, js_id, clerp, probability = feature, f"{layer}_{feature}-0", str(graph.name[i]), 0.0
    if kind == "feature":
        number = cantor(int(layer), feature)
    elif kind == "error":
        js_id = f"{layer}_{position}-0"
    elif kind == "token":
        number, js_id = int(position), f"E_{feature}-{position}"
    first = np.flatnonzero(graph.kind == "logit")[0]
    if kind == "logit":
        probability = float(graph.logit_probabilities[i - first])
        js_id = f"L_{feature}-{position}"
        clerp = f'Output "{graph.logit_tokens[i - first]}" (p={probability:.3f})'
    return {
        "node_id": node_id,
        "feature": number,
        "layer": layer,
        "ctx_idx": int(position),
        "feature_type": _TYPES[kind],
        "token_prob": probability,
        "is_target_logit": bool(i == first),
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": js_id,
        "clerp": clerp,
        "influence": None if kind == "logit" else float(graph.cumulative_influence[i]),
        "activation": float(graph.activation[i]) if kind == "feature" else None,
    }


def graph_fields(content):
    """Return the fields of the `AttributionGraph` in what a file holds, a dict.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is no such graph.
    """
    metadata, lines = content["metadata"], content["nodes"]
    kinds = [_KINDS[line["feature_type"]] for line in lines]
    places = [_place(line, kind) for line, kind in zip(lines, kinds, strict=True)]
    keys = [(_ORDER.index(kind), *place) for kind, place in zip(kinds, places, strict=True)]
    # Logits stay in the order of the file, that of their probabilities.
    keys = [key if kind != "logit" else key[:1] for kind, key in zip(kinds, keys, strict=True)]
    order = sorted(range(len(lines)), key=keys.__getitem__)
    rows = [lines[i] for i in order]
    ours = metadata.get("sksae") or {}
    dtype = np.dtype(ours.get("dtype", "float64"))
    if dtype.name not in ("float32", "float64"):
        raise ValueError(f"numbers cannot be {dtype}")
    kind = objects(kinds[i] for i in order)
    layer, position, feature = np.array([places[i] for i in order], dtype=np.int64).reshape(-1, 3).T
    tokens, logits = [str(x) for x in metadata["prompt_tokens"]], [x for x in rows if _ends(x)]
    if not logits or (position >= len(tokens)).any() or (position < 0).any():
        raise ValueError("it has no logits, or nodes that are at no token of the prompt")
    probabilities = np.array([line["token_prob"] for line in logits], dtype=dtype)
    adjacency = _adjacency(rows, content["links"], dtype)
    influences = _influences(ours, rows, adjacency, probabilities)
    return {
        "kind": kind,
        "layer": layer,
        "position": position,
        "feature": feature,
        "activation": _column([line.get("activation") for line in rows], dtype),
        "bias": _column(ours.get("bias", [None] * len(rows)), dtype),
        **influences,
        "name": objects(
            str(line.get("clerp") or "") if k == "feature" else ""
            for line, k in zip(rows, kind, strict=True)
        ),
        "adjacency": adjacency,
        "tokens": tokens,
        "prompt": str(metadata["prompt"]),
        "logit_tokens": ours.get("logit_tokens") or [_output(line) for line in logits],
        "logit_probabilities": probabilities,
        "n_active": int(ours.get("n_active", (kind == "feature").sum())),
    }


def _place(line, kind):
    """Return layer, position and feature of a node as an `AttributionGraph` has them."""
    layer, position = line["layer"], int(line["ctx_idx"])
    if kind == "token":
        parts = str(line["node_id"]).split("_")
        return -1, position, int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else -1
    if kind == "error":
        return int(layer), position, -1
    if kind == "logit":
        return int(layer) - 1, position, int(line["feature"])
    at, feature = uncantor(int(line["feature"]))
    if at != int(layer):
        raise ValueError(f"node {line['node_id']!r} is in layer {layer}, but its number says {at}")
    return at, position, feature


def _ends(line):
    return line["feature_type"] == _TYPES["logit"]


def _output(line):
    """Return the token of a logit node, which its label quotes."""
    quoted = _OUTPUT.fullmatch(str(line.get("clerp") or ""))
    return quoted[1] if quoted else str(line.get("clerp") or line["feature"])


def _adjacency(rows, links, dtype):
    numbers = {line["node_id"]: i for i, line in enumerate(rows)}
    if len(numbers) < len(rows):
        raise ValueError("two of its nodes have the same node_id")
    adjacency = np.zeros((len(rows), len(rows)), dtype=dtype)
    for link in links:
        adjacency[numbers[link["target"]], numbers[link["source"]]] = link["weight"]
    return adjacency


def _influences(ours, rows, adjacency, probabilities):
    """Return influence and cumulative influence, from the edges where the file has none."""
    if "influence" in ours:
        names = ("influence", "cumulative_influence")
        return {name: _column(ours[name], np.float64) for name in names}
    weights = np.zeros(len(rows), dtype=adjacency.dtype)
    weights[-len(probabilities) :] = probabilities
    influence = influence_of(shares(adjacency), weights)
    in_file = _column([line.get("influence") for line in rows], np.float64)
    summed = np.where(np.isnan(in_file), cumulative(influence), in_file)
    return {"influence": influence, "cumulative_influence": summed}


def _column(values, dtype):
    return np.array([math.nan if x is None else x for x in values], dtype=dtype)
