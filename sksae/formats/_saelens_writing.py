"""Estimators as directories that SAELens reads."""

from pathlib import Path

import numpy as np

from sksae._params import Instance, check_option
from sksae.formats._activations import read_fitted
from sksae.formats._saelens import CONFIG, FIRING_FLOOR, NORMALIZERS, SPARSITY, WEIGHTS
from sksae.formats._tensors import write_json, write_safetensors

_VERSION = "6.0.0"  # below it, SAELens drops the metadata
_ARCHITECTURES = {
    "relu": "standard",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "batchtopk": "jumprelu",
    "gated": "gated",
}
_METADATA = {
    "hook_name": "hook_name",
    "model": "model_name",
    "neuronpedia_id": "neuronpedia_id",
    "dataset": "dataset_path",
    "context_size": "context_size",
    "prepend_bos": "prepend_bos",
}


def write_saelens(path, sae, *, metadata=None):
    """Write an estimator as a directory that SAELens 6 reads.

    Everything is in the unit of the rows, with nothing subtracted before encoding, so that
    `read_saelens` gives the same numbers back; those of a gate to the last digit or so.

    Parameters
    ----------
    path : str or Path
        The directory; made if needed.
    sae : BaseSAE or Pipeline
        A fitted estimator, or a pipeline of a `RowNormalizer` and one.
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
    found = read_fitted(sae, normalizers=tuple(NORMALIZERS.values()))
    arrays, path = found.arrays, Path(path)
    n, d = arrays["components"].shape
    tensors = {"W_dec": arrays["components"], "b_dec": arrays["intercept"]}
    if found.activation == "gated":
        gain = arrays["gain"]
        tensors["W_enc"] = (arrays["encoder_coef"] / gain[:, None]).T
        tensors["b_gate"], tensors["r_mag"] = arrays["gate_intercept"], np.log(gain)
        tensors["b_mag"] = arrays["encoder_intercept"]
    else:
        tensors["W_enc"], tensors["b_enc"] = arrays["encoder_coef"].T, arrays["encoder_intercept"]
    if found.activation in ("jumprelu", "batchtopk"):
        tensors["threshold"] = arrays["threshold"]
    names = {method: name for name, method in NORMALIZERS.items()}
    config = {
        "architecture": _ARCHITECTURES[found.activation],
        "d_in": d,
        "d_sae": n,
        "dtype": str(arrays["components"].dtype),
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": names[found.normalizer.method] if found.normalizer else "none",
        "reshape_activations": "none",
    }
    if found.activation == "topk":
        config |= {"k": found.k, "rescale_acts_by_decoder_norm": False}
    config["metadata"] = _metadata(found, metadata)
    write_safetensors(path / WEIGHTS, tensors)
    if "activation_frequency" in arrays:
        logs = np.log10(arrays["activation_frequency"] + FIRING_FLOOR)
        write_safetensors(path / SPARSITY, {"sparsity": logs})
    write_json(path / CONFIG, config)
    return path


def _metadata(found, given):
    known = {theirs: found.source.get(ours) for ours, theirs in _METADATA.items()}
    known = {name: value for name, value in known.items() if value is not None}
    if found.activation == "batchtopk":
        known["training_architecture"] = "batchtopk"
        known["training_architecture_details"] = {"k": found.k}
    return {"sae_lens_version": _VERSION, **known, **(given or {})}
