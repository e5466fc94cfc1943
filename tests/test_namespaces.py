"""What ``import sksae`` gives, and what a Tab after its name shows."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import sksae
from tests.cases import each_case

PACKAGE = Path(sksae.__file__).parent
PACKAGES = [
    ".".join(("sksae", *path.parent.relative_to(PACKAGE).parts))
    for path in sorted(PACKAGE.rglob("__init__.py"))
]
PUBLIC = {
    "callbacks",
    "datasets",
    "displays",
    "formats",
    "interpret",
    "language_models",
    "metrics",
    "model_selection",
    "objectives",
    "report",
}


def test_importing_is_light_and_subpackages_are_there_afterwards():
    """All packages in one process: no transformers, no matplotlib, no numba, no CUDA, no output.

    Nor does an extractor need the model before it has texts to transform.
    """
    code = f"""
import os, sys
before = dict(os.environ)
import sksae, torch
assert "sksae.displays" not in sys.modules
for name in {sorted(PUBLIC)}:
    module = getattr(sksae, name)
    assert module is sys.modules["sksae." + name]
import {", ".join(name for name in PACKAGES if name != "sksae.kernels.compiled")}
sksae.ActivationExtractor("gpt2", 3).fit(["a text"])
heavy = [m for m in ("transformers", "matplotlib", "numba") if m in sys.modules]
assert not heavy, heavy
assert not torch.cuda.is_initialized()
assert dict(os.environ) == before
print(sksae.formats.read.__module__, sksae.metrics.l0([[1, 0]]))
"""
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("sksae.formats._reading 1.0\n", "")


def test_what_is_not_there_is_named():
    with pytest.raises(AttributeError, match="module 'sksae' has no attribute 'fromats'"):
        _ = sksae.fromats
    assert not hasattr(sksae, "no_such_name")


def test_the_package_shows_its_names_and_its_public_subpackages():
    assert set(dir(sksae)) == {*sksae.__all__, *PUBLIC, "__version__"}


@each_case("name", PACKAGES[1:])
def test_subpackages_show_what_is_public_and_nothing_else(name):
    package = importlib.import_module(name)
    shown = {one for one in dir(package) if not one.startswith("_")}
    assert shown == set(getattr(package, "__all__", ()))
    # what is shown is also all that the sources of the package import into it
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert shown == {alias.name for node in imported for alias in node.names}
