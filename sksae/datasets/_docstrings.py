"""Reading the docstrings of installed packages from their files, without importing them."""

import ast
import importlib.util
import inspect
import re
import sysconfig
from pathlib import Path

# label -> top-level package; the label "Python" stands for the standard library and its topics
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
    """Folder of a source, and the leading parts of the names of its modules."""
    package = SOURCES[source]
    if package is None:
        return Path(sysconfig.get_path("stdlib")), ()
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"{source} is not installed: run pip install {source}")
    return Path(spec.origin).parent, (package,)


def find_modules(source):
    """Files of one source by dotted module name, in sorted order; tests are left out."""
    root, prefix = source_root(source)
    modules = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _SKIPPED_FOLDERS.isdisjoint(parts):
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            modules[".".join(prefix + parts)] = path
    return modules


def read_documents(module, path):
    """Docstrings of one file, cleaned, of at least ``MIN_CHARACTERS`` characters each.

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
        found = [(f"{module}.{topic}", text) for topic, text in sorted(topics.items())]
    else:
        found = [(module, text) for text in _docstrings(tree)]
    cleaned = ((name, inspect.cleandoc(text).strip()) for name, text in found)
    return [(name, text) for name, text in cleaned if len(text) >= MIN_CHARACTERS]


def _docstrings(tree):
    """Docstrings of a syntax tree, and strings given to add_newdoc, add_docstr and the like."""
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED_NODES):
            yield ast.get_docstring(node, clean=False) or ""
        elif isinstance(node, ast.Call) and "add" in _called(node) and "doc" in _called(node):
            yield from _attached(node)


def _called(call):
    """Lower-case name of the function that is called, without its module."""
    return getattr(call.func, "attr", getattr(call.func, "id", "")).lower()


def _attached(call):
    """Strings among the arguments of a call; lines that are only a format field are left out."""
    for argument in call.args:
        strings = [
            node.value
            for node in ast.walk(argument)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        text = "".join(strings)
        yield re.sub(r"(?m)^\s*\{\w+\}\s*\n", "", text).replace("{{", "{").replace("}}", "}")
