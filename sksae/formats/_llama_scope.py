"""Llama Scope and what OpenMOSS writes today."""

import numpy as np

from sksae._files import as_path
from sksae._params import Float, Option, check_option
from sksae.formats._raw_units import estimator, raw_units
from sksae.formats._sources import (
    DTYPE,
    FLAG,
    POSITIVE,
    SIZE,
    source_facts,
    take,
    text_or_none,
)
from sksae.formats._tensors import read_object, read_tensors, tensor_names

_FIRST = ("hyperparams.json", "checkpoints/final.safetensors")
_TODAY = ("config.json", "sae_weights.safetensors", "sae_weights.pt")
# Axes: n latents, d features. Files of 2024 have nn.Linear's (outputs, inputs), those of today have
# matrices that multiply rows from the right.
_LINEAR = {
    "encoder.weight": "n d",
    "encoder.bias": "n",
    "decoder.weight": "d n",
    "decoder.bias": "d",
}
_MATRICES = {"W_E": "d n", "b_E": "n", "W_D": "n d", "b_D": "d"}
_THRESHOLD = "activation_function.log_jumprelu_threshold"
_NORM = "dataset_average_activation_norm."


def read_llama_scope(path, *, input_scale=None, dtype=None):
    """Read an autoencoder of Llama Scope, or one that OpenMOSS' library writes today.

    Rows are those of the model: the mean norm that training divided by is folded into the weights.
    With the k largest of pre-activations times the norms of the dictionary, codes are in that unit
    (the norm times OpenMOSS' own); in all other cases they are OpenMOSS' own.

    Parameters
    ----------
    path : str or Path
        The folder: with ``hyperparams.json`` and ``checkpoints/final.safetensors`` (Llama Scope,
        2024), or with ``config.json`` and ``sae_weights.safetensors`` or ``sae_weights.pt``.
    input_scale : float, default=None
        What rows are multiplied with before the encoder, where the files do not have it (Llama
        Scope R1-Distill): ``sqrt(n_features)`` over the mean norm of rows.
    dtype : {"float32", "float64", None}, default=None
        Of the weights. None takes float64 if the file has it, else float32.

    Returns
    -------
    sae : BaseSAE
        The fitted estimator, with ``source_``, a dict of where it is from. A `Transcoder` where it
        reads one hook point and predicts another.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or does what no estimator here computes.

    See Also
    --------
    read : Finds out which library wrote a file.

    References
    ----------
    .. [1] He et al., "Llama Scope: extracting millions of features from Llama-3.1-8B with sparse
       autoencoders", 2024, arXiv:2410.20526.

    Examples
    --------
    >>> import json, torch
    >>> from pathlib import Path
    >>> from safetensors.torch import save_file
    >>> from tempfile import TemporaryDirectory
    >>> from sksae.formats import read_llama_scope
    >>> weights = {"W_E": torch.eye(2), "W_D": torch.eye(2)}
    >>> weights |= {"b_E": torch.zeros(2), "b_D": torch.zeros(2)}
    >>> config = {"d_model": 2, "expansion_factor": 1, "act_fn": "relu"}
    >>> config |= {"norm_activation": "inference"}
    >>> with TemporaryDirectory() as folder:
    ...     save_file(weights, Path(folder) / "sae_weights.safetensors")
    ...     _ = (Path(folder) / "config.json").write_text(json.dumps(config))
    ...     sae = read_llama_scope(folder)
    >>> sae.transform([[1.0, -1.0]])
    array([[1., 0.]])
    """
    check_option("dtype", dtype, DTYPE)
    if input_scale is not None:
        check_option("input_scale", input_scale, POSITIVE)
    path = as_path(path)
    if (path / _FIRST[0]).is_file():
        return _read_first(path, input_scale, dtype)
    return _read_today(path, input_scale, dtype)


def _read_first(path, input_scale, dtype):
    """Llama Scope of 2024: scales folded, then norms of the dictionary, then one threshold."""
    where, weights_path = (path / name for name in _FIRST)
    config = read_object(where)
    _check_plain(config, where)
    take(config, "norm_activation", Option("dataset-wise"), where, default="dataset-wise")
    norms = config.get("dataset_average_activation_norm")
    if not isinstance(norms, dict) or input_scale is not None:
        raise ValueError(f"{where} must have dataset_average_activation_norm; input_scale is that.")
    d = take(config, "d_model", SIZE, where)
    sizes = {"d": d, "n": take(config, "d_sae", SIZE, where)}
    threshold = take(config, "jump_relu_threshold", Float(0), where)
    scale_in, scale_out = (np.sqrt(d) / take(norms, end, POSITIVE, where) for end in ("in", "out"))
    arrays = read_tensors(weights_path, _LINEAR, sizes=sizes, dtype=dtype)
    dtype = arrays["encoder.weight"].dtype.type
    # The file's weights read scale_in x and predict scale_out y. Codes are divided by scale_in,
    # (E scale_in x + b) / scale_in = E x + b / scale_in, which the decoder makes up for.
    intercept = arrays["decoder.bias"] / dtype(scale_out)
    pre_bias = take(config, "apply_decoder_bias_to_pre_encoder", FLAG, where, default=False)
    transcoder = _is_transcoder(config)
    if pre_bias and transcoder:
        raise ValueError(f"{where} subtracts a bias of what it predicts from what it reads.")
    weights = raw_units(
        arrays["encoder.weight"],
        arrays["decoder.weight"].T * dtype(scale_in / scale_out),
        arrays["encoder.bias"] / scale_in,
        intercept,
        origin=intercept if pre_bias else None,
        threshold=threshold,
        by_norm=take(config, "sparsity_include_decoder_norm", FLAG, where),
        path=weights_path,
    )
    source = _source(config, "llama_scope")
    return estimator("jumprelu", weights, source, transcoder=transcoder)


