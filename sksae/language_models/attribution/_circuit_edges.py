"""What passes from node to node: derivatives of downstream nodes, other sites held still."""

from typing import NamedTuple

import numpy as np
import torch

from sksae._arrays import to_torch
from sksae.language_models.attribution._attribution_nodes import along_features

METRIC = -1
"""The number of the metric among the targets of edges."""

EDGE = np.dtype([("source", np.int64), ("target", np.int64), ("effect", np.float64)])

_CODES_AT_A_TIME = 4096


class Members(NamedTuple):
    """The nodes of a circuit at one site, position by position.

    Several codes or errors belong to one node where positions are added up.
    """

    position: torch.Tensor  # (n,): of each code
    feature: torch.Tensor  # (n,)
    code: torch.Tensor  # (n,)
    change: torch.Tensor  # (n,): from the baseline to the code
    node: torch.Tensor  # (n,): the node it belongs to
    error_position: torch.Tensor  # (m,): of each error
    error_node: torch.Tensor  # (m,): the node it belongs to


def members_of(nodes, features, errors):
    """Return the `Members` of a circuit.

    Parameters
    ----------
    nodes : Nodes
        All nodes of the site.
    features : Tensor of shape (n,)
        The number in the circuit of each node's feature, -1 if it is not in there.
    errors : Tensor of shape (n_tokens,)
        The same for the errors.
    """
    kept, wrong = features >= 0, (errors >= 0).nonzero()[:, 0]
    code = nodes.code[kept]
    return Members(
        nodes.position[kept],
        nodes.feature[kept],
        code,
        code - nodes.baseline_code[kept],
        features[kept],
        wrong,
        errors[wrong],
    )


def edges_of(study, members, n_nodes, batch_size):
    """Return every edge of a circuit, an array of dtype `EDGE`.

    The edge from u to d is ``(u - u') * d(w d) / d u``, ``w`` being the derivative of the metric
    with respect to d in the untouched prompt (Marks et al. 2024). A code is taken as the linear
    function it is as long as the same features fire. All sites before that of d are held, so that
    what passes through one of their nodes is left to the edges of that node.
    """
    gradients = study.gradients()
    parts = []
    for i in range(len(study.nodes)):
        slots, weights = _weights(study.nodes[i], members[i], gradients[i])
        for first in range(0, len(slots) if i else 0, batch_size):
            some = slice(first, first + batch_size)
            values = {u: v for u, v in study.clean_values(len(slots[some])).items() if u < i}
            found = study.splicer.gradients_at(i, weights(some), values)
            parts.append(_edges(study, members, found, slots[some], n_nodes))
    found = study.splicer.gradients(study.metric, study.clean_values(), hold=True)
    parts.append(_edges(study, members, found, [METRIC], n_nodes))
    return np.concatenate(parts)


def _edges(study, members, gradients, targets, n_nodes):
    """Return the edges into some targets, from gradients with one row a target."""
    effects = torch.zeros(len(targets), n_nodes, dtype=torch.float64)
    for i, gradient in gradients.items():
        mine, nodes = members[i], study.nodes[i]
        along = along_features(nodes.site.dictionary, gradient, mine.position, mine.feature)
        effects.index_add_(1, mine.node.cpu(), (along * mine.change).double().cpu())
        change = (nodes.error - nodes.baseline_error)[mine.error_position]
        errors = (gradient[:, mine.error_position] * change).sum(-1)
        effects.index_add_(1, mine.error_node.cpu(), errors.double().cpu())
    target, source = effects.nonzero(as_tuple=True)
    found = np.empty(len(source), dtype=EDGE)
    found["source"], found["target"] = source.numpy(), np.asarray(targets)[target.numpy()]
    found["effect"] = effects[target, source].numpy()
    return found


def _weights(nodes, members, gradient):
    """Return the nodes of a site, and what the stream is weighted with to give ``w d`` of each.

    The second is a function from a slice of these nodes to (n, n_tokens, width).
    """
    encoder = to_torch(nodes.site.dictionary.sae.encoder_coef_, gradient.device, gradient.dtype)
    fires = members.code != 0
    position, feature, node = (
        column[fires] for column in (members.position, members.feature, members.node)
    )
    worth = along_features(nodes.site.dictionary, gradient, position, feature)
    errors = _error_weights(nodes, encoder, gradient) if len(members.error_node) else gradient
    slots = torch.cat([node, members.error_node]).unique()

    def weights(some):
        mine = slots[some]
        found = gradient.new_zeros(len(mine), *gradient.shape)
        row, entry = (mine[:, None] == node).nonzero(as_tuple=True)
        rows = worth[entry, None] * encoder[feature[entry]]
        found.index_put_((row, position[entry]), rows, accumulate=True)
        row, entry = (mine[:, None] == members.error_node).nonzero(as_tuple=True)
        where = members.error_position[entry]
        found.index_put_((row, where), errors[where], accumulate=True)
        return found

    return slots.tolist(), weights


def _error_weights(nodes, encoder, gradient):
    """Return what the stream is weighted with to give ``w e`` at each position.

    The error is ``x - dec(f(x))``, so what the features that fire read is taken off.
    """
    found = gradient.clone()
    fires = (nodes.code != 0).nonzero()[:, 0]
    for some in fires.split(_CODES_AT_A_TIME):
        position, feature = nodes.position[some], nodes.feature[some]
        worth = along_features(nodes.site.dictionary, gradient, position, feature)
        found.index_add_(0, position, -worth[:, None] * encoder[feature])
    return found
