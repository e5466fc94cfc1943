"""Labelled text corpus, read from the docstrings of the installed packages.

No text is shipped: the documents are read, without importing anything, from the source files of
the packages that sksae depends on. The same functions give the training text of the packaged
language model (``docs/tiny_lm/train.py``); modules are split by a stable hash of their name, and
:func:`load_corpus` returns documents of held-out modules only.
"""

import ast
import importlib.util
import inspect
import re
import sysconfig
import zlib
from collections import Counter, defaultdict
from hashlib import blake2b
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

# Label to top-level package; "Python" is the standard library with its help topics.
SOURCES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
    "torch": "torch",
    "transformers": "transformers",
    "Python": None,
}
MIN_CHARACTERS = 200
_TOPICS = "pydoc_data.topics"
_SKIPPED_FOLDERS = {"__pycache__", "_vendor", "externals", "idlelib", "lib2to3", "site-packages"}
_SKIPPED_FOLDERS |= {"conftest", "test", "tests", "testing"}
_DOCUMENTED_NODES = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def source_root(source):
    """Return the folder of a source, and the leading parts of the names of its modules."""
    package = SOURCES[source]
    if package is None:
        return Path(sysconfig.get_path("stdlib")), ()
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"{source} is not installed: run pip install {source}")
    return Path(spec.origin).parent, (package,)


def find_modules(source):
    """Return the files of one source by dotted module name, sorted, without tests."""
    root, prefix = source_root(source)
    modules = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _SKIPPED_FOLDERS.isdisjoint(parts):
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            modules[".".join(prefix + parts)] = path
    return modules


