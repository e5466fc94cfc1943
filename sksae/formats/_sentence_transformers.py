"""The module `SparseAutoEncoder` of sentence-transformers: a folder of a sparse encoder."""

import re

import numpy as np
from sklearn.pipeline import make_pipeline

from sksae._files import as_path, write_safetensors
from sksae._params import Bool, Int, check_option
from sksae.formats._activations import bias_after, only, read_fitted
from sksae.formats._raw_units import estimator, raw_units
from sksae.formats._row_normalizer import RowNormalizer
from sksae.formats._sources import DTYPE, FLAG, SIZE, source_facts, take
from sksae.formats._tensors import read_object, read_tensors, write_json

CONFIG, WEIGHTS = "config.json", ("model.safetensors", "pytorch_model.bin")
_MODEL = "modules.json"
FOLDER = re.compile(r"(\d+_)?SparseAutoEncoder")  # as in "2_SparseAutoEncoder"
# Axes: n latents, d features. There is one matrix, which the file has under one of two names, or
# under both; the decoder is its transpose.
_MATRICES = ("decoder.linear.weight", "encoder.weight")
_LAYOUT = {"pre_bias": "d", "latent_bias": "n", **dict.fromkeys(_MATRICES, "n d")}
_LAST_FIRED = "stats_last_nonzero"  # steps since each latent fired; only training reads it
_K_AUX, _DEAD_THRESHOLD = 512, 30  # defaults of the module, for its training


def read_sentence_transformers(path, *, dtype=None):
    """Read the module `SparseAutoEncoder` of a sentence-transformers `SparseEncoder`.

    It codes the embeddings of the modules before it. With ``normalize`` it divides each row by its
    own size, which cannot be folded into weights, so that it comes as a pipeline:
    ``normalizer.restore(sae.inverse_transform(codes), X)`` reconstructs X.

    Parameters
    ----------
    path : str or Path
        The folder of the module, such as ``2_SparseAutoEncoder``, with ``config.json`` and
        ``model.safetensors`` or ``pytorch_model.bin``; or the folder of the whole model, if that
        has one such module.
    dtype : {"float32", "float64", None}, default=None
        Of the weights. None takes float64 if the file has it, else float32.

    Returns
    -------
    sae : TopKSAE or Pipeline
        The fitted estimator, or a pipeline of a `RowNormalizer` and one. The estimator has
        ``source_``, a dict of where it is from.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or encoder and decoder differ.

    See Also
    --------
    write_sentence_transformers : Writes such a module.
    RowNormalizer : Normalises rows, and gives reconstructions their size back.
    read : Finds out which library wrote a file.

    References
    ----------
    .. [1] Wen et al., "Beyond Matryoshka: revisiting sparse coding for adaptive representation",
       ICML 2025, arXiv:2503.01776.

    Examples
    --------
    >>> import json
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from safetensors.numpy import save_file
    >>> from sksae.formats import read_sentence_transformers
    >>> weights = {"encoder.weight": np.eye(2), "pre_bias": np.zeros(2), "latent_bias": np.ones(2)}
    >>> with TemporaryDirectory() as folder:
    ...     save_file(weights, Path(folder) / "model.safetensors")
    ...     config = json.dumps({"input_dim": 2, "hidden_dim": 2, "k": 1})
    ...     _ = (Path(folder) / "config.json").write_text(config)
    ...     sae = read_sentence_transformers(folder)
    >>> sae.transform([[2.0, 1.0]])
    array([[3., 0.]])
    """
    check_option("dtype", dtype, DTYPE)
    path = _module(as_path(path))
    where = path / CONFIG
    config = read_object(where)
    sizes = {"d": take(config, "input_dim", SIZE, where)}
    sizes["n"] = take(config, "hidden_dim", SIZE, where, default=512)
    k = take(config, "k", Int(1, sizes["n"]), where, default=8)
    normalize = take(config, "normalize", FLAG, where, default=False)
    file = next((path / name for name in WEIGHTS if (path / name).is_file()), path / WEIGHTS[0])
    arrays = read_tensors(
        file, _LAYOUT, sizes=sizes, optional=_MATRICES, ignored=(_LAST_FIRED,), dtype=dtype
    )
    matrices = [arrays[name] for name in _MATRICES if name in arrays]
    if not matrices:
        raise ValueError(f"{file} cannot be read: it has no {_MATRICES[1]}.")
    if not np.array_equal(matrices[0], matrices[-1]):
        raise ValueError(f"{file} cannot be read: its decoder is not the transposed encoder.")
    weights = raw_units(
        matrices[0],
        matrices[0],
        arrays["latent_bias"],
        arrays["pre_bias"],
        origin=arrays["pre_bias"],
        path=file,
    )
    sae = estimator("topk", weights, source_facts("sentence_transformers"), k=k)
    if not normalize:
        return sae
    normalizer = RowNormalizer()
    normalizer.n_features_in_ = sae.n_features_in_
    return make_pipeline(normalizer, sae)


