"""Cross-layer transcoders in folders of circuit-tracer: two files of weights per layer.

In ``W_enc_3.safetensors`` are encoder, its bias, thresholds if there are any, and the intercept of
the MLP of layer 3; in ``W_dec_3.safetensors``, of axes (latents, layers, features), what the codes
of layer 3 add to its MLP and to those of all later layers.
"""

import re

import numpy as np

from sksae._files import regular, write_safetensors
from sksae.formats._raw_units import raw_units
from sksae.formats._tensors import read_tensors

ACROSS_FILE = re.compile(r"W_(?:enc|dec)_(\d+)\.safetensors")
THRESHOLD = "activation_function.threshold"  # in files of single layers


def count_files(folder):
    """Return the number of files of a cross-layer transcoder in a folder."""
    return sum(ACROSS_FILE.fullmatch(path.name) is not None for path in folder.glob("W_*"))


def count_layers(folder):
    """Return the number of layers of a cross-layer transcoder, all of whose files are there."""
    n_layers = max(1, (count_files(folder) + 1) // 2)
    for layer in range(n_layers):
        for part in ("enc", "dec"):
            regular(folder / f"W_{part}_{layer}.safetensors")
    return n_layers


def read_across(folder, layer, n_layers, dtype):
    """Return the activation and the weights of one layer of a cross-layer transcoder.

    Parameters
    ----------
    folder : Path
    layer : int
    n_layers : int or None
        None goes by the file of the decoder.
    dtype : dtype or None

    Returns
    -------
    activation : {"relu", "jumprelu"}
    weights : dict of str to ndarray
        As from `raw_units`.
    """
    names = {name: f"{name}_{layer}" for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")}
    axes = {"W_enc": "n d", "b_enc": "n", "b_dec": "d", "threshold": "n"}
    path = folder / f"{names['W_enc']}.safetensors"
    layout = {names[name]: of_array for name, of_array in axes.items()}
    arrays = read_tensors(path, layout, optional=(names["threshold"],), dtype=dtype)
    encoder, threshold = arrays[names["W_enc"]], arrays.get(names["threshold"])
    if threshold is not None and (threshold < 0).any():
        raise ValueError(f"{path} has thresholds below 0, so that codes can be negative.")
    # Axis l: the layer itself and those behind it.
    sizes = {"n": len(encoder), "d": encoder.shape[1]}
    if n_layers is not None:
        sizes["l"] = n_layers - layer
    path = folder / f"{names['W_dec']}.safetensors"
    decoder = read_tensors(path, {names["W_dec"]: "n l d"}, sizes=sizes, dtype=encoder.dtype.name)
    decoder, intercept = decoder[names["W_dec"]].reshape(len(encoder), -1), arrays[names["b_dec"]]
    # An MLP has one intercept, which is that of the transcoder of its own layer.
    later = np.zeros(decoder.shape[1] - len(intercept), intercept.dtype)
    weights = raw_units(
        encoder,
        decoder,
        arrays[names["b_enc"]],
        np.concatenate([intercept, later]),
        threshold=threshold,
        path=path,
    )
    return "relu" if threshold is None else "jumprelu", weights


def are_across(records):
    """Whether each transcoder predicts its own layer and all later ones, and there are several."""
    widths = [
        (record.arrays["encoder_coef"].shape[1], record.arrays["components"].shape[1])
        for record in records
    ]
    n, d = len(records), widths[0][0]
    return n > 1 and widths == [(d, (n - layer) * d) for layer in range(n)]


def write_across(path, records, tensors):
    """Write the files of a cross-layer transcoder.

    Parameters
    ----------
    path : Path
    records : list
        What `read_fitted` returns, one per layer.
    tensors : list of dict of ndarray
        Those of files of single layers.
    """
    d = records[0].arrays["encoder_coef"].shape[1]
    sizes, kinds = ({len(r.arrays["components"]) for r in records}, {r.activation for r in records})
    if len(sizes) > 1:
        raise ValueError(f"circuit-tracer's layers have equally many latents, not {sorted(sizes)}.")
    if "topk" in kinds or any("skip_coef" in record.arrays for record in records):
        raise ValueError(
            "circuit-tracer's cross-layer transcoders have a ReLU or thresholds, and no skip "
            "connection."
        )
    has_thresholds = any("threshold" in record.arrays for record in records)
    if count_files(path) > 2 * len(records):
        raise ValueError(f"{path} has more layers of another set: write to another folder.")
    intercepts = np.zeros((len(records), d), records[0].arrays["intercept"].dtype)
    for layer, record in enumerate(records):
        intercepts[layer:] += record.arrays["intercept"].reshape(-1, d)
    for layer, arrays in enumerate(tensors):
        encoder = {f"{name}_{layer}": arrays[name] for name in ("W_enc", "b_enc")}
        encoder[f"b_dec_{layer}"] = intercepts[layer]
        if has_thresholds:
            none = np.zeros_like(arrays["b_enc"])
            encoder[f"threshold_{layer}"] = arrays.get(THRESHOLD, none)
        decoder = arrays["W_dec"].reshape(len(arrays["b_enc"]), -1, d)
        write_safetensors(path / f"W_enc_{layer}.safetensors", encoder)
        write_safetensors(path / f"W_dec_{layer}.safetensors", {f"W_dec_{layer}": decoder})