def _read_today(path, input_scale, dtype):
    """What OpenMOSS writes today, and Llama Scope R1-Distill, which has the older names."""
    where, weights_path, torch_weights_path = (path / name for name in _TODAY)
    if not weights_path.is_file() and torch_weights_path.is_file():
        weights_path = torch_weights_path
    config = read_object(where)
    _check_plain(config, where)
    d = take(config, "d_model", SIZE, where)
    sizes = {"d": d, "n": int(d * take(config, "expansion_factor", POSITIVE, where))}
    act = take(config, "act_fn", Option("relu", "topk", "jumprelu"), where, default="jumprelu")
    names = tensor_names(weights_path)
    transcoder = _is_transcoder(config)
    ends = ("hook_point_in", "hook_point_out") if transcoder else ("hook_point_in",)
    norms = [_norm_name(config, names, where, input_scale, end) for end in ends]
    layout = _layout(config, act, names, where) | {norm: "" for norm in norms if norm}
    unused_norms = tuple(name for name in names if name.startswith(_NORM) and name not in norms)
    arrays = read_tensors(weights_path, layout, sizes=sizes, ignored=unused_norms, dtype=dtype)
    scales = [input_scale or 1.0] * len(ends)
    if norms[0]:
        if any(arrays[norm] <= 0 for norm in norms):
            raise ValueError(f"{weights_path} has a mean norm of rows that is not positive.")
        # Training brought rows to a mean norm of sqrt(d).
        scales = [np.sqrt(d) / float(arrays[norm]) for norm in norms]
    weights = _weights(config, arrays, act, scales, path)
    k = take(config, "top_k", SIZE, where) if act == "topk" else None
    return estimator(act, weights, _source(config, "openmoss"), k=k, transcoder=transcoder)


def _weights(config, arrays, act, scales, path):
    """Return the weights in raw units; of a transcoder there is a scale on either side."""
    old = "encoder.weight" in arrays
    decoder = arrays["decoder.weight"].T if old else arrays["W_D"]
    name = "sparsity_include_decoder_norm"
    by_norm = take(config, name, FLAG, path / _TODAY[0], default=not old)
    threshold = None
    if act == "jumprelu":
        logs = arrays["log_jumprelu_threshold" if old else _THRESHOLD]
        threshold = _threshold(logs, decoder, by_norm)
    intercept = arrays.get(
        "decoder.bias" if old else "b_D", np.zeros(decoder.shape[1], decoder.dtype)
    )
    if scales[-1] != scales[0]:
        # `raw_units` divides by the scale of the inputs, but targets have another.
        ratio = decoder.dtype.type(scales[0] / scales[-1])
        decoder, intercept = decoder * ratio, intercept * ratio
    return raw_units(
        arrays["encoder.weight"] if old else arrays["W_E"].T,
        decoder,
        arrays["encoder.bias" if old else "b_E"],
        intercept,
        threshold=threshold,
        scale=scales[0],
        # A threshold has been divided by the norms already.
        by_norm=by_norm and act == "topk",
        path=path,
    )


def _layout(config, act, names, where):
    """Return the tensors that the configuration asks for."""
    if "encoder.weight" in names:
        return {**_LINEAR, "log_jumprelu_threshold": "n"}
    layout = dict(_MATRICES)
    if not take(config, "use_decoder_bias", FLAG, where, default=True):
        del layout["b_D"]
    return {**layout, _THRESHOLD: "n"} if act == "jumprelu" else layout


def _norm_name(config, names, where, input_scale, end):
    """Return the tensor with the mean norm of rows, None where it is not needed."""
    methods = Option("dataset-wise", "inference", None)
    method = take(config, "norm_activation", methods, where, default="dataset-wise")
    if method != "dataset-wise" and input_scale is not None:
        raise ValueError(f"{where} needs no input_scale: its weights take rows as they are.")
    if method != "dataset-wise" or input_scale is not None:
        return None
    stored_norms = [name for name in names if name.startswith(_NORM)]
    expected_norm = _NORM + str(config.get(end))
    if expected_norm in stored_norms or (len(stored_norms) == 1 and not _is_transcoder(config)):
        return expected_norm if expected_norm in stored_norms else stored_norms[0]
    raise ValueError(
        f"{where.parent} does not have the mean norm of rows that training divided by: give "
        f"input_scale, sqrt(n_features) over that norm."
    )


def _threshold(logs, decoder, by_norm):
    """Return what pre-activations are compared with; times a norm they are the same codes."""
    norms = np.linalg.norm(decoder.astype(np.float64), axis=1) if by_norm else 1.0
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        # Training compares z |D_j| with exp(log threshold): z is compared with that over |D_j|.
        threshold = np.exp(logs.astype(np.float64)) / norms
    # Where this overflows, the latent never fires, and the largest number says the same.
    return np.minimum(threshold, np.finfo(decoder.dtype).max)


def _check_plain(config, where):
    if config.get("sae_type", "sae") != "sae":
        raise ValueError(
            f"{where} has the sae_type {str(config['sae_type'])[:40]!r}, which cannot be read."
        )
    if config.get("use_glu_encoder"):
        raise ValueError(f"{where} has a gated linear encoder, which no estimator here computes.")


def _is_transcoder(config):
    hooks = config.get("hook_point_in"), config.get("hook_point_out")
    return None not in hooks and hooks[0] != hooks[1]


def _source(config, kind):
    return source_facts(
        kind,
        hook_name=text_or_none(config, "hook_point_in"),
        hook_name_out=text_or_none(config, "hook_point_out") if _is_transcoder(config) else None,
        model=text_or_none(config, "model_name"),
    )
