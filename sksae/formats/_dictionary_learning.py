"""Folders of dictionary_learning: ``ae.pt`` and ``config.json``."""

import errno
import re

import numpy as np
import torch

from sksae._files import as_path, replacing
from sksae._params import Option, check_option
from sksae.formats._activations import bias_after, read_fitted
from sksae.formats._raw_units import estimator, raw_units
from sksae.formats._sources import (
    DTYPE,
    POSITIVE,
    SITES,
    SIZE,
    are_widths,
    source_facts,
    take,
    text_or_none,
)
from sksae.formats._tensors import read_object, read_tensors, write_json

WEIGHTS, CONFIG = "ae.pt", "config.json"
# Axes: n latents, d features. The weight of an nn.Linear is (outputs, inputs), so that a decoder is
# (d, n); plain matrices multiply rows from the right, so that an encoder is (d, n).
_LINEAR = {"encoder.weight": "n d", "encoder.bias": "n", "decoder.weight": "d n"}
_MATRICES = {"W_enc": "d n", "b_enc": "n", "W_dec": "n d", "b_dec": "d"}
_POOLED = {**_LINEAR, "b_dec": "d", "threshold": ""}
_LAYOUTS = {
    "AutoEncoder": {**_LINEAR, "bias": "d"},
    "AutoEncoderNew": {**_LINEAR, "decoder.bias": "d"},
    "GatedAutoEncoder": {
        "encoder.weight": "n d",
        "decoder.weight": "d n",
        "decoder_bias": "d",
        "r_mag": "n",
        "gate_bias": "n",
        "mag_bias": "n",
    },
    "JumpReluAutoEncoder": {**_MATRICES, "threshold": "n"},
    "AutoEncoderTopK": _POOLED,
    "BatchTopKSAE": _POOLED,
    "MatryoshkaBatchTopKSAE": {**_MATRICES, "threshold": "", "group_sizes": "g"},
}
_ACTIVATIONS = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "GatedAutoEncoder": "gated",
    "JumpReluAutoEncoder": "jumprelu",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batchtopk",
    "MatryoshkaBatchTopKSAE": "matryoshka",
}
_AS_IT_IS = ("AutoEncoderNew", "JumpReluAutoEncoder")  # nothing is subtracted before encoding
_NAMES = {
    "encoder": ("encoder.weight", "W_enc"),
    "decoder": ("decoder.weight", "W_dec"),
    "bias": ("encoder.bias", "b_enc", "mag_bias"),
    "intercept": ("decoder.bias", "decoder_bias", "b_dec", "bias"),
}
_UNUSED = ("k",)
_PLACE = rf"(?P<site>{SITES})(?:_layer_?(?P<layer>\d+))?"  # as in resid_post_layer_12
_AROUND = 4


