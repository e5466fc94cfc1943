"""Published autoencoders that are one file of `torch.save`: OpenAI's, Qwen Scope's, Goodfire's."""

import re

import numpy as np
from sklearn.pipeline import make_pipeline

from sksae._files import as_path
from sksae._params import Int, check_option
from sksae.formats._raw_units import estimator, raw_units
from sksae.formats._row_normalizer import RowNormalizer
from sksae.formats._sources import DTYPE, SIZE, brief, source_facts, take
from sksae.formats._tensors import opened_torch, read_tensors, select, tensor_entries

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

QWEN_FILE = re.compile(r"layer(\d+)\.sae\.pt")
GOODFIRE_FILE = re.compile(r"(.+)-SAE-l(\d+)\.pth?")
# Axes: n latents, d features; both write the weight of an nn.Linear, which is (outputs, inputs).
_QWEN = {"W_enc": "n d", "b_enc": "n", "W_dec": "d n", "b_dec": "d"}
_LINEAR = {"weight": ("n d", "d n"), "bias": ("n", "d")}
_GOODFIRE = {
    f"{part}_linear.{name}": axes[number]
    for number, part in enumerate(("encoder", "decoder"))
    for name, axes in _LINEAR.items()
}
_QWEN_REPO = re.compile(r"(?:.*--)?SAE-Res-(.+)-W\d+K?-L0_(\d+)")
_OWNERS = {"Llama": "meta-llama", "DeepSeek": "deepseek-ai"}
_REACH = 4  # folders that are looked at; a cache of the hub puts two of its own between


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
    # The file's rounding may leave [0, 1].
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


def read_qwen_scope(path, *, k=None, dtype=None):
    """Read an autoencoder of Qwen Scope: ``layer<n>.sae.pt``.

    The number of codes per row is not in the file, nor is the model: both are in the name of its
    repository, such as ``SAE-Res-Qwen3-8B-Base-W64K-L0_50``, which a folder around the file has to
    have, in the cache of the hub or anywhere else.

    Parameters
    ----------
    path : str or Path
        The file.
    k : int, default=None
        Codes per row. None takes the number in the name of the repository.
    dtype : {"float32", "float64", None}, default=None
        Of the weights. None takes float64 if the file has it, else float32.

    Returns
    -------
    sae : TopKSAE
        The fitted estimator, with ``source_``, a dict of where it is from.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or of another format, or `k` is not known.

    See Also
    --------
    read : Finds out which library wrote a file.

    References
    ----------
    .. [1] Qwen team, "Qwen-Scope", 2026. https://huggingface.co/Qwen

    Examples
    --------
    >>> import torch
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sksae.formats import read_qwen_scope
    >>> weights = {name: torch.eye(2) for name in ("W_enc", "W_dec")}
    >>> weights |= {name: torch.zeros(2) for name in ("b_enc", "b_dec")}
    >>> with TemporaryDirectory() as folder:
    ...     torch.save(weights, Path(folder) / "layer7.sae.pt")
    ...     sae = read_qwen_scope(Path(folder) / "layer7.sae.pt", k=1)
    >>> sae.transform([[2.0, 1.0]]), sae.source_["layer"]
    (array([[2., 0.]]), 7)
    """
    check_option("dtype", dtype, DTYPE)
    check_option("k", k, Int(1, none=True))
    path = as_path(path)
    repo = next((m for folder in _around(path) if (m := _QWEN_REPO.fullmatch(folder))), None)
    if k is None and repo is None:
        raise ValueError(
            f"{path} does not say how many codes a row has: give k=..., the number after L0_ in "
            f"the name of the repository."
        )
    arrays = read_tensors(path, _QWEN, dtype=dtype)
    weights = raw_units(
        arrays["W_enc"], arrays["W_dec"].T, arrays["b_enc"], arrays["b_dec"], path=path
    )
    layer = QWEN_FILE.fullmatch(path.name)
    source = source_facts(
        "qwen_scope",
        model=f"Qwen/{repo[1]}" if repo else None,
        layer=int(layer[1]) if layer else None,
        site="resid_post",
    )
    return estimator("topk", weights, source, k=k or int(repo[2]))


def read_goodfire(path, *, dtype=None):
    """Read an autoencoder that Goodfire published, such as ``Llama-3.1-8B-Instruct-SAE-l19.pth``.

    Parameters
    ----------
    path : str or Path
        The file; model and layer are taken from its name.
    dtype : {"float32", "float64", None}, default=None
        Of the weights. None takes float64 if the file has it, else float32.

    Returns
    -------
    sae : SparseAutoencoder
        The fitted estimator, with ``source_``, a dict of where it is from.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or of another format.

    See Also
    --------
    read : Finds out which library wrote a file.

    References
    ----------
    .. [1] Goodfire, "Open-source SAEs for Llama 3.3 70B and Llama 3.1 8B", 2025.
       https://huggingface.co/Goodfire

    Examples
    --------
    >>> import torch
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sksae.formats import read_goodfire
    >>> weights = {f"{part}coder_linear.weight": torch.eye(2) for part in ("en", "de")}
    >>> weights |= {f"{part}coder_linear.bias": torch.zeros(2) for part in ("en", "de")}
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "Llama-3.1-8B-Instruct-SAE-l19.pth"
    ...     torch.save(weights, file)
    ...     sae = read_goodfire(file)
    >>> sae.transform([[2.0, -1.0]]), sae.source_["model"], sae.source_["layer"]
    (array([[2., 0.]]), 'meta-llama/Llama-3.1-8B-Instruct', 19)
    """
    check_option("dtype", dtype, DTYPE)
    path = as_path(path)
    arrays = read_tensors(path, _GOODFIRE, dtype=dtype)
    weights = raw_units(
        arrays["encoder_linear.weight"],
        arrays["decoder_linear.weight"].T,
        arrays["encoder_linear.bias"],
        arrays["decoder_linear.bias"],
        path=path,
    )
    return estimator("relu", weights, _goodfire_source(path))


def _goodfire_source(path):
    """Facts of the name of a file."""
    name = GOODFIRE_FILE.fullmatch(path.name)
    owner = _OWNERS.get(name[1].partition("-")[0]) if name else None
    return source_facts(
        "goodfire",
        model=f"{owner}/{name[1]}" if owner else None,
        layer=int(name[2]) if name else None,
        site="resid_post",
    )


def _around(path):
    """Return the names of the folders around a file, the nearest first."""
    return path.absolute().parts[-_REACH - 1 : -1][::-1]
