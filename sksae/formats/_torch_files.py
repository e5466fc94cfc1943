"""Published autoencoders that are one file of `torch.save`: Qwen Scope's and Goodfire's."""

import re

from sksae._files import as_path
from sksae._params import Int, check_option
from sksae.formats._raw_units import estimator, raw_units
from sksae.formats._sources import DTYPE, source_facts
from sksae.formats._tensors import read_tensors

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
