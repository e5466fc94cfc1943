"""Gemma Scope: ``params.npz``, and ``params.safetensors`` of Gemma Scope 2."""

import re

import numpy as np

from sksae._files import as_path, replacing
from sksae._params import check_option
from sksae.formats._activations import only, read_fitted
from sksae.formats._raw_units import estimator, raw_units
from sksae.formats._sources import DTYPE, source_facts, text_or_none
from sksae.formats._tensors import read_object, read_tensors

_FILES = ("params.npz", "params.safetensors")
# Axes: n latents, d inputs, t targets; matrices multiply rows from the right.
_LAYOUT = {"W_enc": "d n", "W_dec": "n t", "b_enc": "n", "b_dec": "t", "threshold": "n"}
_REACH = 8  # folders that are looked at; a cache of the hub puts two of its own between
_SKIP = "affine_skip_connection"
_LAYOUT_2 = {name.lower(): axes for name, axes in _LAYOUT.items()}
_SITES = {
    "res": "hook_resid_post",
    "mlp": "hook_mlp_out",
    "att": "attn.hook_z",
    "transcoders": "ln2.hook_normalized",
}


def read_gemma_scope(path, *, dtype=None):
    """Read an autoencoder of Gemma Scope or Gemma Scope 2.

    Model, layer and site are not in the file of the first: they are taken from its path, where that
    is as it was published; so is whether it is a transcoder, which Gemma Scope 2 says beside it.
    Autoencoders of the embedding were trained on rows of the embedding matrix; what the model
    multiplies those with, ``sqrt(n_features)``, is folded into the weights of those whose path
    says so.

    Parameters
    ----------
    path : str or Path
        ``params.npz`` or ``params.safetensors``, or the folder with it.
    dtype : {"float32", "float64", None}, default=None
        Of the weights. None takes float64 if the file has it, else float32.

    Returns
    -------
    sae : JumpReLUSAE or Transcoder
        The fitted estimator, with ``source_``, a dict of where it is from.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or a transcoder across layers.

    See Also
    --------
    write_gemma_scope : Writes such files.
    read : Finds out which library wrote a file.

    References
    ----------
    .. [1] Lieberum et al., "Gemma Scope: open sparse autoencoders everywhere all at once on Gemma
       2", 2024, arXiv:2408.05147.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sksae.formats import read_gemma_scope
    >>> eye = np.eye(2, dtype=np.float32)
    >>> zeros = np.zeros(2, dtype=np.float32)
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "params.npz"
    ...     np.savez(file, W_enc=eye, W_dec=eye, b_enc=zeros, b_dec=zeros, threshold=1 + zeros)
    ...     sae = read_gemma_scope(file)
    >>> sae.transform(np.array([[0.5, 2.0]], dtype=np.float32))
    array([[0., 2.]], dtype=float32)
    """
    check_option("dtype", dtype, DTYPE)
    path = _file(as_path(path))
    second = path.suffix == ".safetensors"
    config = {}
    if second and (path.parent / "config.json").is_file():
        config = read_object(path.parent / "config.json")
    layout = {**(_LAYOUT_2 if second else _LAYOUT), _SKIP: "d t"}
    arrays = read_tensors(path, layout, optional=(_SKIP,), ignored=("scaling_factor",), dtype=dtype)
    arrays = {name.lower(): array for name, array in arrays.items()}
    facts = _source(path, config)
    widths_differ = len(arrays["b_dec"]) != len(arrays["w_enc"])
    transcoder = _is_transcoder(path, config) or _SKIP in arrays or widths_differ
    weights = raw_units(
        arrays["w_enc"].T,
        arrays["w_dec"],
        arrays["b_enc"],
        arrays["b_dec"],
        threshold=arrays["threshold"],
        skip=arrays[_SKIP].T if _SKIP in arrays else None,
        # The model multiplies embeddings by the root of their width, but the weights are for them
        # as they were before.
        scale=len(arrays["w_enc"]) ** -0.5 if facts.get("site") == "embeddings" else 1.0,
        path=path,
    )
    return estimator("jumprelu", weights, facts, transcoder=transcoder)


