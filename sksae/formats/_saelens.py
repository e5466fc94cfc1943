"""Directories of SAELens: ``cfg.json`` and ``sae_weights.safetensors``."""

import re

import numpy as np
from sklearn.pipeline import make_pipeline

from sksae._files import as_path, write_safetensors
from sksae._params import Instance, Option, check_option
from sksae.formats._activations import only, read_fitted
from sksae.formats._raw_units import center_rows, estimator, raw_units
from sksae.formats._row_normalizer import RowNormalizer
from sksae.formats._sources import (
    DTYPE,
    FLAG,
    POSITIVE,
    SIZE,
    TEXT,
    are_widths,
    source_facts,
    take,
    text_or_none,
)
from sksae.formats._tensors import read_object, read_tensors, write_json

WEIGHTS, CONFIG, SPARSITY = "sae_weights.safetensors", "cfg.json", "sparsity.safetensors"
NORMALIZERS = {"layer_norm": "layer_norm", "constant_norm_rescale": "norm"}
# TransformerLens does not centre what has RMSNorm, whatever it is told.
_UNCENTERED = "gemma|llama|mi[sx]tral|qwen|deepseek|olmo-2|phi-?[34]|gpt-oss|granite|yi-|t5"
MATRYOSHKA = "matryoshka_batchtopk"
POOLED = ("batchtopk", MATRYOSHKA)
FIRING_FLOOR = 1e-10  # SAELens stores log10(frequency + 1e-10)
TRANSCODERS = {
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
_ACTIVATIONS = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    **TRANSCODERS,
}
# Axes: n latents, d inputs, t targets. Matrices multiply rows from the right, so that an encoder is
# (d, n); only W_skip is (targets, inputs).
_PLAIN = {"W_enc": "d n", "W_dec": "n d", "b_enc": "n", "b_dec": "d", "scaling_factor": "n"}
_LAYOUTS = {
    "standard": _PLAIN,
    "topk": _PLAIN,
    "jumprelu": {**_PLAIN, "threshold": "n"},
    "gated": {
        "W_enc": "d n",
        "W_dec": "n d",
        "b_dec": "d",
        "b_gate": "n",
        "b_mag": "n",
        "r_mag": "n",
        "scaling_factor": "n",
    },
}
_TO_TARGETS = {"W_enc": "d n", "W_dec": "n t", "b_enc": "n", "b_dec": "t"}

for _name in TRANSCODERS:
    _LAYOUTS[_name] = {
        **_TO_TARGETS,
        **({"threshold": "n"} if "jumprelu" in _name else {}),
        **({"W_skip": "t d"} if "skip" in _name else {}),
    }
_OLD_NAMES = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}

_VERSION = "6.0.0"  # below it, SAELens drops the metadata
_ARCHITECTURES = {
    "relu": "standard",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "batchtopk": "jumprelu",
    "matryoshka": "jumprelu",
    "gated": "gated",
}
_TRANSCODERS = {(activation, "skip" in name): name for name, activation in TRANSCODERS.items()}
_METADATA = {
    "hook_name": "hook_name",
    "hook_name_out": "hook_name_out",
    "model": "model_name",
    "neuronpedia_id": "neuronpedia_id",
    "dataset": "dataset_path",
    "context_size": "context_size",
    "prepend_bos": "prepend_bos",
}


