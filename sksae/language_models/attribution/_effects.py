"""The effects of all nodes of a study, and their table."""

from typing import NamedTuple

import numpy as np

from sksae._arrays import objects
from sksae._params import Float, Int, Option, check_option
from sksae.language_models.attribution._attribution_table import Attribution

_RULES = {
    "method": Option("integrated_gradients", "attribution_patching"),
    "positions": Option("none", "sum"),
    "n_steps": Int(1),
    "batch_size": Int(1),
    "verify": Int(0),
    "max_nodes": Int(1),
    "node_threshold": Float(0),
    "edge_threshold": Float(0),
}


class Effects(NamedTuple):
    """Nodes of several sites end to end, and what each of them contributes."""

    site: np.ndarray  # (n,): number of the site
    position: np.ndarray  # (n,): -1 for a sum over positions
    feature: np.ndarray  # (n,): -1 for errors
    activation: np.ndarray
    baseline_activation: np.ndarray
    effect: np.ndarray

    def take(self, rows):
        """Return the nodes of these lines."""
        return Effects(*(column[rows] for column in self))


def check_options(**options):
    """Raise a ValueError that names the first option that breaks its rule."""
    for name, value in options.items():
        check_option(name, value, _RULES[name])


def effects_of(study, method, n_steps, batch_size):
    """Return the `Effects` of all nodes, site after site."""
    if method == "attribution_patching":
        gradients = study.gradients()
    else:
        sites = range(len(study.nodes))
        gradients = [study.integrated_gradient(i, n_steps, batch_size) for i in sites]
    parts = [
        _effects_at(i, nodes, gradient)
        for i, (nodes, gradient) in enumerate(zip(study.nodes, gradients, strict=True))
    ]
    return Effects(*map(np.concatenate, zip(*parts, strict=True)))


def _effects_at(i, nodes, gradient):
    """Return the columns of `Effects` for one site: its features, then its errors."""
    features, errors = nodes.effects(gradient)
    n, n_tokens = len(features), len(errors)
    pairs = (
        (nodes.position, np.arange(n_tokens)),
        (nodes.feature, np.full(n_tokens, -1)),
        (nodes.code, nodes.error.norm(dim=-1)),
        (nodes.baseline_code, nodes.baseline_error.norm(dim=-1)),
        (features, errors),
    )
    columns = [np.concatenate([_array(one), _array(other)]) for one, other in pairs]
    return np.full(n + n_tokens, i), *columns


def _array(values):
    """Return a column as an array: float64 or int64."""
    if isinstance(values, np.ndarray):
        return values
    return (values.double() if values.is_floating_point() else values).cpu().numpy()


def summed(effects):
    """Return the nodes with their positions added up: one node a feature and one error a site.

    The activations become the largest of all positions.
    """
    keys = np.stack([effects.site, effects.feature], axis=1)
    keys, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    largest = []
    for column in (effects.activation, effects.baseline_activation):
        found = np.full(len(keys), -np.inf)
        np.maximum.at(found, group, column)
        largest.append(found)
    total = np.bincount(group, weights=effects.effect, minlength=len(keys))
    return Effects(keys[:, 0], np.full(len(keys), -1), keys[:, 1], *largest, total)


def table_of(study, effects, shown, exact):
    """Return the `Attribution` of some nodes.

    Parameters
    ----------
    study : Study
        Where they come from.
    effects : Effects
        All nodes.
    shown : Effects
        The lines of the table.
    exact : ndarray
        The measured effects of the first of them.
    """
    sums = np.bincount(effects.site, weights=effects.effect, minlength=len(study.nodes))
    total = {label: study.total(i) for i, label in enumerate(study.labels)}
    tokens = study.prompt.tokens.string
    measured = np.full(len(shown.site), np.nan)
    measured[: len(exact)] = exact
    names = [nodes.site.names for nodes in study.nodes]
    pairs = zip(shown.site.tolist(), shown.feature.tolist(), strict=True)
    return Attribution(
        site=objects([study.labels[i] for i in shown.site]),
        position=shown.position,
        token=objects(["" if t < 0 else tokens[t] for t in shown.position.tolist()]),
        feature=shown.feature,
        activation=shown.activation,
        baseline_activation=shown.baseline_activation,
        effect=shown.effect,
        exact=measured,
        name=objects([_name(names[i], feature) for i, feature in pairs]),
        total=total,
        completeness={
            label: float(s) / total[label] if total[label] else float("nan")
            for label, s in zip(total, sums, strict=True)
        },
        clean=study.clean,
        metric=study.metric.name,
    )


def _name(names, feature):
    return "error" if feature < 0 else str(names.get(feature, ""))
