"""Estimators as directories that SAELens reads."""

import numpy as np

from sksae._files import as_path, write_safetensors
from sksae._params import Instance, check_option
from sksae.formats._activations import only, read_fitted
from sksae.formats._saelens import (
    CONFIG,
    FIRING_FLOOR,
    MATRYOSHKA,
    NORMALIZERS,
    SPARSITY,
    TRANSCODERS,
    WEIGHTS,
)
from sksae.formats._tensors import write_json

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
    found = read_fitted(sae, normalizers=tuple(NORMALIZERS.values()), transcoders=True)
    if found.transcoder:
        held = ("relu", "jumprelu", "batchtopk", "matryoshka", "gated")
        only(found, held, "A transcoder of SAELens")
    arrays, path = found.arrays, as_path(path)
    tensors = _tensors(found)
    names = {method: name for name, method in NORMALIZERS.items()}
    config = {
        "architecture": _architecture(found),
        "d_in": arrays["encoder_coef"].shape[1],
        "d_sae": len(arrays["components"]),
        "dtype": str(arrays["components"].dtype),
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": names[found.normalizer.method] if found.normalizer else "none",
        "reshape_activations": "none",
    }
    if found.transcoder:
        config["d_out"] = len(arrays["intercept"])
    if found.activation == "topk":
        config |= {"k": found.k, "rescale_acts_by_decoder_norm": False}
    config["metadata"] = _metadata(found, metadata)
    write_safetensors(path / WEIGHTS, tensors)
    if "activation_frequency" in arrays:
        logs = np.log10(arrays["activation_frequency"] + FIRING_FLOOR)
        write_safetensors(path / SPARSITY, {"sparsity": logs})
    write_json(path / CONFIG, config)
    return path


def _architecture(found):
    """Return the name of the activation; the gate of a transcoder is a threshold there."""
    if not found.transcoder:
        return _ARCHITECTURES[found.activation]
    activation = "relu" if found.activation == "relu" else "jumprelu"
    return _TRANSCODERS[activation, "skip_coef" in found.arrays]


def _tensors(found):
    arrays = found.arrays
    tensors = {"W_dec": arrays["components"], "b_dec": arrays["intercept"]}
    if found.activation == "gated" and not found.transcoder:
        gain = arrays["gain"]
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


def _metadata(found, metadata):
    facts = {theirs: found.source.get(ours) for ours, theirs in _METADATA.items()}
    facts = {name: value for name, value in facts.items() if value is not None}
    if found.activation in ("batchtopk", "matryoshka") and not found.transcoder:
        details = {"k": found.k}
        facts["training_architecture"] = "batchtopk"
        if found.widths is not None:
            facts["training_architecture"] = MATRYOSHKA
            details["matryoshka_widths"] = list(found.widths)
        facts["training_architecture_details"] = details
    return {"sae_lens_version": _VERSION, **facts, **(metadata or {})}
