"""A fitted estimator from arrays that were learnt elsewhere."""

import numpy as np
from sklearn.base import is_regressor

from sksae._drafts import on_a_draft
from sksae._params import check_params
from sksae._saved_layout import FREQUENCY
from sksae.autoencoders._naming import forget_fit
from sksae.objectives import Weight

_OF_TRAINING = ("alpha",)


def fitted(estimator, weights, *, source=None):
    """Make an estimator a fitted one, from weights that act on raw rows.

    The weights are what `fit` would have stored, with one freedom: the rows of the dictionary may
    have any norm, so that codes learnt elsewhere keep their unit. What only training knows
    (``batch_size_``, ``learning_rate_``, ``alpha_``) stays unset.

    Parameters
    ----------
    estimator : BaseSAE
        An instance of the class whose inference the weights are for. It is changed.
    weights : dict of str to ndarray
        Arrays by the name of the fitted attribute, without its underscore: ``"components"`` and
        ``"encoder_coef"`` of shape (n_components, n_features), ``"encoder_intercept"`` of shape
        (n_components,), ``"intercept"`` of shape (n_features,), and what the class has besides:
        ``"threshold"``, ``"gate_intercept"``, ``"gain"``, all of shape (n_components,).
        ``"activation_frequency"`` may be left out. Of a `Transcoder`, ``"components"`` and
        ``"intercept"`` have n_targets columns, and there may be ``"skip_coef"``.
    source : dict, default=None
        Where the weights are from; becomes ``source_``.

    Returns
    -------
    estimator : BaseSAE
        The estimator itself: it transforms, and `fit` starts anew as always.

    Raises
    ------
    ValueError
        If an array is missing, unknown, of another shape, or not finite.

    See Also
    --------
    BaseSAE : What all sparse autoencoders share.

    Examples
    --------
    >>> import numpy as np
    >>> from sksae import SparseAutoencoder
    >>> from sksae.autoencoders import fitted
    >>> sae = fitted(
    ...     SparseAutoencoder(2),
    ...     {
    ...         "components": np.eye(2),
    ...         "encoder_coef": np.eye(2),
    ...         "encoder_intercept": np.array([0.0, -1.0]),
    ...         "intercept": np.zeros(2),
    ...     },
    ... )
    >>> sae.transform([[3.0, 3.0]])
    array([[3., 2.]])
    """
    check_params(estimator)
    check_params(estimator._settings)
    m, t = _matrix_shape(weights, "components")
    d = _matrix_shape(weights, "encoder_coef")[1] if is_regressor(estimator) else t
    objective = estimator._make_objective(d, m, t)
    _check_arrays(type(estimator).__name__, weights, objective, {"m": m, "d": d, "t": t})
    resolved = [name for name in objective.resolved if name not in _OF_TRAINING]
    attributes = {
        **{name + "_": value for name, value in weights.items()},
        **{name + "_": getattr(objective, name) for name in resolved},
        "n_components_": m,
        "n_features_in_": d,
        "n_iter_": 0,
        "n_steps_": 0,
        "loss_curve_": [],
        "source_": dict(source or {}),
        "_stream": None,
        "_objective": objective,
    }
    if is_regressor(estimator):
        attributes["single_target_"] = False
    return _become(estimator, attributes)


@on_a_draft
def _become(estimator, attributes):
    forget_fit(estimator)
    vars(estimator).update(attributes)


def _matrix_shape(weights, key):
    """Shape of a matrix among the weights; any shape where it is not there or none, for now."""
    shape = np.shape(weights.get(key, ()))
    return shape if len(shape) == 2 and 0 not in shape else (1, 1)


def _check_arrays(name, weights, objective, sizes):
    """Raise a ValueError unless the arrays are those that the objective declares."""
    declared = {**objective.declared, FREQUENCY: Weight("m", trained=False)}
    required = {key for key, weight in objective.declared.items() if weight.fitted}
    missing = sorted(required - set(weights))
    if missing:
        raise ValueError(f"{name} needs weights that are missing: {', '.join(missing)}.")
    unknown = sorted(set(weights) - required - {FREQUENCY})
    if unknown:
        raise ValueError(f"{name} has no such weights: {', '.join(unknown)}.")
    for key in ("components", "encoder_coef"):
        shape = np.shape(weights[key])
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"{key} must be a matrix that is not empty. Got {shape}.")
    for key, value in weights.items():
        expected = tuple(sizes[axis] for axis in declared[key].axes)
        if np.shape(value) != expected:
            raise ValueError(f"{key} has shape {np.shape(value)}; {expected} is needed.")
        if not np.isfinite(value).all():
            raise ValueError(f"{key} has entries that are not finite.")