def read_saelens(path, *, input_scale=None, dtype=None):
    """Read a directory that SAELens wrote, of version 6 or before.

    The class of the estimator says the activation: `SparseAutoencoder` for "standard", `TopKSAE`,
    `JumpReLUSAE`, `GatedSAE`, `BatchTopKSAE` or `MatryoshkaSAE` where the file says that it was
    trained so, and `Transcoder`. Codes are those of SAELens, in their unit: rows of ``components_``
    may have any norm. Where the configuration says that the stream was centred (TransformerLens'
    ``center_writing_weights``), the mean of a row is folded into the encoder, so that codes are
    right for the rows that the model itself has.

    Parameters
    ----------
    path : str or Path
        The directory.
    input_scale : float, default=None
        What rows are multiplied with before the encoder, where the configuration says
        ``"expected_average_only_in"`` and leaves the number to a list elsewhere:
        ``sqrt(n_features)`` over the mean norm of rows.
    dtype : {"float32", "float64", None}, default=None
        Of the weights. None takes float64 if the file has it, else float32.

    Returns
    -------
    sae : BaseSAE or Pipeline
        The fitted estimator, with ``source_``, a dict of where it is from. Where SAELens normalises
        each row by itself, a `RowNormalizer` stands before it in a pipeline.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or is something that no estimator here computes, with the reason.

    See Also
    --------
    write_saelens : Writes such directories.
    read : Finds out which library wrote a file.

    References
    ----------
    .. [1] J. Bloom, C. Tigges, A. Duong and D. Chanin, "SAELens", 2024.
       https://github.com/decoderesearch/SAELens

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.formats import read_saelens, write_saelens
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     _ = write_saelens(folder, sae)
    ...     again = read_saelens(folder)
    >>> bool((again.transform(X) == sae.transform(X)).all())
    True
    """
    check_option("dtype", dtype, DTYPE)
    path = as_path(path)
    config = _flat(read_object(path / CONFIG))
    where = path / CONFIG
    architecture = _architecture(config, where)
    normalization = _normalization(config, where, input_scale)
    transcoder = architecture in TRANSCODERS
    sizes = {"d": take(config, "d_in", SIZE, where), "n": take(config, "d_sae", SIZE, where)}
    if transcoder:
        sizes["t"] = take(config, "d_out", SIZE, where)
        _check_transcoder(config, normalization, where)
    arrays = read_tensors(
        path / WEIGHTS,
        _LAYOUTS[architecture],
        sizes=sizes,
        optional=("scaling_factor",),
        dtype=dtype,
    )
    rescaled = architecture == "topk" and take(
        config, "rescale_acts_by_decoder_norm", FLAG, where, default=False
    )
    pre_bias = take(config, "apply_b_dec_to_input", FLAG, where, default=True)
    weights = _weights(arrays, pre_bias, input_scale or 1.0, rescaled, path / WEIGHTS)
    activation, options = _activation(config, architecture, where)
    sae = estimator(
        activation,
        weights,
        _source(config, architecture),
        **options,
        frequency=_frequency(path, weights),
        transcoder=transcoder,
    )
    if _centered(config) and "site" in sae.source_ and normalization == "none":
        center_rows(sae)
        sae.source_["centered_rows"] = True
    if normalization in NORMALIZERS:
        normalizer = RowNormalizer(NORMALIZERS[normalization])
        normalizer.n_features_in_ = sae.n_features_in_
        return make_pipeline(normalizer, sae)
    return sae


def _flat(config):
    """Return a configuration of any version with today's names, its metadata beside the rest."""
    metadata = config.get("metadata")
    config = {**(metadata if isinstance(metadata, dict) else {}), **config}
    config = {_OLD_NAMES.get(name, name): value for name, value in config.items()}
    options = config.get("activation_fn_kwargs")
    if config.get("activation_fn") == "topk" and isinstance(options, dict) and "k" in options:
        config = {"architecture": "topk", "k": options["k"], **config}
        config["architecture"] = "topk"
    config.setdefault("architecture", "standard")
    if config.get("normalize_activations") in (None, False):
        config["normalize_activations"] = "none"
    if config["normalize_activations"] is True:
        config["normalize_activations"] = "expected_average_only_in"
    return config


def _architecture(config, where):
    name = take(config, "architecture", TEXT, where)
    if name in POOLED:
        raise ValueError(
            f"{where} is a checkpoint of training ({name!r}). Save the model for inference with "
            f"SAELens (save_inference_model) and read that."
        )
    if name not in _ACTIVATIONS:
        raise ValueError(
            f"{where} has the architecture {name!r}, which no estimator here computes. Those that "
            f"can be read are {', '.join(_ACTIVATIONS)}."
        )
    fn = config.get("activation_fn") or "relu"
    if fn not in ("relu", "topk"):
        raise ValueError(f"{where} has the activation {fn!r}, which no estimator here computes.")
    return name


