"""OpenAI's autoencoders: one file of `torch.save`."""

import re

import numpy as np
from sklearn.pipeline import make_pipeline

from sksae._files import as_path
from sksae._params import check_option
from sksae.formats._raw_units import estimator, raw_units
from sksae.formats._row_normalizer import RowNormalizer
from sksae.formats._sources import DTYPE, SIZE, brief, source_facts, take
from sksae.formats._tensors import opened_torch, select, tensor_entries

# Axes: n latents, d features; the weight of an nn.Linear is (outputs, inputs).
_LAYOUT = {
    "pre_bias": "d",
    "latent_bias": "n",
    "encoder.weight": "n d",
    "decoder.weight": "d n",
    "latents_activation_frequency": "n",
}
_UNUSED = ("stats_last_nonzero", "latents_mean_square", "activation.")
_SHOWN = 5
_SITES = {
    "resid_post_mlp": "resid_post",
    "resid_post_attn": "resid_mid",
    "resid_delta_mlp": "mlp_out",
    "resid_delta_attn": "attn_out",
}


def read_openai(path, *, dtype=None):
    """Read an autoencoder that OpenAI published for GPT-2 small.

    Those that keep the k largest normalise each row by its own mean and standard deviation. This
    cannot be folded into weights, so that they come as a pipeline, and codes alone do not tell the
    size of a row: ``normalizer.restore(sae.inverse_transform(codes), X)`` reconstructs X.

    Parameters
    ----------
    path : str or Path
        The file, or a folder in which it is the only ``.pt`` file.
    dtype : {"float32", "float64", None}, default=None
        Of the weights. None takes float64 if the file has it, else float32.

    Returns
    -------
    sae : SparseAutoencoder or Pipeline
        The fitted estimator, or a pipeline of a `RowNormalizer` and a `TopKSAE`. The estimator has
        ``source_``, a dict of where it is from.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, has something other than plain data in it, or another activation,
        or a folder has not exactly one such file.

    See Also
    --------
    RowNormalizer : Normalises rows, and gives reconstructions their size back.
    read : Finds out which library wrote a file.

    References
    ----------
    .. [1] Gao et al., "Scaling and evaluating sparse autoencoders", 2024, arXiv:2406.04093.

    Examples
    --------
    >>> import torch
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sksae.formats import read_openai
    >>> names = "pre_bias", "latent_bias"
    >>> state = {name: torch.zeros(2) for name in names} | {"activation": "ReLU"}
    >>> state |= {f"{part}coder.weight": torch.eye(2) for part in ("en", "de")}
    >>> with TemporaryDirectory() as folder:
    ...     torch.save(state, Path(folder) / "0.pt")
    ...     sae = read_openai(Path(folder) / "0.pt")
    >>> sae.transform([[1.0, -1.0]])
    array([[1., 0.]])
    """
    check_option("dtype", dtype, DTYPE)
    path = _file(as_path(path))
    with opened_torch(path) as (content, read_tensor):
        activation = content.get("activation")
        if activation not in ("ReLU", "TopK"):
            raise ValueError(
                f"{path} has the activation {brief(activation)}, which no estimator here computes."
            )
        arrays = select(
            tensor_entries(content, read_tensor),
            _LAYOUT,
            optional=("latents_activation_frequency",),
            ignored=_UNUSED,
            dtype=dtype,
        )
    weights = raw_units(
        arrays["encoder.weight"],
        arrays["decoder.weight"].T,
        arrays["latent_bias"],
        arrays["pre_bias"],
        origin=arrays["pre_bias"],
        path=path,
    )
    frequency = arrays.get("latents_activation_frequency")
    frequency = None if frequency is None else np.clip(frequency, 0, 1)
    if activation == "ReLU":
        return estimator("relu", weights, _source(path), frequency=frequency)
    state = content.get("activation_state_dict")
    state = state if isinstance(state, dict) else {}
    k = take(state, "k", SIZE, path)
    if state.get("postact_fn", "ReLU") != "ReLU":
        raise ValueError(f"{path} has codes that can be negative, which no estimator here has.")
    sae = estimator("topk", weights, _source(path), k=k, frequency=frequency)
    # Those with TopK read rows of mean 0 and standard deviation 1.
    normalizer = RowNormalizer()
    normalizer.n_features_in_ = sae.n_features_in_
    return make_pipeline(normalizer, sae)


def _file(path):
    """Return the file itself, or the only one in a folder."""
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.pt"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:_SHOWN])
        raise ValueError(
            f"{path} is a folder with {len(files)} .pt files{': ' * bool(files)}{names}; name one."
        )
    return files[0]


def _source(path):
    """Facts of a path such as gpt2-small/resid_post_mlp_v5_32k/autoencoders/8.pt."""
    folders, layer = path.parts[-4:-1], re.fullmatch(r"(\d+)\.pt", path.name)
    place = next((name for name in _SITES for f in folders if f.startswith(name)), None)
    return source_facts(
        "openai",
        model="gpt2-small" if "gpt2-small" in folders else None,
        layer=int(layer[1]) if layer else None,
        site=_SITES.get(place),
    )