def write_gemma_scope(path, sae):
    """Write an estimator as a ``params.npz`` of Gemma Scope.

    The file holds weights only: class, parameters, model, layer and names are lost, and codes are
    the same to the last bit. A gate becomes the threshold that it is equal to, and a ReLU a
    threshold of 0.

    Parameters
    ----------
    path : str or Path
        The file, or the folder to put ``params.npz`` in.
    sae : BaseSAE
        A fitted estimator whose codes do not depend on which are the largest of a row.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    ValueError
        If codes are the largest of a row, or rows are normalised first.

    See Also
    --------
    read_gemma_scope : Reads such files.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import JumpReLUSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.formats import read_gemma_scope, write_gemma_scope
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = JumpReLUSAE(16, alpha=1.0, max_iter=5, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     again = read_gemma_scope(write_gemma_scope(folder, sae))
    >>> bool((again.transform(X) == sae.transform(X)).all())
    True
    """
    record = read_fitted(sae)
    only(record, ("jumprelu", "batchtopk", "matryoshka", "gated", "relu"), "params.npz")
    path = as_path(path)
    path = path if path.suffix == ".npz" else path / _FILES[0]
    arrays = record.arrays
    with replacing(path) as part, part.open("wb") as file:
        np.savez(
            file,
            W_enc=np.ascontiguousarray(arrays["encoder_coef"].T),
            W_dec=arrays["components"],
            b_enc=arrays["encoder_intercept"],
            b_dec=arrays["intercept"],
            # ReLU is a threshold of 0.
            threshold=arrays.get("threshold", np.zeros_like(arrays["encoder_intercept"])),
        )
    return path


def _file(path):
    if not path.is_dir():
        return path
    files = [path / name for name in _FILES if (path / name).is_file()]
    if not files:
        raise FileNotFoundError(f"There is no {' or '.join(_FILES)} in {path}.")
    return files[0]


def _is_transcoder(path, config):
    """Whether it predicts another site, by what stands beside the file or in its path."""
    if config.get("architecture", "jump_relu") != "jump_relu":
        raise ValueError(
            f"{path.parent / 'config.json'} has the architecture {config['architecture']!r}; "
            f"'jump_relu' is what can be read."
        )
    hooks = config.get("hf_hook_point_in"), config.get("hf_hook_point_out")
    named = any(re.search("gemma-scope.*-transcoder", folder) for folder in path.parts[-_REACH:-1])
    return named or (None not in hooks and hooks[0] != hooks[1])


def _source(path, config):
    """Facts of a path such as gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz."""
    folders = path.parts[-_REACH:-1][::-1]
    layer = next((int(m[1]) for f in folders if (m := re.fullmatch(r"layer_(\d+)", f))), None)
    release = next((m for f in folders if (m := re.search(r"gemma-scope-(.+)-(\w+)$", f))), None)
    l0 = next((float(m[1]) for f in folders if (m := re.search(r"_l0_([\d.]+)$", f))), None)
    hook = None
    if release and layer is not None and release[2] in _SITES:
        hook = f"blocks.{layer}.{_SITES[release[2]]}"
    return source_facts(
        "gemma_scope",
        hook_name=hook or text_or_none(config, "hf_hook_point_in"),
        hook_name_out=_hook_out(hook) or text_or_none(config, "hf_hook_point_out"),
        model=text_or_none(config, "model_name") or (f"gemma-2-{release[1]}" if release else None),
        layer=layer,
        site="embeddings" if "embedding" in folders else None,
        l0=l0,
    )


def _hook_out(hook):
    """Return where a transcoder of Gemma Scope writes to: the output of the MLP it stands for."""
    normed = _SITES["transcoders"]
    return hook.replace(normed, _SITES["mlp"]) if hook and hook.endswith(normed) else None