def _check_transcoder(config, normalization, where):
    if take(config, "apply_b_dec_to_input", FLAG, where, default=True):
        raise ValueError(
            f"{where} subtracts the decoder's bias from what a transcoder reads, which is of other "
            f"activations: apply_b_dec_to_input must be false."
        )
    if normalization != "none":
        raise ValueError(f"{where} is a transcoder with normalize_activations={normalization!r}.")


def _centered(config):
    """Whether all that wrote to the model's stream had no mean over features."""
    kwargs, model = config.get("model_from_pretrained_kwargs"), str(config.get("model_name"))
    centers_weights = isinstance(kwargs, dict) and kwargs.get("center_writing_weights") is True
    return centers_weights and not re.search(_UNCENTERED, model.lower())


def _normalization(config, where, input_scale):
    methods = Option("none", "expected_average_only_in", *NORMALIZERS)
    name = take(config, "normalize_activations", methods, where)
    if input_scale is not None:
        check_option("input_scale", input_scale, POSITIVE)
    if (name == "expected_average_only_in") != (input_scale is not None):
        raise ValueError(
            f"{where} has normalize_activations={name!r}. With 'expected_average_only_in' rows are "
            f"multiplied with a number that is not in the files: give it as input_scale "
            f"(sqrt(n_features) over the mean norm of rows). Otherwise leave input_scale out."
        )
    return name


def _weights(arrays, pre_bias, scale, rescaled, path):
    decoder = arrays["W_dec"]
    if "scaling_factor" in arrays:
        # Codes are multiplied by their latent's factor before they are decoded.
        decoder = decoder * arrays["scaling_factor"][:, None]
    return raw_units(
        arrays["W_enc"].T,
        decoder,
        arrays["b_mag"] if "b_mag" in arrays else arrays["b_enc"],
        arrays["b_dec"],
        origin=arrays["b_dec"] if pre_bias else None,
        threshold=arrays.get("threshold"),
        gate=arrays.get("b_gate"),
        log_gain=arrays.get("r_mag"),
        skip=arrays.get("W_skip"),
        scale=scale,
        by_norm=rescaled,
        path=path,
    )


def _activation(config, architecture, where):
    """Return the activation and its options."""
    if architecture == "topk":
        return "topk", {"k": take(config, "k", SIZE, where)}
    details = config.get("training_architecture_details")
    details = details if isinstance(details, dict) else {}
    k, widths = details.get("k"), details.get("matryoshka_widths")
    trained = config.get("training_architecture")
    if trained not in POOLED or not POSITIVE.accepts(k):
        return _ACTIVATIONS[architecture], {}
    if trained == MATRYOSHKA and are_widths(widths):
        return "matryoshka", {"k": k, "widths": tuple(widths)}
    return "batchtopk", {"k": k}


def _frequency(path, weights):
    if not (path / SPARSITY).is_file():
        return None
    n = len(weights["components"])
    logs = read_tensors(path / SPARSITY, {"sparsity": "n"}, sizes={"n": n})["sparsity"]
    # The inverse of log10(frequency + floor); rounding may leave [0, 1].
    frequency = 10.0 ** logs.astype(np.float64) - FIRING_FLOOR
    return np.clip(frequency, 0, 1).astype(weights["components"].dtype)


def _source(config, architecture):
    return source_facts(
        "saelens",
        hook_name=text_or_none(config, "hook_name"),
        hook_name_out=text_or_none(config, "hook_name_out"),
        model=text_or_none(config, "model_name"),
        architecture=text_or_none(config, "training_architecture") or architecture,
        neuronpedia_id=text_or_none(config, "neuronpedia_id"),
        dataset=text_or_none(config, "dataset_path"),
        context_size=config.get("context_size"),
        prepend_bos=config.get("prepend_bos"),
    )