def read_documents(module, path):
    """Return the docstrings of one file, cleaned, of at least ``MIN_CHARACTERS`` characters each.

    Docstrings that a package attaches by a call, as ``add_newdoc`` does, are read as well. Each
    topic of ``pydoc_data.topics`` counts as a module of its own.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    path : Path
        Its file.

    Returns
    -------
    documents : list of (str, str)
        Pairs of module and text, in the order of the file.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if module == _TOPICS:
        topics = ast.literal_eval(tree.body[-1].value)
        texts = [(f"{module}.{topic}", text) for topic, text in sorted(topics.items())]
    else:
        texts = [(module, text) for text in _docstrings(tree)]
    # As `inspect.getdoc` would show it.
    cleaned = ((name, inspect.cleandoc(text).strip()) for name, text in texts)
    return [(name, text) for name, text in cleaned if len(text) >= MIN_CHARACTERS]


def _docstrings(tree):
    """Yield the docstrings of a syntax tree, and the strings given to calls such as add_newdoc."""
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED_NODES):
            yield ast.get_docstring(node, clean=False) or ""
        elif isinstance(node, ast.Call) and "add" in _called(node) and "doc" in _called(node):
            yield from _attached(node)


def _called(call):
    """Return the lower-case name of the function that is called, without its module."""
    return getattr(call.func, "attr", getattr(call.func, "id", "")).lower()


def _attached(call):
    """Yield the strings among the arguments of a call, without lines that are only a field."""
    for argument in call.args:
        strings = [
            node.value
            for node in ast.walk(argument)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        text = "".join(strings)
        # Lines of templates such as "{input}", and escaped braces of str.format.
        yield re.sub(r"(?m)^\s*\{\w+\}\s*\n", "", text).replace("{{", "{").replace("}}", "}")


SHINGLE_WORDS = 8
DOCUMENTS_PER_SOURCE = 60
CORPUS_MODULES = {
    "numpy": (
        "numpy._core.strings",
        "numpy._core.numerictypes",
        "numpy.lib._nanfunctions_impl",
        "numpy.lib._scimath_impl",
        "numpy.lib._type_check_impl",
        "numpy.lib.recfunctions",
    ),
    "scipy": (
        "scipy.interpolate._polyint",
        "scipy.linalg._decomp",
        "scipy.linalg._special_matrices",
        "scipy.signal._signaltools",
        "scipy.spatial._kdtree",
        "scipy.spatial.transform._rotation",
        "scipy.stats._covariance",
    ),
    "scikit-learn": (
        "sklearn.cluster._agglomerative",
        "sklearn.cluster._hdbscan.hdbscan",
        "sklearn.cluster._optics",
        "sklearn.covariance._graph_lasso",
        "sklearn.decomposition._pca",
        "sklearn.discriminant_analysis",
        "sklearn.ensemble._stacking",
        "sklearn.linear_model._huber",
        "sklearn.linear_model._theil_sen",
        "sklearn.metrics._regression",
        "sklearn.multiclass",
    ),
    "torch": (
        "torch.export.dynamic_shapes",
        "torch.fft",
        "torch.library",
        "torch.nn.attention.flex_attention",
        "torch.nn.modules.rnn",
        "torch.nn.parameter",
        "torch.nn.utils.parametrize",
        "torch.nn.utils.rnn",
        "torch.sparse",
    ),
    "transformers": (
        "transformers.generation.logits_process",
        "transformers.image_utils",
        "transformers.modeling_rope_utils",
        "transformers.models.bark.modeling_bark",
        "transformers.models.rag.retrieval_rag",
        "transformers.tokenization_utils_base",
    ),
    "Python": (
        "abc",
        "email.message",
        "filecmp",
        "pdb",
        "poplib",
        "pydoc_data.topics",
        "subprocess",
        "typing",
    ),
}


def load_corpus(*, return_X_y=False):
    """Load documentation texts of six Python packages, labelled by package.

    The texts are docstrings of the installed numpy, scipy, scikit-learn, torch and transformers,
    and docstrings and help topics of Python itself, read from a fixed list of modules. The
    language model of :func:`load_tiny_lm` has not been trained on these modules. Near-duplicates
    are left out.

    ================= ==============
    Classes                        6
    Samples per class up to 60
    Samples total     about 360
    Dimensionality    text
    ================= ==============

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    corpus : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the following attributes.

        data : list of str
            The texts, sorted by class.
        target : ndarray of shape (n_samples,)
            Index of each text's class.
        target_names : list of str
            Names of the classes.
        module : list of str
            Dotted name of the module each text comes from.
        DESCR : str
            The description of the corpus.

    (data, target) : tuple if ``return_X_y`` is True
        The texts and their classes.

    Raises
    ------
    ModuleNotFoundError
        If a package, or every module read from it, is missing.

    Notes
    -----
    Modules that an installed version does not have are skipped, so that the texts, and to some
    degree their number, depend on the versions of the packages.

    Examples
    --------
    >>> from sksae.datasets import load_corpus
    >>> corpus = load_corpus()
    >>> corpus.target_names
    ['numpy', 'scipy', 'scikit-learn', 'torch', 'transformers', 'Python']
    >>> len(corpus.data) == len(corpus.target)
    True
    """
    documents, target = [], []
    for label, source in enumerate(SOURCES):
        of_source = _corpus_documents(source)
        documents += of_source
        target += [label] * len(of_source)
    data = [text for _, text in documents]
    target = np.array(target, dtype=np.int64)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=list(SOURCES),
        module=[module for module, _ in documents],
        DESCR=inspect.cleandoc(load_corpus.__doc__).split("\n\nParameters")[0],
    )


def is_held_out(module):
    """Whether a module belongs to the held-out split, one module in ten.

    The rule depends on the dotted name alone, so it is the same on every machine.

    Parameters
    ----------
    module : str
        Dotted name of the module.

    Returns
    -------
    held_out : bool
        True when no text of the module was used to train the packaged language model.

    Examples
    --------
    >>> from sksae.datasets._corpus import is_held_out
    >>> is_held_out("numpy.lib._nanfunctions_impl"), is_held_out("numpy.linalg._linalg")
    (True, False)
    """
    digest = blake2b(module.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 10 == 1  # the same for everybody, unlike `hash`


def drop_near_duplicates(documents):
    """Drop documents of which at least half repeats documents before them.

    Parameters
    ----------
    documents : list of (str, str)
        Pairs of module and text.

    Returns
    -------
    originals : list of (str, str)
        The first document of each group of near-duplicates, in the order given.
    """
    earlier, originals = set(), []
    for module, text in documents:
        shingles = _shingles(text)
        if 2 * len(shingles & earlier) < len(shingles):  # less than half of it was there before
            originals.append((module, text))
            earlier |= shingles
    return originals


def drop_overlapping(documents, held_out):
    """Drop documents that share at least half of the shorter text with a held-out document.

    Parameters
    ----------
    documents, held_out : list of (str, str)
        Pairs of module and text.

    Returns
    -------
    different : list of (str, str)
        The other documents, in the order given.
    """
    # Held-out documents that have each shingle, and the number of shingles of each document.
    owners, sizes = defaultdict(list), []
    for index, (_, text) in enumerate(held_out):
        shingles = _shingles(text)
        sizes.append(len(shingles))
        for shingle in shingles:
            owners[shingle].append(index)
    different = []
    for module, text in documents:
        shingles = _shingles(text)
        shared = Counter(owner for shingle in shingles for owner in owners.get(shingle, ()))
        if all(2 * n < min(len(shingles), sizes[owner]) for owner, n in shared.items()):
            different.append((module, text))
    return different


def _corpus_documents(source):
    """Return held-out documents of one source, at most ``DOCUMENTS_PER_SOURCE``, evenly spaced."""
    root, prefix = source_root(source)
    documents = []
    for module in CORPUS_MODULES[source]:
        folder = root.joinpath(*module.split(".")[len(prefix) :])
        for path in (folder.with_suffix(".py"), folder / "__init__.py"):
            if path.is_file():
                documents += read_documents(module, path)
    documents = drop_near_duplicates([pair for pair in documents if is_held_out(pair[0])])
    if not documents:
        raise ModuleNotFoundError(
            f"none of the {source} modules that load_corpus reads was found in {root}; "
            f"install {source} with its Python source files"
        )
    n_chosen = min(len(documents), DOCUMENTS_PER_SOURCE)
    # Evenly spaced over the documents.
    return [documents[i * len(documents) // n_chosen] for i in range(n_chosen)]


def _shingles(text):
    """Return hashes of all runs of eight words."""
    words = re.findall(r"\w+", text.lower())
    starts = range(max(1, len(words) - SHINGLE_WORDS + 1))
    # 32 bits per run: an accidental match is rare, and does no harm.
    return {zlib.crc32(" ".join(words[i : i + SHINGLE_WORDS]).encode()) for i in starts}