def read_dictionary_learning(path, *, dtype=None):
    """Read a folder that dictionary_learning wrote.

    Codes are what the stored weights give. That library divides an ``AutoEncoder`` by the norms of
    its decoder when it loads one, unless told ``normalize_decoder=False``; here nothing is divided.

    Parameters
    ----------
    path : str or Path
        The folder, with ``ae.pt`` and ``config.json``.
    dtype : {"float32", "float64", None}, default=None
        Of the weights. None takes float64 if the file has it, else float32.

    Returns
    -------
    sae : BaseSAE
        The fitted estimator, with ``source_``, a dict of where it is from.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged or holds another dictionary than is known.

    See Also
    --------
    write_dictionary_learning : Writes such folders.
    read : Finds out which library wrote a file.

    References
    ----------
    .. [1] S. Marks, A. Karvonen and A. Mueller, "dictionary_learning", 2024.
       https://github.com/saprmarks/dictionary_learning

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import JumpReLUSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.formats import read_dictionary_learning, write_dictionary_learning
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = JumpReLUSAE(16, alpha=1.0, max_iter=5, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     again = read_dictionary_learning(write_dictionary_learning(folder, sae))
    >>> bool((again.transform(X) == sae.transform(X)).all())
    True
    """
    check_option("dtype", dtype, DTYPE)
    path = as_path(path)
    where = path / CONFIG
    trainer = read_object(where).get("trainer")
    if not isinstance(trainer, dict):
        raise ValueError(f"{where} has no 'trainer' with what the dictionary is.")
    kind = take(trainer, "dict_class", Option(*_LAYOUTS), where)
    sizes = {"d": trainer.get("activation_dim"), "n": trainer.get("dict_size")}
    sizes = {axis: size for axis, size in sizes.items() if SIZE.accepts(size)}
    arrays = read_tensors(path / WEIGHTS, _LAYOUTS[kind], sizes=sizes, ignored=_UNUSED, dtype=dtype)
    activation = _ACTIVATIONS[kind]
    options = {}
    if activation == "topk":
        options["k"] = take(trainer, "k", SIZE, where)
    elif activation in ("batchtopk", "matryoshka"):
        options["k"] = take(trainer, "k", POSITIVE, where)
    if activation == "matryoshka":
        # Numbers of latents per group to widths of the nested dictionaries.
        widths = np.cumsum(arrays["group_sizes"]).astype(int).tolist()
        if not are_widths(widths) or widths[-1] != len(arrays["b_enc"]):
            raise ValueError(f"{where.parent / WEIGHTS} has group_sizes that do not add up.")
        options["widths"] = tuple(widths)
    weights = _weights(arrays, kind, path / WEIGHTS)
    return estimator(activation, weights, _source(trainer, kind, path), **options)


def write_dictionary_learning(path, sae):
    """Write an estimator as a folder that dictionary_learning reads.

    A ReLU becomes an ``AutoEncoderNew`` and thresholds a ``JumpReluAutoEncoder``, with the same
    numbers. The other classes of that library subtract the decoder's bias before they encode, so
    that biases are the same only up to the last digit or so. Parameters and names are lost.

    Parameters
    ----------
    path : str or Path
        The folder; made if needed.
    sae : BaseSAE
        A fitted estimator.

    Returns
    -------
    path : Path
        The folder.

    Raises
    ------
    ValueError
        If rows are normalised first.

    See Also
    --------
    read_dictionary_learning : Reads such folders.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.formats import write_dictionary_learning
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     sorted(file.name for file in write_dictionary_learning(folder, sae).iterdir())
    ['ae.pt', 'config.json']
    """
    record, path = read_fitted(sae), as_path(path)
    kind, arrays = _contents(record)
    n, d = record.arrays["components"].shape
    trainer = {"dict_class": kind, "activation_dim": d, "dict_size": n}
    if record.k is not None:
        trainer["k"] = record.k
    trainer["layer"] = record.source.get("layer")
    trainer["lm_name"] = record.source.get("model")
    trainer["submodule_name"] = record.source.get("submodule", record.source.get("site"))
    state = {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}
    with replacing(path / WEIGHTS) as part:
        try:
            torch.save(state, part)
        except RuntimeError as error:  # of the disk: everything else is in order here
            message = f"Tensors cannot be written ({str(error).splitlines()[0]})"
            raise OSError(errno.EIO, message, str(path / WEIGHTS)) from error
    write_json(path / CONFIG, {"trainer": trainer, "buffer": {}})
    return path


def _weights(arrays, kind, path):
    part = {
        ours: next(arrays[name] for name in names if name in arrays)
        for ours, names in _NAMES.items()
    }
    transposed = "W_enc" in arrays
    # Both as (n, d): one row per latent.
    encoder = part["encoder"].T if transposed else part["encoder"]
    decoder = part["decoder"] if transposed else part["decoder"].T
    return raw_units(
        encoder,
        decoder,
        part["bias"],
        part["intercept"],
        origin=None if kind in _AS_IT_IS else part["intercept"],
        threshold=None if kind == "AutoEncoderTopK" else arrays.get("threshold"),
        gate=arrays.get("gate_bias"),
        log_gain=arrays.get("r_mag"),
        path=path,
    )