def write_saelens(path, sae, *, metadata=None):
    """Write an estimator as a directory that SAELens 6 reads.

    Everything is in the unit of the rows, with nothing subtracted before encoding, so that
    `read_saelens` gives the same numbers back; those of a gate to the last digit or so. A
    transcoder's gate or pooled threshold becomes the thresholds that it is equal to.

    Parameters
    ----------
    path : str or Path
        The directory; made if needed.
    sae : BaseSAE or Pipeline
        A fitted estimator, or a pipeline of a `RowNormalizer` and one. SAELens has transcoders of
        a ReLU and of thresholds.
    metadata : dict, default=None
        Entries for the metadata, such as ``{"hook_name": "blocks.3.hook_resid_post"}``; they win
        over what ``source_`` says.

    Returns
    -------
    path : Path
        The directory.

    Raises
    ------
    ValueError
        If the estimator does what SAELens cannot.

    See Also
    --------
    read_saelens : Reads such directories.

    Examples
    --------
    >>> import json
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.formats import write_saelens
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     path = write_saelens(folder, sae, metadata={"hook_name": "blocks.3.hook_resid_post"})
    ...     config = json.loads((path / "cfg.json").read_text())
    >>> config["architecture"], config["k"], config["metadata"]["hook_name"]
    ('topk', 2, 'blocks.3.hook_resid_post')
    """
    check_option("metadata", metadata, Instance(dict, type(None), description="a dict or None"))
    record = read_fitted(sae, normalizers=tuple(NORMALIZERS.values()), transcoders=True)
    if record.transcoder:
        held = ("relu", "jumprelu", "batchtopk", "matryoshka", "gated")
        only(record, held, "A transcoder of SAELens")
    arrays, path = record.arrays, as_path(path)
    tensors = _written_tensors(record)
    names = {method: name for name, method in NORMALIZERS.items()}
    config = {
        "architecture": _written_architecture(record),
        "d_in": arrays["encoder_coef"].shape[1],
        "d_sae": len(arrays["components"]),
        "dtype": str(arrays["components"].dtype),
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": names[record.normalizer.method] if record.normalizer else "none",
        "reshape_activations": "none",
    }
    if record.transcoder:
        config["d_out"] = len(arrays["intercept"])
    if record.activation == "topk":
        config |= {"k": record.k, "rescale_acts_by_decoder_norm": False}
    config["metadata"] = _metadata(record, metadata)
    write_safetensors(path / WEIGHTS, tensors)
    if "activation_frequency" in arrays:
        logs = np.log10(arrays["activation_frequency"] + FIRING_FLOOR)
        write_safetensors(path / SPARSITY, {"sparsity": logs})
    write_json(path / CONFIG, config)
    return path


def _written_architecture(record):
    """Return the name of the activation; the gate of a transcoder is a threshold there."""
    if not record.transcoder:
        return _ARCHITECTURES[record.activation]
    activation = "relu" if record.activation == "relu" else "jumprelu"
    return _TRANSCODERS[activation, "skip_coef" in record.arrays]


def _written_tensors(record):
    arrays = record.arrays
    tensors = {"W_dec": arrays["components"], "b_dec": arrays["intercept"]}
    if record.activation == "gated" and not record.transcoder:
        gain = arrays["gain"]
        # There, magnitudes are exp(r_mag) W x + b_mag; here the gain is in the encoder.
        tensors["W_enc"] = (arrays["encoder_coef"] / gain[:, None]).T
        tensors["b_gate"], tensors["r_mag"] = arrays["gate_intercept"], np.log(gain)
        tensors["b_mag"] = arrays["encoder_intercept"]
    else:
        tensors["W_enc"], tensors["b_enc"] = arrays["encoder_coef"].T, arrays["encoder_intercept"]
        if "threshold" in arrays:
            tensors["threshold"] = arrays["threshold"]
        if "skip_coef" in arrays:
            tensors["W_skip"] = arrays["skip_coef"]
    return tensors


def _metadata(record, metadata):
    facts = {theirs: record.source.get(ours) for ours, theirs in _METADATA.items()}
    facts = {name: value for name, value in facts.items() if value is not None}
    if record.activation in ("batchtopk", "matryoshka") and not record.transcoder:
        details = {"k": record.k}
        facts["training_architecture"] = "batchtopk"
        if record.widths is not None:
            facts["training_architecture"] = MATRYOSHKA
            details["matryoshka_widths"] = list(record.widths)
        facts["training_architecture_details"] = details
    return {"sae_lens_version": _VERSION, **facts, **(metadata or {})}
