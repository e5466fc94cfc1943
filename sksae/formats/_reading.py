"""Reader of any format: it finds the library that wrote a file or folder."""

import re

from safetensors import SafetensorError, safe_open

from sksae._files import as_path
from sksae._params import Option, check_option
from sksae.formats._circuit_tracer import (
    CONFIG,
    LAYER_FILE,
    TRAINING_CONFIGS,
    read_circuit_tracer,
)
from sksae.formats._cross_layer import ACROSS_FILE
from sksae.formats._dictionary_learning import read_dictionary_learning
from sksae.formats._gemma_scope import read_gemma_scope
from sksae.formats._llama_scope import read_llama_scope
from sksae.formats._saelens import read_saelens
from sksae.formats._sentence_transformers import (
    is_sparse_autoencoder,
    read_sentence_transformers,
)
from sksae.formats._sksae import load
from sksae.formats._sparsify import read_sparsify
from sksae.formats._torch_files import (
    GOODFIRE_FILE,
    QWEN_FILE,
    read_goodfire,
    read_openai,
    read_qwen_scope,
)

_READERS = {
    "circuit_tracer": read_circuit_tracer,
    "dictionary_learning": read_dictionary_learning,
    "gemma_scope": read_gemma_scope,
    "goodfire": read_goodfire,
    "llama_scope": read_llama_scope,
    "openai": read_openai,
    "qwen_scope": read_qwen_scope,
    "saelens": read_saelens,
    "sentence_transformers": read_sentence_transformers,
    "sksae": lambda path, **options: load(path / OWN_FILE if path.is_dir() else path, **options),
    "sparsify": read_sparsify,
}
OWN_FILE = "sksae.safetensors"
"""The file of `save` in a folder that `push_to_hub` wrote, beside those of SAELens."""
SIGNS = (  # the files that tell a folder
    ("sksae", (OWN_FILE,)),
    ("sparsify", ("cfg.json", "sae.safetensors")),
    ("saelens", ("cfg.json", "sae_weights.safetensors")),
    ("dictionary_learning", ("config.json", "ae.pt")),
    ("llama_scope", ("hyperparams.json",)),
    ("llama_scope", ("config.json", "sae_weights.safetensors")),
    ("llama_scope", ("config.json", "sae_weights.pt")),
    ("gemma_scope", ("params.npz",)),
    ("gemma_scope", ("params.safetensors",)),
    *(
        ("circuit_tracer", (config, "layer_0.safetensors"))
        for config in (CONFIG, *TRAINING_CONFIGS)
    ),
    ("circuit_tracer", (CONFIG, "W_enc_0.safetensors")),  # across layers
)
FILES = (  # the names that tell a file
    ("circuit_tracer", LAYER_FILE),
    ("circuit_tracer", ACROSS_FILE),
    ("gemma_scope", re.compile(r"params\.(npz|safetensors)")),
    ("goodfire", GOODFIRE_FILE),
    ("qwen_scope", QWEN_FILE),
    ("openai", re.compile(r"(?!ae\.pt$).*\.pt")),
)
_SHOWN = 10


def read(path, format="auto", **options):  # noqa: A002 - the word that pandas and pillow use
    """Read a sparse autoencoder of another library as a fitted estimator.

    Parameters
    ----------
    path : str or Path
        The folder or file.
    format : {"auto", "circuit_tracer", "dictionary_learning", "gemma_scope", "goodfire", \
"llama_scope", "openai", "qwen_scope", "saelens", "sentence_transformers", "sksae", "sparsify"}, \
default="auto"
        The library that wrote it. "auto" goes by the names of the files; a file of `save` is known
        by what is in it.
    **options
        Passed on to the reader of the format, such as ``dtype="float64"``.

    Returns
    -------
    sae : BaseSAE, Pipeline or list of Transcoder
        The fitted estimator; behind a `RowNormalizer` where rows are normalised one by one. A
        folder of circuit-tracer gives a list, one transcoder per layer.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    ValueError
        If the format is not recognised, a file is damaged, or no estimator here computes it.

    See Also
    --------
    read_saelens : Reads directories of SAELens.
    read_gemma_scope : Reads Gemma Scope.
    read_dictionary_learning : Reads folders of dictionary_learning.
    read_sparsify : Reads folders of sparsify.
    read_openai : Reads files of OpenAI.
    read_llama_scope : Reads Llama Scope and what OpenMOSS writes.
    read_circuit_tracer : Reads the transcoders of all layers.
    read_qwen_scope, read_goodfire : Read what these published.
    read_sentence_transformers : Reads the module of a sparse encoder.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sksae import TopKSAE
    >>> from sksae.datasets import make_superposition
    >>> from sksae.formats import read, write_saelens
    >>> X, _, _ = make_superposition(500, 8, 16, random_state=0)
    >>> sae = TopKSAE(16, k=2, max_iter=5, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     read(write_saelens(folder, sae))
    TopKSAE(k=2, n_components=16)
    """
    check_option("format", format, Option("auto", *_READERS))
    path = as_path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is nothing at {path}.")
    return _READERS[_recognised(path) if format == "auto" else format](path, **options)


def _recognised(path):
    if path.is_dir() and (name := _sign(path)):
        return name
    if path.is_file() and _is_our_own(path):
        return "sksae"
    if path.is_file() and (name := _format_of_file(path.name)):
        return name
    inside = sorted(p.name for p in path.iterdir() if _is_place(p)) if path.is_dir() else []
    if inside:
        more = f" and {len(inside) - _SHOWN:,} more" if len(inside) > _SHOWN else ""
        raise ValueError(
            f"{path} has autoencoders in {', '.join(inside[:_SHOWN])}{more}: name one of them."
        )
    if path.is_dir() and any(path.glob("*.pt")):
        return "openai"
    signatures = sorted({" and ".join(files) for _, files in SIGNS})
    raise ValueError(
        f"{path} is of no format that can be recognised: a folder with {', or '.join(signatures)}, "
        f"or a file such as params.npz, layer_0.safetensors or one that ends in .pt. Name the "
        f"format if it is one of those."
    )


def _format_of_file(name):
    """Return the format that the name of a file belongs to, or None."""
    return next((kind for kind, pattern in FILES if pattern.fullmatch(name)), None)


def _is_place(path):
    """Whether a folder is of a format, or a file is one of several in its folder."""
    return _sign(path) or _format_of_file(path.name) in ("goodfire", "qwen_scope")


def _sign(folder):
    """Return the format whose files a folder has, or None."""
    matching_formats = (
        name for name, files in SIGNS if all((folder / file).is_file() for file in files)
    )
    if name := next(matching_formats, None):
        return name
    # One layer of a set may be all that was downloaded.
    kinds = {
        "sentence_transformers": is_sparse_autoencoder(folder),
        "circuit_tracer": (folder / CONFIG).is_file(),
    }
    return next((kind for kind, holds in kinds.items() if holds), None)


def _is_our_own(path):
    try:
        with safe_open(path, framework="np") as file:
            return "sksae" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False
