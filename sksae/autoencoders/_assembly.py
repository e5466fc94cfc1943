"""A fitted estimator from arrays that were learnt elsewhere."""

import numpy as np

from sksae._drafts import on_a_draft
from sksae._params import check_params
from sksae.autoencoders._folding import WEIGHTS
from sksae.autoencoders._naming import forget_fit
from sksae.autoencoders._predicting import PredictingSAE


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
    name = type(estimator).__name__
    check_params(estimator)
    required = set(estimator._weight_names)
    missing = sorted(required - set(weights))
    if missing:
        raise ValueError(f"{name} needs weights that are missing: {', '.join(missing)}.")
    unknown = sorted(set(weights) - required - (set(WEIGHTS) - {"skip_coef"}))
    if unknown:
        raise ValueError(f"{name} has no such weights: {', '.join(unknown)}.")
    for key in ("components", "encoder_coef"):
        shape = np.shape(weights[key])
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"{key} must be a matrix that is not empty. Got {shape}.")
    (m, t), d = weights["components"].shape, weights["encoder_coef"].shape[1]
    if not isinstance(estimator, PredictingSAE):
        d = t
    for key, value in weights.items():
        expected = tuple({"m": m, "d": d, "t": t}[axis] for axis in WEIGHTS[key])
        if np.shape(value) != expected:
            raise ValueError(f"{key} has shape {np.shape(value)}; {expected} is needed.")
        if not np.isfinite(value).all():
            raise ValueError(f"{key} has entries that are not finite.")
    return _store(estimator, weights, (m, d, t), source)


@on_a_draft
def _store(estimator, weights, shape, source):
    m, d, t = shape
    forget_fit(estimator)
    for key, value in weights.items():
        setattr(estimator, key + "_", value)
    if isinstance(estimator, PredictingSAE):
        estimator.single_target_ = False
    known = estimator._hyperparameters(d, m, t)
    if "k_" in known:
        estimator.k_ = known["k_"]
    estimator.n_components_, estimator.n_features_in_ = m, d
    estimator.n_iter_, estimator.n_steps_, estimator.loss_curve_ = 0, 0, []
    estimator._stream = None
    estimator.source_ = dict(source or {})