def write_sentence_transformers(path, sae, *, codes_only=False):
    """Write an estimator as a module `SparseAutoEncoder` of sentence-transformers.

    The module has one matrix: its decoder is the transposed encoder. A fit learns two, and a
    `SparseEncoder` needs the encoder alone. With `codes_only` that is what is written, and the
    codes of the module are those of the estimator. Its reconstructions are not, and training it
    further begins from them. The module subtracts `pre_bias` before it encodes, so that the
    encoder's bias is the same only up to the last digit or so.

    Parameters
    ----------
    path : str or Path
        The folder, such as ``2_SparseAutoEncoder`` in that of a model; made if needed.
    sae : TopKSAE, DummySAE or Pipeline
        A fitted estimator whose codes are the k largest of a row, or a pipeline of a
        `RowNormalizer` and one.
    codes_only : bool, default=False
        Whether the dictionary may be left out. False writes an estimator only if its dictionary is
        its encoder, such as one that was read from such a module.

    Returns
    -------
    path : Path
        The folder.

    Raises
    ------
    TypeError
        If it is no sparse autoencoder.
    ValueError
        If codes are not the k largest of a row, other activations are predicted than those that
        are read, other steps stand before it, or the dictionary is not the encoder and
        `codes_only` is False.

    See Also
    --------
    read_sentence_transformers : Reads such a module.

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.formats import read_sentence_transformers, write_sentence_transformers
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     path = write_sentence_transformers(folder, sae, codes_only=True)
    ...     again = read_sentence_transformers(path)
    >>> bool(np.allclose(again.transform(X), sae.transform(X), atol=1e-5))
    True
    """
    check_option("codes_only", codes_only, Bool())
    record, path = read_fitted(sae, normalizers=("layer_norm",)), as_path(path)
    only(record, ("topk",), "sentence-transformers")
    encoder, components = record.arrays["encoder_coef"], record.arrays["components"]
    if not codes_only and not np.array_equal(encoder, components):
        raise ValueError(
            "The decoder of a SparseAutoEncoder is its transposed encoder, but components_ are not "
            "encoder_coef_. Set codes_only=True to write the encoder alone: the codes stay the "
            "same, and reconstructions are lost."
        )
    n_components, n_features = encoder.shape
    tensors = {
        _MATRICES[0]: encoder,  # the name under which the module saves the matrix of both
        "pre_bias": record.arrays["intercept"],
        "latent_bias": bias_after(record),
        _LAST_FIRED: np.zeros(n_components, dtype=np.int64),
    }
    config = {
        "input_dim": n_features,
        "hidden_dim": n_components,
        "k": record.k,
        "k_aux": min(_K_AUX, n_components),
        "normalize": record.normalizer is not None,
        "dead_threshold": _DEAD_THRESHOLD,
    }
    write_safetensors(path / WEIGHTS[0], tensors)
    write_json(path / CONFIG, config)
    return path


def is_sparse_autoencoder(folder):
    """Whether a folder is or has such a module, by its name or by its configuration."""
    folder = _module(folder)
    if not (folder / CONFIG).is_file() or not any((folder / name).is_file() for name in WEIGHTS):
        return False
    if FOLDER.fullmatch(folder.name):
        return True
    try:
        return {"input_dim", "hidden_dim", "k", "k_aux"} <= set(read_object(folder / CONFIG))
    except ValueError:
        return False


def _module(path):
    """Return the folder of the module: the only one in the folder of a whole model, or itself."""
    if not (path / _MODEL).is_file():
        return path
    modules = [folder for folder in sorted(path.glob("*_SparseAutoEncoder")) if folder.is_dir()]
    return modules[0] if len(modules) == 1 else path
