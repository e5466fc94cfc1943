"""Folders of sparsify: ``cfg.json`` and ``sae.safetensors``."""

import re

from sksae._files import as_path, write_safetensors
from sksae._params import Int, Option, check_option
from sksae.formats._activations import bias_after, only, read_fitted
from sksae.formats._raw_units import estimator, raw_units
from sksae.formats._sources import DTYPE, FLAG, SIZE, source_facts, take, text_or_none
from sksae.formats._tensors import read_object, read_tensors, write_json

WEIGHTS, CONFIG = "sae.safetensors", "cfg.json"
# Axes: n latents, d features. The encoder is an nn.Linear, (outputs, inputs); the decoder has one
# row per latent as well.
_LAYOUT = {
    "encoder.weight": "n d",
    "encoder.bias": "n",
    "W_dec": "n d",
    "b_dec": "d",
    "W_skip": "d d",
}
_SITES = {None: "resid_post", "mlp": "mlp_out", "attn": "attn_out", "self_attn": "attn_out"}


def read_sparsify(path, *, dtype=None):
    """Read a folder that sparsify wrote for one hook point.

    Parameters
    ----------
    path : str or Path
        The folder, with ``cfg.json`` and ``sae.safetensors``. Layer and site are taken from its
        name, such as ``layers.5``.
    dtype : {"float32", "float64", None}, default=None
        Of the weights. None takes float64 if the file has it, else float32.

    Returns
    -------
    sae : TopKSAE or Transcoder
        The fitted estimator, with ``source_``, a dict of where it is from. With a skip connection
        the rows themselves are what a `Transcoder` predicts, unless it predicts others.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or takes the largest of each group.

    See Also
    --------
    write_sparsify : Writes such folders.
    read : Finds out which library wrote a file.

    References
    ----------
    .. [1] N. Belrose et al., "Sparsify", EleutherAI, 2024. https://github.com/EleutherAI/sparsify

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.formats import read_sparsify, write_sparsify
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     again = read_sparsify(write_sparsify(folder, sae))
    >>> bool(np.allclose(again.transform(X), sae.transform(X), atol=1e-5))
    True
    """
    check_option("dtype", dtype, DTYPE)
    path = as_path(path)
    where = path / CONFIG
    config = read_object(where)
    transcode = take(config, "transcode", FLAG, where, default=False)
    skip = take(config, "skip_connection", FLAG, where, default=False)
    activation = take(config, "activation", Option("topk", "groupmax"), where, default="topk")
    if activation == "groupmax" or take(config, "signed", FLAG, where, default=False):
        kind = "the largest of each group" if activation == "groupmax" else "signed codes"
        raise ValueError(f"{where} asks for {kind}, which no estimator here computes.")
    d = take(config, "d_in", SIZE, where)
    n = take(config, "num_latents", Int(0), where, default=0)
    n = n or d * take(config, "expansion_factor", SIZE, where)
    k = take(config, "k", SIZE, where)
    layout = {name: axes for name, axes in _LAYOUT.items() if skip or name != "W_skip"}
    arrays = read_tensors(path / WEIGHTS, layout, sizes={"d": d, "n": n}, dtype=dtype)
    weights = raw_units(
        arrays["encoder.weight"],
        arrays["W_dec"],
        arrays["encoder.bias"],
        arrays["b_dec"],
        origin=None if transcode else arrays["b_dec"],
        skip=arrays.get("W_skip"),
        path=path / WEIGHTS,
    )
    return estimator("topk", weights, _source(path, transcode), k=k, transcoder=transcode or skip)


def write_sparsify(path, sae):
    """Write an estimator as a folder that sparsify reads.

    sparsify subtracts the decoder's bias before it encodes, unless it is a transcoder, so that the
    encoder's bias is the same only up to the last digit or so. Parameters, names and where it is
    from are lost.

    Parameters
    ----------
    path : str or Path
        The folder; made if needed.
    sae : TopKSAE or Transcoder
        A fitted estimator.

    Returns
    -------
    path : Path
        The folder.

    Raises
    ------
    ValueError
        If codes are not the k largest of a row, rows are normalised first, or a transcoder's
        inputs and targets are not of the same width.

    See Also
    --------
    read_sparsify : Reads such folders.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.formats import write_sparsify
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     sorted(file.name for file in write_sparsify(folder, sae).iterdir())
    ['cfg.json', 'sae.safetensors']
    """
    record, path = read_fitted(sae, transcoders=True), as_path(path)
    only(record, ("topk",), "sparsify")
    arrays = record.arrays
    (n, t), d = arrays["components"].shape, arrays["encoder_coef"].shape[1]
    if t != d:
        raise ValueError(f"sparsify's targets are as wide as its inputs, but {t} is not {d}.")
    tensors = {
        "encoder.weight": arrays["encoder_coef"],
        "encoder.bias": arrays["encoder_intercept"] if record.transcoder else bias_after(record),
        "W_dec": arrays["components"],
        "b_dec": arrays["intercept"],
    }
    if "skip_coef" in arrays:
        tensors["W_skip"] = arrays["skip_coef"]
    config = {
        "activation": "topk",
        "expansion_factor": max(1, n // d),
        "normalize_decoder": True,
        "num_latents": n,
        "k": record.k,
        "multi_topk": False,
        "skip_connection": "skip_coef" in arrays,
        "transcode": record.transcoder,
        "d_in": d,
    }
    write_safetensors(path / WEIGHTS, tensors)
    write_json(path / CONFIG, config)
    return path


def _source(path, transcode):
    """Facts of the name of a hook point (``layers.5``, ``h.5.mlp``), and of the run around it."""
    run = path.parent / "config.json"
    config = read_object(run) if run.is_file() else {}
    facts = {"model": text_or_none(config, "model")}
    point = re.search(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.(.+))?$", path.name)
    if point:
        facts |= {"module": path.name, "layer": int(point[1]), "site": _SITES.get(point[2])}
    if point and transcode:  # from what enters the module to what leaves it
        facts |= {"module": f"{path.name}.input", "module_out": path.name, "site": None}
    return source_facts("sparsify", **facts)
