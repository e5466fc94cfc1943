"""Arrays of a fitted estimator: saved to one file with all else as JSON, or taken over."""

import json
import math
from numbers import Integral, Real
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, is_regressor
from sklearn.utils.validation import check_is_fitted

from sksae._arrays import to_torch
from sksae._drafts import on_a_draft
from sksae._files import digest_of, write_safetensors
from sksae._params import check_params
from sksae._saved_layout import (
    CURVES,
    DIGEST,
    FREQUENCY,
    HEADER,
    MOMENTS,
    NUMBER,
    SCALARS,
    VERSION,
)
from sksae.autoencoders._naming import forget_fit
from sksae.objectives import Weight

_MOST_BYTES = 50_000_000  # safetensors reads headers of 100 MB, in which text is escaped
# What an extractor does to its rows; the rest of its parameters is about speed.
_POLICY = (
    "layer",
    "site",
    "tokenizer",
    "pooling",
    "max_length",
    "include_special_tokens",
    "drop_first_position",
    "max_norm_ratio",
    "prepend_bos",
    "position_ids",
)

_OF_TRAINING = ("alpha",)


class SavingMixin:
    """An estimator that writes itself to a file."""

    def save(self, path, *, extractor=None):
        """Write the fitted estimator to one file, for `sksae.load`.

        The file holds the arrays, the parameters, the training curves, the names of features and
        columns, explanations, where activations are from, and what `partial_fit` needs to go on to
        the same bits. It is whole or not there, and no code runs when it is loaded: the format is
        safetensors, with JSON and a digest of all in the header. What `set_output` was told is not
        kept, and arrays of other namespaces come back as numpy.

        Parameters
        ----------
        path : str or Path
            The file, such as ``"sae.safetensors"``; it takes the place of one that is there.
        extractor : ActivationExtractor or SAEVectorizer, default=None
            Where the rows of the training data are from: its model, layer, site and choice of
            tokens become entries of ``source_``, for `ActivationExtractor.for_sae`.

        Returns
        -------
        path : Path
            The file.

        Raises
        ------
        NotFittedError
            If there is nothing to write yet.
        TypeError
            If the class is not one of sksae's, or a parameter or an entry of ``source_`` is nothing
            that JSON has.
        ValueError
            If parameters were changed since the fit, so that they need other arrays, or words take
            more than 50 MB.
        """
        check_is_fitted(self)
        if not type(self).__module__.startswith("sksae."):
            raise TypeError(
                f"{type(self).__name__} is a class of your own, of which `load` knows nothing: use "
                f"joblib.dump."
            )
        _check_unchanged(self)
        arrays, header = _arrays(self), _header(self, extractor)
        stream = getattr(self, "_stream", None)
        if stream is not None:
            header["stream"] = _add_stream(arrays, stream)
        text = json.dumps(header, ensure_ascii=False, allow_nan=False)
        if len(text.encode()) > _MOST_BYTES:
            raise ValueError(
                f"Names and explanations take {len(text) / 1e6:.0f} MB, more than a header holds: "
                f"keep explanations with save_explanations."
            )
        write_safetensors(path, arrays, {HEADER: text, DIGEST: digest_of(text, arrays)})
        return Path(path)


def _check_unchanged(sae):
    """Raise a ValueError if the parameters now need other arrays than the fit stored."""
    (m, t), d = sae.components_.shape, sae.n_features_in_
    objective = sae._make_objective(d, m, t)
    needed = {name for name, weight in objective.declared.items() if weight.fitted}
    stored = {name for name, weight in sae._objective.declared.items() if weight.fitted}
    if needed != stored or objective.resolved != sae._objective.resolved:
        missing = ", ".join(sorted(needed - stored)) or "such objective"
        raise ValueError(
            f"Parameters of this {type(sae).__name__} were changed since it was fitted: it has no "
            f"{missing}. Fit it again, or set them back."
        )


def _arrays(sae):
    names = [name for name in (*sae._objective.declared, FREQUENCY) if hasattr(sae, name + "_")]
    return {name: _numbers(getattr(sae, name + "_")) for name in names}


def _numbers(array):
    return np.ascontiguousarray(to_torch(array).cpu().numpy())