def _contents(record):
    """Return the class of dictionary_learning and its tensors."""
    arrays = record.arrays
    linear = {"encoder.weight": arrays["encoder_coef"], "decoder.weight": arrays["components"].T}
    if record.activation == "relu":
        biases = {"encoder.bias": arrays["encoder_intercept"], "decoder.bias": arrays["intercept"]}
        return "AutoEncoderNew", {**linear, **biases}
    if record.activation == "gated":
        return "GatedAutoEncoder", _gated(arrays)
    nested = record.activation == "matryoshka"
    pooled = nested or record.activation == "batchtopk"
    # These classes hold one threshold; several of them are a JumpReLU's.
    pooled = pooled and len(np.unique(arrays["threshold"])) == 1
    if nested and pooled:
        return "MatryoshkaBatchTopKSAE", {
            "W_enc": arrays["encoder_coef"].T,
            "W_dec": arrays["components"],
            "b_enc": bias_after(record),
            "b_dec": arrays["intercept"],
            "threshold": arrays["threshold"][0],
            "k": np.int32(max(1, round(record.k))),
            "group_sizes": np.diff(record.widths, prepend=0),
        }
    if record.activation == "topk" or pooled:
        # -1 stands for "not yet measured": the k largest are kept.
        threshold = arrays["threshold"][0] if pooled else np.float32(-1)
        biases = {"encoder.bias": bias_after(record), "b_dec": arrays["intercept"]}
        k = np.int32(max(1, round(record.k)))
        return (
            "BatchTopKSAE" if pooled else "AutoEncoderTopK",
            {**linear, **biases, "threshold": threshold, "k": k},
        )
    matrices = {
        "W_enc": arrays["encoder_coef"].T,
        "b_enc": arrays["encoder_intercept"],
        "W_dec": arrays["components"],
        "b_dec": arrays["intercept"],
        "threshold": arrays["threshold"],
    }
    return "JumpReluAutoEncoder", matrices


def _gated(arrays):
    gain, wide = arrays["gain"], np.float64
    # That library encodes u = W (x - b_dec): the gate is u + gate_bias > 0, and the magnitude
    # exp(r_mag) u + mag_bias. Here W x and gain W x are taken, without the decoder's bias.
    encoder = arrays["encoder_coef"] / gain[:, None]  # (n, d)
    # (n,), what the decoder's bias takes off the magnitudes
    shift = arrays["encoder_coef"].astype(wide) @ arrays["intercept"].astype(wide)
    dtype = encoder.dtype
    return {
        "encoder.weight": encoder,
        "decoder.weight": arrays["components"].T,
        "decoder_bias": arrays["intercept"],
        "r_mag": np.log(gain),
        "gate_bias": (arrays["gate_intercept"] + shift / gain).astype(dtype),
        "mag_bias": (arrays["encoder_intercept"] + shift).astype(dtype),
    }


def _source(trainer, kind, path):
    """Facts of the trainer; where its submodule has another name, of a folder around it."""
    layer, submodule = trainer.get("layer"), text_or_none(trainer, "submodule_name")
    names = (submodule or "", *path.parts[:-_AROUND:-1])
    # The submodule's own name before those of folders, the nearest folder first.
    place = next((m for name in names if (m := re.fullmatch(_PLACE, name))), None)
    if place and place["layer"]:
        layer = int(place["layer"])
    return source_facts(
        "dictionary_learning",
        model=text_or_none(trainer, "lm_name"),
        layer=layer if isinstance(layer, int) else None,
        site=place["site"] if place else None,
        submodule=submodule,
        architecture=kind,
        group_fractions=trainer.get("group_fractions"),
    )