def _header(sae, extractor):
    scalars = (*SCALARS, *(name + "_" for name in sae._objective.resolved))
    header = {
        "version": VERSION,
        **_described(sae),
        "fitted": {name: plain(getattr(sae, name), name) for name in scalars if hasattr(sae, name)},
        "curves": {name: plain(getattr(sae, name), name) for name in CURVES if hasattr(sae, name)},
    }
    for name in ("feature_names_", "explanations_"):
        if hasattr(sae, name):
            words = {str(i): plain(value, name) for i, value in getattr(sae, name).items()}
            header[name.rstrip("_")] = words
    if hasattr(sae, "feature_names_in_"):
        header["feature_names_in"] = [str(name) for name in sae.feature_names_in_]
    source = {**getattr(sae, "source_", {}), **_facts(extractor)}
    if source:
        header["source"] = plain(source, "source_")
    return header


def _described(sae):
    """Return the class and the parameters of an estimator, those of a nested one included."""
    params = {}
    for name, value in sae.get_params(deep=False).items():
        nested = isinstance(value, BaseEstimator)
        params[name] = _described(value) if nested else plain(value, f"parameter {name!r}")
    return {"class": type(sae).__name__, "params": params}


def plain(value, what):
    """Return a value as a JSON value; a number that is not finite is its name, in a dict.

    Raises
    ------
    TypeError
        If JSON has nothing like it.
    """
    if isinstance(value, np.random.RandomState):
        name, keys, *rest = value.get_state(legacy=True)
        return {"RandomState": [name, keys.tolist(), *rest]}
    if value is None or isinstance(value, (str, bool, np.bool_)):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else {NUMBER: str(float(value))}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(inner, what) for inner in value]
    if isinstance(value, dict):
        return {str(key): plain(inner, what) for key, inner in value.items()}
    raise TypeError(f"{what} cannot be saved: JSON has nothing like {value!r}.")


def _facts(extractor):
    """Return what an extractor says about its rows, by the names of its parameters."""
    if extractor is None:
        return {}
    if not hasattr(extractor, "get_params"):
        raise TypeError(f"extractor must be an ActivationExtractor. Got {extractor!r}.")
    params = extractor.get_params(deep=False)
    if "extractor" in params:  # of a vectorizer
        return _facts(params["extractor"])
    if "model" not in params:
        name = type(extractor).__name__
        raise TypeError(f"extractor must be an ActivationExtractor. A {name} has no model.")
    model = params["model"]
    model_name = model if isinstance(model, (str, Path)) else getattr(model, "name_or_path", "")
    facts = {"model": str(model_name) or None}
    for name in _POLICY:
        value = params.get(name)
        # Of several sites, layers and names are lists, of pairs too.
        listed = name in ("layer", "site") and isinstance(value, (list, tuple))
        if value is None or listed or isinstance(value, (str, Path, bool, Integral, Real)):
            facts[name] = value
    return {name: value for name, value in facts.items() if value is not None}


def _add_stream(arrays, stream):
    """Add the arrays of a stream's state under names of their own; return its numbers."""
    run = stream["run"]
    for name, weight in run["weights"].items():
        arrays[f"stream.weights.{name}"] = weight
        for order, moment in zip(MOMENTS, run["moments"][name], strict=True):
            arrays[f"stream.{order}.{name}"] = moment
    for name, array in [
        ("since_fired", run["since_fired"]),
        ("generator", stream["generator"]),
        ("mean", stream["mean"]),
        # One number, or one per column.
        ("scale", np.atleast_1d(np.asarray(stream["scale"], np.float64))),
    ]:
        arrays[f"stream.{name}"] = np.ascontiguousarray(array)
    return {
        "n_steps": int(run["n_steps"]),
        "density": float(run["density"]),
        "dead_window": int(stream["dead_window"]),
        "one_scale": not isinstance(stream["scale"], np.ndarray),
    }


def fitted(estimator, weights, *, source=None):
    """Turn an estimator into a fitted one, by weights that act on raw rows.

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
    """Return the shape of a matrix among the weights; (1, 1) where it is missing or no matrix."""
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
